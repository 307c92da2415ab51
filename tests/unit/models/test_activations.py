"""Every kind of model gives pictures of what it computes from one image, and none makes an evaluation fail."""

from __future__ import annotations

import doctest
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from cnnlib.models import activations
from cnnlib.models.activations import MAX_LAYERS, LayerMaps, build_maps, record_activations, shrink, spread
from cnnlib.models.registry import build_model
from cnnlib.reports.build import build_activations
from cnnlib.reports.schema import table_schema

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE = (16, 12, 3)
IMAGE = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def record(model: keras.Model, image: np.ndarray = IMAGE) -> list[LayerMaps]:
    return record_activations(model, image, image[np.newaxis].astype(np.float32))


def test_seed_cnn_is_recorded_from_the_image_to_its_last_pooling() -> None:
    image = np.random.default_rng(1).integers(0, 256, (28, 28, 1), np.uint8)
    recorded = record(build_model("seed-cnn", (28, 28, 1), 10), image)
    assert [(each.kind, each.layer_index, each.maps.shape) for each in recorded] == [
        ("image", -1, (1, 28, 28, 1)),
        ("kernel", 1, (64, 3, 3, 1)),
        ("activation", 1, (64, 28, 28, 1)),
        ("activation", 2, (32, 28, 28, 1)),
        ("activation", 3, (32, 14, 14, 1)),
        ("activation", 4, (32, 14, 14, 1)),
        ("activation", 5, (16, 14, 14, 1)),
        ("activation", 6, (16, 7, 7, 1)),
        ("activation", 7, (16, 7, 7, 1)),
        ("activation", 8, (8, 7, 7, 1)),
        ("activation", 9, (8, 3, 3, 1)),
    ]


def test_maps_are_the_outputs_of_the_layers() -> None:
    inputs = keras.Input(SHAPE)
    first = layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    second = layers.MaxPooling2D(2, name="second")(first)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(second)))
    expected = [
        np.asarray(each)[0].transpose(2, 0, 1)
        for each in keras.Model(inputs, [first, second])(IMAGE[np.newaxis].astype(np.float32))
    ]
    recorded = record(model)
    assert [each.layer for each in recorded] == ["image", "first", "first", "second"]
    np.testing.assert_array_equal(recorded[0].maps[0], IMAGE)
    np.testing.assert_array_equal(
        recorded[1].maps, np.asarray(model.get_layer("first").kernel).transpose(3, 0, 1, 2)
    )
    for each, values in zip(recorded[2:], expected, strict=True):
        np.testing.assert_allclose(each.maps[..., 0], values, rtol=1e-6)


def test_layers_of_nested_models_are_recorded_in_their_place() -> None:
    inner = keras.Sequential([keras.Input((14, 10, 4)), layers.Conv2D(5, 3, name="conv")], name="inner")
    inputs = keras.Input((14, 10, 4))
    functional = keras.Model(inputs, layers.AveragePooling2D(2, name="pool")(inner(inputs)), name="outer")
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(4, 3, name="conv"), functional, layers.Flatten(), layers.Dense(2)]
    )
    recorded = [(each.layer, each.maps.shape[:3]) for each in record(model) if each.kind == "activation"]
    assert recorded == [("conv", (4, 14, 10)), ("outer/inner/conv", (5, 12, 8)), ("outer/pool", (5, 6, 4))]
    indexes = [each.layer_index for each in record(model)]
    assert indexes == sorted(indexes)


class Written(keras.Model):
    """A model that is written as a class, so that it has no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2D(3, 3, name="conv")
        self.head = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.head(keras.ops.mean(self.conv(inputs), axis=(1, 2)))


def test_model_that_is_written_as_a_class_is_recorded_too() -> None:
    model = Written()
    model(IMAGE[np.newaxis].astype(np.float32))
    assert [each.kind for each in record(model)] == ["image", "kernel", "activation"]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 3, 3, 1)),
        (layers.SeparableConv2D(5, 3), (3, 3, 3, 1)),
        (layers.Conv2DTranspose(5, 3), (5, 3, 3, 3)),
        (layers.Conv2D(70, 3), (64, 3, 3, 3)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_kernels_of_every_kind_of_convolution_are_pictures(layer: Any, shape: tuple[int, ...]) -> None:
    recorded = record(keras.Sequential([keras.Input(SHAPE), layer, layers.Flatten(), layers.Dense(2)]))
    assert [each.maps.shape for each in recorded if each.kind == "kernel"] == [shape]


def test_model_without_a_convolution_gives_the_image() -> None:
    recorded = record(build_model("dnn", SHAPE, 4))
    assert [(each.kind, each.maps.shape) for each in recorded] == [("image", (1, *SHAPE))]


def test_deep_model_gives_sixteen_layers_from_the_first_to_the_last() -> None:
    convolutions = [layers.Conv2D(2, 1, name=f"conv{index}") for index in range(40)]
    recorded = record(keras.Sequential([keras.Input(SHAPE), *convolutions, layers.Flatten()]))
    names = [each.layer for each in recorded if each.kind == "activation"]
    assert len(names) == 16
    assert (names[0], names[-1]) == ("conv0", "conv39")


class Broken(layers.MaxPooling2D):
    """A layer that raises when it is called outside a graph."""

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        if tf.executing_eagerly():
            raise RuntimeError("not here")
        return super().call(inputs)


def test_layer_whose_output_cannot_be_recorded_loses_the_pictures_and_not_the_evaluation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3), Broken(2), layers.Flatten()])
    assert [each.kind for each in record(model)] == ["image"]
    assert "no_activations" in capsys.readouterr().err


def test_model_is_left_as_it_was() -> None:
    model = build_model("seed-cnn", (28, 28, 1), 10)
    before = [set(vars(layer)) for layer in model.layers]
    record(model, np.zeros((28, 28, 1), np.uint8))
    assert [set(vars(layer)) for layer in model.layers] == before


def test_low_precision_becomes_float32() -> None:
    conv = layers.Conv2D(2, 3, dtype="mixed_bfloat16")
    recorded = record(keras.Sequential([keras.Input(SHAPE), conv, layers.Flatten(), layers.Dense(2)]))
    assert {each.maps.dtype for each in recorded} == {np.dtype(np.float32)}


def test_table_has_a_row_per_picture_with_its_pixels_channels_last() -> None:
    table = build_activations(42, record(build_model("small-cnn", SHAPE, 4)))
    schema = table_schema("activations")
    assert table.schema.equals(schema.remove(schema.get_field_index("report_id")))
    assert all(column.null_count == 0 for column in table.columns)
    rows = table.to_pylist()
    assert {row["example_id"] for row in rows} == {42}
    assert np.array(rows[0]["values"]).reshape(SHAPE).tolist() == IMAGE.tolist()
    assert [row["map"] for row in rows if row["kind"] == "kernel"] == list(range(24))
    for row in rows:
        assert len(row["values"]) == row["height"] * row["width"] * row["channels"]


@given(height=st.integers(1, 200), width=st.integers(1, 200), limit=st.integers(1, 70))
def test_every_pixel_of_a_shrunk_map_is_the_mean_of_its_block(height: int, width: int, limit: int) -> None:
    maps = np.random.default_rng(0).normal(size=(2, height, width, 1)).astype(np.float32)
    small = shrink(maps, limit, limit)
    assert small.shape == (2, min(height, limit), min(width, limit), 1)
    assert small.dtype == np.float32
    rows, columns = (
        np.arange(each + 1) * size // each
        for each, size in zip(small.shape[1:3], (height, width), strict=True)
    )
    i, j = small.shape[1] // 2, small.shape[2] // 2
    block = maps[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
    np.testing.assert_allclose(small[:, i, j], block.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


def test_map_that_is_small_enough_is_kept_pixel_by_pixel() -> None:
    maps = np.arange(2 * 64 * 3, dtype=np.float32).reshape(2, 64, 3, 1)
    np.testing.assert_array_equal(shrink(maps), maps)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28), (28, 28)),
        ((64, 32), (64, 32)),
        ((2160, 4096), (34, 64)),
        ((300, 100), (64, 21)),
        ((2, 999), (1, 64)),
    ],
)
def test_large_maps_keep_their_shape(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    maps = np.full((2, *shape, 3), 7, np.float32)
    built = build_maps(maps, layer_index=3, layer="conv", kind="activation").maps
    assert built.shape == (2, *expected, 3)
    np.testing.assert_allclose(built, 7, rtol=1e-6)


def test_at_most_64_maps_are_kept_and_all_are_counted() -> None:
    layer = build_maps(np.zeros((100, 5, 4, 1)), layer_index=3, layer="conv", kind="activation")
    assert (layer.maps.shape, layer.total) == ((64, 5, 4, 1), 100)


@given(count=st.integers(1, 300))
def test_layers_are_spread_from_the_first_to_the_last(count: int) -> None:
    chosen = spread(list(range(count)))
    assert len(chosen) == len(set(chosen)) == min(count, MAX_LAYERS)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_pictures_are_float32_whatever_they_came_as(dtype: type) -> None:
    layer = build_maps(np.ones((1, 2, 2, 3), dtype), layer_index=-1, layer="image", kind="image")
    assert layer.maps.dtype == np.float32


def test_importing_the_module_and_its_table_loads_neither_tensorflow_nor_keras() -> None:
    program = (
        "import sys; import cnnlib.models.activations, cnnlib.reports.build;"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(activations)
    assert result.attempted >= 1
    assert result.failed == 0
