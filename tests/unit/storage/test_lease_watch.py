"""A watch tells a lease that its owner keeps alive from one whose owner was killed."""

from __future__ import annotations

import threading
from contextlib import ExitStack
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


def test_of_four_that_take_a_lease_over_one_has_it(tmp_path: Path) -> None:
    uri, all_tried = str(tmp_path / "lease.json"), threading.Barrier(5)
    files.write_bytes(uri, encode_lease("killed", 7))
    took: list[str] = []

    def take(name: str) -> None:
        lease = Lease(uri, what="test", beat_s=0.5)
        with ExitStack() as held:
            if lease.take_over(seen):
                held.enter_context(lease.kept())
                took.append(name)
            all_tried.wait(30)

    seen = LeaseWatch(Lease(uri, what="test")).seen
    threads = [threading.Thread(target=take, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    all_tried.wait(30)
    assert len(took) == 1
    for thread in threads:
        thread.join()


def test_who_deletes_the_new_lease_of_another_does_not_take_it(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow job saw the lease of the dead one, and deletes that of the quick one, which has begun its work."""
    delete, quick, slow = files.delete, Lease(lease.uri, what="test", beat_s=BEAT_S), lease
    files.write_bytes(lease.uri, encode_lease("killed", 7))
    seen = LeaseWatch(lease).seen
    with ExitStack() as held:

        def delete_late(uri: str) -> None:
            monkeypatch.setattr(files, "delete", delete)
            assert quick.take_over(seen)
            held.enter_context(quick.kept())
            delete(uri)

        monkeypatch.setattr(files, "delete", delete_late)
        monkeypatch.setattr(slow, "beat_s", 20 * BEAT_S)  # on a busy machine, the quick one may beat late
        assert not slow.take_over(seen)
        assert quick.create() is False, "it has written its lease again"


def test_a_lease_that_is_no_longer_the_one_that_was_seen_stays(lease: Lease) -> None:
    files.write_bytes(lease.uri, encode_lease("killed", 7))
    seen = LeaseWatch(lease).seen
    for new in (encode_lease("alive", 0), encode_lease("killed", 8)):
        files.write_bytes(lease.uri, new)
        assert not lease.take_over(seen)
        assert not lease.take_over({}), "it was gone, and another job has taken it"
        assert files.read_bytes(lease.uri) == new


@pytest.mark.parametrize("left", [None, b"", b"{ no JSON"], ids=["gone", "empty", "damaged"])
def test_a_lease_that_cannot_be_read_is_taken(lease: Lease, left: bytes | None) -> None:
    if left is not None:
        files.write_bytes(lease.uri, left)
    watch = LeaseWatch(lease)
    assert watch.look() == "gone"
    assert lease.take_over(watch.seen)
    assert lease.holder()["beat"] == 0


def test_who_lost_a_lease_does_not_delete_that_of_another(lease: Lease) -> None:
    assert lease.create()
    with lease.kept():
        files.write_bytes(lease.uri, encode_lease("other", 1))
    assert lease.holder()["owner"] == "other"
