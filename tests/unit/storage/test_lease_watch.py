"""A watch tells a lease that its owner keeps alive from one whose owner was killed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cnnlib.storage import files
from cnnlib.storage.lease import Lease, LeaseWatch, encode_lease

BEAT_S = 0.05


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    return Lease(str(tmp_path / "lease.json"), what="test", beat_s=BEAT_S)


def test_a_lease_that_changes_is_alive_and_one_that_goes_is_gone(lease: Lease) -> None:
    files.write_bytes(lease.uri, encode_lease("other", 1))
    watch = LeaseWatch(lease)
    assert [watch.look() for _ in range(9)] == ["unknown"] * 9
    files.write_bytes(lease.uri, encode_lease("other", 2))
    assert watch.look() == "alive"
    assert [watch.look() for _ in range(11)] == ["unknown"] * 10 + ["abandoned"]
    files.delete(lease.uri)
    assert watch.look() == "gone"
    files.write_bytes(lease.uri, b"damaged")
    assert watch.look() == "gone"


def test_a_lease_is_renewed_until_it_is_given_up(lease: Lease) -> None:
    assert lease.create()
    other = Lease(lease.uri, what="test", beat_s=BEAT_S)
    assert not other.create()
    with lease.kept():
        before, waited = lease.holder(), threading.Event()
        for _ in range(200):
            if lease.holder() != before:
                break
            waited.wait(BEAT_S)
        assert lease.holder()["beat"] > before["beat"]
    assert lease.holder() == {}
    assert other.create()


def test_of_two_that_take_a_lease_over_one_has_it(lease: Lease) -> None:
    files.write_bytes(lease.uri, encode_lease("killed", 7))
    others = [Lease(lease.uri, what="test", beat_s=BEAT_S) for _ in range(4)]
    took = [False] * 4

    def take(index: int) -> None:
        took[index] = others[index].take_over()

    threads = [threading.Thread(target=take, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(took) <= 1
    assert lease.holder()["owner"] != "killed"


def test_who_lost_a_lease_does_not_delete_that_of_another(lease: Lease) -> None:
    assert lease.create()
    with lease.kept():
        files.write_bytes(lease.uri, encode_lease("other", 1))
    assert lease.holder()["owner"] == "other"
