"""A Keras model in, what one prediction costs out: the parameters, and the operations of its traced graph.

    python -m cnnlib.models.cost > cnnlib/models/cost_table.json

writes the costs of the tutorial's models, which `cost_table` reads where TensorFlow must not be loaded.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnlib.models.cost_table import (
    CHANNELS,
    GROWING,
    IMAGE_SIZES,
    NUM_CLASSES,
    CostAtSize,
    format_cost_table,
)
from cnnlib.models.registry import build_model
from cnnlib.models.runtime import load_tensorflow
from cnnlib.shapes import ImageShape

if TYPE_CHECKING:
    import keras

# Words in the names of operations that multiply, or may multiply, and cannot be counted: their shapes do not say how
# often they multiply, or `_operation_flops` has no rule for them.
_NOT_COUNTED = (
    "While",
    "If",
    "Case",
    "PyFunc",
    "RNN",
    "Conv",
    "MatMul",
    "Einsum",
    "FFT",
    "XlaDot",
    "Cholesky",
    "Svd",
)


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What a model holds, and what it computes for one image.

    Attributes:
        parameters: number of parameters, trained or not.
        flops_per_image: floating-point operations of its convolutions, dense layers and other matrix products. A
            multiplication and an addition count as two. Biases, activations, normalisations and poolings are left out;
            they are a few per cent. None if the model has an operation that may multiply and cannot be counted, such
            as a loop.
    """

    parameters: int
    flops_per_image: int | None


def model_cost(model: keras.Model, input_shape: Sequence[int]) -> ModelCost:
    """Counts the parameters and operations of a model.

    It traces the model once, with one image, and counts the operations of that graph. Counting Keras layers would not
    work: a layer may be called twice, hold a model, or be the user's own.

    Args:
        model: a built model.
        input_shape: the shape of one input, without the batch; every size is known.
    """
    import tensorflow as tf

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def predict(image: tf.Tensor) -> tf.Tensor:
        return model(image, training=False)

    graph = predict.get_concrete_function(tf.TensorSpec([1, *input_shape], tf.float32)).graph
    return ModelCost(parameters=model.count_params(), flops_per_image=_count_flops(graph))


def trace_cost(name: str, image_shape: ImageShape, num_classes: int) -> CostAtSize:
    """Counts what a registered model costs at any image size, without allocating its weights.

    Args:
        name: a registered name.
        image_shape: height, width, channels.
        num_classes: size of the last layer.

    Raises:
        ModelError: the model cannot be built for this image size.
    """
    import tensorflow as tf

    # In a graph of its own a variable is a symbol that is never initialised: the dense network for 4K images would
    # take 8 GB.
    with tf.Graph().as_default():
        model = build_model(name, image_shape, num_classes)
        cost = model_cost(model, image_shape)
        activation_values = _count_activation_values(model)
    assert cost.flops_per_image is not None, f"{name} has an operation that cannot be counted"
    return CostAtSize(
        model=name,
        image_shape=image_shape,
        parameters=cost.parameters,
        flops_per_image=cost.flops_per_image,
        activation_values=activation_values,
    )


def trace_cost_table() -> list[CostAtSize]:
    """Counts what every model of the table costs at every size of it; the layers do not change with the size."""
    return [
        trace_cost(name, (height, width, CHANNELS), NUM_CLASSES)
        for name in GROWING
        for height, width in IMAGE_SIZES
    ]


def kernel_flops(kernel: Sequence[int], positions: int) -> int:
    """Returns the floating-point operations of a kernel that is applied at `positions` positions.

    One multiplication and one addition per kernel element and position (https://arxiv.org/abs/2001.08361, 2.1).

    >>> kernel_flops((3, 3, 1, 2), 10)
    360
    """
    return 2 * math.prod(kernel) * positions


def _count_activation_values(model: keras.Model) -> int:
    """Returns how many values the layers output for one image. Expects a model without shared or nested layers."""
    import keras

    computing = [
        layer
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer | keras.layers.Flatten)
    ]
    return sum(math.prod(layer.output.shape[1:]) for layer in computing)


def _count_flops(graph: Any) -> int | None:
    """Returns the FLOPs of a `tf.Graph` and of the functions that it calls; None if one operation cannot be counted."""
    counted = [_operation_flops(operation) for operation in _operations(graph)]
    known = [flops for flops in counted if flops is not None]
    return sum(known) if len(known) == len(counted) else None


def _operations(graph: Any) -> Iterator[Any]:
    """Yields the operations of a graph; those of a called function once per call."""
    for operation in graph.get_operations():
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            name = operation.get_attr("f").name
            yield from _operations(graph._get_function(name).graph)
        else:
            yield operation


def _operation_flops(operation: Any) -> int | None:
    """Returns the FLOPs of one operation: 0 if it multiplies by no kernel, None if it cannot be counted."""
    match operation.type:
        case "Conv2D" | "Conv3D":
            return _flops(operation.outputs[0], operation.inputs[1].shape[:-1])
        case "DepthwiseConv2dNative":
            return _flops(operation.outputs[0], operation.inputs[1].shape[:2])
        case "Conv2DBackpropInput" | "Conv3DBackpropInputV2":
            # A transposed convolution applies its kernel, [.., out, in], to every value of its input.
            return _flops(operation.inputs[2], operation.inputs[1].shape[:-1])
        case "MatMul":
            row = 0 if operation.get_attr("transpose_a") else 1
            return _flops(operation.outputs[0], operation.inputs[0].shape[row : row + 1])
        case "BatchMatMulV2" | "BatchMatMulV3":
            row = -2 if operation.get_attr("adj_x") else -1
            return _flops(operation.outputs[0], [operation.inputs[0].shape[row]])
        case kind:
            return None if any(word in kind for word in _NOT_COUNTED) else 0


def _flops(values: Any, kernel: Sequence[int | None]) -> int | None:
    """Returns the FLOPs of one application of a kernel per value of a tensor; None if a size is unknown."""
    count = values.shape.num_elements()
    if count is None or None in kernel:
        return None
    return kernel_flops([size for size in kernel if size is not None], count)


if __name__ == "__main__":
    load_tensorflow(num_threads=1)
    sys.stdout.write(format_cost_table(trace_cost_table()))
