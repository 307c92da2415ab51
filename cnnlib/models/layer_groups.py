"""A Keras model in, its groups of layers out, from the input to the head: what layer-wise learning rates count.

Papers count the blocks of a transformer (Clark et al. 2020) or the stages of a CNN, which every architecture names in
its own way. Here the graph tells: a group ends where all data passes through a single layer. So a residual block is one
group, and so is each layer of a chain. Layers without a kernel, such as normalisation, belong to the group before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Layers that count as one.

    Attributes:
        layers: the names of those with weights, in the order of the model.
        weights: theirs, trained or not.
    """

    layers: tuple[str, ...]
    weights: tuple[keras.Variable, ...]

    @property
    def has_kernel(self) -> bool:
        """True if a weight has two axes or more."""
        return any(len(weight.shape) > 1 for weight in self.weights)


def group_layers(model: keras.Model) -> list[LayerGroup]:
    """Returns the groups of a built model, each weight in one of them: the first that uses it.

    A model inside of it is taken apart unless it is a part of a larger group, and a layer that holds others is whole.
    The layers of a subclass of `keras.Model`, which has no graph, form a chain in the order of its attributes.
    """
    groups: list[LayerGroup] = []
    for group in _without_repeats(model):
        if groups and not (group.has_kernel and groups[-1].has_kernel):
            group = _join(groups.pop(), group)
        groups.append(group)
    return groups


def _without_repeats(model: keras.Model) -> Iterator[LayerGroup]:
    seen: set[int] = set()
    for group in _split(model):
        new = tuple(weight for weight in group.weights if id(weight) not in seen)
        seen |= set(map(id, new))
        if new:
            yield LayerGroup(layers=group.layers, weights=new)


def _split(model: keras.Model) -> Iterator[LayerGroup]:
    held = {id(weight) for layer in model.layers for weight in layer.weights}
    own = tuple(weight for weight in model.weights if id(weight) not in held)
    if own:
        yield LayerGroup(layers=(model.name,), weights=own)
    for segment in _segments(model):
        layers = [each for each in segment if isinstance(each, keras.layers.Layer) and each.weights]
        if len(segment) == 1 and isinstance(segment[0], keras.Model):
            yield from _split(segment[0])
        elif layers:
            weights = tuple(weight for layer in layers for weight in layer.weights)
            yield LayerGroup(layers=tuple(layer.name for layer in layers), weights=weights)


def _segments(model: keras.Model) -> Iterator[list[keras.Operation]]:
    """Yields the operations between two points where nothing but the output of one of them is needed any more."""
    if not isinstance(model, keras.Function):
        yield from ([layer] for layer in model.layers)
        return
    # Internal names of the Keras version that pyproject.toml pins: its public ones tell the layers, not their edges.
    nodes = [
        node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]
    ]
    last_use = {id(node): len(nodes) for node in nodes}  # of an output of the model
    for index, node in enumerate(nodes):
        last_use |= {id(parent): index for parent in node.parent_nodes}
    needed_until = 0
    segment: list[keras.Operation] = []
    for index, node in enumerate(nodes):
        segment.append(node.operation)
        if needed_until <= index:
            yield segment
            segment = []
        needed_until = max(needed_until, last_use[id(node)])
    if segment:
        yield segment


def _join(one: LayerGroup, other: LayerGroup) -> LayerGroup:
    return LayerGroup(layers=one.layers + other.layers, weights=one.weights + other.weights)
