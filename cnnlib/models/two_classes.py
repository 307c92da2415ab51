"""A model of two classes with one output in, the same model with the probabilities of both classes out.

The one output is that of the class with label 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cnnlib.errors import ModelError

if TYPE_CHECKING:
    import keras

Kind = Literal["auto", "probabilities", "logits"]


def give_both_classes(model: keras.Model, name: str, kind: Kind = "auto") -> keras.Model:
    """Returns a model with the outputs [1 - p, p], where p is the model's output or, of a logit, its sigmoid.

    Args:
        model: a built model with one output, [batch, 1].
        name: what messages call the model.
        kind: what the output is; auto: a probability after a sigmoid, a logit after a dense layer without activation.

    Raises:
        ModelError: the kind is auto, and the model's last layer does not tell.
    """
    import keras
    from keras import layers, ops

    probability = _is_probability(model, name) if kind == "auto" else kind == "probabilities"
    output = ops.cast(model.outputs[0], "float32")
    # Of a logit z: 1 - sigmoid(z) = sigmoid(-z), without the rounding.
    both = [1.0 - output, output] if probability else [ops.sigmoid(-output), ops.sigmoid(output)]
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return keras.Model(inputs, layers.Concatenate(dtype="float32")(both), name=model.name)


def _is_probability(model: keras.Model, name: str) -> bool:
    from keras import activations, layers

    last = _last_operation(model)
    activation = getattr(last, "activation", None)
    if type(last).__name__ == "Sigmoid" or activation is activations.sigmoid:
        return True
    if isinstance(last, layers.Dense) and activation is activations.linear:
        return False
    raise ModelError(
        f"{name} has one output for two classes, and its last layer, {last.name!r}, does not tell what it is. "
        "Expected a sigmoid or a dense layer without activation. Give --outputs probabilities or --outputs logits."
    )


def _last_operation(model: keras.Model) -> Any:
    """Returns the layer or operation of Keras that computes a model's output; of a nested model, its last one."""
    operation = model.outputs[0]._keras_history.operation  # Keras has no public name for it
    return (
        _last_operation(operation)
        if hasattr(operation, "outputs") and hasattr(operation, "layers")
        else operation
    )
