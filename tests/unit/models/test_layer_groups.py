"""Groups of layers end where all data passes through one layer, in models of any kind."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import layers

from cnnlib.model_options import ModelOptions
from cnnlib.models.layer_groups import group_layers
from cnnlib.models.registry import build_model
from tests.own_models import Gain

pytestmark = pytest.mark.usefixtures("strategy")


def names(model: keras.Model) -> list[tuple[str, ...]]:
    """Returns the layers of the groups; checks that every weight of the model is in one of them, once."""
    groups = group_layers(model)
    weights = [id(weight) for group in groups for weight in group.weights]
    assert sorted(weights) == sorted({id(weight) for weight in model.weights})
    return [group.layers for group in groups]


def test_layers_of_a_chain_are_groups_and_those_without_a_kernel_join_the_one_before() -> None:
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.BatchNormalization(name="first_norm"),
            layers.Conv2D(2, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            Gain(name="gain"),
            layers.Flatten(),
            layers.Dense(3, name="hidden"),
            layers.Dense(3, name="head"),
        ]
    )
    assert names(model) == [("first_norm", "conv", "norm", "gain"), ("hidden",), ("head",)]


def test_a_block_with_a_shortcut_is_one_group_and_a_model_inside_is_taken_apart() -> None:
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 3, padding="same", name="stem")(inputs)
    y = layers.Conv2D(2, 3, padding="same", name="conv1")(x)
    y = layers.Conv2D(2, 3, padding="same", name="conv2")(keras.ops.relu(y))
    x = layers.Add()([x, y])
    body = keras.Model(inputs, layers.Conv2D(2, 3, padding="same", name="last")(x), name="body")
    tail = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="one")], name="tail")
    outer = keras.Input((4, 4, 1))
    pooled = layers.GlobalAveragePooling2D()(body(layers.Concatenate()([outer, outer])))
    # The model `tail` is in a block, and shared: the block stays whole, and the layer comes once.
    x = layers.Add()([pooled, tail(pooled)])
    model = keras.Model(outer, layers.Dense(3, name="head")(tail(x)))
    assert names(model) == [("stem",), ("conv1", "conv2"), ("last",), ("tail",), ("head",)]
    # Were it alone, it would be taken apart too.
    alone = keras.Model(outer, layers.Dense(3, name="head")(tail(pooled)))
    assert names(alone)[-2:] == [("one",), ("head",)]


class Block(layers.Layer):  # type: ignore[misc]
    """A block of one's own, of two layers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.second = layers.Dense(4), layers.Dense(4)

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs))


class Subclass(keras.Model):  # type: ignore[misc]
    """A model without a graph, with a weight of its own and a model inside."""

    def __init__(self) -> None:
        super().__init__(name="mine")
        self.position = self.add_weight(shape=(1, 4), name="position")
        chain = [keras.Input((4,)), layers.Dense(4, name="a"), layers.Dense(4, name="b")]
        self.backbone = keras.Sequential(chain)
        self.block = Block(name="block")
        self.head = layers.Dense(3, name="head")

    def call(self, inputs: Any) -> Any:
        return self.head(self.block(self.backbone(inputs + self.position)))


def test_a_subclass_is_a_chain_of_its_attributes_and_a_layer_that_holds_others_is_whole() -> None:
    model = Subclass()
    model(keras.ops.zeros((2, 4)))
    assert names(model) == [("mine",), ("a",), ("b",), ("block",), ("head",)]


@pytest.mark.parametrize(
    ("model", "options", "size", "groups"),
    [
        ("seed-cnn", ModelOptions(), (28, 28, 1), 8),
        ("resnet", ModelOptions(depth=20), (8, 8, 1), 1 + 9 + 1),
        ("wide-resnet", ModelOptions(depth=10, widen_factor=1), (8, 8, 1), 1 + 3 + 1),
        ("densenet-bc", ModelOptions(depth=10, growth=4), (8, 8, 1), 1 + 3 + 2 + 1),
        ("resnet-50", ModelOptions(), (32, 32, 3), 1 + 16 + 1),
    ],
)
def test_groups_of_registered_models_are_their_blocks(
    model: str, options: ModelOptions, size: tuple[int, int, int], groups: int
) -> None:
    found = names(build_model(model, size, 10, options))
    assert len(found) == groups
    assert found[-1] == ("probabilities",)
