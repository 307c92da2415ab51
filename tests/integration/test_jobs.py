"""Tests all jobs on a real S3 server and a real cluster: prepare, train on 1, 2 and 4 workers, evaluate, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from cnnlib.reports.predictions import read_predictions
from cnnlib.reports.schema import table_schema
from cnnlib.runs import checkpoints as runs
from cnnlib.runs.history import decode_history
from cnnlib.storage import files, layout, s3
from cnnlib.storage.uri import join_uri, split_s3
from infra.local_s3 import LocalS3Server
from tests.buckets import BucketForDuckdb, open_in_arrow
from tests.fashion import CLASSES, TEST_ROWS
from tests.integration.conftest import RunJob, run_job

EPOCHS, STEPS, BATCH = 2, 4, 32
VALIDATION = 0.1
EXACT = "s3://tests/exact"  # runs apart from those that --pending counts
TRAIN = [
    "--epochs",
    EPOCHS,
    "--steps-per-epoch",
    STEPS,
    "--batch-size",
    BATCH,
    "--validation-fraction",
    VALIDATION,
]


@dataclass(frozen=True, kw_only=True)
class Story:
    """Holds where everything lies after the jobs ran once, and the results of two of them."""

    data: str
    runs: str
    reports: str
    two: dict[str, Any]
    pending: dict[str, Any]


@pytest.fixture(scope="module")
def s3_environment(s3_server: LocalS3Server) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment().items():
            patch.setenv(name, value)
        s3._client.cache_clear()
        yield


@pytest.fixture(scope="module")
def story(s3_environment: None, tiny_idx: Path, on_cluster: RunJob) -> Story:
    """Prepares, trains with one and with two workers, and evaluates both runs, on S3."""
    base = "s3://tests/story"
    data, runs_uri, reports = (join_uri(base, name) for name in ("data", "runs", "reports"))
    on_cluster("prepare", "idx", tiny_idx, "--output", data)
    where = ["--data", data, "--runs", runs_uri, *TRAIN]
    on_cluster("train", "seed", *where, "--name", "one", "--workers", 1)
    watched = ["--loop.tensorboard", "--loop.profile-steps", 1]
    micro_batches = ["--loop.micro-batches", 2]
    two = on_cluster("train", "seed", *where, "--name", "two", "--workers", 2, *micro_batches, *watched)
    pending = on_cluster("evaluate", "--pending", runs_uri, "--data", data, "--reports", reports)
    return Story(data=data, runs=runs_uri, reports=reports, two=two.result, pending=pending.result)


@pytest.fixture(autouse=True)
def s3_for_this_process(s3_server: LocalS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)


def test_training_leaves_a_checkpoint_per_epoch_a_history_and_its_picture(story: Story) -> None:
    checkpoints = runs.list_checkpoints(story.two["run"])
    history = decode_history(files.read_bytes(story.two["history"]))
    assert [each.epoch for each in checkpoints] == [1, 2]
    assert [each.step for each in checkpoints] == [STEPS, 2 * STEPS]
    assert [record.rows for record in history] == [STEPS * BATCH] * EPOCHS
    assert [record.validation_accuracy for record in history] == [each.score for each in checkpoints]
    assert files.read_bytes(story.two["learning_curves"]).startswith(b"\x89PNG")
    assert story.two["status"] == "finished"


def test_tensorboard_finds_the_epochs_and_a_trace_beside_the_run(story: Story) -> None:
    found = {each.uri.removeprefix(story.two["run"]): each for each in files.list_objects(story.two["run"])}
    events = [name for name in found if name.startswith("/tensorboard/")]
    assert events[:EPOCHS] == [f"/tensorboard/events.out.tfevents.epoch-000{epoch}" for epoch in (1, 2)]
    (trace,) = (name for name in found if name.startswith("/profile/") and name.endswith(".xplane.pb"))
    assert found[trace].num_bytes > 0


def test_the_number_of_workers_does_not_change_the_training(
    story: Story, on_cluster: RunJob, tmp_path: Path
) -> None:
    where = ["--data", story.data, "--runs", EXACT, *TRAIN]
    on_cluster("train", "seed", *where, "--name", "four", "--workers", 4)
    one, two = (join_uri(story.runs, name) for name in ("one", "two"))
    for more in (two, join_uri(EXACT, "four")):
        # Measured: weights differ by 1e-7 after a step and by some 1e-5 after four; float noise grows from there.
        assert _largest_difference(one, more, 1, tmp_path) < 1e-4
        of_one, of_more = _history(one), _history(more)
        assert of_one[0].loss == pytest.approx(of_more[0].loss, abs=1e-4)
        assert of_one[1].loss == pytest.approx(of_more[1].loss, abs=1e-2)
        assert [each.rows for each in of_one] == [each.rows for each in of_more]


def test_a_streamed_run_repeats_bit_for_bit(story: Story, on_cluster: RunJob, tmp_path: Path) -> None:
    where = ["--data", story.data, "--runs", EXACT, *TRAIN, "--workers", 2, "--cache", "none"]
    for name in ("first", "second"):
        on_cluster("train", "seed", *where, "--name", name)
    first, second = (join_uri(EXACT, name) for name in ("first", "second"))
    assert _largest_difference(first, second, EPOCHS, tmp_path) == 0
    for one, two in zip(_history(first), _history(second), strict=True):
        assert (one.loss, one.accuracy, one.validation_loss) == (two.loss, two.accuracy, two.validation_loss)
    # A run whose rows are in memory has another order of rows.
    assert _largest_difference(first, join_uri(story.runs, "two"), 1, tmp_path) > 0


def test_a_finished_run_says_so_and_more_epochs_continue_it(story: Story, on_cluster: RunJob) -> None:
    command = ["seed", "--data", story.data, "--runs", story.runs, "--name", "two", "--workers", 2, *TRAIN]
    command += ["--loop.micro-batches", 2]
    again = on_cluster("train", *command)
    assert again.result["status"] == "finished before"
    assert again.result["checkpoint"] == story.two["checkpoint"]
    longer = on_cluster("train", *command, "--epochs", 3, "--workers", 1)
    assert "resume" in longer.stderr
    assert [each.epoch for each in runs.list_checkpoints(story.two["run"])] == [1, 2, 3]
    assert [record.step for record in decode_history(files.read_bytes(longer.result["history"]))] == [
        4,
        8,
        12,
    ]


def test_a_training_that_diverges_ends_with_one_line_and_leaves_no_checkpoint(
    story: Story, on_cluster: RunJob
) -> None:
    where = ["--data", story.data, "--runs", EXACT, *TRAIN, "--name", "diverged", "--workers", 2]
    optimizer = ["--optimizer.name", "sgd", "--learning-rate", 1e30]
    done = on_cluster("train", "seed", *where, *optimizer, expect=1)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: The training diverged: the loss is ")
    assert f"at step {STEPS} (epoch 1, learning rate 1e+30). Choose a lower --learning-rate" in errors[0]
    assert runs.list_checkpoints(join_uri(EXACT, "diverged")) == []
    assert "all workers start again" not in done.stderr, (
        "Ray restarted the workers, though the same would happen again"
    )


def test_pending_evaluates_every_checkpoint_once_and_nothing_twice(story: Story, on_cluster: RunJob) -> None:
    new = [row for row in story.pending["reports"] if row["new"]]
    assert sorted((row["run"], row["checkpoint_epoch"]) for row in new) == [
        ("one", 1),
        ("one", 2),
        ("two", 1),
        ("two", 2),
    ]
    assert {row["rows"] for row in new} == {TEST_ROWS}
    again = on_cluster("evaluate", "--pending", story.runs, "--data", story.data, "--reports", story.reports)
    # Another test may have trained a third epoch meanwhile; nothing else is left to do.
    ids = {row["report_id"] for row in new}
    assert all(row["new"] and row["report_id"] not in ids for row in again.result["reports"])
    last = on_cluster("evaluate", "--pending", story.runs, "--data", story.data, "--reports", story.reports)
    assert last.result["reports"] == [], "a look with nothing to do reads no report"
    assert "done=" in last.stderr
    named = on_cluster(
        "evaluate", "--checkpoint", f"{story.runs}/one@1", f"{story.runs}/two@2", "--data", story.data,
        "--reports", story.reports,
    )  # fmt: skip
    old = {row["report_id"]: row["evaluated_at"] for row in named.result["reports"] if not row["new"]}
    assert old.items() <= {row["report_id"]: row["evaluated_at"] for row in new}.items()
    assert len(old) == 2


def test_every_report_has_a_page_beside_it_and_the_folder_has_one(story: Story) -> None:
    ids = [row["report_id"] for row in story.pending["reports"]]
    for report_id in ids:
        page = files.read_bytes(layout.report_page(story.reports, report_id)).decode()
        assert page.count("data:image/png;base64,") > 1, "the mistaken images were not found"
        assert "Learning curves" in page
    history = files.read_bytes(layout.history_page(story.reports)).decode()
    assert all(f'href="{report_id}.html"' in history for report_id in ids)


def test_a_report_is_whole_and_agrees_with_itself(story: Story) -> None:
    row = story.pending["reports"][0]
    tables = {name: _read(story.reports, name, row["report_id"]) for name in layout.REPORT_TABLES}
    per_class, overall, confusion = (
        tables[name].to_pandas() for name in ("per_class", "overall", "confusion")
    )
    assert len(per_class) == CLASSES
    assert per_class["support"].sum() == overall["rows"][0] == confusion["count"].sum() == TEST_ROWS
    assert per_class["correct"].sum() == overall["correct"][0]
    assert files.find_size(layout.report_manifest(story.reports, row["report_id"]))


def test_a_report_tells_what_the_model_costs_and_makes_of_the_first_image(story: Story) -> None:
    report_id = story.pending["reports"][0]["report_id"]
    [overall] = _read(story.reports, "overall", report_id).to_pylist()
    assert (overall["parameters"], overall["flops_per_image"]) == (47_090, 35_583_232)
    pictures = _read(story.reports, "activations", report_id).to_pandas()
    assert set(pictures["example_id"]) == {0}
    assert pictures.groupby("kind").size().to_dict() == {
        "activation": 64 + 32 + 32 + 32 + 16 + 16 + 16 + 8 + 8,
        "image": 1,
        "kernel": 64,
    }


def test_pandas_duckdb_and_pyarrow_read_the_per_class_folder_as_one_table(
    story: Story, s3_environment: None, tmp_path: Path
) -> None:
    uri = join_uri(story.reports, "per_class")
    filesystem, path = open_in_arrow(uri)
    local = tmp_path / "per_class"
    for each in files.list_objects(uri):
        files.download(each.uri, local / each.uri.rsplit("/", 1)[-1])
    rows = CLASSES * len(list(local.iterdir()))
    query = "select count(*), sum(support), count(distinct report_id) from read_parquet('{}')"
    expected = (rows, TEST_ROWS * rows // CLASSES, rows // CLASSES)

    assert len(pd.read_parquet(local)) == rows
    assert len(pd.read_parquet(path, filesystem=filesystem)) == rows
    assert pads.dataset(local).to_table().schema.equals(table_schema("per_class"))
    assert pads.dataset(path, filesystem=filesystem).to_table().num_rows == rows
    assert duckdb.sql(query.format(f"{local}/*.parquet")).fetchall() == [expected]
    with duckdb.connect() as connection:
        connection.register_filesystem(BucketForDuckdb(filesystem))
        assert connection.sql(query.format(f"bucket://{path}/*.parquet")).fetchall() == [expected]


def test_the_report_job_shows_the_list_one_report_and_two(story: Story) -> None:
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    listed = run_job("report", [story.reports], environment)
    assert len(listed.result["reports"]) >= 4
    first, second = (row["report_id"] for row in listed.result["reports"][:2])
    assert run_job("report", [story.reports, first[:10]], environment).result["report"]["report_id"] == first
    compared = run_job("report", [story.reports, "latest", "previous"], environment)
    assert (compared.result["a"]["report_id"], compared.result["b"]["report_id"]) == (first, second)


def test_a_checkpoint_opens_in_plain_keras_where_the_project_cannot_be_imported(
    story: Story, s3_environment: None, tiny_idx: Path, tmp_path: Path
) -> None:
    report = next(
        row for row in story.pending["reports"] if (row["run"], row["checkpoint_epoch"]) == ("two", 2)
    )
    model = tmp_path / "model.keras"
    files.download(join_uri(story.two["checkpoint"], "model.keras"), model)
    plain = _plain_keras("evaluate", tiny_idx, model)
    assert plain["correct"] == report["correct"]
    assert plain["loss"] == pytest.approx(report["loss"], rel=1e-4)


def test_a_model_that_plain_keras_saved_gets_the_count_that_plain_keras_gets(
    story: Story, tiny_idx: Path, tmp_path: Path, on_cluster: RunJob
) -> None:
    plain = _plain_keras("train", tiny_idx, tmp_path)
    reports = tmp_path / "reports"
    models = [tmp_path / "plain.keras", tmp_path / "plain.h5"]
    done = on_cluster("evaluate", "--checkpoint", *models, "--data", story.data, "--reports", reports)
    assert [row["model"] for row in done.result["reports"]] == ["plain.keras", "plain.h5"]
    for row in done.result["reports"]:
        assert row["correct"] == plain["correct"]
        assert row["loss"] == pytest.approx(plain["loss"], rel=1e-4)
        predictions = read_predictions(str(reports), row["report_id"]).to_pandas()
        assert predictions["id"].tolist() == list(range(TEST_ROWS))
        assert (predictions["label"] == predictions["prediction"]).sum() == row["correct"]


def test_more_than_the_cluster_can_ever_have_is_refused_at_once(
    story: Story, tmp_path: Path, on_cluster: RunJob
) -> None:
    command = ["seed", "--data", story.data, "--runs", tmp_path / "runs", "--name", "big"]
    gpus = on_cluster("train", *command, "--gpus-per-worker", 1, expect=2)
    assert "cannot provide 1 workers of 1 CPU and 1 GPU each" in gpus.stderr
    cpus = on_cluster(
        "evaluate",
        "--checkpoint",
        _any_file(tmp_path),
        "--data",
        story.data,
        "--reports",
        tmp_path / "reports",
        "--actors",
        64,
        expect=2,
    )
    assert "cannot provide 64 predictors" in cpus.stderr
    assert not (tmp_path / "runs").exists()


def test_a_model_of_the_users_own_that_does_not_fit_is_refused_before_training(
    story: Story, tmp_path: Path, on_cluster: RunJob
) -> None:
    command = ["--data", story.data, "--runs", tmp_path / "runs", "--name", "eleven"]
    done = on_cluster("train", "seed", *command, "--model", "tests.models:build_eleven_classes", expect=2)
    assert "expected (None, 10)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def _history(run: str) -> list[Any]:
    return decode_history(files.read_bytes(layout.run_history(run)))


def _largest_difference(run: str, other: str, epoch: int, directory: Path) -> float:
    one, two = (_weights(layout.checkpoint_uri(each, epoch), directory) for each in (run, other))
    assert len(one) == len(two) == 16
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))


def _weights(checkpoint_uri: str, directory: Path) -> list[np.ndarray]:
    import keras

    path = directory / f"{abs(hash(checkpoint_uri))}.keras"
    files.download(join_uri(checkpoint_uri, "model.keras"), path)
    return [np.asarray(weight) for weight in keras.models.load_model(path, compile=False).get_weights()]


def _read(reports: str, table: str, report_id: str) -> pa.Table:
    filesystem, path = open_in_arrow(layout.report_table(reports, table, report_id))
    assert split_s3(reports).bucket in path
    return pads.dataset(path, filesystem=filesystem).to_table()


def _plain_keras(command: str, *paths: Path) -> dict[str, Any]:
    script = Path(__file__).with_name("plain_keras.py")
    done = subprocess.run(
        [sys.executable, "-I", str(script), command, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _any_file(directory: Path) -> Path:
    path = directory / "some.keras"
    path.write_bytes(b"never opened: the cluster is asked first")
    return path
