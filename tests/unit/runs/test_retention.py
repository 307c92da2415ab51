"""Tests which checkpoints of a run stay, and which are deleted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cnnlib.errors import StorageError
from cnnlib.runs.checkpoints import list_checkpoints, resolve_checkpoint
from cnnlib.runs.history import EpochRecord
from cnnlib.runs.retention import CheckpointCleaner
from cnnlib.storage import files, layout, publish
from tests.checkpoints import write_checkpoint_without_model


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run of six epochs, the second of which is the best."""
    run = str(tmp_path / "runs" / "r")
    for epoch, score in enumerate([0.5, 0.9, 0.6, 0.7, 0.9, 0.8], start=1):
        write_checkpoint_without_model(run, epoch, score)
    return run


def epochs(run: str) -> list[int]:
    return [each.epoch for each in list_checkpoints(run)]


def files_of(run: str, epoch: int) -> list[str]:
    return sorted(files.list_files(layout.checkpoint_uri(run, epoch)))


@pytest.mark.parametrize(
    ("keep", "kept"), [(0, [1, 2, 3, 4, 5, 6]), (1, [2, 6]), (2, [2, 5, 6]), (9, [1, 2, 3, 4, 5, 6])]
)
def test_the_newest_and_the_best_stay(run: str, keep: int, kept: list[int]) -> None:
    CheckpointCleaner(run, keep).clean()
    assert epochs(run) == kept
    assert [epoch for epoch in range(1, 7) if files_of(run, epoch)] == kept
    assert resolve_checkpoint(f"{run}@best").epoch == 2
    assert resolve_checkpoint(f"{run}@last").epoch == 6


def test_what_a_rollback_goes_back_to_stays(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    # The scores grow while the loss does: the best checkpoint is not the stable one.
    for epoch, (score, loss) in enumerate([(0.5, 2.0), (0.6, 1.0), (0.7, 1.5), (0.8, 9.0)], start=1):
        record = dataclasses.replace(EpochRecord.unknown(epoch, epoch * 100), loss=loss, accuracy=score)
        write_checkpoint_without_model(run, epoch, score, record=record.to_document())
    CheckpointCleaner(run, 1, keeps_stable=True).clean()
    assert epochs(run) == [2, 4]
    CheckpointCleaner(run, 1).clean()
    assert epochs(run) == [4]


def test_what_a_killed_cleaner_left_goes_too_but_not_what_is_being_written(run: str) -> None:
    for epoch in (1, 3):
        files.delete(f"{layout.checkpoint_uri(run, epoch)}/{layout.MANIFEST}")
    files.write_bytes(f"{layout.checkpoint_uri(run, 7)}/{layout.CHECKPOINT_MODEL}", b"under way")
    CheckpointCleaner(run, 5).clean()
    assert epochs(run) == [2, 4, 5, 6]
    assert files_of(run, 1) == files_of(run, 3) == []
    assert files_of(run, 7) == [layout.CHECKPOINT_MODEL]


def test_the_manifest_goes_first(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[str] = []
    monkeypatch.setattr(files, "delete", deleted.append)
    CheckpointCleaner(run, 5).clean()
    assert [Path(uri).name for uri in deleted] == [
        layout.MANIFEST, layout.CHECKPOINT_MODEL, layout.CHECKPOINT_STATE
    ]  # fmt: skip


def write_report(reports: Path, name: str, digest: str | None) -> None:
    document = {"subject": {"checkpoint_digest": digest}} if digest else {"damaged": True}
    files.write_bytes(layout.report_manifest(str(reports), name), publish.canonical_json(document))


def test_with_a_folder_of_reports_only_what_has_a_report_is_deleted(run: str, tmp_path: Path) -> None:
    reports, digests = tmp_path / "reports", {each.epoch: each.digest for each in list_checkpoints(run)}
    cleaner = CheckpointCleaner(run, 1, str(reports))
    cleaner.clean()
    assert epochs(run) == [1, 2, 3, 4, 5, 6]
    write_report(reports, "a", digests[1])
    write_report(reports, "b", None)
    files.write_bytes(layout.report_manifest(str(reports), "c"), b"no JSON")
    cleaner.clean()
    assert epochs(run) == [2, 3, 4, 5, 6]
    write_report(reports, "d", digests[4])
    cleaner.clean()
    assert epochs(run) == [2, 3, 5, 6]


def test_a_checkpoint_that_cannot_be_deleted_is_named_and_tried_again(
    run: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(uri: str) -> None:
        raise StorageError(f"{uri} is locked")

    with monkeypatch.context() as patch:
        patch.setattr(files, "delete", refuse)
        CheckpointCleaner(run, 1).clean()
    assert "epoch-0001 was not deleted" in capfd.readouterr().err
    assert epochs(run) == [1, 2, 3, 4, 5, 6]
    CheckpointCleaner(run, 1).clean()
    assert epochs(run) == [2, 6]
