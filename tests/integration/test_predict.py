"""Unlabelled images are predicted as the evaluation predicts them, every one once, also after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cnnlib.dataset.streamed import row_id
from cnnlib.reports.predictions import read_predictions
from cnnlib.storage import files
from tests.image_files import encode, noise
from tests.integration.conftest import JobResult, run_job

_SIDE, _IMAGES = 12, 600  # of two chunks


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Image files in folders of classes, a data set of all of them, a model, and its report."""
    base = tmp_path_factory.mktemp("predict")
    environment = {"HOME": str(base)}
    for number in range(_IMAGES):
        name = ("Kätzchen", "dog house")[number % 2]
        path = base / "images" / name / f"{number:04d} ü.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = noise(_SIDE, _SIDE, 3, number) // 2 + 100 * (number % 2)
        path.write_bytes(encode(image.astype(np.uint8)))
    data, runs, reports = (base / name for name in ("data", "runs", "reports"))
    for job, arguments in (
        ("prepare", ["folders", base / "images", "--splits", "train=0.2,test=0.8", "--output", data]),
        ("train", ["dnn", "--data", data, "--runs", runs, "--name", "a", "--epochs", 1, "--batch-size", 16]),
        ("evaluate", ["--checkpoint", runs / "a", "--data", data, "--reports", reports]),
    ):
        done = run_job(job, arguments, environment)
        assert done.code == 0, done.stderr[-3000:]
    report = done.result["reports"][0]
    stored = read_predictions(str(reports), report["report_id"]).to_pandas()
    return {"base": base, "environment": environment, "report": report, "stored": stored, "data": data}


def predict(world: dict[str, Any], images: object, output: Path, *flags: Any, expect: int = 0) -> JobResult:
    arguments = ["--checkpoint", world["base"] / "runs/a", "--images", images, "--output", output, *flags]
    done = run_job("predict", arguments, world["environment"])
    assert done.code == expect, done.stderr[-3000:]
    return done


def rows_of(output: Path) -> pd.DataFrame:
    return pq.ParquetDataset(sorted(output.glob("part-*.parquet"))).read().to_pandas()


def test_predictions_of_files_are_those_of_the_evaluation(world: dict[str, Any], tmp_path: Path) -> None:
    done = predict(world, world["base"] / "images", tmp_path / "out")
    assert done.result == {
        "output": str(tmp_path / "out"), "images": _IMAGES, "unreadable": 0, "new_images": _IMAGES,
        "finished_before": False,
    }  # fmt: skip
    rows = rows_of(tmp_path / "out")
    assert sorted(rows["path"]) == sorted(
        str(path.relative_to(world["base"] / "images")) for path in (world["base"] / "images").rglob("*.png")
    )
    rows.index = pd.Index([row_id(path) for path in rows["path"]])
    found = rows.loc[world["stored"]["id"]]
    assert len(found) > _IMAGES / 2
    assert found["prediction_index"].tolist() == world["stored"]["prediction"].tolist()
    np.testing.assert_allclose(found["probability"], world["stored"]["probability"], atol=1e-5)
    assert set(found["prediction"]) <= {"Kätzchen", "dog house"}
    first = found.iloc[0]
    assert [first["top_classes"][0], first["top_probabilities"][0]] == [
        first["prediction"],
        first["probability"],
    ]
    assert sum(first["probabilities"]) == pytest.approx(1, abs=1e-5)

    assert sorted(pd.read_parquet(tmp_path / "out")["path"]) == sorted(rows["path"]), (
        "the whole folder, as people do"
    )

    again = predict(world, world["base"] / "images", tmp_path / "out")
    assert (again.result["new_images"], again.result["finished_before"]) == (0, True)
    other = predict(world, world["base"] / "images", tmp_path / "out", "--tta", "flips", expect=2)
    assert "already holds other predictions" in other.stderr


def test_predictions_of_a_dataset_make_the_report_of_the_model(world: dict[str, Any], tmp_path: Path) -> None:
    done = predict(world, world["data"], tmp_path / "out")
    assert done.result["images"] == len(world["stored"])
    common = ["--data", world["data"], "--reports", tmp_path / "reports"]
    scored = run_job("evaluate", ["--predictions", tmp_path / "out", *common], world["environment"])
    assert scored.code == 0, scored.stderr[-3000:]
    [theirs] = scored.result["reports"]
    assert (theirs["rows"], theirs["correct"]) == (world["report"]["rows"], world["report"]["correct"])
    assert theirs["loss"] == pytest.approx(world["report"]["loss"], rel=1e-4)


def test_a_job_that_was_killed_goes_on_with_what_is_missing(world: dict[str, Any], tmp_path: Path) -> None:
    program = (
        "import os, sys; from cnnlib.prediction import run; log = run.log_event\n"
        "run.log_event = lambda event, **fields: os._exit(9) if event == 'predicted' else log(event, **fields)\n"
        "from jobs.predict import main; sys.exit(main(sys.argv[1:]))"
    )
    images, output = world["base"] / "images", tmp_path / "out"
    command = ["--checkpoint", world["base"] / "runs/a", "--images", images, "--output", output]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    killed = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)],
        env={**environment, **world["environment"], "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert killed.returncode == 9, killed.stderr[-3000:]
    assert not (output / "_manifest.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert before
    done = predict(world, images, output)
    assert done.result["images"] == _IMAGES
    assert done.result["new_images"] < _IMAGES
    assert rows_of(output)["path"].is_unique
    assert {name: (output / name).stat().st_mtime_ns for name in before} == before


def test_images_that_cannot_be_read_have_a_row_with_the_problem(
    world: dict[str, Any], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20):
        (images / f"{number}.png").write_bytes(encode(noise(_SIDE, 30, 3, number)))
    (images / "x.jpg").write_bytes(b"no image")
    (images / "notes.txt").write_text("no image either")
    refused = predict(world, images, tmp_path / "out", expect=2)
    assert "1 of the 21 images cannot be read; at most 1.00% may. First: x.jpg: " in refused.stderr
    assert not (tmp_path / "out" / "_manifest.json").exists()
    done = predict(world, f"{images}/*.*", tmp_path / "out", "--max-bad", 0.1)
    assert (done.result["images"], done.result["unreadable"]) == (21, 1)
    rows = rows_of(tmp_path / "out").set_index("path")
    assert rows.loc["x.jpg", "problem"]
    assert pd.isna(rows.loc["x.jpg", "prediction"])
    assert rows.drop("x.jpg")["prediction"].notna().all()


def test_what_a_model_file_does_not_state_is_asked_for(world: dict[str, Any], tmp_path: Path) -> None:
    [model] = (world["base"] / "runs/a/checkpoints/epoch-0001").glob("*.keras")
    copy = tmp_path / "theirs.keras"
    copy.write_bytes(model.read_bytes())
    flags: list[Any] = []
    for message, more in (
        ("does not state its classes. Give --class-names", ["--class-names", "a", "b"]),
        ("does not state what it takes. Give --pixel-range", ["--pixel-range", "0-255"]),
        ("does not state the size of its images. Give --size", ["--size", _SIDE]),
    ):
        arguments = [
            "--checkpoint",
            copy,
            "--images",
            world["base"] / "images",
            "--output",
            tmp_path / "out",
            *flags,
        ]
        done = run_job("predict", arguments, world["environment"])
        assert done.code == 2
        assert message in done.stderr
        flags += more
    assert files.list_objects(str(tmp_path / "out")) == []
