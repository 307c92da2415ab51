"""The same rows give the same resamples, and intervals cover the truth as often as they should."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlib.metrics import bootstrap
from cnnlib.metrics.bootstrap import (
    RESAMPLES,
    percentile_interval,
    resample_bins,
    resample_confusion,
    resample_rows,
)
from cnnlib.metrics.formulas import Values, calibration_values, confusion_values
from cnnlib.metrics.measure import measure_slice
from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows


def draw_rows(rng: np.random.Generator, num_rows: int) -> ScoredRows:
    """Draws rows with calibrated probabilities: each class occurs as often as its probability says."""
    probabilities = rng.dirichlet(np.ones(3) / 2, num_rows).astype(np.float32)
    labels = (rng.random(num_rows)[:, np.newaxis] > np.cumsum(probabilities, axis=1)[:, :-1]).sum(axis=1)
    return ScoredRows.from_probabilities(np.arange(num_rows), labels, probabilities)


def sum_up(rows: ScoredRows) -> MetricSums:
    return MetricSums.from_probabilities(rows.labels, rows.probabilities, top_k=1)


def test_resampled_confusion_is_that_of_resampled_rows() -> None:
    """Its mean and standard deviation agree with those of rows that are resampled one by one."""
    counts = ConfusionCounts.from_matrix([[40, 10, 0], [5, 30, 5], [0, 0, 10]])
    resampled = resample_confusion(counts)
    rng, cells = np.random.default_rng(5), np.repeat(np.arange(9), counts.to_matrix().ravel())
    samples = []
    for _ in range(2000):
        matrix = np.bincount(rng.choice(cells, len(cells)), minlength=9).reshape(3, 3)
        samples.append(
            confusion_values(np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)).overall["macro_f1"]
        )
    assert resampled.overall["macro_f1"].shape == (RESAMPLES,)
    assert resampled.per_class["f1"].shape == (RESAMPLES, 3)
    assert resampled.overall["macro_f1"].mean() == pytest.approx(np.mean(samples), abs=0.005)
    assert resampled.overall["macro_f1"].std() == pytest.approx(np.std(samples), rel=0.1)


def test_same_rows_give_the_same_resamples() -> None:
    rows = draw_rows(np.random.default_rng(0), 50)
    first, second = resample_rows(rows), resample_rows(rows)
    for name, values in first.overall.items():
        np.testing.assert_array_equal(values, second.overall[name])


def test_resample_with_every_row_once_gives_the_metric_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = draw_rows(np.random.default_rng(0), 60)
    monkeypatch.setattr(
        "cnnlib.metrics.bootstrap._draw_weights",
        lambda generator, size, num_rows: np.ones((size, num_rows), np.int32),
    )
    resampled, known = resample_rows(rows), measure_slice(sum_up(rows)).values
    for name in ("loss", "brier", "ece"):
        np.testing.assert_allclose(resampled.overall[name], known.overall[name], atol=1e-9)
        np.testing.assert_allclose(resampled.per_class[name][0], known.per_class[name], atol=1e-9)


def test_intervals_cover_the_truth_about_as_often_as_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """95 of 100 sets of rows are expected; fewer than 88 have a probability of 1 in 300."""
    # Ranking metrics take half of the time, and this test does not look at them.
    monkeypatch.setattr(bootstrap, "resample_ranking", lambda *args: np.full((2, RESAMPLES), np.nan))
    rng = np.random.default_rng(3)
    truth = measure_slice(sum_up(draw_rows(rng, 200_000))).values.overall
    covered = dict.fromkeys(("loss", "brier", "macro_f1"), 0)
    for _ in range(100):
        rows = draw_rows(rng, 150)
        low, high = percentile_interval(resample_rows(rows) | resample_confusion(sum_up(rows).confusion))
        for name in covered:
            covered[name] += int(low.overall[name] <= truth[name] <= high.overall[name])
    assert all(88 <= times <= 100 for times in covered.values()), covered


def test_hits_are_resampled_within_their_bins() -> None:
    rows = draw_rows(np.random.default_rng(0), 2000)
    by_rows, by_bins = (
        resample_rows(rows).overall["ece"],
        resample_bins(sum_up(rows).calibration).overall["ece"],
    )
    assert by_bins.mean() == pytest.approx(by_rows.mean(), rel=0.1)
    assert by_bins.std() == pytest.approx(by_rows.std(), rel=0.25)


def test_resampled_rows_are_the_same_on_any_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = draw_rows(np.random.default_rng(0), 500)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(bootstrap, "num_cores", lambda cores=cores: cores)
        found.append(resample_rows(rows))
    for scope in ("overall", "per_class"):
        one, three = (getattr(each, scope) for each in found)
        assert one.keys() == three.keys()
        assert all(np.array_equal(one[name], three[name], equal_nan=True) for name in one)


def test_resampled_brier_score_is_the_mean_over_the_drawn_rows() -> None:
    rows = draw_rows(np.random.default_rng(0), 60)
    generator = np.random.default_rng(bootstrap.SEED)
    drawn = [generator.integers(0, 60, 60) for _ in range(RESAMPLES)]
    squares = np.square(rows.probabilities.astype(np.float64) - np.eye(3)[rows.labels])
    resampled = resample_rows(rows)
    expected = np.array([squares[each].mean(axis=0) for each in drawn])
    np.testing.assert_allclose(resampled.per_class["brier"], expected, rtol=1e-12)
    np.testing.assert_allclose(resampled.overall["brier"], expected.sum(axis=1), rtol=1e-12)


def test_bins_without_hits_cost_no_draw_and_change_none() -> None:
    """The hits of all other bins are those of one draw for every bin."""
    bins = sum_up(draw_rows(np.random.default_rng(0), 40)).calibration
    rates = np.divide(bins.hits, bins.rows, out=np.zeros(bins.rows.shape), where=bins.rows > 0)
    assert 0 < np.count_nonzero(bins.hits) < bins.hits.size
    size = (RESAMPLES, *bins.rows.shape)
    hits = np.random.default_rng(bootstrap.SEED).binomial(bins.rows, rates, size=size)
    expected = calibration_values(hits - bins.probability.to_float(), np.full(RESAMPLES, 40.0))
    resampled = resample_bins(bins)
    np.testing.assert_array_equal(resampled.overall["ece"], expected.overall["ece"])
    np.testing.assert_array_equal(resampled.per_class["ece"], expected.per_class["ece"])


def test_percentile_interval_leaves_out_a_fortieth_at_either_end_and_undefined_samples() -> None:
    samples = np.concatenate([np.arange(41.0), [np.nan] * 9])
    low, high = percentile_interval(Values({"f1": np.random.default_rng(0).permutation(samples)}, {}))
    assert (low.overall["f1"], high.overall["f1"]) == (1.0, 39.0)
    low, _ = percentile_interval(Values({"f1": np.full(5, np.nan)}, {}))
    assert np.isnan(low.overall["f1"])
