"""Makes what random layers draw a pure function of (seed, step, replica, micro-batch, layer).

So replicas drop different units, and a restarted run draws what an uninterrupted run draws. Keras alone gives
neither: it advances a layer's seed by one at every draw, in the same way in every replica. Hence the state of every
`SeedGenerator` of a model is set before each forward pass. From the same state XLA draws other numbers than
TensorFlow without XLA, so `loop.jit_compile` changes the draws, though not what they depend on.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

# Keras takes a seed modulo 2**31 - 2, so larger seeds would only repeat.
_SEEDS = 2**31 - 1

Reseed = Callable[[tf.Tensor, "tf.Tensor | int"], None]
"""Sets the seeds of a model for a step and a micro-batch, in a replica."""


def find_seed_states(model: keras.Model) -> list[keras.Variable]:
    """Finds the variables of a model that are neither weights nor metrics: the states of its seed generators."""
    weights = {id(weight) for weight in model.weights}
    metrics = {id(variable) for variable in model.metrics_variables}
    return [each for each in model.variables if id(each) not in weights and id(each) not in metrics]


def find_reseed(model: keras.Model, seed: int) -> Reseed | None:
    """Returns the function that sets a model's seeds; None for a model without random layers.

    A layer without a seed generator of its own draws from the global one of Keras, whose seed stays as it is. All
    random layers of Keras have their own.
    """
    states = [state for state in find_seed_states(model) if tuple(state.shape) == (2,)]
    if not states:
        return None

    def reseed(step: tf.Tensor, micro_batch: tf.Tensor | int) -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
        for data in (replica, micro_batch):
            key = tf.random.experimental.stateless_fold_in(key, tf.cast(data, tf.int64))
        seeds = tf.random.stateless_uniform([len(states), 2], key, 0, _SEEDS, tf.int64)
        for state, value in zip(states, tf.unstack(seeds), strict=True):
            state.assign(tf.cast(value, state.dtype))

    return reseed
