"""A command line names targets, and everything that changes the numbers of a report changes its id."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import CheckpointError, NotFoundError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.target import Target, find_target
from cnnlib.runs.record import write_run_record
from tests.checkpoints import write_checkpoint_without_model
from tests.datasets import make_source, write_dataset_without_ray


@pytest.fixture
def run(tmp_path: Path) -> str:
    uri = str(tmp_path / "runs" / "seed")
    write_run_record(uri, {"config": {}})
    for epoch, score in ((1, 0.9), (2, 0.8)):
        write_checkpoint_without_model(uri, epoch, score)
    return uri


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_dataset_without_ray(str(tmp_path / "data"))


def test_checkpoint_of_ours_takes_raw_pixels_and_knows_its_run(run: str) -> None:
    target = find_target(f"{run}@best", None)
    folder = f"{run}/checkpoints/epoch-0001"
    assert target == Target(
        uri=folder,
        model_uri=f"{folder}/model.keras",
        digest=hashlib.sha256(Path(folder, "model.keras").read_bytes()).hexdigest(),
        pixel_range="0-255",
        model="seed-cnn",
        run="seed",
        step=100,
        epoch=1,
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_model_file_takes_scaled_pixels_and_has_no_run(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(b"any model")
    target = find_target(str(path), None)
    assert (target.uri, target.model_uri, target.model) == (str(path), str(path), f"mine{suffix}")
    assert target.digest == hashlib.sha256(b"any model").hexdigest()
    assert target.pixel_range == "0-1"
    assert (target.run, target.step, target.epoch) == (None, None, None)


def test_pixel_range_that_was_asked_for_wins(run: str, tmp_path: Path) -> None:
    (tmp_path / "mine.keras").write_bytes(b"")
    assert find_target(str(tmp_path / "mine.keras"), "0-255").pixel_range == "0-255"
    assert find_target(run, "0-1").pixel_range == "0-1"


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing at .*/mine\.h5"):
        find_target(str(tmp_path / "mine.h5"), None)
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        find_target(str(tmp_path / "runs" / "nothing"), None)


def test_report_is_named_by_what_changes_its_numbers(run: str, manifest: Manifest, tmp_path: Path) -> None:
    target, config = find_target(run, None), EvaluateConfig()
    name = target.report_id(config, "/data", manifest)
    other_data = write_dataset_without_ray(str(tmp_path / "other"), make_source(seed=1))
    others = [
        find_target(f"{run}@1", None).report_id(config, "/data", manifest),
        dataclasses.replace(target, pixel_range="0-1").report_id(config, "/data", manifest),
        target.report_id(EvaluateConfig(split="train"), "/data", manifest),
        target.report_id(EvaluateConfig(outputs="logits"), "/data", manifest),
        target.report_id(EvaluateConfig(top_k=2), "/data", manifest),
        target.report_id(EvaluateConfig(slice_by=("source",)), "/data", manifest),
        target.report_id(EvaluateConfig(slice_by=("size",), slice_quantiles=3), "/data", manifest),
        target.report_id(EvaluateConfig(slice_by=("size",)), "/data", manifest),
        target.report_id(EvaluateConfig(corruptions=True), "/data", manifest),
        target.report_id(config, "/data", other_data),
    ]
    assert len({name, *others}) == 11


def test_report_is_not_named_by_what_changes_only_the_speed_or_the_place(
    run: str, manifest: Manifest
) -> None:
    target = find_target(run, None)
    names = {
        target.report_id(EvaluateConfig(), "/data", manifest),
        target.report_id(EvaluateConfig(batch_size=7, actors=2, cpus_per_actor=1), "/data", manifest),
        target.report_id(EvaluateConfig(predictions=False, slice_quantiles=9), "/data", manifest),
        target.report_id(EvaluateConfig(), "s3://elsewhere/data", manifest),
        dataclasses.replace(target, uri="/copy", run="copy", model="copy").report_id(
            EvaluateConfig(), "/data", manifest
        ),
        # A k above the number of classes means all of them.
        target.report_id(EvaluateConfig(top_k=99), "/data", manifest),
    }
    assert len(names) == 1


def test_subject_says_all_that_is_known(run: str, manifest: Manifest) -> None:
    subject = find_target(run, None).subject(EvaluateConfig(top_k=2), "/data", manifest)
    assert subject.to_columns() == {
        "run": "seed",
        "model": "seed-cnn",
        "checkpoint_uri": f"{run}/checkpoints/epoch-0002",
        "checkpoint_step": 200,
        "checkpoint_epoch": 2,
        "checkpoint_digest": find_target(run, None).digest,
        "dataset_uri": "/data",
        "dataset_fingerprint": manifest.fingerprint,
        "split": "test",
    }
    assert subject.evaluation == {"pixel_range": "0-255", "outputs": "auto", "top_k": 2}
    assert subject.class_names == manifest.class_names
