"""The p-value and the interval of a difference never contradict each other, whatever the counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cnnlib.metrics.intervals import match_interval, paired_interval, unpaired_interval
from cnnlib.metrics.significance import mcnemar_p, unpaired_p

LEVEL = 0.05


def critical_pairs(most: int) -> list[tuple[int, int]]:
    """Lists, for each number of discordant rows, the least extreme split that the exact test rejects, and the next one.

    For a given number of discordant rows, p-value and statistic are monotone in the split: the others follow.
    """
    totals = np.arange(1, most + 1)
    fewer = stats.binom.ppf(LEVEL / 2, totals, 0.5).astype(int)
    return [
        (int(total - k), int(k))
        for total, middle in zip(totals, fewer, strict=True)
        for k in range(max(0, middle - 1), min(middle + 1, total // 2) + 1)
    ]


@pytest.mark.parametrize("rows", [40, 1000])
def test_exact_test_and_interval_of_paired_rows_agree_for_all_pairs(rows: int) -> None:
    small = [(a, b) for a in range(41) for b in range(41 - a)]
    pairs = list(dict.fromkeys([*small, *(critical_pairs(1000) if rows == 1000 else [])]))
    a, b = np.array(pairs).T
    both = np.concatenate([a, b]), np.concatenate([b, a])
    p_values = np.tile([mcnemar_p(*pair) for pair in pairs], 2)  # both orders have the same
    low, high = match_interval(*paired_interval(*both, rows), p_values)
    holds_zero = (low <= 0) & (high >= 0)
    assert (holds_zero == (p_values > LEVEL)).all()
    difference = (both[1] - both[0]) / rows
    assert ((low <= difference + 1e-12) & (difference <= high + 1e-12)).all()
    assert (p_values <= LEVEL).any()
    assert (p_values > LEVEL).any()


def test_exact_test_and_interval_of_unpaired_rows_agree() -> None:
    """All tables of up to 12 rows, and random ones of up to 2,000."""
    generator = np.random.default_rng(20261126)
    small = [
        (a, rows_a, b, rows_b)
        for rows_a in range(1, 13)
        for rows_b in (1, 2, 5, rows_a)
        for a in range(rows_a + 1)
        for b in range(rows_b + 1)
    ]
    rows = generator.integers(1, 2000, (2, 300))
    accuracy = generator.uniform(0.5, 1, 300)
    right = generator.binomial(rows, np.clip(accuracy + [[0.0], [0.03]] * np.ones(300), 0, 1))
    tables = [
        *small,
        *zip(right[0].tolist(), rows[0].tolist(), right[1].tolist(), rows[1].tolist(), strict=True),
    ]
    p_values = np.array([unpaired_p(*table) for table in tables])
    low, high = match_interval(*unpaired_interval(*np.array(tables).T), p_values)
    assert (((low <= 0) & (high >= 0)) == (p_values > LEVEL)).all()
    assert (p_values <= LEVEL).sum() > 50
