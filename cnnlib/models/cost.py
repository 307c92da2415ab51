"""A built Keras model in, what one prediction costs out: parameters, and the multiplications of its graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnlib.models.growth import kernel_flops

if TYPE_CHECKING:
    import keras

# What else multiplies, or may: its shapes do not tell how often, or nobody has written it down here.
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
    """What a model holds, and what it does for one image.

    Attributes:
        parameters: numbers that it holds, trained or not.
        flops_per_image: floating-point operations of its convolutions, dense layers and other matrix products, a
            multiplication and an addition counted as two; biases, activations and poolings are left out. None where
            the model holds an operation that may multiply and cannot be counted, such as a loop.
    """

    parameters: int
    flops_per_image: int | None


def model_cost(model: keras.Model, input_shape: Sequence[int]) -> ModelCost:
    """The cost of a model, of whatever layers it is made and however they are nested or shared.

    It is traced once, with one image, and the operations of that graph are counted: what Keras calls a layer may be
    called twice, hold a model, or be the user's own.

    Args:
        model: a built model.
        input_shape: of one input, without the batch; no part of it may be open.
    """
    import tensorflow as tf

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def predict(image: tf.Tensor) -> tf.Tensor:
        return model(image, training=False)

    graph = predict.get_concrete_function(tf.TensorSpec([1, *input_shape], tf.float32)).graph
    return ModelCost(parameters=model.count_params(), flops_per_image=_count_flops(graph))


def _count_flops(graph: Any) -> int | None:
    """Operations of a `tf.Graph` and of the functions that it calls; None where one cannot be counted."""
    counted = [_operation_flops(operation) for operation in _operations(graph)]
    known = [flops for flops in counted if flops is not None]
    return sum(known) if len(known) == len(counted) else None


def _operations(graph: Any) -> Iterator[Any]:
    """The operations of a graph, those of a called function once per call."""
    for operation in graph.get_operations():
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            name = operation.get_attr("f").name
            yield from _operations(graph._get_function(name).graph)
        else:
            yield operation


def _operation_flops(operation: Any) -> int | None:
    """Of one operation: 0 for one that has no kernel to multiply by, None for one that cannot be counted."""
    match operation.type:
        case "Conv2D" | "Conv3D":
            return _flops(operation.outputs[0], operation.inputs[1].shape[:-1])
        case "DepthwiseConv2dNative":
            return _flops(operation.outputs[0], operation.inputs[1].shape[:2])
        case "Conv2DBackpropInput" | "Conv3DBackpropInputV2":
            # A transposed convolution: its kernel, [.., out, in], is applied to every value of its input.
            return _flops(operation.inputs[2], operation.inputs[1].shape[:-1])
        case "MatMul":
            row = 0 if operation.get_attr("transpose_a") else 1
            return _flops(operation.outputs[0], operation.inputs[0].shape[row : row + 1])
        case "BatchMatMulV2" | "BatchMatMulV3":
            row = -2 if operation.get_attr("adj_x") else -1
            return _flops(operation.outputs[0], [operation.inputs[0].shape[row]])
        case kind:
            return None if any(word in kind for word in _NOT_COUNTED) else 0


def _flops(values: Any, terms: Sequence[int | None]) -> int | None:
    """Of a tensor whose every value takes, or gives, a product of this shape; None where a part of it is open."""
    count = values.shape.num_elements()
    if count is None or None in terms:
        return None
    return kernel_flops([size for size in terms if size is not None], count)
