"""Layers are frozen from one to another, in the order of the model and at any depth."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from cnnlib.errors import ModelError
from cnnlib.models.freeze import FrozenLayers, freeze_layers
from tests.own_models import Gain

pytestmark = pytest.mark.usefixtures("strategy")


class Twice(keras.layers.Layer):  # type: ignore[misc]
    """A block of one's own: two layers with weights, and a weight itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first = keras.layers.Dense(4, name="first")
        self.second = keras.layers.Dense(4, name="second")

    def build(self, shape: tuple[int, ...]) -> None:
        self.scale = self.add_weight(shape=(1,), initializer="ones", name="scale")
        self.first.build(shape)
        self.second.build((*shape[:-1], 4))

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs)) * self.scale


def build() -> keras.Model:
    """Builds a stem, a model in the model, a block of layers and a head."""
    inputs = keras.Input((4, 4, 1))
    body = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(2, 3, padding="same", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
        ],
        name="body",
    )
    x = keras.layers.Conv2D(2, 3, padding="same", name="stem")(inputs)
    x = keras.layers.Flatten(name="flatten")(body(x))
    x = Gain(name="gain")(Twice(name="block")(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def trained(model: keras.Model) -> list[str]:
    return [weight.path for weight in model.trainable_weights]


@pytest.mark.parametrize(
    ("which", "frozen"),
    [
        ("stem", ("stem",)),
        ("..conv", ("stem", "body/conv")),
        ("body", ("body/conv", "body/norm")),
        ("stem..body", ("stem", "body/conv", "body/norm")),
        ("body/norm..block/first", ("body/norm", "block/first")),
        ("..block", ("stem", "body/conv", "body/norm", "block", "block/first", "block/second")),
        ("block..gain", ("block", "block/first", "block/second", "gain")),
        ("head", ("head",)),
    ],
)
def test_layers_of_a_range_are_frozen_and_no_others(which: str, frozen: tuple[str, ...]) -> None:
    model = build()
    every = {weight.path: weight for weight in model.trainable_weights}
    result = freeze_layers(model, which, "m")
    assert result.layers == frozen
    still = {path for path in every if any(path.startswith(f"{name}/") for name in frozen if name != "block")}
    still |= {"block/scale"} if "block" in frozen else set()
    assert trained(model) == [path for path in every if path not in still]


def test_parameters_of_frozen_layers_are_counted_with_their_statistics() -> None:
    assert freeze_layers(build(), "body", "m") == FrozenLayers(
        layers=("body/conv", "body/norm"), parameters=2 * 2 * 9 + 2 + 4 * 2
    )


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("steem", "m has no layer 'steem'. Did you mean 'stem'? Known: block, block/first,"),
        ("stem..nothing", "m has no layer 'nothing'."),
        ("body..stem", "freeze=body..stem: 'body' comes after 'stem' in m."),
        ("flatten", "freeze=flatten has no layers with weights in m."),
        ("..head", "m has nothing to train: freeze=..head freezes all of its weights."),
    ],
)
def test_range_that_cannot_be_frozen_is_refused(which: str, message: str) -> None:
    with pytest.raises(ModelError) as raised:
        freeze_layers(build(), which, "m")
    assert str(raised.value).startswith(message)


def test_name_of_several_layers_needs_the_names_of_those_that_hold_them() -> None:
    inputs = keras.Input((3,))
    model = keras.Sequential([inputs, Twice(name="a"), Twice(name="b"), keras.layers.Dense(2, name="head")])
    with pytest.raises(ModelError, match=r"Several layers of m are called 'first'\. .*: a/first, b/first\."):
        freeze_layers(model, "first", "m")
    assert freeze_layers(model, "..a/first", "m").layers == ("a/first",)
