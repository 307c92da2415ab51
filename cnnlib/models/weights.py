"""Takes the weights of a file into a model that may have other classes, other images or another head.

A layer is taken whole or not at all: all of its weights fit in number and shape, or it keeps its new values. Layers are
found by their names. Keras numbers names that nobody gave, `conv2d_7`, by what the process had built before, so these
are compared by their order. Where hardly any name is known, layers are found as Keras itself finds them: in files of
Keras 3 by class and order, in those of Keras 2 by order alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import keras

from cnnlib.errors import ModelError
from cnnlib.models.layer_tree import PlacedLayer, flatten_layers, snake_case
from cnnlib.models.model_file import check_weights
from cnnlib.models.weights_file import StoredLayer, open_weights

_Path = tuple[str, ...]
_Layer = TypeVar("_Layer", StoredLayer, PlacedLayer)
_Pair = tuple[StoredLayer, PlacedLayer]
_NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")
_SHOWN_NAMES = 4


@dataclass(frozen=True, kw_only=True)
class TakenWeights:
    """The layers of a model that have the weights of a file, and those that keep their new ones, in its order."""

    taken: tuple[str, ...]
    left: tuple[str, ...]


def take_weights(model: keras.Model, path: Path, name: str) -> TakenWeights:
    """Gives a model the weights of a file, layer by layer, where they fit. The others keep their values.

    Args:
        model: a built model.
        path: a local .keras, .weights.h5 or .h5 file, told by its bytes.
        name: what messages call the file.

    Raises:
        ModelError: the file cannot be read, holds NaN, or fits fewer than half of the layers that it holds, besides
            the last one. The model may have changed then.
    """
    layers = [each for each in flatten_layers(model) if each.weights]
    with open_weights(path, name) as stored:
        by_name = _fitting(_match_names(stored, layers))
        enough = max(1, len(stored) // 2)  # of all layers but the head: half of them, rounded up
        pairs = (
            by_name
            if len(by_name) >= enough
            else max(by_name, _fitting(_match_places(stored, layers)), key=len)
        )
        if len(pairs) < enough:
            raise _misfit(name, model, stored, layers, len(pairs))
        for source, target in pairs:
            for weight, values in zip(target.weights, source.read(), strict=True):
                weight.assign(values)
    check_weights(model, name)
    taken = {id(target) for _, target in pairs}
    return TakenWeights(
        taken=tuple(each.label for each in layers if id(each) in taken),
        left=tuple(each.label for each in layers if id(each) not in taken),
    )


def _fitting(pairs: Iterable[_Pair]) -> list[_Pair]:
    return [(source, target) for source, target in pairs if source.shapes == _shapes(target)]


def _shapes(layer: PlacedLayer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _match_names(stored: Sequence[StoredLayer], layers: Sequence[PlacedLayer]) -> list[_Pair]:
    """Finds layers by the whole path of their names, then by the last name, then by the first.

    The last one serves where a model holds another one and the file does not, or the other way round; the first one
    where an author renamed a layer, and its weights in a file of Keras 2 have its earlier name.
    """
    automatic = {snake_case(kind) for kind in dir(keras.layers)} | {
        snake_case(type(each.layer).__name__) for each in layers
    }
    pairs: list[_Pair] = []
    keys: list[Callable[[_Path], _Path]] = [lambda path: path, lambda path: path[-1:], lambda path: path[:1]]
    for key in keys:
        used = {id(each) for pair in pairs for each in pair}
        sources = _by_key([each.path for each in stored], stored, key, automatic, used)
        targets = _by_key([each.path for each in layers], layers, key, automatic, used)
        pairs += [(sources[each], targets[each]) for each in sources.keys() & targets.keys()]
    return pairs


def _by_key(
    paths: Sequence[_Path],
    layers: Sequence[_Layer],
    key: Callable[[_Path], _Path],
    automatic: Collection[str],
    used: Collection[int],
) -> dict[_Path, _Layer]:
    """Returns the layers that are not used yet by their keys; not those that share a key."""
    found: dict[_Path, list[_Layer]] = {}
    for path, layer in zip(_renumber([key(path) for path in paths], automatic), layers, strict=True):
        found.setdefault(path, []).append(layer)
    return {path: each[0] for path, each in found.items() if len(each) == 1 and id(each[0]) not in used}


def _renumber(paths: Sequence[_Path], automatic: Collection[str]) -> list[_Path]:
    """Returns paths in which the names that Keras gives count from 0 among their neighbours.

    >>> _renumber([("conv2d_7",), ("head_2",), ("conv2d_12",)], {"conv2d"})
    [('conv2d 0',), ('head_2',), ('conv2d 1',)]
    """
    neighbours: dict[tuple[_Path, str], set[int]] = {}
    for path in paths:
        for depth, name in enumerate(path):
            base, number = _split(name)
            neighbours.setdefault((path[:depth], base), set()).add(number)
    orders = {key: sorted(numbers) for key, numbers in neighbours.items()}

    def renumber(above: _Path, name: str) -> str:
        base, number = _split(name)
        return f"{base} {orders[above, base].index(number)}" if base in automatic else name

    return [tuple(renumber(path[:depth], name) for depth, name in enumerate(path)) for path in paths]


def _split(name: str) -> tuple[str, int]:
    """Splits a name into what it counts and its number; the first one has none."""
    match = _NUMBERED.fullmatch(name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)


def _match_places(stored: Sequence[StoredLayer], layers: Sequence[PlacedLayer]) -> list[_Pair]:
    """Finds layers as Keras does: by class and order, or from the first on, up to one that does not fit."""
    places = {each.place: each for each in layers if each.place is not None}
    if stored[0].place is not None:
        return [(each, places[each.place]) for each in stored if each.place in places]
    pairs: list[_Pair] = []
    for pair in zip(stored, layers, strict=False):
        if not _fitting([pair]):
            break
        pairs.append(pair)
    return pairs


def _misfit(
    name: str, model: keras.Model, stored: Sequence[StoredLayer], layers: Sequence[PlacedLayer], fitting: int
) -> ModelError:
    have = [f"{'/'.join(each.path) or 'model'} {each.shapes[0]}" for each in stored]
    want = [f"{each.label} {_shapes(each)[0]}" for each in layers]
    return ModelError(
        f"The weights of {name} do not fit the model {model.name}: {fitting} of their {len(stored)} layers are in it, "
        f"with the same name and shape. Received {_some(have)}; expected {_some(want)}. Give the model that the "
        "weights are of, with the same options."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
