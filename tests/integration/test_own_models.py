"""Tests that what trains also evaluates: a model that needs its author's code, under any settings of Keras."""

from __future__ import annotations

import json
from pathlib import Path

from tests.datasets import TEST_ROWS, write_dataset_without_ray
from tests.integration.conftest import run_job

OWN_MODEL = "tests.own_models:build_own_relu"  # plain Keras opens its file, but as another model


def test_own_model_is_trained_by_two_workers_and_evaluated_under_any_settings_of_keras(
    tmp_path: Path,
) -> None:
    data, runs, reports = tmp_path / "data", tmp_path / "runs", tmp_path / "reports"
    write_dataset_without_ray(str(data))
    settings = {"backend": "jax", "floatx": "float16", "image_data_format": "channels_first"}
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    environment = {"HOME": str(tmp_path), "KERAS_BACKEND": "torch", "TF_USE_LEGACY_KERAS": "1"}

    where = [
        "seed",
        "--data",
        data,
        "--runs",
        runs,
        "--name",
        "own",
        "--model",
        OWN_MODEL,
        "--model.width",
        7,
    ]
    train = [*where, "--workers", 2, "--batch-size", 8, "--epochs", 2]
    dry = run_job("train", [*train, "--dry-run"], environment)
    assert (dry.code, dry.result["opens_in_keras"]) == (0, False), dry.stderr[-6000:]
    assert not runs.exists() or not list(runs.rglob("*.json"))
    refused = run_job("train", [*train, "--dry-run", "--model.depth", 2], environment)
    assert (refused.code, refused.stderr.splitlines()[-1]) == (
        2,
        f"error: {OWN_MODEL} has no such option. Received --model.depth 2, expected one of: --model.width.",
    )

    trained = run_job("train", train, environment)
    assert trained.code == 0, trained.stderr[-6000:]
    assert f"model-file model={OWN_MODEL} opens_in_keras=False" in trained.stderr
    manifest = json.loads(Path(trained.result["checkpoint"], "manifest.json").read_text())
    assert (manifest["opens_in_keras"], manifest["dtype_policy"]) == (False, "float32")

    arguments = ["--checkpoint", runs / "own", "--data", data, "--reports", reports]
    evaluated = run_job("evaluate", arguments, environment)
    assert evaluated.code == 0, evaluated.stderr[-6000:]
    (report,) = evaluated.result["reports"]
    assert report["rows"] == TEST_ROWS
    assert report["model"] == f"{OWN_MODEL} width=7"
