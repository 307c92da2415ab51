"""Tests what a rollback stores, deletes and raises, in the chief and in the other workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlib.errors import DivergedError, InputError, RestartError
from cnnlib.runs.checkpoints import find_stable, list_checkpoints
from cnnlib.runs.history import EpochRecord
from cnnlib.runs.resume_points import EpochPart, write_resume_point
from cnnlib.runs.rollbacks import load_rollbacks, rate_factor
from cnnlib.storage import files, layout
from cnnlib.training import rollback
from cnnlib.training.rollback import roll_back
from tests.checkpoints import write_checkpoint_without_model
from tests.histories import make_history

ERROR = DivergedError("The loss is nan.")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the chief tells the others; they hear what is in the list already."""
    told: list[str] = []

    def agree(value: str) -> str:
        told.append(value)
        return told[0]

    monkeypatch.setattr(rollback, "agree", agree)
    return told


def write_run(run: str, losses: list[float]) -> None:
    for record, loss in zip(make_history([0.5] * len(losses)), losses, strict=True):
        document = {**record.to_document(), "loss": loss}
        write_checkpoint_without_model(run, record.epoch, record=document)


def epochs(run: str) -> list[int]:
    return [each.epoch for each in list_checkpoints(run)]


def test_a_run_goes_back_to_its_lowest_loss_with_half_the_rate(tmp_path: Path, told: list[str]) -> None:
    run, written = str(tmp_path / "run"), []
    write_run(run, [2.0, 1.5, 235.0])
    state = tmp_path / "state"
    state.write_bytes(b"large weights")
    write_resume_point(run, 310, EpochPart(4, 10), state)
    with pytest.raises(RestartError, match=r"rollback 1 of 3, to the end of epoch 2, with 0\.5 of the"):
        roll_back(ERROR, run, 4, lambda: written.append("ended"))
    assert epochs(run) == [1, 2]
    assert files.list_files(layout.run_resume_points(run)) == []
    assert files.list_files(layout.checkpoint_uri(run, 3)) == []
    assert written == ["ended"]
    [stored] = load_rollbacks(run)
    assert (stored.epoch, stored.reason, rate_factor([stored])) == (4, "The loss is nan.", 0.5)

    told.clear()
    with pytest.raises(RestartError, match=r"rollback 2 of 3, to the end of epoch 2, with 0\.25"):
        roll_back(ERROR, run, 3, lambda: None)
    assert rate_factor(load_rollbacks(run)) == 0.25


def test_the_other_workers_hear_of_it_and_write_nothing(tmp_path: Path, told: list[str]) -> None:
    run = str(tmp_path / "run")
    told.append("epoch 4 diverged: rollback 1")
    with pytest.raises(RestartError, match="rollback 1"):
        roll_back(ERROR, run, 4, None)
    assert not Path(run).exists()


def test_a_fourth_rollback_ends_the_run(tmp_path: Path, told: list[str]) -> None:
    run = str(tmp_path / "run")
    for _ in range(3):
        told.clear()
        with pytest.raises(RestartError, match="to the end of epoch 0"):
            roll_back(ERROR, run, 1, lambda: None)
    told.clear()
    with pytest.raises(DivergedError, match=r"The loss is nan\. It was rolled back 3 times"):
        roll_back(ERROR, run, 1, lambda: None)
    assert rate_factor(load_rollbacks(run)) == 0.125
    with pytest.raises(DivergedError, match="rolled back 3 times"):
        roll_back(ERROR, run, 1, None)


def test_an_unknown_loss_is_no_lowest_loss(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    write_run(run, [3.0, 2.0])
    write_checkpoint_without_model(run, 3, record=EpochRecord.unknown(3, 300).to_document())
    assert find_stable(list_checkpoints(run)) == 2
    assert find_stable([]) == 0


def test_a_damaged_list_of_rollbacks_says_what_to_do(tmp_path: Path) -> None:
    uri = layout.run_rollbacks(str(tmp_path))
    files.write_bytes(uri, b'{"rollbacks": [{"epoch": 1}]}')
    with pytest.raises(InputError, match="Delete it to go on with the full rate"):
        load_rollbacks(str(tmp_path))
