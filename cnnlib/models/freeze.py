"""Freezes layers of a model, from one to another in its order: they are not trained."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from cnnlib.errors import ModelError
from cnnlib.models.layer_tree import PlacedLayer, find_layer, flatten_layers

_RANGE = ".."


@dataclass(frozen=True, kw_only=True)
class FrozenLayers:
    """The layers with weights that are not trained.

    Attributes:
        layers: their names, in the order of the model.
        parameters: values of their weights.
    """

    layers: tuple[str, ...]
    parameters: int


def freeze_layers(model: keras.Model, which: str, name: str) -> FrozenLayers:
    """Freezes layers of a built model. Call it before an optimizer is built.

    Frozen batch normalisation uses its moving statistics, and keeps them. A layer that holds others is frozen with all
    of them.

    Args:
        which: `LAYER`, `FIRST..LAST` or `..LAST`: the names of layers, or their paths, such as `block/conv`.
        name: what messages call the model.

    Raises:
        ModelError: there is no such layer, the first comes after the last, no layer with weights is among them, or
            nothing is left to train.
    """
    layers = flatten_layers(model)
    first, last = _find_range(layers, which, name)
    chosen = [
        each for index, each in enumerate(layers) if index and first <= index and index + each.inner <= last
    ]
    for each in chosen:
        each.layer.trainable = False
    frozen = [each for each in chosen if each.weights]
    if not frozen:
        raise ModelError(
            f"freeze={which} has no layers with weights in {name}. Expected layers to keep as they are."
        )
    if not model.trainable_weights:
        raise ModelError(f"{name} has nothing to train: freeze={which} freezes all of its weights.")
    values = sum(int(weight.value.shape.num_elements()) for each in frozen for weight in each.weights)
    return FrozenLayers(layers=tuple(each.label for each in frozen), parameters=values)


def _find_range(layers: list[PlacedLayer], which: str, name: str) -> tuple[int, int]:
    """Returns the indices of the first and the last layer; that of a layer which holds others is its last one."""
    first_name, is_range, last_name = which.partition(_RANGE)
    last = find_layer(layers, last_name if is_range else first_name, name)
    first = find_layer(layers, first_name, name) if first_name else 1
    if first > last:
        raise ModelError(
            f"freeze={which}: {first_name!r} comes after {last_name!r} in {name}. Expected the first layer before the "
            "last."
        )
    return first, last + layers[last].inner
