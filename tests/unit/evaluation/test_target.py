"""A command line names targets, and everything that changes the numbers of a report changes its id."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import CheckpointError, ModelError, NotFoundError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.target import Target, find_target, fit_classes
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
def test_model_file_has_no_run(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(b"any model")
    target = find_target(str(path), None)
    assert (target.uri, target.model_uri, target.model) == (str(path), str(path), f"mine{suffix}")
    assert target.digest == hashlib.sha256(b"any model").hexdigest()
    assert target.pixel_range is None, "the predictor finds it out"
    assert (target.run, target.step, target.epoch) == (None, None, None)


def test_the_model_file_of_a_checkpoint_is_that_checkpoint(run: str, manifest: Manifest) -> None:
    checkpoint = find_target(f"{run}@1", None)
    of_file = find_target(f"{run}/checkpoints/epoch-0001/model.keras", None)
    assert of_file == checkpoint
    config = EvaluateConfig()
    assert of_file.report_id(config, "/data", manifest) == checkpoint.report_id(config, "/data", manifest)


def test_the_manifest_of_a_checkpoint_decides_about_pixels_and_outputs(tmp_path: Path) -> None:
    run = str(tmp_path / "runs" / "scaled")
    write_checkpoint_without_model(run, 1, pixel_range="-1..1", outputs="probabilities")
    write_checkpoint_without_model(run, 2, pixel_range="0-65535")
    target = find_target(f"{run}@1", None)
    assert (target.pixel_range, target.outputs) == ("-1..1", "probabilities")
    with pytest.raises(
        CheckpointError, match=r"has pixel_range '0-65535'\. Expected 0-255 or 0-1 or -1\.\.1"
    ):
        find_target(f"{run}@2", None)


def test_a_model_file_beside_some_other_manifest_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"theirs")
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    assert find_target(str(tmp_path / "model.keras"), None).run is None


def test_classes_in_another_order_make_another_report_and_other_classes_are_refused(
    tmp_path: Path, manifest: Manifest
) -> None:
    run = str(tmp_path / "runs" / "classes")
    names = list(manifest.class_names)
    write_checkpoint_without_model(run, 1, class_names=names)
    write_checkpoint_without_model(run, 2, class_names=names[::-1])
    write_checkpoint_without_model(run, 3, class_names=[*names[:-1], "other"])
    config = EvaluateConfig()
    same, reverse, other = (find_target(f"{run}@{epoch}", None) for epoch in (1, 2, 3))
    assert fit_classes(same, (), manifest).columns is None
    mapped = fit_classes(reverse, (), manifest)
    assert mapped.columns == tuple(range(len(names)))[::-1]
    assert mapped.subject(config, "/data", manifest).evaluation["class_map"] == "2,1,0"
    with pytest.raises(
        ModelError, match=rf"Class 2 is '{names[-1]}' in the data, and 'other' in the checkpoint"
    ):
        fit_classes(other, (), manifest)
    meant = (f"other={names[-1]}",)
    assert fit_classes(other, meant, manifest).columns is None, "the same outputs, under other names"


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
        target.report_id(EvaluateConfig(tta="flips"), "/data", manifest),
        target.report_id(EvaluateConfig(tta="crops"), "/data", manifest),
        target.report_id(config, "/data", other_data),
    ]
    assert len({name, *others}) == 13
    assert target.subject(EvaluateConfig(tta="flips"), "/data", manifest).evaluation["tta"] == "flips"
    assert "tta" not in target.subject(config, "/data", manifest).evaluation, (
        "reports of earlier versions stay theirs"
    )


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
