"""Writes folders of reports for the tests of pages: one from real predictions on Fashion-MNIST, and small ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cnnlib.dataset.manifest import Manifest
from cnnlib.dataset.source import SourceSplit
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.reports.predictions import write_predictions
from cnnlib.reports.read import read_report
from cnnlib.reports.result import EvaluationResult, installed_versions
from cnnlib.reports.schema import table_schema
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.reports.write import write_report
from cnnlib.runs.history import EpochRecord, encode_history
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes
from tests.datasets import make_source, write_dataset_without_ray
from tests.fashion import fashion_mnist
from tests.page_extras import page_extras

TOP_K = 3
_TRAIN_ROWS, _SHARD_ROWS = 5000, 2500
_SHIRT, _COAT = 6, 4
_FIRST_DAY = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Reports:
    """A folder of reports and their dataset; ids oldest first."""

    uri: str
    data_uri: str
    ids: tuple[str, ...]


def write_real_reports(folder: Path) -> Reports:
    """Trains a small perceptron in two runs on real images and writes a report on all 10,000 test images per epoch.

    The last epoch trains with many shirts labelled as coats: its report has a class that got worse, and all other
    contents that a page can show.
    """
    from sklearn.neural_network import MLPClassifier

    full = fashion_mnist()
    train = full.splits["train"]
    small = SourceSplit(images=train.images[:_TRAIN_ROWS], labels=train.labels[:_TRAIN_ROWS])
    source = replace(full, splits={"train": small, "test": full.splits["test"]})
    data_uri, uri = str(folder / "data" / "fashion-mnist"), str(folder / "reports")
    manifest = write_dataset_without_ray(data_uri, source, shard_rows=_SHARD_ROWS)
    x, y = _flatten(small.images), small.labels
    rng, ids = np.random.default_rng(0), []
    for day, (run, epochs) in enumerate((("monday", 3), ("tuesday", 4))):
        model, history = MLPClassifier((64,), random_state=day, learning_rate_init=0.001), []
        for epoch in range(1, epochs + 1):
            worse = run == "tuesday" and epoch == epochs
            labels = np.where((y == _SHIRT) & (rng.random(len(y)) < 0.4), _COAT, y) if worse else y
            for _ in range(1 if worse else 3):
                model.partial_fit(x, labels, classes=range(10))
            history.append(_epoch_record(model, x, y, epoch))
            extras = page_extras(model, source.splits["test"], TOP_K) if worse else {}
            ids.append(
                write_scored(
                    uri,
                    data_uri,
                    manifest,
                    source.splits["test"],
                    model.predict_proba(_flatten(source.splits["test"].images)),
                    checkpoint_uri=str(folder / "runs" / run / "checkpoints" / f"epoch-{epoch:04d}"),
                    run=run,
                    epoch=epoch,
                    evaluated_at=_FIRST_DAY + timedelta(days=day, minutes=epoch),
                    **extras,
                )
            )
        files.write_bytes(layout.run_history(str(folder / "runs" / run)), encode_history(history))
    write_gates(uri, ids[2], ["pass"])
    write_gates(uri, ids[-1], ["inconclusive", "fail", "pass"])
    return Reports(uri=uri, data_uri=data_uri, ids=tuple(ids))


def write_small_reports(
    folder: Path,
    *,
    class_names: Sequence[str] = ("Coat", "Bag", "Sandal"),
    image_shape: tuple[int, int, int] = (8, 8, 1),
    rows: int = 60,
    reports: int = 2,
    predictions: bool = True,
    **extras: Any,
) -> Reports:
    """Writes reports on random images with random probabilities, about two of three correct."""
    data_uri, uri = str(folder / "data"), str(folder / "reports")
    source = make_source(test_rows=rows, class_names=tuple(class_names), image_shape=image_shape)
    manifest = write_dataset_without_ray(data_uri, source, shard_rows=16)
    split, rng = source.splits["test"], np.random.default_rng(1)
    ids = []
    for epoch in range(1, reports + 1):
        logits = rng.normal(0, 1, (rows, len(class_names))) + 2 * np.eye(len(class_names))[split.labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        ids.append(
            write_scored(
                uri,
                data_uri,
                manifest,
                split,
                probabilities,
                checkpoint_uri=f"/models/{epoch}.keras",
                run=None,
                epoch=None,
                evaluated_at=_FIRST_DAY + timedelta(minutes=epoch),
                predictions=predictions,
                **extras,
            )
        )
    return Reports(uri=uri, data_uri=data_uri, ids=tuple(ids))


def write_scored(
    uri: str,
    data_uri: str,
    manifest: Manifest,
    split: SourceSplit,
    probabilities: np.ndarray,
    *,
    checkpoint_uri: str,
    run: str | None,
    epoch: int | None,
    evaluated_at: datetime,
    predictions: bool = True,
    **extras: Any,
) -> str:
    """Writes the report of probabilities, float64 [rows, classes], as an evaluation does; returns its id."""
    subject = ReportSubject(
        checkpoint_digest=publish.sha256_hex(checkpoint_uri.encode()),
        dataset_fingerprint=manifest.fingerprint,
        split="test",
        evaluation={"pixel_range": "0-255", "outputs": "probabilities", "top_k": TOP_K},
        class_names=manifest.class_names,
        checkpoint_uri=checkpoint_uri,
        dataset_uri=data_uri,
        run=run,
        model=None if run is None else "small-mlp",
        checkpoint_step=None if epoch is None else 79 * epoch,
        checkpoint_epoch=epoch,
    )
    stored_probabilities = probabilities.astype(np.float32)
    rows = ScoredRows.from_probabilities(np.arange(len(split)), split.labels, stored_probabilities)
    parts, first = [], 0
    for index, shard in enumerate(manifest.split("test").shards):
        part = slice(first, first + shard.rows)
        first += shard.rows
        parts.append(
            write_predictions(
                uri,
                report_id(subject),
                shard_index=index,
                ids=rows.ids[part],
                labels=rows.labels[part],
                probabilities=stored_probabilities[part],
            )
        )
    return write_report(
        uri,
        EvaluationResult(
            subject=subject,
            sums=MetricSums.from_probabilities(split.labels, stored_probabilities, top_k=TOP_K),
            evaluated_at=evaluated_at,
            seconds=4.2,
            versions=installed_versions(),
            rows=rows,
            predictions=tuple(parts) if predictions else None,
            **extras,
        ),
    ).report_id


def write_gates(uri: str, report: str, verdicts: Sequence[str]) -> None:
    """Writes one check per verdict, with limits that the report passes, fails, or cannot decide."""
    metrics = read_report(uri, report)
    weakest = min(metrics.classes, key=lambda row: row["accuracy"])
    checks = {
        "pass": _check(metrics.overall, metrics.overall["accuracy_low"] - 0.05),
        "inconclusive": _check(metrics.overall, metrics.overall["accuracy"] + 0.006),
        "fail": _check(weakest, weakest["accuracy_high"] + 0.05) | {"class_name": weakest["class_name"]},
    }
    common = {
        "report_id": report,
        "checked_at": _FIRST_DAY + timedelta(days=2),
        "gates_digest": "9a7e" * 16,
        "significance": 0.05,
    }
    rows = [common | checks[verdict] | {"verdict": verdict} for verdict in verdicts]
    table = pa.Table.from_pylist(rows, schema=table_schema("gates"))
    files.write_bytes(layout.report_gates_table(uri, report, "9a7e9a7e"), parquet_bytes(table))


def _check(row: Mapping[str, Any], limit: float) -> dict[str, Any]:
    rounded = round(limit, 3)
    seen = f"{row['accuracy']:.1%} ({100 * row['accuracy_low']:.1f}–{row['accuracy_high']:.1%})"
    return {
        "check": "min_accuracy",
        "scope": "class" if "class_name" in row else "overall",
        "limit": rounded,
        "observed": row["accuracy"],
        "observed_low": row["accuracy_low"],
        "observed_high": row["accuracy_high"],
        "reason": f"{row.get('class_name', 'All classes')}: {seen}; at least {rounded:.1%} is asked for.",
    }


def _flatten(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255.0


def _epoch_record(model: Any, x: np.ndarray, y: np.ndarray, epoch: int) -> EpochRecord:
    validation_split = slice(4000, None)
    probabilities = np.clip(model.predict_proba(x), 1e-7, 1)
    correct, loss = probabilities.argmax(axis=1) == y, -np.log(probabilities[np.arange(len(y)), y])
    return EpochRecord(
        epoch=epoch,
        step=79 * epoch,
        loss=float(loss[:4000].mean()),
        accuracy=float(correct[:4000].mean()),
        validation_loss=float(loss[validation_split].mean()) + 0.03,
        validation_accuracy=float(correct[validation_split].mean()) - 0.01,
        learning_rate=0.001,
        images_per_s=3000.0,
        data_wait=0.02,
        seconds=1.6,
        time=_FIRST_DAY,
        rows=4000,
    )
