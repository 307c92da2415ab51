"""Tests that a run which begins with the weights of another one trains its new head, and leaves frozen layers alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np

from tests.datasets import make_source, write_dataset_without_ray
from tests.integration.conftest import run_job

# The last convolution of the model is trained; batch normalisation makes frozen statistics visible.
MODEL = ["--model.filters", 8, 8, 4, 4, "--model.units", 16, "--model.batch-norm", "True"]
FROZEN = [f"{kind}{number}" for number in ("", "_1", "_2") for kind in ("conv2d", "batch_normalization")]


def test_two_workers_fine_tune_a_model_for_other_classes_with_frozen_layers(tmp_path: Path) -> None:
    three, four = tmp_path / "three", tmp_path / "four"
    source = make_source()
    write_dataset_without_ray(str(three), source)
    splits = {
        name: dataclasses.replace(rows, labels=(np.arange(len(rows.labels)) % 4).astype(np.int32))
        for name, rows in source.splits.items()
    }
    more = dataclasses.replace(source, class_names=("a", "b", "c", "d"), splits=splits)
    write_dataset_without_ray(str(four), more)
    environment = {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    usual = ["seed", "--runs", tmp_path / "runs", "--batch-size", 8, *MODEL]

    first = run_job("train", [*usual, "--data", three, "--name", "first", "--epochs", 1], environment)
    assert first.code == 0, first.stderr[-6000:]
    weights = Path(first.result["checkpoint"], "model.keras")
    tune = [*usual, "--data", four, "--name", "tuned", "--workers", 2, "--weights", weights]
    tune += ["--freeze", f"..{FROZEN[-1]}", "--optimizer.layer-decay", 0.5]

    tuned = run_job("train", [*tune, "--epochs", 1], environment)
    assert tuned.code == 0, tuned.stderr[-6000:]
    assert f"weights file={weights} taken=9 left=1 first_left=probabilities" in tuned.stderr
    assert "freeze layers=6 parameters=1016 first=conv2d last=batch_normalization_2" in tuned.stderr
    assert "layer-rates groups=6 lowest_factor=0.25" in tuned.stderr  # of the last convolution
    assert_frozen(weights, Path(tuned.result["checkpoint"], "model.keras"))

    weights.rename(weights.with_suffix(".away"))  # a run that goes on does not need it
    longer = run_job("train", [*tune, "--epochs", 2], environment)
    assert longer.code == 0, longer.stderr[-6000:]
    assert longer.result["epochs"] == 2
    assert_frozen(
        weights.with_suffix(".away").rename(weights), Path(longer.result["checkpoint"], "model.keras")
    )


def assert_frozen(before: Path, after: Path) -> None:
    """Checks that plain Keras opens both files, and that exactly the frozen layers have the same weights in them."""
    old, new = (keras.models.load_model(path) for path in (before, after))
    assert new.output_shape == (None, 4)
    same = [
        layer.name
        for layer in new.layers
        if layer.weights
        and all(
            np.array_equal(have, want)
            for have, want in zip(layer.get_weights(), old.get_layer(layer.name).get_weights(), strict=True)
        )
    ]
    assert same == FROZEN
