"""Writes reports of given labels and predictions, without a model, as an evaluation writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.reports.predictions import write_predictions
from cnnlib.reports.result import EvaluationResult, Versions
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.reports.write import write_report

CLASSES = ("Coat", "Shirt", "Bag")
START = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


def write_rows(
    folder: Path,
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    epoch: int,
    ids: Sequence[int] | None = None,
    slices: Mapping[str, NDArray[np.bool_]] | None = None,
    store: bool = True,
    **subject: Any,
) -> str:
    """Writes the report of epoch n of a run, evaluated n minutes after `START`, and returns its id.

    Args:
        labels: [rows], indexes of CLASSES.
        predictions: [rows].
        ids: the ids of the rows; None for 0, 1, ….
        slices: by name, a mask of the rows in the slice.
        store: whether the predictions are stored.
        subject: fields of the subject that differ from epoch `epoch` of the run demo on the split test.
    """
    defaults = {
        "checkpoint_digest": f"digest of epoch {epoch}",
        "dataset_fingerprint": "fingerprint",
        "split": "test",
        "evaluation": {"top_k": 1},
        "class_names": CLASSES,
        "checkpoint_uri": f"/runs/demo/checkpoints/epoch-{epoch:04d}",
        "dataset_uri": "/data/fashion-mnist",
        "run": "demo",
        "model": "small-cnn",
        "checkpoint_epoch": epoch,
    }
    about = ReportSubject(**{**defaults, **subject})
    true, probabilities = np.asarray(labels), _probabilities(predictions, len(about.class_names))
    numbers = np.arange(len(true)) if ids is None else np.asarray(ids)
    parts = []
    if store:
        # Two parts, the later rows first: a reader must sort them.
        for part, chosen in enumerate(np.array_split(np.arange(len(true)), 2)[::-1]):
            parts.append(
                write_predictions(
                    str(folder),
                    report_id(about),
                    shard_index=part,
                    ids=numbers[chosen],
                    labels=true[chosen],
                    probabilities=probabilities[chosen],
                    slices=None if slices is None else {name: rows[chosen] for name, rows in slices.items()},
                )
            )
    written = write_report(
        str(folder),
        EvaluationResult(
            subject=about,
            sums=MetricSums.from_probabilities(true, probabilities, top_k=1),
            evaluated_at=START + timedelta(minutes=epoch),
            seconds=1.0,
            versions=Versions(python="3", cnnlib="0", ray="0", tensorflow="0", keras="0", numpy="0"),
            slices={
                name: MetricSums.from_probabilities(true[rows], probabilities[rows], top_k=1)
                for name, rows in (slices or {}).items()
            },
            predictions=tuple(parts) if store else None,
        ),
    )
    return written.report_id


def with_mistakes(labels: ArrayLike, wrong: ArrayLike) -> NDArray[np.int64]:
    """Returns the labels, but the next class for the rows with the indexes `wrong`."""
    predictions = np.array(labels, np.int64)
    chosen = np.asarray(wrong, np.int64)
    predictions[chosen] = (predictions[chosen] + 1) % len(CLASSES)
    return predictions


def _probabilities(predictions: ArrayLike, num_classes: int) -> NDArray[np.float32]:
    """Returns probabilities float32 [rows, classes], 0.9 for the predicted class."""
    chosen = np.asarray(predictions)
    probabilities = np.full((len(chosen), num_classes), 0.1 / max(1, num_classes - 1), np.float32)
    probabilities[np.arange(len(chosen)), chosen] = 0.9
    return probabilities
