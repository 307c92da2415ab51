"""Decides when to stop early, from the history alone, so that a resumed run decides as an uninterrupted one does."""

from __future__ import annotations

from collections.abc import Sequence

from cnnlib.config import EarlyStoppingConfig
from cnnlib.runs.history import EpochRecord


def is_stopped(history: Sequence[EpochRecord], config: EarlyStoppingConfig) -> bool:
    """Returns True once none of the last `patience` epochs improved on the best validation accuracy before them.

    An epoch improves on it by more than `min_delta`, as in Keras's `EarlyStopping`. Every worker has the same history
    bit for bit, because its metrics are all-reduced and a resumed worker reads the same file as the others.
    """
    if not config.patience:
        return False
    best, waited = -1.0, 0
    for record in history:
        accuracy = record.validation_accuracy
        if accuracy is None:  # not known: the history was mended
            continue
        if accuracy > best + config.min_delta:
            best, waited = accuracy, 0
        else:
            waited += 1
        if waited >= config.patience:
            return True
    return False
