"""Builds the strategy that the workers run under, and computes through it what they share besides the training step.

The strategy is always `MultiWorkerMirroredStrategy`, with one worker too, so that there is one code path.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

SumCall = Callable[[tf.Tensor], tf.Tensor]
GatherCall = Callable[[], list[npt.NDArray[np.generic]]]
"""Returns the moving statistics of every worker, each as [workers, ...]."""


def build_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Builds the strategy over all workers of TF_CONFIG; returns when all of them have joined."""
    return tf.distribute.MultiWorkerMirroredStrategy()


def replica_device(strategy: tf.distribute.Strategy) -> str:
    """Returns the device of this worker's one replica, as `/device:GPU:0`."""
    # TensorFlow states the device only in `extended`.
    (device,) = strategy.extended.worker_devices
    return str(device)


def sum_over_replicas(strategy: tf.distribute.Strategy, values: tf.Tensor) -> tf.Tensor:
    """Sums a tensor over all replicas, inside a `tf.function`. All workers must call it."""

    def all_reduce(local: tf.Tensor) -> tf.Tensor:
        # The identity puts the value on the replica's device, which decides how it is reduced.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(local))

    return strategy.run(all_reduce, args=(values,))


def build_sum_call(strategy: tf.distribute.Strategy, size: int) -> SumCall:
    """Builds the compiled function that sums a float64 [size] over all workers. All of them must call it."""

    @tf.function(input_signature=[tf.TensorSpec([size], tf.float64)], autograph=False)  # type: ignore[untyped-decorator]
    def sum_call(values: tf.Tensor) -> tf.Tensor:
        return sum_over_replicas(strategy, values)

    return sum_call  # type: ignore[no-any-return]


def average_moving_statistics(strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Averages the moving statistics of batch normalisation over the workers. All workers must call it.

    In Keras every replica updates its own statistics. They are linear in the batches, so one average per epoch gives
    what an average after every step would give.
    """
    own = moving_statistics(model)
    if not own or strategy.num_replicas_in_sync == 1:
        return

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def average() -> list[tf.Tensor]:
        def all_reduce() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.MEAN, [tf.identity(each.value) for each in own])  # type: ignore[no-any-return]

        return strategy.run(all_reduce)  # type: ignore[no-any-return]

    for weight, mean in zip(own, average(), strict=True):
        weight.assign(mean)


def build_gather_call(strategy: tf.distribute.Strategy, model: keras.Model) -> GatherCall:
    """Builds the function that returns the moving statistics of all workers. All of them must call it."""
    own = moving_statistics(model)
    if not own or strategy.num_replicas_in_sync == 1:
        return lambda: [np.array(keras.ops.convert_to_numpy(each))[None] for each in own]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def gather() -> list[tf.Tensor]:
        def all_gather() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            return context.all_gather([tf.identity(each.value)[None] for each in own], axis=0)  # type: ignore[no-any-return]

        return strategy.run(all_gather)  # type: ignore[no-any-return]

    return lambda: [each.numpy() for each in gather()]


def moving_statistics(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights that every worker moves by itself: those of batch normalisation that is not frozen."""
    still = _still_weights(model)
    return [
        weight
        for weight in model.non_trainable_weights
        if tf.as_dtype(weight.dtype).is_floating and id(weight) not in still
    ]


def _still_weights(model: keras.Model) -> set[int]:
    """Returns the ids of the weights that are the same in every worker, because their layers are frozen.

    A custom layer that is not trained may still move weights of its own, which it made as ones that are not trained.
    """
    still: set[int] = set()
    # Two private names of Keras: no public one tells a frozen weight from one that is never trained.
    for layer in (each for each in model._flatten_layers() if not each.trainable):
        statistics = isinstance(layer, keras.layers.BatchNormalization)
        still |= {id(weight) for weight in (layer.weights if statistics else layer._trainable_variables)}
    return still
