"""Tests which resume point a run goes on from, and which are deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlib.errors import InputError
from cnnlib.runs.checkpoints import Checkpoint
from cnnlib.runs.resume_points import (
    EpochPart,
    choose_resume_point,
    delete_resume_points,
    find_resume_point,
    write_resume_point,
)
from cnnlib.storage import layout


def write(run: Path, step: int, epoch: int, steps: int, data: bytes = b"state") -> str:
    path = run.parent / "local.npz"
    path.write_bytes(data)
    return write_resume_point(str(run), step, EpochPart(epoch, steps, 1.5, 7.0, 2.0), path)


def checkpoint(epoch: int, step: int) -> Checkpoint:
    return Checkpoint(
        uri="",
        run="r",
        model="m",
        epoch=epoch,
        step=step,
        digest="",
        state_digest="",
        score=0.0,
        scored_on="accuracy",
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_a_resume_point_is_read_as_it_was_written(run: Path) -> None:
    uri = write(run, 130, 2, 30)
    point = find_resume_point(uri)
    assert point is not None
    assert (point.step, point.part) == (130, EpochPart(2, 30, 1.5, 7.0, 2.0))
    assert Path(point.state_uri).read_bytes() == b"state"
    assert choose_resume_point(str(run), [checkpoint(1, 100)]) == point


def test_the_newest_after_the_last_checkpoint_is_chosen(run: Path) -> None:
    write(run, 110, 2, 10)
    newest = write(run, 1120, 2, 1020)
    write(run, 90, 1, 90)
    chosen = choose_resume_point(str(run), [checkpoint(1, 100)])
    assert chosen is not None
    assert chosen.uri == newest


@pytest.mark.parametrize(
    ("checkpoints", "why"),
    [
        ([checkpoint(1, 100), checkpoint(2, 200)], "the epoch has its checkpoint by now"),
        ([], "the checkpoint before it was deleted"),
        ([checkpoint(1, 101)], "the checkpoint is of another training"),
    ],
)
def test_a_resume_point_that_does_not_follow_the_last_checkpoint_is_not_chosen(
    run: Path, checkpoints: list[Checkpoint], why: str
) -> None:
    write(run, 110, 2, 10)
    assert choose_resume_point(str(run), checkpoints) is None, why


@pytest.mark.parametrize(
    "damage", ["state cut", "state gone", "state flipped", "manifest cut", "manifest gone", "version"]
)
def test_the_one_before_serves_if_the_newest_is_damaged(
    run: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, newest = write(run, 110, 2, 10), Path(write(run, 120, 2, 20))
    state = Path(layout.resume_point_state(str(newest)))
    if damage == "state cut":
        state.write_bytes(b"sta")
    elif damage == "state gone":
        state.unlink()
    elif damage == "state flipped":
        state.write_bytes(b"stale")
    elif damage == "manifest cut":
        newest.write_bytes(newest.read_bytes()[:40])
    elif damage == "manifest gone":
        newest.unlink()
    else:
        newest.write_text(
            newest.read_text().replace('"resume_point_version": 1', '"resume_point_version": 9')
        )
    chosen = choose_resume_point(str(run), [checkpoint(1, 100)])
    assert chosen is not None
    assert chosen.uri == before
    assert ("left out" in capsys.readouterr().err) == (damage != "manifest gone")


def test_a_manifest_without_its_entries_is_refused(run: Path) -> None:
    uri = Path(write(run, 110, 2, 10))
    uri.write_text(uri.read_text().replace('"steps"', '"stops"'))
    with pytest.raises(InputError, match="missing or invalid entry"):
        find_resume_point(str(uri))


def test_all_but_those_to_keep_are_deleted_complete_or_not(run: Path) -> None:
    kept = Path(write(run, 110, 2, 10))
    write(run, 120, 2, 20)
    Path(write(run, 130, 2, 30)).unlink()  # killed before the manifest
    other = kept.with_name("notes.txt")
    other.write_text("not ours")
    delete_resume_points(str(run), keep=[str(kept)])
    assert sorted(kept.parent.iterdir()) == sorted([kept, kept.with_suffix(".npz"), other])
    delete_resume_points(str(run))
    assert list(kept.parent.iterdir()) == [other]
    delete_resume_points(str(run / "absent"))
