"""The random numbers of augmentation: a pure function of (seed, step, position in the global batch).

An order of rows is a function of the seed, too, and gives every position of every step the same row for any number of
workers. So a row is augmented in the same way whoever trains on it, and when a run goes on after an interruption.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_SEEDS = 2**31 - 1


class Draws(NamedTuple):
    """Draws for the rows of one worker in one step.

    Attributes:
        seed: of the run.
        step: int64 [], steps of the run before this one.
        first_row: int32 [], the position of the worker's first row in the global batch.
        rows: of the worker.
        batch_size: of the global batch.
    """

    seed: int
    step: tf.Tensor
    first_row: tf.Tensor
    rows: int
    batch_size: int

    def uniform(self, purpose: int, columns: int) -> tf.Tensor:
        """Returns numbers of 0..1, float32 [rows, columns]; each purpose has its own."""
        drawn = self._draw(purpose, [self.batch_size, columns])
        return self._slice(drawn, self.first_row, self.rows, columns)

    def uniform_of_pairs(self, purpose: int, columns: int) -> tf.Tensor:
        """Returns the same for pairs of neighbouring rows: float32 [rows / 2, columns]."""
        drawn = self._draw(purpose, [self.batch_size // 2, columns])
        return self._slice(drawn, self.first_row // 2, self.rows // 2, columns)

    def uniform_of_step(self, purpose: int, shape: tuple[int, ...]) -> tf.Tensor:
        """Returns numbers of 0..1 that all rows of the step share, float32 of any shape."""
        return self._draw(purpose, shape)

    def _draw(self, purpose: int, shape: list[int] | tuple[int, ...]) -> tf.Tensor:
        key = tf.stack([tf.constant(self.seed % _SEEDS, tf.int64), tf.cast(self.step, tf.int64)])
        key = tf.random.experimental.stateless_fold_in(key, tf.constant(purpose, tf.int64))
        # One named algorithm, because each kind of device would choose its own.
        return tf.random.stateless_uniform(shape, key, alg="philox")

    @staticmethod
    def _slice(drawn: tf.Tensor, first: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
        return tf.ensure_shape(tf.slice(drawn, tf.stack([first, 0]), [rows, columns]), [rows, columns])


def between(drawn: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Returns numbers of 0..1 as numbers of low..high."""
    return low + drawn * (high - low)
