"""Validation rows are a stratified sample that depends on the seed and the ids alone."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlib.errors import ConfigError
from cnnlib.feed.validation import (
    ValidationSplit,
    choose_validation_rows,
    count_validation_rows,
    hash_ids,
)

FROZEN = [1, 7, 12, 14, 15]  # of ids 0..19 in classes id % 3, seed 0


@pytest.mark.parametrize(
    ("rows_per_class", "fraction", "expected"),
    [
        ([1000] * 10, 0.1, (100,) * 10),
        ([6000, 3000, 1000], 0.0, (0, 0, 0)),
        ([17, 15, 18], 0.2, (3, 3, 4)),  # 10 of 50
        ([1000, 5, 0], 0.1, (100, 1, 0)),  # at least one row
        ([1000, 2, 1], 0.5, (500, 1, 0)),  # at least one is kept
        ([3, 3, 3], 0.34, (1, 1, 1)),
    ],
)
def test_every_class_gives_its_fraction_of_rows(
    rows_per_class: list[int], fraction: float, expected: tuple[int, ...]
) -> None:
    assert count_validation_rows(rows_per_class, fraction) == expected


@pytest.mark.parametrize(
    ("rows_per_class", "fraction", "message"),
    [
        (
            [20, 30, 10],
            0.001,
            "validation_fraction=0.001 keeps 0 of 60 rows from training, expected at least one of each of the 3 "
            "classes. Give --validation-fraction 0.05 or more.",
        ),
        (
            [700, 0, 699],
            0.001,
            "validation_fraction=0.001 keeps 1 of 1399 rows from training, expected at least one of each of the 2 "
            "classes. Give --validation-fraction 0.0015 or more.",
        ),
        (
            [1, 1, 1],
            0.5,
            "validation_fraction=0.5 keeps 2 of 3 rows from training, expected at least one of each of the 3 "
            "classes. The split is too small for it: train without --validation-fraction.",
        ),
    ],
)
def test_fewer_rows_than_one_per_class_are_refused(
    rows_per_class: list[int], fraction: float, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        count_validation_rows(rows_per_class, fraction)
    assert str(raised.value) == message


@pytest.mark.parametrize("rows_per_class", [[20, 30, 10], [700, 0, 699], [6000] * 10, [7, 7, 7, 7, 7, 7, 7]])
def test_the_fraction_that_the_message_names_is_accepted(rows_per_class: list[int]) -> None:
    with pytest.raises(ConfigError) as raised:
        count_validation_rows(rows_per_class, 1e-9)
    least = float(str(raised.value).split("--validation-fraction ")[1].split()[0])
    counts = count_validation_rows(rows_per_class, least)
    assert [bool(count) for count in counts] == [bool(rows) for rows in rows_per_class]


def test_classes_that_repeat_with_the_fraction_are_all_held_out() -> None:
    ids = np.arange(60_000)
    labels = (ids % 10).astype(np.int32)
    mask = choose_validation_rows(ids, labels, count_validation_rows([6000] * 10, 0.1), seed=0)
    assert np.bincount(labels[mask]).tolist() == [600] * 10


def test_the_choice_does_not_depend_on_the_storage_order() -> None:
    rng = np.random.default_rng(0)
    ids, labels = rng.permutation(10**6)[:500], rng.integers(0, 4, 500).astype(np.int32)
    counts = count_validation_rows(np.bincount(labels).tolist(), 0.2)
    order = rng.permutation(500)
    mask = choose_validation_rows(ids, labels, counts, seed=3)
    stored_otherwise = choose_validation_rows(ids[order], labels[order], counts, seed=3)
    np.testing.assert_array_equal(mask[order], stored_otherwise)
    assert mask.sum() == 100
    assert (mask != choose_validation_rows(ids, labels, counts, seed=4)).any()


def test_the_choice_is_the_one_that_earlier_runs_were_trained_with() -> None:
    # Recorded with this version: a run that is continued must keep the validation rows that it began with.
    ids = np.arange(20)
    mask = choose_validation_rows(ids, (ids % 3).astype(np.int32), (2, 2, 1), seed=0)
    assert np.flatnonzero(mask).tolist() == FROZEN


def test_hashes_of_different_ids_differ_and_are_spread_evenly() -> None:
    hashes = hash_ids(np.arange(-50_000, 50_000), seed=1)
    assert len(np.unique(hashes)) == 100_000
    counts = np.bincount((hashes >> np.uint64(60)).astype(int), minlength=16)
    assert counts.min() > 5_900  # of 6,250; the standard deviation is 77
    assert counts.max() < 6_600


def test_split_keeps_one_bit_per_row() -> None:
    mask = np.random.default_rng(0).random(61) < 0.3
    split = ValidationSplit.of(mask)
    assert (split.count, split.train_rows, len(split.bits)) == (mask.sum(), 61 - mask.sum(), 8)
    for start in range(61):
        for stop in range(start, 62):
            np.testing.assert_array_equal(split.mask(start, stop), mask[start:stop])
    assert not ValidationSplit.none(61).mask(3, 50).any()
