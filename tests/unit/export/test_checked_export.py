"""An export gives the answers of the Keras model, or it is not published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import ConfigError, ConflictError, DatasetError, ModelError
from cnnlib.export.plan import plan_export
from cnnlib.export.run import ExportResult, export
from cnnlib.export_config import ExportConfig
from cnnlib.models.registry import build_model
from jobs.export import main
from tests.datasets import CLASS_NAMES, TEST_ROWS, make_source, write_dataset_without_ray
from tests.unit.conftest import THREADS

pytestmark = pytest.mark.usefixtures("strategy")
SHAPE, CLASSES = (8, 8, 1), 3


@pytest.fixture
def data(tmp_path: Path) -> str:
    write_dataset_without_ray(str(tmp_path / "data"))
    return str(tmp_path / "data")


def save(model: keras.Model, folder: Path) -> str:
    """Saves a model with weights that are not symmetric."""
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(random.normal(0, 0.3, tuple(weight.shape)))
    path = folder / "mine.keras"
    model.save(path)
    return str(path)


def dense(activation: str | None = "softmax", scale: float = 255.0) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Rescaling(1 / scale),
            layers.Flatten(),
            layers.Dense(CLASSES, activation=activation),
        ]
    )


def run(model: str, data: str, output: Path, **config: Any) -> ExportResult:
    values = {"pixel_range": "0-255", "cpus": THREADS, **config}
    return export(plan_export(ExportConfig(**values), model, data, str(output)))


def test_a_saved_model_and_its_manifest_are_all_that_a_stranger_needs(tmp_path: Path, data: str) -> None:
    model, output = save(dense(activation=None), tmp_path), tmp_path / "out"
    result = run(model, data, output)
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["class_names"] == list(CLASS_NAMES)
    assert manifest["input"] == {
        "name": "images", "dtype": "float32", "shape": [None, *SHAPE], "pixels": "0-255",
    }  # fmt: skip
    assert manifest["output"] == {"name": "output_0", "shape": [None, CLASSES], "values": "logits"}
    assert manifest["check"]["images"] == manifest["check"]["same_class"] == TEST_ROWS  # fewer than 1000
    assert manifest["check"]["largest_difference"] <= manifest["check"]["tolerance"] == 1e-4
    assert [batch["batch_size"] for batch in result["latency"]] == [1, 64]
    assert all(batch[name]["median_ms"] > 0 for batch in result["latency"] for name in ("keras", "exported"))

    images = make_source().splits["test"].read(0, TEST_ROWS).images.astype(np.float32)
    serve = tf.saved_model.load(str(output / manifest["model"]))
    outputs = serve.signatures["serving_default"](images=tf.constant(images))[manifest["output"]["name"]]
    expected = keras.models.load_model(model, compile=False).predict(images, verbose=0)
    np.testing.assert_allclose(outputs.numpy(), expected, atol=1e-5)


def test_the_same_export_is_made_once_and_another_one_is_refused(tmp_path: Path, data: str) -> None:
    model, output = save(dense(), tmp_path), tmp_path / "out"
    first = run(model, data, output, format="litert")
    written = (output / "manifest.json").stat().st_mtime_ns
    again = run(model, data, output, format="litert")
    assert again == {**first, "finished_before": True}
    assert (output / "manifest.json").stat().st_mtime_ns == written
    with pytest.raises(ConflictError, match=r"already holds another export, of .*mine.keras as litert"):
        run(model, data, output, format="savedmodel")


@keras.saving.register_keras_serializable("tests")
class Noise(layers.Layer):
    """A layer whose outputs are others in every call."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.random.uniform(tf.shape(inputs))


@pytest.mark.parametrize("format", ["savedmodel", "litert"])
def test_a_model_that_gives_other_answers_is_not_published(format: str, tmp_path: Path, data: str) -> None:
    inputs = keras.Input(SHAPE)
    noisy = Noise()(layers.Flatten()(layers.Rescaling(1 / 255)(inputs)))
    model = save(keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(noisy)), tmp_path)
    with pytest.raises(ModelError, match="Nothing was published") as raised:
        run(model, data, tmp_path / "out", format=format)
    assert re.search(
        rf"other answers as {format}: the probabilities of {TEST_ROWS} images", str(raised.value)
    )
    assert not (tmp_path / "out").exists()


def test_a_difference_within_the_tolerance_is_stated(tmp_path: Path, data: str) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = save(build_model("small-cnn", SHAPE, CLASSES), tmp_path)
    finally:
        keras.config.set_dtype_policy("float32")
    run(model, data, tmp_path / "out", format="litert")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["precision"] == "float32"
    assert manifest["check"]["largest_difference"] <= 1e-4
    trained = manifest["trained_precision"]
    assert (trained["precision"], trained["images"]) == ("mixed_bfloat16", TEST_ROWS)
    assert trained["largest_difference"] > manifest["check"]["largest_difference"]


def test_the_pixels_that_a_model_takes_are_those_of_the_check(tmp_path: Path, data: str) -> None:
    model = save(dense(scale=1.0), tmp_path)
    run(model, data, tmp_path / "out", pixel_range="-1..1", images=10)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["input"]["pixels"] == "-1..1"
    assert manifest["check"]["images"] == 10
    run(save(dense(), tmp_path), data, tmp_path / "found", pixel_range=None)  # the model scales pixels itself
    manifest = json.loads((tmp_path / "found" / "manifest.json").read_text())
    assert manifest["input"]["pixels"] == "0-255"


def test_a_split_without_rows_checks_nothing_and_is_refused(tmp_path: Path) -> None:
    data = str(tmp_path / "empty")
    manifest: Manifest = write_dataset_without_ray(data, make_source(test_rows=0))
    assert manifest.split("test").rows == 0
    with pytest.raises(DatasetError, match=r"The split 'test' of .* has no rows"):
        run(save(dense(), tmp_path), data, tmp_path / "out")


def test_a_model_for_other_images_is_refused(tmp_path: Path, data: str) -> None:
    model = keras.Sequential([keras.Input((9, 9, 1)), layers.Flatten(), layers.Dense(CLASSES)])
    with pytest.raises(ModelError, match="does not take this dataset's images"):
        run(save(model, tmp_path), data, tmp_path / "out")


def test_onnx_is_refused_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ConfigError, match="onnx cannot be exported: its converter, tf2onnx, looks for a maint"
    ):
        ExportConfig(format="onnx")
    words = ["--checkpoint", "a", "--data", "b", "--output", "c", "--format", "onnx"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "error: onnx cannot be exported" in capsys.readouterr().err


def test_the_job_prints_its_result_as_json(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--checkpoint", save(dense(), tmp_path), "--data", data, "--output", str(tmp_path / "out")]
    code = main([*words, "--pixel-range", "0-255", "--cpus", str(THREADS), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    assert (result["format"], result["images"], result["finished_before"]) == ("savedmodel", TEST_ROWS, False)
    assert "checked images=23 same_class=23 largest_difference=" in captured.err
