"""The dtype policy that a run computes in: the one asked for, or what all workers' hardware is fast in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnlib.config import Precision
from cnnlib.log import log_event
from cnnlib.models.runtime import computes_bfloat16

if TYPE_CHECKING:
    import tensorflow as tf


def choose_precision(asked: Precision, strategy: tf.distribute.Strategy) -> str:
    """The Keras dtype policy for `asked`; every worker must call it, and all get the same.

    `auto` is mixed_bfloat16 if every worker computes in bfloat16: one that emulates it would hold up all the others.
    """
    if asked != "auto":
        return asked
    import tensorflow as tf

    from cnnlib.training.step import build_sum_call

    able = tf.constant([computes_bfloat16()], tf.float64)
    workers = strategy.num_replicas_in_sync
    count = int(build_sum_call(strategy, size=1)(able)[0])
    policy = "mixed_bfloat16" if count == workers else "float32"
    log_event("precision", chosen=policy, workers=workers, with_bfloat16=count)
    return policy
