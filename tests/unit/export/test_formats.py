"""What is written in a format gives, read from its files, the outputs of the Keras model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cnnlib.errors import ModelError
from cnnlib.export import formats
from cnnlib.export_config import Format
from cnnlib.models.registry import build_model
from cnnlib.models.two_classes import give_both_classes
from tests.unit.conftest import THREADS

pytestmark = pytest.mark.usefixtures("strategy")
FORMATS: tuple[Format, ...] = ("savedmodel", "litert")


def build_residual() -> keras.Model:
    inputs = keras.Input((None, None, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 255)(inputs)))
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.LayerNormalization()(layers.Dropout(0.5)(layers.ReLU()(x)))
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def build_of_bytes() -> keras.Model:
    inputs = keras.Input((6, 6, 3), dtype="uint8")
    x = layers.RandomFlip()(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))


def build_of_own_code() -> keras.Model:
    inputs = keras.Input((5, 5, 1))
    x = layers.Lambda(lambda pixels: tf.sqrt(pixels / 255.0))(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def build_two_classes() -> keras.Model:
    dense = layers.Dense(1, activation="sigmoid")
    return give_both_classes(keras.Sequential([keras.Input((16,)), dense]), "mine", "auto")


MODELS = {
    "seed-cnn": (lambda: build_model("seed-cnn", (16, 16, 1), 10), (16, 16, 1)),
    "small-cnn": (lambda: build_model("small-cnn", (16, 16, 1), 10), (16, 16, 1)),
    "dnn": (lambda: build_model("dnn", (8, 8, 3), 4), (8, 8, 3)),
    "residual, of images of any size": (build_residual, (12, 10, 3)),
    "of bytes": (build_of_bytes, (6, 6, 3)),
    "with code of its own": (build_of_own_code, (5, 5, 1)),
    "one output for two classes, of flat images": (build_two_classes, (16,)),
}


def inputs_of(model: keras.Model, shape: tuple[int, ...], rows: int = 7) -> Any:
    return np.random.default_rng(0).integers(0, 256, (rows, *shape)).astype(formats.input_dtype(model))


def export(model: keras.Model, shape: tuple[int, ...], format: Format, folder: Path) -> formats.ExportedModel:
    path = folder / f"model{formats.SUFFIXES[format]}"
    formats.write_model(model, shape, format, path)
    return formats.open_exported(format, path, THREADS)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", MODELS)
def test_files_give_the_outputs_of_keras_for_batches_of_any_size(
    name: str, format: Format, tmp_path: Path
) -> None:
    build, shape = MODELS[name]
    model = build()
    exported = export(model, shape, format, tmp_path)
    inputs = inputs_of(model, shape)
    expected = np.asarray(model(inputs, training=False))
    assert expected.std() > 0
    for rows in (7, 1, 3):
        np.testing.assert_allclose(exported.outputs_of(inputs[:rows]), expected[:rows], atol=1e-5)


@pytest.fixture
def mixed_bfloat16() -> Iterator[None]:
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("mixed_bfloat16")
def test_a_model_of_mixed_precision_computes_in_float32_with_the_same_weights(tmp_path: Path) -> None:
    mixed = build_model("small-cnn", (16, 16, 1), 10)
    keras.config.set_dtype_policy("float32")
    plain = build_model("small-cnn", (16, 16, 1), 10)
    plain.set_weights(mixed.get_weights())
    inputs = inputs_of(mixed, (16, 16, 1))
    in_bfloat16 = np.asarray(mixed(inputs, training=False), np.float32)
    assert formats.find_mixed_precision(mixed) == "mixed_bfloat16"
    assert formats.find_mixed_precision(plain) is None
    formats.compute_in_float32(mixed)
    assert formats.find_mixed_precision(mixed) is None
    expected = np.asarray(plain(inputs, training=False))
    assert (in_bfloat16 != expected).any()
    np.testing.assert_array_equal(np.asarray(mixed(inputs, training=False)), expected)
    exported = export(mixed, (16, 16, 1), "litert", tmp_path)
    np.testing.assert_allclose(exported.outputs_of(inputs), expected, atol=1e-6)


@pytest.mark.usefixtures("mixed_bfloat16")
def test_a_saved_model_keeps_the_mixed_precision(tmp_path: Path) -> None:
    model = build_model("small-cnn", (16, 16, 1), 10)
    inputs = inputs_of(model, (16, 16, 1))
    exported = export(model, (16, 16, 1), "savedmodel", tmp_path)
    expected = np.asarray(model(inputs, training=False), np.float32)
    np.testing.assert_allclose(exported.outputs_of(inputs), expected, atol=1e-6)


class WithoutGraph(layers.Layer):
    """A layer of Python code, which no other program can run."""

    def call(self, inputs: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(lambda x: x, [inputs], tf.float32), inputs.shape)


def test_a_model_that_cannot_be_converted_is_an_error_of_one_line(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(WithoutGraph()(inputs)))
    with pytest.raises(
        ModelError, match=r"^The model (as litert cannot|cannot be converted to litert)"
    ) as raised:
        export(model, (4,), "litert", tmp_path).outputs_of(inputs_of(model, (4,)))
    assert "\n" not in str(raised.value)


def test_files_that_are_no_model_are_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="The model as litert cannot be opened: ValueError"):
        formats.open_exported("litert", path, THREADS)
