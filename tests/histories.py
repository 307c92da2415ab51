"""Makes histories of runs without training."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cnnlib.runs.history import EpochRecord


def make_history(validation_accuracies: Sequence[float]) -> list[EpochRecord]:
    """Returns one record per validation accuracy."""
    return [
        EpochRecord(
            epoch=epoch,
            step=epoch * 100,
            loss=1 / epoch,
            accuracy=0.75,
            validation_loss=0.5,
            validation_accuracy=accuracy,
            learning_rate=0.01,
            images_per_s=100.0,
            data_wait=0.0,
            seconds=1.0,
            time=datetime(2026, 11, 22, 6, epoch, tzinfo=UTC),
            rows=60,
        )
        for epoch, accuracy in enumerate(validation_accuracies, 1)
    ]
