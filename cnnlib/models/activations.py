"""A Keras model and one image in, pictures of its first kernels and of the outputs of its layers out.

These are the pictures with which the tutorial explains a CNN. Keras is imported inside functions only: the reports
import `LayerMaps` and must not load TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnlib.log import log_event
from cnnlib.models.keras_errors import short_text

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]
Kind = Literal["image", "kernel", "activation"]

MAX_MAPS = 64
MAX_PIXELS = 64
MAX_LAYERS = 16
IMAGE_LAYER = -1

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose")
_POOLINGS = ("MaxPooling2D", "AveragePooling2D")


@dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """The pictures of one layer.

    Attributes:
        layer_index: index of the layer in the model, from 0; -1 for the image itself.
        layer: the layer's name, after the names of the models that it is nested in; `image` for the image itself.
        kind: the image, a kernel (the weights of the first convolution), or an activation (a layer's output).
        maps: float32 [maps, height, width, channels], at most 64 maps of at most 64 x 64, in the shape of the layer.
        total: number of maps that the layer has.
    """

    layer_index: int
    layer: str
    kind: Kind
    maps: Floats
    total: int


def record_activations(
    model: keras.Model, image: npt.NDArray[np.uint8], inputs: npt.NDArray[np.float32]
) -> list[LayerMaps]:
    """Returns the image, the kernels of the first convolution, and the outputs of convolutions and poolings.

    For a model without a convolution or pooling, it returns the image alone. It does the same if a layer fails when its
    output is recorded: pictures are no reason for an evaluation to fail.

    Args:
        model: a built model; it is left unchanged.
        image: uint8 [height, width, channels], as it is stored.
        inputs: float32 [1, …], the image as the model takes it.

    Returns:
        Pictures in the order of the layers. Of more than 16 layers, 16 are taken, spread evenly.
    """
    picture = build_maps(image[np.newaxis], layer_index=IMAGE_LAYER, layer="image", kind="image")
    try:
        layers = list(_find_layers(model))
        return [picture, *_first_kernels(layers), *_layer_outputs(model, layers, inputs)]
    except Exception as err:  # a layer may be the user's own, and raise anything
        log_event("no_activations", model=model.name, reason=short_text(err))
        return [picture]


def build_maps(maps: npt.ArrayLike, *, layer_index: int, layer: str, kind: Kind) -> LayerMaps:
    """Keeps the first 64 maps of a layer and scales down those larger than 64 x 64; they keep their shape.

    Args:
        maps: numbers [maps, height, width, channels].
        layer_index: see `LayerMaps`.
        layer: see `LayerMaps`.
        kind: see `LayerMaps`.
    """
    values = np.asarray(maps, np.float32)
    height, width = values.shape[1:3]
    longer = max(height, width, MAX_PIXELS)
    # Both sides by one factor: a wide image stays wide.
    sides = (max(1, round(side * MAX_PIXELS / longer)) for side in (height, width))
    small = shrink(values[:MAX_MAPS], *sides)
    return LayerMaps(layer_index=layer_index, layer=layer, kind=kind, maps=small, total=len(values))


def shrink(maps: Floats, height: int = MAX_PIXELS, width: int = MAX_PIXELS) -> Floats:
    """Scales maps down. Every pixel is the mean of a block; blocks are nearly equal.

    Args:
        maps: float32 [maps, height, width, channels].
        height: the most pixels of a column. Fewer are kept, pixel by pixel.
        width: the most pixels of a row, likewise.

    >>> shrink(np.array([1, 3, 5, 9], np.float32).reshape(1, 1, 4, 1), width=2).ravel().tolist()
    [2.0, 7.0]
    """
    for axis, limit in ((1, height), (2, width)):
        size = maps.shape[axis]
        if size > limit:
            edges = np.arange(limit) * size // limit
            lengths = np.diff(edges, append=size).reshape([-1 if each == axis else 1 for each in range(4)])
            maps = np.add.reduceat(maps, edges, axis=axis) / lengths.astype(np.float32)
    return maps


def spread(layers: Sequence[int], limit: int = MAX_LAYERS) -> list[int]:
    """Returns at most `limit` of the layers, spread evenly from the first to the last.

    >>> spread([2, 3, 5, 7, 11], limit=3)
    [2, 5, 11]
    """
    if len(layers) <= limit:
        return list(layers)
    return [layers[round(index * (len(layers) - 1) / (limit - 1))] for index in range(limit)]


class _PlacedLayer(NamedTuple):
    """A layer, its position among all layers, and its name after the names of the models that it is nested in."""

    position: int
    name: str
    layer: Any


def _find_layers(model: keras.Model) -> Iterator[_PlacedLayer]:
    """Yields all layers of a model in order; a nested model is replaced by its layers."""

    def walk(parent: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for layer in parent.layers:
            name = f"{prefix}{layer.name}"
            if hasattr(layer, "layers"):
                yield from walk(layer, f"{name}/")
            else:
                yield name, layer

    for position, (name, layer) in enumerate(walk(model, "")):
        yield _PlacedLayer(position, name, layer)


def _first_kernels(layers: list[_PlacedLayer]) -> list[LayerMaps]:
    """Returns the kernels of the first convolution; nothing without a convolution."""
    import keras

    first = next((placed for placed in layers if _is_one_of(placed.layer, _CONVOLUTIONS)), None)
    if first is None:
        return []
    layer = first.layer
    if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D):
        # [height, width, inputs, multiplier]: each filter reads one input only.
        separable = isinstance(layer, keras.layers.SeparableConv2D)
        weights = _to_float32(layer.depthwise_kernel if separable else layer.kernel)
        maps = weights.reshape(*weights.shape[:2], -1, 1).transpose(2, 0, 1, 3)
    elif isinstance(layer, keras.layers.Conv2DTranspose):
        maps = _to_float32(layer.kernel).transpose(2, 0, 1, 3)  # [height, width, outputs, inputs]
    else:
        maps = _to_float32(layer.kernel).transpose(3, 0, 1, 2)  # [height, width, inputs, outputs]
    return [build_maps(maps, layer_index=first.position, layer=first.name, kind="kernel")]


def _layer_outputs(
    model: keras.Model, layers: list[_PlacedLayer], inputs: npt.NDArray[np.float32]
) -> list[LayerMaps]:
    """Returns the outputs of the convolutions and poolings for the image."""
    candidates = [placed.position for placed in layers if _is_one_of(placed.layer, _CONVOLUTIONS + _POOLINGS)]
    recorded = [layers[position] for position in spread(candidates)]
    outputs: dict[int, Any] = {}
    with ExitStack() as stack:
        for placed in recorded:
            stack.enter_context(_record_output(placed, outputs))
        if recorded:
            model(inputs, training=False)
    return [
        build_maps(
            _as_maps(outputs[placed.position], placed.layer),
            layer_index=placed.position,
            layer=placed.name,
            kind="activation",
        )
        for placed in recorded
        if placed.position in outputs
    ]


@contextmanager
def _record_output(placed: _PlacedLayer, outputs: dict[int, Any]) -> Iterator[None]:
    """Puts the layer's output into `outputs` when the layer is first called.

    A second model from the inputs to the layer's output would not work: a layer in a nested model has no path from the
    outer model's inputs, and a model that is written as a class has no graph at all.
    """
    layer = placed.layer
    call = layer.call

    def call_and_record(*args: Any, **kwargs: Any) -> Any:
        output = call(*args, **kwargs)
        outputs.setdefault(placed.position, output)
        return output

    layer.call = call_and_record
    try:
        yield
    finally:
        del layer.call


def _as_maps(output: Any, layer: Any) -> Floats:
    """Converts the output for one image, [1, height, width, channels], to maps [channels, height, width, 1]."""
    values = _to_float32(output)[0]
    channels_last = layer.data_format == "channels_last"
    return np.expand_dims(values.transpose(2, 0, 1) if channels_last else values, -1)


def _to_float32(values: Any) -> Floats:
    """Converts a tensor or a variable of any precision; NumPy has no bfloat16."""
    import keras

    converted: Floats = keras.ops.convert_to_numpy(keras.ops.cast(values, "float32"))
    return converted


def _is_one_of(layer: Any, class_names: tuple[str, ...]) -> bool:
    import keras

    return isinstance(layer, tuple(getattr(keras.layers, name) for name in class_names))
