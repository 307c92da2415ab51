"""One training at a time works on a run, and a killed one does not block it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cnnlib.errors import ConflictError
from cnnlib.runs.lease import hold_lease
from cnnlib.storage import files, layout
from cnnlib.storage.lease import Lease, encode_lease

BEAT_S = 0.05


def test_a_lease_is_there_while_it_is_held_and_gone_afterwards(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with hold_lease(run, beat_s=BEAT_S):
        assert files.find_size(layout.run_lease(run))
    assert files.find_size(layout.run_lease(run)) is None
    with pytest.raises(ZeroDivisionError), hold_lease(run, beat_s=BEAT_S):
        raise ZeroDivisionError
    assert files.find_size(layout.run_lease(run)) is None


def test_a_run_that_is_being_trained_is_refused(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with hold_lease(run, beat_s=BEAT_S):
        second = hold_lease(run, beat_s=BEAT_S)
        with pytest.raises(ConflictError, match=r"run is being trained by another job \(.*, process \d+\)"):
            second.__enter__()
        search = hold_lease(run, beat_s=BEAT_S, what="search", flag="--output")
        with pytest.raises(ConflictError, match=r"^The search .* is being .*, or choose another --output\.$"):
            search.__enter__()
        assert files.find_size(layout.run_lease(run)), "the first one keeps it"


@pytest.mark.parametrize(
    "left", [encode_lease("killed", 7), b"", b"{ no JSON"], ids=["whole", "empty", "damaged"]
)
def test_the_lease_of_a_killed_training_is_taken_over(tmp_path: Path, left: bytes) -> None:
    run = str(tmp_path / "run")
    files.write_bytes(layout.run_lease(run), left)
    with hold_lease(run, beat_s=BEAT_S):
        assert Lease(layout.run_lease(run), what="run").holder()["owner"] != "killed"


def test_of_two_that_start_together_one_gets_the_run(tmp_path: Path) -> None:
    run, ended = str(tmp_path / "run"), threading.Event()
    outcomes: list[str] = []

    def start() -> None:
        try:
            with hold_lease(run, beat_s=BEAT_S):
                outcomes.append("held")
                ended.wait(5)
        except ConflictError:
            outcomes.append("refused")
            ended.set()

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes) == ["held", "refused"]
