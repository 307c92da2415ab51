"""A Keras model and one image in, what the model makes of it out: its first kernels, and the maps of its layers.

The tutorial's own explanation of a CNN. A model of another kind gives the image alone, and a layer that does not let
itself be watched is left out: pictures are no reason for an evaluation to fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnlib.log import log_event
from cnnlib.models.maps import IMAGE_LAYER, LayerMaps, build_maps, spread

if TYPE_CHECKING:
    import keras

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose")
_POOLINGS = ("MaxPooling2D", "AveragePooling2D")


class _Place(NamedTuple):
    """A layer, its name behind those of the models around it, and its place among all layers."""

    position: int
    name: str
    layer: Any


def explain_image(
    model: keras.Model, image: npt.NDArray[np.uint8], inputs: npt.NDArray[np.float32]
) -> list[LayerMaps]:
    """The image, the weights of the first convolution, and what convolutions and poolings give for the image.

    Args:
        model: a built model; it is left as it was.
        image: uint8 [height, width, channels], as it is stored.
        inputs: float32 [1, …], the image as the model takes it.

    Returns:
        Pictures in the order of the layers; of at most 16 layers, spread evenly, where there are more.
    """
    own = build_maps(image[np.newaxis], layer_index=IMAGE_LAYER, layer="image", kind="image")
    try:
        places = list(_find_layers(model))
        return [own, *_first_kernels(places), *_activations(model, places, inputs)]
    except Exception as err:  # a layer can be anyone's, and raise anything when it is watched
        log_event("no_activations", model=model.name, reason=f"{type(err).__name__}: {err}")
        return [own]


def _find_layers(model: keras.Model) -> Iterator[_Place]:
    """All layers of a model, those of a nested model in its place, with their index from 0."""

    def walk(parent: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for layer in parent.layers:
            name = f"{prefix}{layer.name}"
            if hasattr(layer, "layers"):
                yield from walk(layer, f"{name}/")
            else:
                yield name, layer

    for index, (name, layer) in enumerate(walk(model, "")):
        yield _Place(index, name, layer)


def _first_kernels(places: list[_Place]) -> list[LayerMaps]:
    import keras

    first = next((place for place in places if _is_one_of(place.layer, _CONVOLUTIONS)), None)
    if first is None:
        return []
    layer = first.layer
    if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D):
        # [height, width, inputs, multiplier]: each filter looks at one input only.
        separable = isinstance(layer, keras.layers.SeparableConv2D)
        weights = _to_numpy(layer.depthwise_kernel if separable else layer.kernel)
        maps = weights.reshape(*weights.shape[:2], -1, 1).transpose(2, 0, 1, 3)
    elif isinstance(layer, keras.layers.Conv2DTranspose):
        maps = _to_numpy(layer.kernel).transpose(2, 0, 1, 3)  # [height, width, outputs, inputs]
    else:
        maps = _to_numpy(layer.kernel).transpose(3, 0, 1, 2)  # [height, width, inputs, outputs]
    return [build_maps(maps, layer_index=first.position, layer=first.name, kind="kernel")]


def _activations(
    model: keras.Model, places: list[_Place], inputs: npt.NDArray[np.float32]
) -> list[LayerMaps]:
    """What every convolution and pooling gives for the image."""
    wanted = [place.position for place in places if _is_one_of(place.layer, _CONVOLUTIONS + _POOLINGS)]
    watched = [places[index] for index in spread(wanted)]
    outputs: dict[int, Any] = {}
    with ExitStack() as stack:
        for place in watched:
            stack.enter_context(_watch(place.layer, place.position, outputs))
        if watched:
            model(inputs, training=False)
    return [
        build_maps(
            _as_maps(outputs[place.position], place.layer),
            layer_index=place.position,
            layer=place.name,
            kind="activation",
        )
        for place in watched
        if place.position in outputs
    ]


@contextmanager
def _watch(layer: Any, index: int, outputs: dict[int, Any]) -> Iterator[None]:
    """Keeps what a layer gives when it is first called.

    Not a second model from the inputs to the layer's output: of a layer in a nested model there is no way from the
    outer model's inputs, and of a model that is written as a class there is no graph at all.
    """
    call = layer.call

    def keep(*args: Any, **kwargs: Any) -> Any:
        output = call(*args, **kwargs)
        outputs.setdefault(index, output)
        return output

    layer.call = keep
    try:
        yield
    finally:
        del layer.call


def _as_maps(output: Any, layer: Any) -> npt.NDArray[np.float32]:
    """The output for one image, [1, height, width, channels], as pictures [channels, height, width, 1]."""
    values: npt.NDArray[np.float32] = _to_numpy(output)[0]
    channels_last = layer.data_format == "channels_last"
    channels = values.transpose(2, 0, 1) if channels_last else values
    return np.expand_dims(channels, -1)


def _to_numpy(values: Any) -> npt.NDArray[np.float32]:
    import keras

    # bfloat16 is no type of NumPy's.
    converted: npt.NDArray[np.float32] = keras.ops.convert_to_numpy(keras.ops.cast(values, "float32"))
    return converted


def _is_one_of(layer: Any, names: tuple[str, ...]) -> bool:
    import keras

    return isinstance(layer, tuple(getattr(keras.layers, name) for name in names))
