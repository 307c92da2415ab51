"""Chooses the dtype policy of a run: the one in the config, or the one that the hardware of all workers is fast in."""

from __future__ import annotations

import tensorflow as tf

from cnnlib.config import Precision
from cnnlib.log import log_event
from cnnlib.models.runtime import computes_bfloat16
from cnnlib.training.strategy import build_sum_call


def choose_precision(configured: Precision, strategy: tf.distribute.Strategy) -> str:
    """Returns the Keras dtype policy of the run. All workers must call it, and all get the same.

    `auto` is mixed_bfloat16 if every worker computes in bfloat16. A worker that emulates it would delay all others.
    """
    if configured != "auto":
        return configured
    computes = tf.constant([computes_bfloat16()], tf.float64)
    workers = strategy.num_replicas_in_sync
    count = int(build_sum_call(strategy, size=1)(computes)[0])
    policy = "mixed_bfloat16" if count == workers else "float32"
    log_event("precision", chosen=policy, workers=workers, with_bfloat16=count)
    return policy
