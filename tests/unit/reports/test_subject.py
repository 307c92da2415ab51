"""A report's id depends on what was evaluated and how, and on nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy
import pytest

from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.reports.result import EvaluationResult, installed_versions
from cnnlib.reports.subject import report_id


def test_report_id_is_sixteen_hex_digits_that_never_change(make_result: Any) -> None:
    # A constant: with another value here, every old checkpoint would be evaluated again.
    assert report_id(make_result().subject) == "08db2ed88d6fee1f"


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint_digest": "other"},
        {"dataset_fingerprint": "other"},
        {"split": "train"},
        {"evaluation": {"pixel_range": "0-1", "top_k": 2}},
        {"evaluation": {"pixel_range": "0-255", "top_k": 3}},
    ],
    ids=str,
)
def test_report_id_follows_what_changes_the_numbers(make_result: Any, change: dict[str, Any]) -> None:
    assert make_result(**change).report_id != make_result().report_id


@pytest.mark.parametrize(
    "change",
    [
        {"run": "copy", "model": "model.keras", "checkpoint_step": None, "checkpoint_epoch": None},
        {"checkpoint_uri": "s3://bucket/copy"},
        {"dataset_uri": "s3://bucket/data"},
        {"evaluation": {"top_k": 2, "pixel_range": "0-255"}},
        {"minute": 30, "seconds": 9.0},
    ],
    ids=str,
)
def test_report_id_ignores_where_things_lie_and_when_it_was(make_result: Any, change: dict[str, Any]) -> None:
    assert make_result(**change).report_id == make_result().report_id


def test_a_file_with_the_bytes_of_a_checkpoint_does_not_take_the_report_of_the_run(make_result: Any) -> None:
    assert make_result(run=None).report_id != make_result().report_id


def test_time_without_a_zone_is_refused(make_result: Any) -> None:
    result = make_result()
    with pytest.raises(ValueError, match="needs a time zone"):
        EvaluationResult(
            subject=result.subject,
            sums=result.sums,
            evaluated_at=datetime(2026, 11, 22),
            seconds=1.0,
            versions=result.versions,
        )


def test_class_without_a_name_is_refused(make_result: Any) -> None:
    result = make_result()
    with pytest.raises(ValueError, match="Received 3 names, 4 classes"):
        EvaluationResult(
            subject=result.subject,
            sums=MetricSums.zero(4, top_k=1),
            evaluated_at=result.evaluated_at,
            seconds=1.0,
            versions=result.versions,
        )


def test_installed_versions_are_those_that_would_be_imported() -> None:
    assert installed_versions().numpy == numpy.__version__
    assert installed_versions().python.startswith("3.")
