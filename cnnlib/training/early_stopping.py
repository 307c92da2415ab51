"""When a run stops before its last epoch: a function of its history alone, so a resumed run decides alike."""

from __future__ import annotations

from collections.abc import Sequence

from cnnlib.config import EarlyStoppingConfig
from cnnlib.runs.history import EpochRecord


def is_stopped(history: Sequence[EpochRecord], config: EarlyStoppingConfig) -> bool:
    """True once the last `patience` epochs have not beaten the best validation accuracy before them.

    An epoch beats it by more than `min_delta`, as in Keras's `EarlyStopping`. Every worker has the same history,
    bit for bit: its figures are all-reduced, and a resumed worker reads the file that the others read.
    """
    if not config.patience:
        return False
    best, waited = -1.0, 0
    for record in history:
        accuracy = record.validation_accuracy
        if accuracy is not None and accuracy > best + config.min_delta:
            best, waited = accuracy, 0
        else:
            waited += 1
        if waited >= config.patience:
            return True
    return False
