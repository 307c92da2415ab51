"""What a model makes of one image, as pictures: for every kind of model, and never at the cost of an evaluation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from cnnlib.models.explain import explain_image
from cnnlib.models.maps import LayerMaps
from cnnlib.models.registry import build_model
from cnnlib.reports.activations import activations_table
from cnnlib.reports.schema import table_schema

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE = (16, 12, 3)
IMAGE = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def explain(model: keras.Model, image: np.ndarray = IMAGE) -> list[LayerMaps]:
    return explain_image(model, image, image[np.newaxis].astype(np.float32))


def test_seed_cnn_is_told_from_the_image_to_its_last_pooling() -> None:
    image = np.random.default_rng(1).integers(0, 256, (28, 28, 1), np.uint8)
    told = explain(build_model("seed-cnn", (28, 28, 1), 10), image)
    assert [(each.kind, each.layer_index, each.maps.shape) for each in told] == [
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
    told = explain(model)
    assert [each.layer for each in told] == ["image", "first", "first", "second"]
    np.testing.assert_array_equal(told[0].maps[0], IMAGE)
    np.testing.assert_array_equal(
        told[1].maps, np.asarray(model.get_layer("first").kernel).transpose(3, 0, 1, 2)
    )
    for each, values in zip(told[2:], expected, strict=True):
        np.testing.assert_allclose(each.maps[..., 0], values, rtol=1e-6)


def test_layers_of_nested_models_are_told_in_their_place() -> None:
    inner = keras.Sequential([keras.Input((14, 10, 4)), layers.Conv2D(5, 3, name="conv")], name="inner")
    inputs = keras.Input((14, 10, 4))
    functional = keras.Model(inputs, layers.AveragePooling2D(2, name="pool")(inner(inputs)), name="outer")
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(4, 3, name="conv"), functional, layers.Flatten(), layers.Dense(2)]
    )
    told = [(each.layer, each.maps.shape[:3]) for each in explain(model) if each.kind == "activation"]
    assert told == [("conv", (4, 14, 10)), ("outer/inner/conv", (5, 12, 8)), ("outer/pool", (5, 6, 4))]
    indexes = [each.layer_index for each in explain(model)]
    assert indexes == sorted(indexes)


class Written(keras.Model):
    """A model that is written as a class, so that it has no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2D(3, 3, name="conv")
        self.head = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.head(keras.ops.mean(self.conv(inputs), axis=(1, 2)))


def test_model_that_is_written_as_a_class_is_told_too() -> None:
    model = Written()
    model(IMAGE[np.newaxis].astype(np.float32))
    assert [each.kind for each in explain(model)] == ["image", "kernel", "activation"]


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
    told = explain(keras.Sequential([keras.Input(SHAPE), layer, layers.Flatten(), layers.Dense(2)]))
    assert [each.maps.shape for each in told if each.kind == "kernel"] == [shape]


def test_model_without_a_convolution_gives_the_image() -> None:
    told = explain(build_model("dnn", SHAPE, 4))
    assert [(each.kind, each.maps.shape) for each in told] == [("image", (1, *SHAPE))]


def test_deep_model_gives_sixteen_layers_from_the_first_to_the_last() -> None:
    convolutions = [layers.Conv2D(2, 1, name=f"conv{index}") for index in range(40)]
    told = explain(keras.Sequential([keras.Input(SHAPE), *convolutions, layers.Flatten()]))
    names = [each.layer for each in told if each.kind == "activation"]
    assert len(names) == 16
    assert (names[0], names[-1]) == ("conv0", "conv39")


class Broken(layers.MaxPooling2D):
    """A layer that does not bear to be called outside a graph."""

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        if tf.executing_eagerly():
            raise RuntimeError("not here")
        return super().call(inputs)


def test_layer_that_cannot_be_watched_costs_the_pictures_and_not_the_evaluation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3), Broken(2), layers.Flatten()])
    assert [each.kind for each in explain(model)] == ["image"]
    assert "no_activations" in capsys.readouterr().err


def test_model_is_left_as_it_was() -> None:
    model = build_model("seed-cnn", (28, 28, 1), 10)
    before = [set(vars(layer)) for layer in model.layers]
    explain(model, np.zeros((28, 28, 1), np.uint8))
    assert [set(vars(layer)) for layer in model.layers] == before


def test_low_precision_becomes_float32() -> None:
    conv = layers.Conv2D(2, 3, dtype="mixed_bfloat16")
    told = explain(keras.Sequential([keras.Input(SHAPE), conv, layers.Flatten(), layers.Dense(2)]))
    assert {each.maps.dtype for each in told} == {np.dtype(np.float32)}


def test_table_has_a_row_per_picture_with_its_pixels_channels_last() -> None:
    table = activations_table(42, explain(build_model("small-cnn", SHAPE, 4)))
    schema = table_schema("activations")
    assert table.schema.equals(schema.remove(schema.get_field_index("report_id")))
    assert all(column.null_count == 0 for column in table.columns)
    rows = table.to_pylist()
    assert {row["example_id"] for row in rows} == {42}
    assert np.array(rows[0]["values"]).reshape(SHAPE).tolist() == IMAGE.tolist()
    assert [row["map"] for row in rows if row["kind"] == "kernel"] == list(range(24))
    for row in rows:
        assert len(row["values"]) == row["height"] * row["width"] * row["channels"]
