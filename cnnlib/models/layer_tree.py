"""The layers of a Keras model at any depth, in the order of the model: in models, in custom layers and in wrappers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from cnnlib.errors import ModelError, nearest


@dataclass(frozen=True, kw_only=True)
class PlacedLayer:
    """A layer, and where it is.

    Attributes:
        path: the names of the layers that hold it, from the outermost on, and its own; empty for the model itself.
        place: where Keras 3 stores its weights, such as `layers/conv2d_1`: its class, counted among its neighbours.
            None: it is an attribute of a custom layer, about which a file's names have to say enough.
        inner: number of layers at any depth that it holds. They follow it.
        weights: its own, without those of the layers that it holds.
    """

    layer: keras.layers.Layer
    path: tuple[str, ...]
    place: str | None
    inner: int
    weights: tuple[keras.Variable, ...]

    @property
    def label(self) -> str:
        """The path as messages and flags have it; of the model itself, its name.

        It is unique unless an author gave two neighbours one name.
        """
        return "/".join(self.path) or str(self.layer.name)


def flatten_layers(model: keras.Model) -> list[PlacedLayer]:
    """Returns the model, then all of its layers: each before those that it holds. A shared layer comes once."""
    return list(_walk(model, (), "", set()))


def find_layer(layers: list[PlacedLayer], name: str, model: str) -> int:
    """Returns the index of the layer that has this name, or this path of names, such as `block/conv`.

    Args:
        model: the name of the model, for messages.

    Raises:
        ModelError: no layer has it, or several have.
    """
    found = [index for index, each in enumerate(layers) if each.path and name in (each.label, each.path[-1])]
    exact = [index for index in found if layers[index].label == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        labels = ", ".join(layers[index].label for index in found)
        raise ModelError(f"Several layers of {model} are called {name!r}. Expected one of them: {labels}.")
    raise ModelError(
        f"{model} has no layer {name!r}. {nearest(name, [each.label for each in layers if each.path])}"
    )


def _walk(
    layer: keras.layers.Layer, path: tuple[str, ...], place: str | None, seen: set[int]
) -> Iterator[PlacedLayer]:
    seen.add(id(layer))
    children = [each for each in _children(layer) if id(each) not in seen]
    places = _child_places(layer, place)
    below = [
        each
        for child in children
        if id(child) not in seen
        for each in _walk(child, (*path, child.name), places.get(id(child)), seen)
    ]
    held = {id(weight) for child in _children(layer) for weight in child.weights}
    own = tuple(weight for weight in layer.weights if id(weight) not in held)
    yield PlacedLayer(layer=layer, path=path, place=place, inner=len(below), weights=own)
    yield from below


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    # A private method of Keras: a layer has no public list of the layers that it holds.
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _child_places(layer: keras.layers.Layer, place: str | None) -> dict[int, str]:
    """Returns where Keras 3 stores the layers of a functional or sequential model, by their ids."""
    if place is None or not isinstance(layer, keras.Sequential | keras.Function):
        return {}
    counts: dict[str, int] = {}
    places: dict[int, str] = {}
    for child in layer.layers:
        kind = snake_case(type(child).__name__)
        count = counts.get(kind, 0)
        counts[kind] = count + 1
        places[id(child)] = "/".join(
            [*([place] if place else []), "layers", f"{kind}_{count}" if count else kind]
        )
    return places


def snake_case(name: str) -> str:
    """Returns a class name as Keras writes it in the names of layers.

    >>> snake_case("BatchNormalization"), snake_case("Conv2D")
    ('batch_normalization', 'conv2d')
    """
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
