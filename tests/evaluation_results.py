"""Provides, as fixtures, evaluation results that can be checked by hand, and a function that writes their reports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from cnnlib.reports.manifest import StoredTable
from cnnlib.reports.result import EvaluationResult, Versions
from cnnlib.reports.subject import ReportSubject
from tests.scores import make_rows, make_sums

ResultFactory = Callable[..., EvaluationResult]


@pytest.fixture
def make_result() -> ResultFactory:
    """Builds the result of an evaluation: 17 of 21 rows right, in three classes, the last without rows."""

    def make(
        *,
        counts: list[list[int]] | None = None,
        slices: dict[str, list[list[int]]] | None = None,
        predictions: tuple[StoredTable, ...] | None = None,
        minute: int = 0,
        seconds: float = 2.0,
        **subject: Any,
    ) -> EvaluationResult:
        cells = counts or [[8, 1, 2], [1, 9, 0], [0, 0, 0]]
        return EvaluationResult(
            subject=ReportSubject(
                **{
                    "checkpoint_digest": "c0ffee",
                    "dataset_fingerprint": "da7a",
                    "split": "test",
                    "evaluation": {"pixel_range": "0-255", "top_k": 2},
                    "class_names": ("Coat", "Bag", "Ankle boot"),
                    "checkpoint_uri": "/runs/demo/checkpoints/epoch-0002",
                    "dataset_uri": "/data/fashion-mnist",
                    "run": "demo",
                    "model": "small-cnn",
                    "checkpoint_step": 1874,
                    "checkpoint_epoch": 2,
                    **subject,
                }
            ),
            sums=make_sums(cells),
            rows=make_rows(cells),
            slices={name: make_sums(part) for name, part in (slices or {}).items()},
            predictions=predictions,
            evaluated_at=datetime(2026, 11, 22, 6, minute, 1, 250, tzinfo=UTC),
            seconds=seconds,
            versions=Versions(
                python="3.11.7", cnnlib="0.1.0", ray="2.60.0", tensorflow="2.21.0", keras="3.15.1", numpy=None
            ),
        )

    return make


@pytest.fixture
def write(tmp_path: Any) -> Callable[[EvaluationResult], Any]:
    """Writes the report of a result into the test's own folder of reports."""
    from cnnlib.reports.write import write_report

    def publish(result: EvaluationResult) -> Any:
        return write_report(str(tmp_path), result)

    return publish
