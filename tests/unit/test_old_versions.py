"""What earlier versions of this project stored is still read: a dataset, a run, and a report of each version.

`tests/examples/report-N` was written by the last commit with reports of version N: 30 and 12 images of 4x4 in three
classes, one epoch of one dense layer, and its report.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnnlib.config import TrainConfig
from cnnlib.dataset.manifest import load_manifest, whole_shard
from cnnlib.dataset.reader import check_shards, read_range
from cnnlib.errors import ConflictError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.loaded_model import load_model
from cnnlib.evaluation.target import find_target
from cnnlib.reports.predictions import read_predictions
from cnnlib.reports.read import list_reports, read_report
from cnnlib.runs.checkpoints import resolve_checkpoint
from cnnlib.runs.history import load_history
from cnnlib.runs.record import find_run_record
from cnnlib.training.plan import plan_run
from jobs.report import main as report

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").iterdir())


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.name)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what a version stored."""
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


def test_there_is_an_example_of_every_version_before_this_one() -> None:
    assert [path.name for path in EXAMPLES] == ["report-1", "report-2"]


def test_a_dataset_is_read_and_keeps_its_fingerprint(example: Path) -> None:
    manifest = load_manifest(str(example / "data"))
    stored = json.loads((example / "data/manifest.json").read_text())
    assert manifest.fingerprint == stored["fingerprint"]
    for name, rows in (("train", 30), ("test", 12)):
        check_shards(str(example / "data"), manifest, name)
        [shard] = manifest.split(name).shards
        read = read_range(str(example / "data"), manifest, whole_shard(0, shard))
        assert read.images.shape == (rows, 4, 4, 1)
        assert np.bincount(read.labels, minlength=3).tolist() == list(manifest.split(name).rows_per_class)


def test_a_run_is_continued_unless_its_rows_came_in_another_order(example: Path) -> None:
    run = str(example / "runs/old")
    record = find_run_record(run)
    assert record is not None
    assert record["config"]["model"] == "tiny_model:build"
    [epoch] = load_history(run)
    assert (epoch.epoch, epoch.step) == (1, 3)
    assert resolve_checkpoint(run).epoch == 1
    config = TrainConfig(model="tiny_model:build", epochs=2, batch_size=10)
    arguments = (config, str(example / "data"), str(example / "runs"), "old", "dnn")
    if example.name == "report-1":
        with pytest.raises(ConflictError, match=r"another version, .*row order 1, expected 2"):
            plan_run(*arguments)
    else:
        plan = plan_run(*arguments)
        assert (plan.done_epochs, plan.steps_per_epoch, plan.finished) == (1, 3, False)


def test_a_report_is_listed_and_read(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = str(example / "reports")
    [record] = list_reports(reports)
    found = read_report(reports, record.report_id)
    assert record.version == int(example.name[-1])
    assert (record.rows, found.overall["rows"], len(found.classes)) == (12, 12, 3)
    assert sum(each["support"] for each in found.classes) == 12
    assert sum(each["correct"] for each in found.classes) == record.correct
    assert found.overall["accuracy"] == record.correct / 12
    assert report([reports]) == report([reports, record.report_id]) == 0
    assert record.report_id[:8] in capsys.readouterr().out
    if record.version > 1:
        predictions = read_predictions(reports, record.report_id)
        assert (
            sum(map(bool, (predictions["label"].to_numpy() == predictions["prediction"].to_numpy())))
            == record.correct
        )


@pytest.mark.usefixtures("strategy")
def test_a_checkpoint_is_scored_as_the_version_scored_it_that_wrote_it(example: Path) -> None:
    manifest = load_manifest(str(example / "data"))
    [record] = list_reports(str(example / "reports"))
    [shard] = manifest.split("test").shards
    rows = read_range(str(example / "data"), manifest, whole_shard(0, shard))
    model = load_model(
        find_target(str(example / "runs/old"), None),
        EvaluateConfig(),
        image_shape=(4, 4, 1),
        num_classes=3,
        batch_rows=12,
        chunks=1,
    )
    probabilities = model.predict(rows.images)
    assert int((probabilities.argmax(axis=1) == rows.labels).sum()) == record.correct
    loss = -np.log(probabilities[np.arange(12), rows.labels]).mean()
    assert loss == pytest.approx(record.loss, rel=1e-5)
