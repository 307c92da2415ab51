"""Gives the layers of a model learning rates of their own, which fall from the head to the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cnnlib.models.layer_groups import group_layers


@dataclass(frozen=True, kw_only=True)
class LayerRates:
    """The learning rate of every trained weight, as a factor of the rate of the step.

    Attributes:
        groups: groups of layers of the model, see `group_layers`.
        factors: one for every trainable variable of the model; 1 in the head.
    """

    groups: int
    factors: tuple[float, ...]

    @property
    def lowest(self) -> float:
        """The factor of the layers that learn slowest."""
        return min(self.factors)


def find_layer_rates(model: keras.Model, decay: float) -> LayerRates:
    """Returns decay^depth for every trainable variable: the last group of layers has depth 0, the one before it 1.

    Source: Clark et al. 2020 (ELECTRA, https://arxiv.org/abs/2003.10555), layer-wise decay as in its code,
    `_get_layer_lrs` of model/optimization.py; Bao et al. 2022 (BEiT) use it for images. Frozen layers count, so that
    freezing some changes no other rate.
    """
    groups = group_layers(model)
    last = len(groups) - 1
    factors = {
        id(weight): decay ** (last - index) for index, group in enumerate(groups) for weight in group.weights
    }
    return LayerRates(
        groups=len(groups), factors=tuple(factors[id(weight)] for weight in model.trainable_variables)
    )


def scale_rates(optimizer: keras.optimizers.Optimizer, factors: Sequence[float]) -> None:
    """Makes a built optimizer multiply the learning rate of each of its variables, and with it the weight decay.

    Whatever is linear in the rate is exact: all updates of Keras's optimizers are. The gradients and the state that is
    made of them stay as they are, and so does clipping. Nothing is added to what a checkpoint holds.

    Keras has no rates for single variables. `update_step` is its public method for one variable; the index of the
    variable and the weight decay are internals of the version that pyproject.toml pins.

    Args:
        factors: one for every variable that the optimizer was built with, in the same order.
    """
    update, decay = optimizer.update_step, optimizer._apply_weight_decay

    def update_step(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> Any:
        return update(gradient, variable, learning_rate * factors[optimizer._get_variable_index(variable)])

    def apply_weight_decay(variables: Sequence[keras.Variable]) -> None:
        whole = optimizer.weight_decay
        if whole is None:
            return
        try:
            for variable in variables:
                optimizer.weight_decay = whole * factors[optimizer._get_variable_index(variable)]
                decay([variable])
        finally:
            optimizer.weight_decay = whole

    optimizer.update_step, optimizer._apply_weight_decay = update_step, apply_weight_decay
