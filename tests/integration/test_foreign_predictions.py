"""Predictions of a model of any framework get the report that the model itself would get."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cnnlib.reports.predictions import read_predictions
from cnnlib.storage import files, layout
from tests.integration.conftest import RunJob, run_job

_PREDICT = """
import sys, numpy as np, keras
from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.reader import read_positions
data, model, out = sys.argv[1:]
manifest = load_manifest(data); split = manifest.split("test")
rows = read_positions(data, manifest, split, np.arange(split.rows))
model = keras.models.load_model(model, compile=False)
np.savez(out, ids=rows.ids, labels=rows.labels, p=model.predict(rows.images.astype("float32"), batch_size=500))
"""
_KEYS = ["report_id", "evaluated_at", "model", "run", "checkpoint_uri", "checkpoint_step", "checkpoint_epoch"]
_KEYS += [
    "checkpoint_digest",
    "parameters",
    "flops_per_image",
    "seconds",
    "images_per_s",
    "pixel_range",
    "outputs",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: str, on_cluster: RunJob) -> dict[str, Any]:
    """A checkpoint, its report, and what plain Keras predicts with it."""
    base = tmp_path_factory.mktemp("foreign")
    size = ["--epochs", 1, "--steps-per-epoch", 15, "--batch-size", 32]
    on_cluster("train", "dnn", "--data", tiny_dataset, "--runs", base / "runs", "--name", "a", *size)
    gate = base / "gate.toml"
    gate.write_text("[min_accuracy]\noverall = 0.2\n")
    common = ["--data", tiny_dataset, "--reports", str(base / "reports"), "--gate", gate]
    report = on_cluster("evaluate", "--checkpoint", base / "runs/a", *common).result
    model = Path(layout.checkpoint_uri(str(base / "runs/a"), 1)) / layout.CHECKPOINT_MODEL
    subprocess.run(
        [sys.executable, "-c", _PREDICT, tiny_dataset, model, base / "p.npz"],
        check=True,
        capture_output=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        cwd=Path(__file__).parents[2],
    )
    predicted = dict(np.load(base / "p.npz"))
    order = np.random.default_rng(0).permutation(len(predicted["ids"]))
    return {
        "base": base,
        "common": common,
        "reports": str(base / "reports"),
        "own": report,
        **{name: each[order] for name, each in predicted.items()},
    }


def frame(world: dict[str, Any], kind: str) -> pd.DataFrame:
    ids, labels, p = world["ids"], world["labels"], world["p"]
    if kind == "list":
        return pd.DataFrame({"id": ids, "label": labels, "probabilities": list(p)})
    if kind == "columns":
        return pd.DataFrame({"id": ids, **{f"p_{index}": p[:, index] for index in range(10)}})
    if kind == "logits":
        return pd.DataFrame({"row_id": ids, **{str(index): np.log(p[:, index]) * 1.0 for index in range(10)}})
    return pd.DataFrame({"id": ids, "prediction": p.argmax(axis=1)})


def write(folder: Path, table: pd.DataFrame, ending: str = "parquet") -> Path:
    path = folder / f"predictions.{ending}"
    if ending == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return path


def evaluate(world: dict[str, Any], path: Path, *flags: Any, expect: int = 0) -> Any:
    done = run_job(
        "evaluate", ["--predictions", path, *world["common"], *flags], {"HOME": str(world["base"])}
    )
    assert done.code == expect, done.stderr[-3000:]
    return done


def table_of(world: dict[str, Any], table: str, report_id: str) -> pd.DataFrame:
    data = files.read_bytes(layout.report_table(world["reports"], table, report_id))
    found = pq.read_table(io.BytesIO(data)).to_pandas()
    return found.drop(columns=[name for name in _KEYS if name in found])


@pytest.mark.parametrize(("kind", "ending"), [("list", "parquet"), ("columns", "csv")])
def test_the_report_is_that_of_the_model(
    world: dict[str, Any], tmp_path: Path, kind: str, ending: str
) -> None:
    done = evaluate(world, write(tmp_path, frame(world, kind), ending))
    [foreign], [own] = done.result["reports"], world["own"]["reports"]
    assert (foreign["rows"], foreign["correct"]) == (own["rows"], own["correct"])
    for table in ("overall", "per_class", "confusion", "calibration"):
        have, want = (table_of(world, table, each["report_id"]) for each in (foreign, own))
        pd.testing.assert_frame_equal(have, want, rtol=2e-4, atol=1e-5)
    assert [each["verdict"] for each in done.result["gates"]] == [
        each["verdict"] for each in world["own"]["gates"]
    ]
    stored, theirs = (read_predictions(world["reports"], each["report_id"]) for each in (foreign, own))
    assert stored["prediction"].to_pylist() == theirs["prediction"].to_pylist()
    page = files.read_bytes(layout.report_page(world["reports"], foreign["report_id"])).decode()
    assert f"predictions.{ending}" in page
    assert evaluate(world, tmp_path / f"predictions.{ending}").result["reports"][0]["new"] is False


def test_classes_without_probabilities_leave_what_needs_them_empty(
    world: dict[str, Any], tmp_path: Path
) -> None:
    done = evaluate(world, write(tmp_path, frame(world, "classes")))
    [foreign], [own] = done.result["reports"], world["own"]["reports"]
    have, want = (table_of(world, "overall", each["report_id"]) for each in (foreign, own))
    same = ["rows", "correct", "accuracy", "accuracy_low", "macro_f1", "macro_f1_low", "weighted_precision"]
    pd.testing.assert_frame_equal(have[same], want[same])
    empty = ["loss", "brier", "ece", "macro_auc", "macro_auc_error", "top_k_accuracy", "loss_low", "ece_high"]
    assert have[empty].isna().all(axis=None)
    assert len(table_of(world, "calibration", foreign["report_id"])) == 0
    stored = read_predictions(world["reports"], foreign["report_id"]).to_pandas()
    assert stored["probability"].isna().all()
    assert "of which only the predicted classes are known" in done.stderr
    assert "Traceback" not in done.stderr
    page = files.read_bytes(layout.report_page(world["reports"], foreign["report_id"])).decode()
    assert "Calibration" not in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.iloc[1:], "has no prediction of some of the 120 rows of the split"),
        (
            lambda table: pd.concat([table, table.iloc[:1].assign(id=10**9)]),
            "predictions of 1 rows that are not in the split",
        ),
        (lambda table: table.assign(label=(table["label"] + 1) % 10), "states other labels than the data"),
    ],
)
def test_what_cannot_be_right_is_refused_and_leaves_nothing(
    world: dict[str, Any], tmp_path: Path, change: Any, message: str
) -> None:
    before = {each.uri for each in files.list_objects(world["reports"])}
    done = evaluate(world, write(tmp_path, change(frame(world, "list"))), expect=2)
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in error
    assert {each.uri for each in files.list_objects(world["reports"])} == before
