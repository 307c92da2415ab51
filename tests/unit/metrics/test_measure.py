"""Every metric of a report agrees with scikit-learn to 1e-9, or with a straightforward computation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from scipy import stats
from sklearn import metrics as sk

from cnnlib.metrics import formulas
from cnnlib.metrics.measure import Metrics, measure, measure_slice
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from tests.unit.metrics.strategies import scored_rows

TOLERANCE = 1e-9


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Ignores the warnings of scikit-learn about classes without rows, which some tests are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def values_of(rows: ScoredRows, top_k: int = 2) -> formulas.Values:
    """Returns the metrics without their intervals, which would resample the rows a thousand times."""
    sums = MetricSums.from_probabilities(rows.labels, rows.probabilities, top_k=top_k)
    return measure_slice(sums).values


def close(actual: object, expected: object) -> bool:
    return bool(np.allclose(np.asarray(actual), expected, rtol=0, atol=TOLERANCE, equal_nan=True))


@given(scored_rows())
def test_precision_recall_and_f1_are_those_of_scikit_learn(rows: ScoredRows) -> None:
    predicted, num_classes = rows.probabilities.argmax(axis=1), rows.probabilities.shape[1]
    metrics = values_of(rows)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        rows.labels, predicted, labels=range(num_classes), zero_division=np.nan
    )
    has_any = (support > 0) | np.isin(np.arange(num_classes), predicted)
    assert close(metrics.per_class["accuracy"], recall)
    assert close(metrics.per_class["precision"], precision)
    assert close(metrics.per_class["f1"][has_any], np.nan_to_num(f1[has_any]))
    assert np.isnan(metrics.per_class["f1"][~has_any]).all()
    for average in ("macro", "weighted"):
        precision, _, f1, _ = sk.precision_recall_fscore_support(
            rows.labels, predicted, average=average, zero_division=0
        )
        assert close(metrics.overall[f"{average}_precision"], precision)
        assert close(metrics.overall[f"{average}_f1"], f1)
    assert close(metrics.overall["accuracy"], sk.accuracy_score(rows.labels, predicted))
    assert close(metrics.overall["macro_accuracy"], sk.balanced_accuracy_score(rows.labels, predicted))


@given(scored_rows(min_classes=3))
def test_top_k_accuracy_is_that_of_scikit_learn_where_nothing_ties(rows: ScoredRows) -> None:
    num_classes = rows.probabilities.shape[1]
    # scikit-learn puts the higher of two equal classes first. So it gets ranks, with up to one rank more for a lower
    # index: they break ties as this project does, and keep the order of probabilities that are only close.
    apart = stats.rankdata(rows.probabilities, axis=1) + np.arange(num_classes, 0, -1) * 1e-3
    expected = sk.top_k_accuracy_score(rows.labels, apart, k=2, labels=range(num_classes))
    assert close(values_of(rows, top_k=2).overall["top_k_accuracy"], expected)


@given(scored_rows())
def test_loss_is_that_of_scikit_learn_with_our_floor(rows: ScoredRows) -> None:
    clipped = np.maximum(rows.probabilities.astype(np.float64), 1e-7)
    num_classes = clipped.shape[1]
    metrics = values_of(rows)
    assert close(metrics.overall["loss"], sk.log_loss(rows.labels, clipped, labels=range(num_classes)))
    for index in range(num_classes):
        is_class = rows.labels == index
        expected = (
            sk.log_loss(rows.labels[is_class], clipped[is_class], labels=range(num_classes))
            if is_class.any()
            else math.nan
        )
        assert close(metrics.per_class["loss"][index], expected)


@given(scored_rows())
def test_brier_score_is_that_of_scikit_learn(rows: ScoredRows) -> None:
    probabilities, metrics = np.minimum(rows.probabilities, 1).astype(np.float64), values_of(rows)
    truth = rows.labels[:, np.newaxis] == np.arange(probabilities.shape[1])
    for index in range(probabilities.shape[1]):
        expected = sk.brier_score_loss(truth[:, index], probabilities[:, index], labels=[False, True])
        assert close(metrics.per_class["brier"][index], expected)
    assert close(metrics.overall["brier"], ((probabilities - truth) ** 2).sum(axis=1).mean())


@given(scored_rows())
def test_calibration_error_is_that_of_a_loop_over_the_rows(rows: ScoredRows) -> None:
    def error(probabilities: np.ndarray, hits: np.ndarray) -> float:
        bins: dict[int, list[tuple[float, bool]]] = {}
        for probability, hit in zip(probabilities.tolist(), hits.tolist(), strict=True):
            bins.setdefault(max(0, math.ceil(probability * 15) - 1), []).append((probability, hit))
        return sum(
            abs(
                sum(hit for _, hit in pairs) / len(pairs)
                - sum(probability for probability, _ in pairs) / len(pairs)
            )
            * len(pairs)
            / len(probabilities)
            for pairs in bins.values()
        )

    probabilities, metrics = rows.probabilities, values_of(rows)
    for index in range(probabilities.shape[1]):
        assert close(metrics.per_class["ece"][index], error(probabilities[:, index], rows.labels == index))
    predicted = probabilities.argmax(axis=1)
    assert close(metrics.overall["ece"], error(probabilities.max(axis=1), predicted == rows.labels))


def measured(rows: ScoredRows, *, histogram: bool = False) -> Metrics:
    sums = MetricSums.from_probabilities(rows.labels, rows.probabilities, top_k=1, histogram=histogram)
    return measure(sums, None if histogram else rows)


def example_rows(num_rows: int = 400, num_classes: int = 4, seed: int = 0) -> ScoredRows:
    """Returns rows of a model that predicts about two of three right; no row is of the last class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes - 1, num_rows)
    logits = rng.normal(size=(num_rows, num_classes)) * 2
    logits[np.arange(num_rows), labels] += 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return ScoredRows.from_probabilities(np.arange(num_rows), labels, probabilities)


def test_means_of_rankings_are_those_of_scikit_learn() -> None:
    rows = example_rows(num_classes=5)
    truth = rows.labels[:, np.newaxis] == np.arange(4)  # of the classes that have rows
    probabilities = rows.probabilities[:, :4].astype(np.float64)
    metrics = measured(rows)
    for average in ("macro", "weighted"):
        expected = sk.roc_auc_score(truth, probabilities, average=average)
        assert close(metrics.values.overall[f"{average}_auc"], expected)
    expected = sk.average_precision_score(truth, probabilities, average="macro")
    assert close(metrics.values.overall["macro_average_precision"], expected)
    assert np.isnan(metrics.values.per_class["auc"][4])
    assert metrics.errors.overall["macro_auc"] == 0


@pytest.mark.parametrize("histogram", [False, True])
def test_every_metric_lies_within_its_interval(histogram: bool) -> None:
    metrics = measured(example_rows(), histogram=histogram)
    for values, low, high in (
        (metrics.values.overall, metrics.low.overall, metrics.high.overall),
        (metrics.values.per_class, metrics.low.per_class, metrics.high.per_class),
    ):
        assert set(values) == set(low) == set(high)
        for name, value in values.items():
            defined = np.isfinite(value)
            assert np.atleast_1d(defined)[0], name
            assert (low[name] <= value)[defined].all(), name
            assert (value <= high[name])[defined].all(), name
            assert np.isnan(np.where(defined, np.nan, low[name])).all(), name
            # Not the last class, which has no row: each of its predictions is wrong in every resample.
            assert np.atleast_1d(high[name] - low[name])[0] > 0, name


def test_normal_intervals_are_close_to_bootstrap_intervals() -> None:
    rows = example_rows(4000)
    bootstrap, normal = measured(rows), measured(rows, histogram=True)
    for name in ("loss", "brier"):
        width = bootstrap.high.overall[name] - bootstrap.low.overall[name]
        assert normal.low.overall[name] == pytest.approx(bootstrap.low.overall[name], abs=0.1 * width)
        assert normal.high.overall[name] == pytest.approx(bootstrap.high.overall[name], abs=0.1 * width)
    for name in ("auc", "average_precision"):
        width = bootstrap.high.per_class[name] - bootstrap.low.per_class[name]
        extra = 2 * normal.errors.per_class[name] + 0.15 * width
        assert (abs(normal.low.per_class[name] - bootstrap.low.per_class[name]) <= extra)[:3].all()
        assert (abs(normal.high.per_class[name] - bootstrap.high.per_class[name]) <= extra)[:3].all()


def test_intervals_do_not_depend_on_which_predictor_scored_which_row() -> None:
    rows = example_rows()
    halves = [
        ScoredRows(ids=rows.ids[at], labels=rows.labels[at], probabilities=rows.probabilities[at])
        for at in (slice(1, None, 2), slice(0, None, 2))
    ]
    whole, merged = measured(rows), measured(ScoredRows.merge_all(halves))
    for name, low in whole.low.overall.items():
        assert low == merged.low.overall[name]
        assert whole.high.overall[name] == merged.high.overall[name]


@pytest.mark.parametrize("keep_rows", [True, False])
def test_what_a_single_row_decides_has_no_interval(keep_rows: bool) -> None:
    """Its spread is not known: an interval without width would say that it is known exactly."""
    rng = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 2 + [2])
    rows = ScoredRows.from_probabilities(
        np.arange(33), labels, rng.dirichlet(np.ones(3), 33).astype(np.float32)
    )
    sums = MetricSums.from_probabilities(labels, rows.probabilities, top_k=2, histogram=not keep_rows)
    found = measure(sums, rows if keep_rows else None)
    for name in ("loss", "auc", "average_precision"):
        low, high = found.low.per_class[name], found.high.per_class[name]
        assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, False, True], name
        assert (low[:2] < high[:2]).all(), name
        assert np.isfinite(found.values.per_class[name]).all(), name
    for name in ("brier", "accuracy", "f1"):
        assert np.isfinite(found.low.per_class[name]).all(), name
    assert all(np.isfinite(low) for low in found.low.overall.values())


@given(scored_rows(max_rows=1))
def test_a_single_row_has_metrics(rows: ScoredRows) -> None:
    metrics = measure_slice(MetricSums.from_probabilities(rows.labels, rows.probabilities, top_k=1))
    assert metrics.values.overall["accuracy"] in (0.0, 1.0)
    assert np.isfinite(metrics.values.overall["loss"])


def test_a_single_row_has_no_ranking_but_its_average_precision() -> None:
    metrics = measured(ScoredRows.from_probabilities([0], [1], [[0.25, 0.75]]))
    assert np.isnan(metrics.values.overall["macro_auc"])
    np.testing.assert_array_equal(metrics.values.per_class["average_precision"], [np.nan, 1.0])


def test_without_rows_no_metric_is_defined() -> None:
    metrics = measure(MetricSums.zero(3, top_k=1))
    assert all(np.isnan(value).all() for value in metrics.values.overall.values())
    assert all(np.isnan(value).all() for value in metrics.values.per_class.values())


def test_a_slice_has_no_ranking_and_intervals_of_fractions_only() -> None:
    rows = example_rows()
    metrics = measure_slice(MetricSums.from_probabilities(rows.labels, rows.probabilities, top_k=1))
    assert set(metrics.low.overall) == {"accuracy", "top_k_accuracy"}
    assert set(metrics.low.per_class) == {"accuracy", "precision", "top_k_accuracy"}
    assert "auc" not in metrics.values.per_class


def test_rows_of_other_sums_are_refused() -> None:
    rows, others = example_rows(), example_rows(10)
    sums = MetricSums.from_probabilities(rows.labels, rows.probabilities, top_k=1)
    with pytest.raises(ValueError, match=r"Expected the 400 rows of the sums\. Received 10"):
        measure(sums, others)
