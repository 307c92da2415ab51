"""Moves the moving statistics of batch normalisation once per step, where a batch is computed in micro-batches.

Keras moves them at every call, hence once for each micro-batch. Here each micro-batch starts from the values before the
step. For equal micro-batches, the mean of a batch is the mean of their means, and its variance is the mean of their
variances plus the variance of their means (the law of total variance). Hence the statistics move as for one batch of
the inputs that the layer has seen. Those of a later layer differ from those of a whole batch, because each micro-batch
is normalised by its own statistics before.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

Values = Sequence[tf.Tensor]


class MovingStatistics:
    """The moving statistics of a model's batch normalisation."""

    def __init__(self, model: keras.Model) -> None:
        layers = [
            each for each in _find_layers(model) if each.trainable and each.momentum < 1 and not each.renorm
        ]
        self._momenta = [layer.momentum for layer in layers]
        self._variables = [layer.moving_mean for layer in layers] + [
            layer.moving_variance for layer in layers
        ]

    def read(self) -> list[tf.Tensor]:
        """Returns the values of this moment: all means, then all variances."""
        return [tf.identity(variable.value) for variable in self._variables]

    def write(self, values: Values) -> None:
        """Sets the values, in the order of `read`."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def measure(self, first: Values) -> list[tf.Tensor]:
        """Returns how far the values are from those after the first micro-batch, and the squares of it for the means.

        The results of the micro-batches add up.
        """
        moved = [now - then for now, then in zip(self.read(), first, strict=True)]
        return moved + [tf.square(each) for each in moved[: len(self._momenta)]]

    def merge(self, first: Values, sums: Values, micro_batches: int) -> None:
        """Sets the values after the step.

        Args:
            first: the values after the first micro-batch.
            sums: the sums of `measure` over all micro-batches.
        """
        layers = len(self._momenta)
        moved = [total / micro_batches for total in sums]
        values = [value + change for value, change in zip(first, moved[: 2 * layers], strict=True)]
        for index, momentum in enumerate(self._momenta):
            spread = moved[2 * layers + index] - tf.square(moved[index])
            # A mean has moved by 1 - momentum of its difference, so `spread` has this factor twice.
            values[layers + index] += tf.maximum(spread, 0.0) / (1 - momentum)
        self.write(values)


def synchronize(model: keras.Model) -> None:
    """Lets all batch normalisation layers of a model, at any depth, normalise over the batch of all replicas.

    Keras reads the switch at every call, so it may be set after the model was built.
    """
    for layer in _find_layers(model):
        layer.synchronized = True


def _find_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Returns the layers of batch normalisation at any depth: in models, in custom layers and in wrappers."""
    # A private method of Keras: `layers` of a model does not reach into layers that hold layers.
    found = [each for each in model._flatten_layers() if isinstance(each, keras.layers.BatchNormalization)]
    return list({id(each): each for each in found}.values())
