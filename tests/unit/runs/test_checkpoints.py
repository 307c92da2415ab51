"""Tests which runs and checkpoints are found, and which one a name means. Half a checkpoint is never found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnlib.config import TrainConfig, to_dict
from cnnlib.errors import CheckpointError, InputError
from cnnlib.model_options import ModelOptions
from cnnlib.runs import checkpoints as runs
from cnnlib.runs.checkpoints import (
    find_checkpoint,
    list_checkpoints,
    resolve_checkpoint,
)
from cnnlib.runs.record import RunRecord, find_run_record, write_run_record
from cnnlib.storage import files
from tests.checkpoints import write_checkpoint_without_model


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run of three epochs, the second of them the best, the third as good."""
    uri = str(tmp_path / "runs" / "seed")
    for epoch, score in ((1, 0.8), (2, 0.9), (3, 0.9)):
        write_checkpoint_without_model(uri, epoch, score)
    return uri


def test_record_is_written_once_and_kept(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    assert find_run_record(run) is None
    record: RunRecord = {
        "config": {"epochs": 1},
        "cache": "memory",
        "dataset_uri": "/data",
        "dataset_fingerprint": "da7a",
        "started_at": "2026-11-22T06:00:00+00:00",
    }
    assert write_run_record(run, record) is True
    assert write_run_record(run, {**record, "config": {"epochs": 2}}) is False
    assert find_run_record(run) == record


@pytest.mark.parametrize(
    "document", [b"{}", b"[]", b"no JSON", b'{"config": {}, "cache": "memory"}', b'{"config": 3}']
)
def test_a_file_that_is_no_record_is_named(tmp_path: Path, document: bytes) -> None:
    files.write_bytes(f"{tmp_path}/run.json", document)
    with pytest.raises(InputError, match=r"run\.json"):
        find_run_record(str(tmp_path))


def test_checkpoint_says_what_its_manifest_says(run: str) -> None:
    checkpoint = list_checkpoints(run)[1]
    folder = f"{run}/checkpoints/epoch-0002"
    assert (checkpoint.uri, checkpoint.run, checkpoint.model) == (folder, "seed", "seed-cnn")
    assert (checkpoint.epoch, checkpoint.step) == (2, 200)
    assert (checkpoint.score, checkpoint.scored_on) == (0.9, "accuracy")
    assert (checkpoint.model_uri, checkpoint.state_uri) == (f"{folder}/model.keras", f"{folder}/state.npz")
    files = json.loads(Path(folder, "manifest.json").read_text())["files"]
    assert checkpoint.digest == files["model.keras"]["sha256"]


def test_checkpoint_names_the_model_with_its_options(tmp_path: Path) -> None:
    config = to_dict(TrainConfig(model="dnn", model_options=ModelOptions(units=(8, 4), dropout=0.5)))
    uri = write_checkpoint_without_model(str(tmp_path / "run"), 1, model="dnn", config=config)
    checkpoint = find_checkpoint(uri)
    assert checkpoint is not None
    assert checkpoint.model == "dnn units=8,4 dropout=0.5"


def test_checkpoints_come_by_epoch_not_by_name(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    for epoch in (10_000, 9, 9_999, 10):
        write_checkpoint_without_model(run, epoch)
    assert [each.epoch for each in list_checkpoints(run)] == [9, 10, 9_999, 10_000]
    assert resolve_checkpoint(run).epoch == 10_000


def test_half_a_checkpoint_is_never_found(run: str) -> None:
    half = Path(run, "checkpoints", "epoch-0004")
    half.mkdir()
    (half / "model.keras").write_bytes(b"a model")
    (half / "state.npz").write_bytes(b"its state")
    assert [each.epoch for each in list_checkpoints(run)] == [1, 2, 3]
    assert find_checkpoint(str(half)) is None
    assert resolve_checkpoint(run).epoch == 3
    with pytest.raises(
        CheckpointError, match=r"epoch-0004 is not a complete checkpoint: it has no manifest\.json"
    ):
        resolve_checkpoint(str(half))
    with pytest.raises(CheckpointError, match="has no checkpoint '4'"):
        resolve_checkpoint(f"{run}@4")


def test_other_folders_beside_checkpoints_are_passed_over(run: str) -> None:
    for name in ("epoch-12", "epoch-0005.old", "notes"):
        Path(run, "checkpoints", name).mkdir()
        Path(run, "checkpoints", name, "manifest.json").write_text("{}")
    assert [each.epoch for each in list_checkpoints(run)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("selector", "epoch"), [("", 3), ("@last", 3), ("@best", 2), ("@1", 1), ("@2", 2), ("@3", 3)]
)
def test_name_of_a_run_means_one_of_its_checkpoints(run: str, selector: str, epoch: int) -> None:
    assert resolve_checkpoint(run + selector).epoch == epoch


def test_folder_of_a_checkpoint_is_that_checkpoint(run: str) -> None:
    assert resolve_checkpoint(f"{run}/checkpoints/epoch-0001").epoch == 1
    assert resolve_checkpoint(f"{run}/checkpoints/epoch-0001/").epoch == 1


def test_relative_name_is_found_and_answered_with_the_absolute_one(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(run).parent)
    assert resolve_checkpoint("seed@best").uri == f"{run}/checkpoints/epoch-0002"


def test_at_sign_in_a_folders_name_is_no_selector(tmp_path: Path) -> None:
    run = str(tmp_path / "me@home" / "run")
    write_checkpoint_without_model(run, 1)
    assert resolve_checkpoint(run).epoch == 1
    assert resolve_checkpoint(f"{run}@best").epoch == 1


@pytest.mark.parametrize("selector", ["8", "0", "bset", "-1", "01"])
def test_selector_that_nothing_fits_names_those_that_do(run: str, selector: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        resolve_checkpoint(f"{run}@{selector}")
    assert str(raised.value) == (
        f"{run} has no checkpoint '{selector}'. Expected last, best or one of the epochs 1, 2, 3."
    )


@pytest.mark.parametrize("name", ["nothing", "nothing@best", "nothing@7"])
def test_run_without_checkpoints_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"nothing has no checkpoint\. Expected a run \(RUNS/NAME\)"):
        resolve_checkpoint(str(tmp_path / name))


def test_checkpoint_of_another_version_is_refused(run: str) -> None:
    uri = write_checkpoint_without_model(run, 4, checkpoint_version=2)
    with pytest.raises(
        CheckpointError, match=r"epoch-0004 has checkpoint_version 2\. This version reads 1\."
    ):
        find_checkpoint(uri)


def test_checkpoint_whose_manifest_lacks_an_entry_is_refused(run: str) -> None:
    path = Path(run, "checkpoints", "epoch-0003", "manifest.json")
    document = json.loads(path.read_text())
    del document["score"]
    path.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"epoch-0003 has a missing or invalid entry: .*'score'"):
        list_checkpoints(run)
    path.write_text(json.dumps({**document, "score": 1.0, "files": []}))
    with pytest.raises(CheckpointError, match="epoch-0003 has a missing or invalid entry"):
        list_checkpoints(run)


def test_selectors_are_those_that_were_promised() -> None:
    assert runs.SELECTORS == ("last", "best")
