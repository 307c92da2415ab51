"""The history of a run follows its checkpoints, whatever the stored history says."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from cnnlib.runs.checkpoints import list_checkpoints
from cnnlib.runs.history import EpochRecord, encode_history, load_history
from cnnlib.runs.mending import match_history, mend_history
from cnnlib.storage import files, layout
from tests.checkpoints import write_checkpoint_without_model


def record(epoch: int, loss: float | None = None) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, step=epoch * 100, loss=1 / epoch if loss is None else loss, accuracy=0.5, validation_loss=None,
        validation_accuracy=None, learning_rate=0.1, images_per_s=9.0, data_wait=0.0, seconds=2.0,
        time=datetime(2026, 11, 26, tzinfo=UTC), rows=64,
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: object) -> str:
    """A run of three checkpoints that state their records."""
    uri = f"{tmp_path}/runs/seed"
    for epoch in (1, 2, 3):
        write_checkpoint_without_model(uri, epoch, record=record(epoch).to_document())
    return uri


def store(run: str, *records: EpochRecord) -> None:
    files.write_bytes(layout.run_history(run), encode_history(records))


@pytest.mark.parametrize("stored", [[1, 2, 3], [1, 2], [3], [], [1, 2, 3, 4]], ids=str)
def test_history_has_one_record_per_epoch_of_the_checkpoints(run: str, stored: list[int]) -> None:
    store(run, *map(record, stored))
    expected = [record(epoch) for epoch in (1, 2, 3)]
    assert mend_history(run, list_checkpoints(run)) == expected
    assert load_history(run) == expected


def test_a_history_that_is_gone_or_damaged_comes_back(run: str) -> None:
    expected = [record(epoch) for epoch in (1, 2, 3)]
    assert mend_history(run, list_checkpoints(run)) == expected
    files.write_bytes(layout.run_history(run), b"no Parquet")
    assert mend_history(run, list_checkpoints(run)) == expected
    assert load_history(run) == expected


def test_a_false_record_is_not_believed(run: str) -> None:
    store(run, record(1), record(2, loss=99.0), record(3))
    assert mend_history(run, list_checkpoints(run))[1].loss == 0.5


def test_a_new_run_has_no_history(run: str) -> None:
    store(run, record(1))
    assert match_history([record(1)], []) == []


def test_what_nobody_recorded_is_null_and_never_a_false_loss(tmp_path: object) -> None:
    """As in a run of an earlier version, whose checkpoints do not state their records."""
    run = f"{tmp_path}/runs/old"
    for epoch in (1, 2, 3):
        write_checkpoint_without_model(run, epoch)
    store(run, record(1), record(2).__class__(**{**vars(record(2)), "step": 7}))
    history = mend_history(run, list_checkpoints(run))
    assert [each.step for each in history] == [100, 200, 300]
    assert history[0] == record(1)
    assert all(math.isnan(each.loss) and each.time is None for each in history[1:])
    assert history[1].metrics() == {}
    assert [each.to_document() for each in load_history(run)] == [each.to_document() for each in history]


def test_history_of_a_run_that_needs_no_mending_is_not_written(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(run, *map(record, (1, 2, 3)))
    monkeypatch.setattr(files, "write_bytes", lambda *_: pytest.fail("the history was written"))
    assert [each.step for each in mend_history(run, list_checkpoints(run))] == [100, 200, 300]


def test_a_record_comes_back_from_its_document() -> None:
    assert EpochRecord.from_document(record(2).to_document()) == record(2)
    assert record(2, loss=math.nan).to_document()["loss"] is None
