"""Writes the report of random predictions of many classes: `python -m tests.many_classes CLASSES ROWS` measures it."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cnnlib.evaluation.partial_scores import CollectedScores, PartialScores, encode_outcome
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows, keeps_rows
from cnnlib.models.batches import split_rows
from cnnlib.reports.predictions import write_predictions
from cnnlib.reports.read import read_report
from cnnlib.reports.result import EvaluationResult, installed_versions
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.reports.write import write_report

TOP_K = 3
_SHARD_ROWS = 2500


def write_many_classes(
    reports_uri: str, num_classes: int, num_rows: int, *, slices: int = 0, seed: int = 0, name: str = "class"
) -> str:
    """Scores random rows shard by shard as a predictor does, merges them, and writes the report; returns its id."""
    subject = ReportSubject(
        checkpoint_digest=f"{num_classes} {num_rows} {seed}",
        dataset_fingerprint="none",
        split="test",
        evaluation={"pixel_range": "0-255", "outputs": "probabilities", "top_k": TOP_K},
        class_names=tuple(f"{name} {index}" for index in range(num_classes)),
        checkpoint_uri=f"/models/{seed}.keras",
        dataset_uri="/no/dataset",
        model="many",
    )
    collected = CollectedScores()
    for scores in _score(reports_uri, report_id(subject), num_classes, num_rows, slices, seed):
        row = {"partial_scores": encode_outcome(scores), "seconds": 1.0}
        collected.add(row, now=0.0)
    assert collected.sums is not None
    result = EvaluationResult(
        subject=subject,
        sums=collected.sums,
        rows=collected.rows(),
        slices=collected.slices(),
        evaluated_at=datetime(2026, 11, 27, 3, seed, tzinfo=UTC),
        seconds=1.0,
        versions=installed_versions(),
        predictions=collected.predictions(),
    )
    return write_report(reports_uri, result).report_id


def _score(
    reports_uri: str, name: str, num_classes: int, num_rows: int, slices: int, seed: int
) -> Iterator[PartialScores]:
    rng, keep = np.random.default_rng(seed), keeps_rows(num_rows, num_classes)
    for shard, first in enumerate(range(0, num_rows, _SHARD_ROWS)):
        whole: PartialScores | None = None
        for piece in split_rows(min(_SHARD_ROWS, num_rows - first), num_classes, batch_rows=500):
            ids = np.arange(first + piece.start, first + piece.stop)
            labels = rng.integers(0, num_classes, len(ids))
            probabilities = _predict(rng, labels, num_classes)
            masks = {f"part=q{index + 1}": ids % slices == index for index in range(slices)}
            stored = write_predictions(
                reports_uri, name, shard_index=shard, ids=ids, labels=labels, probabilities=probabilities
            )
            own = PartialScores(
                sums=MetricSums.from_probabilities(labels, probabilities, top_k=TOP_K, histogram=not keep),
                rows=ScoredRows.from_probabilities(ids, labels, probabilities) if keep else None,
                predictions=(stored,),
                slices={
                    part: MetricSums.from_probabilities(labels[mask], probabilities[mask], top_k=TOP_K)
                    for part, mask in masks.items()
                },
                busy_s=0.0,
            )
            whole = own if whole is None else whole.merge(own)
        assert whole is not None
        yield replace(whole, busy_s=1.0)


def _predict(rng: np.random.Generator, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns probabilities, float32 [rows, classes]: of about 60 % of the rows the true class is the most probable."""
    logits = rng.standard_normal((len(labels), num_classes), np.float32)
    logits[np.arange(len(labels)), labels] += rng.normal(5, 2, len(labels)).astype(np.float32)
    np.exp(logits, out=logits)
    return np.divide(logits, logits.sum(axis=1, keepdims=True), out=logits)


def main(num_classes: int, num_rows: int, slices: int) -> None:
    """Prints seconds, the peak of resident memory so far, and sizes, stage by stage."""
    from cnnlib.views.page.publish import draw_page

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()

        def done(stage: str, size: int = 0) -> None:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            seconds = time.perf_counter() - started
            sys.stdout.write(f"{stage}: {seconds:.1f} s, peak {peak:.0f} MiB, {size:,} bytes\n")

        sys.stdout.write(f"{num_classes=} {num_rows=} {slices=}\n")
        done("start")
        name = write_many_classes(folder, num_classes, num_rows, slices=slices)
        done(
            "scored and written",
            sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()),
        )
        assert len(read_report(folder, name).classes) == num_classes
        for table in ("confusion", "per_class", "calibration"):
            done(f"read; {table}", (Path(folder) / table / f"{name}.parquet").stat().st_size)
        done("page of the report", len(draw_page(folder, f"{folder}/a.html", name).encode()))
        done("page of the history", len(draw_page(folder, f"{folder}/b.html").encode()))


if __name__ == "__main__":
    main(*(int(value) for value in [*sys.argv[1:], "0"][:3]))
