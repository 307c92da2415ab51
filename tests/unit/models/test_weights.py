"""Weights of a file go into the layers of a model that they fit, in every format of Keras, and into no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from cnnlib.errors import ModelError
from cnnlib.models.weights import TakenWeights, take_weights
from tests.own_models import Gain
from tests.unit.models.test_freeze import Twice

pytestmark = pytest.mark.usefixtures("strategy")

Save = Callable[[keras.Model, Path], Path]


def build(classes: int = 3, *, width: int = 2, named: bool = True, seed: int = 0) -> keras.Model:
    """Builds two convolutions, the second in a model of its own, normalisation, a layer of one's own, and a head."""
    keras.utils.set_random_seed(seed)

    def name(text: str) -> dict[str, Any]:
        return {"name": text} if named else {}

    inputs = keras.Input((6, 6, 1))
    body = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(width, 3, **name("inner")),
            layers.BatchNormalization(**name("norm")),
        ],
        **name("body"),
    )
    x = layers.Rescaling(1 / 255)(inputs)
    x = body(layers.Conv2D(2, 3, padding="same", **name("stem"))(x))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    x = Gain(**name("gain"))(Twice(**name("block"))(x))
    return keras.Model(inputs, layers.Dense(classes, **name("head"))(x))


def move(model: keras.Model) -> keras.Model:
    """Gives every weight a value of its own, also those that begin with 0 or 1."""
    random = np.random.default_rng(5)
    for weight in model.weights:
        weight.assign(random.random(weight.shape).astype(np.float32))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def save(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


def save_weights(model: keras.Model, path: Path) -> Path:
    model.save_weights(path)
    return path


def save_weights_as_keras_2(model: keras.Model, path: Path) -> Path:
    """Writes the file of weights that `save_weights` of Keras 2 writes, and that keras.applications downloads."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [each.name.encode() for each in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            weights = layer.trainable_weights + layer.non_trainable_weights
            names = ["/".join(weight.path.split("/")[-2:]) + ":0" for weight in weights]
            group.attrs["weight_names"] = [each.encode() for each in names]
            for name, weight in zip(names, weights, strict=True):
                group[name] = weight.numpy()
    return path


FORMATS: dict[str, Save] = {
    "model.keras": save,
    "model.weights.h5": save_weights,
    "model.h5": save,
    "keras-2.h5": save_weights_as_keras_2,
}
BODY = ("stem", "body/inner", "body/norm", "block", "block/first", "block/second", "gain")


def values(model: keras.Model) -> list[Any]:
    return [np.asarray(weight) for weight in model.get_weights()]


def assert_equal(some: list[Any], others: list[Any]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("file", FORMATS)
def test_all_layers_are_taken_but_the_head_of_other_classes(tmp_path: Path, file: str, named: bool) -> None:
    source = move(build(3, named=named))
    path = FORMATS[file](source, tmp_path / file)
    path = path.rename(tmp_path / "any-name")
    # Other layers of the same classes come before: Keras counts on, and calls no layer as in the file.
    build(3, named=False)
    model, fresh = build(4, named=named, seed=1), build(4, named=named, seed=1)
    taken = take_weights(model, path, "the file")
    assert_equal(values(model)[:-2], values(source)[:-2])
    assert_equal(values(model)[-2:], values(fresh)[-2:])
    assert (len(taken.taken), len(taken.left)) == (7, 1)
    if named:
        assert taken == TakenWeights(taken=BODY, left=("head",))
    same = build(3, named=named, seed=1)
    assert take_weights(same, path, "the file").left == ()
    assert_equal(values(same), values(source))


@pytest.mark.parametrize("file", FORMATS)
def test_order_of_more_than_ten_layers_without_names_is_theirs(tmp_path: Path, file: str) -> None:
    def deep(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((4,)), *(layers.Dense(4) for _ in range(12))])

    source = deep(0)
    path = FORMATS[file](source, tmp_path / file)
    layers.Dense(1)
    model = deep(1)
    take_weights(model, path, "the file")
    assert_equal(values(model), values(source))


@pytest.mark.parametrize("file", FORMATS)
def test_layer_of_another_shape_is_left_whole(tmp_path: Path, file: str) -> None:
    path = FORMATS[file](move(build(3, width=2)), tmp_path / file)
    model, fresh = build(3, width=3, seed=1), build(3, width=3, seed=1)
    taken = take_weights(model, path, "the file")
    # The bias of `block/first` has the shape of the file's, its kernel has not: neither is taken.
    assert taken.left == ("body/inner", "body/norm", "block/first")
    inner, own = model.get_layer("block").first, fresh.get_layer("block").first
    assert_equal(inner.get_weights(), own.get_weights())


@pytest.mark.parametrize("file", FORMATS)
def test_layers_with_other_names_are_found_by_their_order(tmp_path: Path, file: str) -> None:
    def flat(names: list[str], classes: int, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        hidden = [layers.Dense(5, name=names[0]), layers.BatchNormalization(name=names[1])]
        return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(classes, name=names[2])])

    source = move(flat(["a", "b", "c"], 3, 0))
    path = FORMATS[file](source, tmp_path / file)
    model = flat(["x", "y", "z"], 4, 1)
    assert take_weights(model, path, "the file") == TakenWeights(taken=("x", "y"), left=("z",))
    assert_equal(values(model)[:6], values(source)[:6])


@pytest.mark.parametrize("file", FORMATS)
def test_model_in_a_model_gives_its_weights_to_the_same_layers_outside_of_one(
    tmp_path: Path, file: str
) -> None:
    def build_backbone(inputs: Any) -> keras.Model:
        x = layers.Dense(5, name="one")(inputs)
        return keras.Model(inputs, layers.BatchNormalization(name="two")(x), name="backbone")

    nested = move(
        keras.Sequential([keras.Input((4,)), build_backbone(keras.Input((4,))), layers.Dense(3, name="c")])
    )
    backbone = build_backbone(keras.Input((4,)))
    flat = keras.Model(backbone.input, layers.Dense(2, name="head")(backbone.output))
    path = FORMATS[file](nested, tmp_path / file)
    assert take_weights(flat, path, "the file") == TakenWeights(taken=("one", "two"), left=("head",))
    assert_equal(values(flat)[:6], values(nested)[:6])
    path = FORMATS[file](move(flat), tmp_path / f"flat-{file}")
    assert take_weights(nested, path, "the file").left == ("c",)


@pytest.mark.parametrize("file", FORMATS)
def test_file_of_another_model_is_refused(tmp_path: Path, file: str) -> None:
    path = FORMATS[file](move(build()), tmp_path / file)
    other = keras.Sequential([keras.Input((4,)), layers.Dense(7, name="one"), layers.Dense(3, name="head")])
    with pytest.raises(ModelError) as raised:
        take_weights(other, path, "the file")
    assert str(raised.value).startswith(
        f"The weights of the file do not fit the model {other.name}: 0 of their 8 layers"
    )
    assert "stem (3, 3, 1, 2)" in str(raised.value)
    assert "expected one (4, 7), head (7, 3)." in str(raised.value)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    source = build()
    source.get_layer("stem").bias.assign(np.array([1.0, np.nan], np.float32))
    with pytest.raises(
        ModelError, match="The weights of the file are not numbers: 1 of 2 values of stem/bias"
    ):
        take_weights(build(), save(source, tmp_path / "m.keras"), "the file")


def test_file_that_is_none_or_damaged_is_refused(tmp_path: Path) -> None:
    text, cut, empty = tmp_path / "text", tmp_path / "cut", tmp_path / "empty.h5"
    text.write_bytes(b"version https://git-lfs")
    cut.write_bytes(save(build(), tmp_path / "m.h5").read_bytes()[:3000])
    h5py.File(empty, "w").close()
    for path, message in (
        (text, "the file is no file of weights. Received 23 bytes that begin with b'version https://"),
        (cut, "The weights of the file cannot be read: the file is damaged or cut off"),
        (empty, "the file holds no weights of layers."),
    ):
        with pytest.raises(ModelError) as raised:
            take_weights(build(), path, "the file")
        assert str(raised.value).startswith(message)


def test_weight_that_lies_in_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 8)
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"stem"]
        group = file.create_group("stem")
        group.attrs["weight_names"] = [b"stem/bias"]
        group.create_dataset("stem/bias", (2,), np.float32, external=[(str(tmp_path / "secret"), 0, 8)])
    with pytest.raises(ModelError, match=r"The weight /stem/stem/bias of the file lies in another file\."):
        take_weights(build(), path, "the file")
