"""Chooses the validation rows of a split: a stratified sample, drawn by the run's seed and the rows' ids alone.

So the choice depends neither on the storage order, nor on the shards, nor on the number of workers. Within a class, the
rows with the smallest hashes of (seed, id) are the validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnlib.errors import ConfigError

_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True)
class ValidationSplit:
    """Says which positions of a split are validation rows, in one bit per row.

    Attributes:
        count: number of validation rows.
        bits: uint8 [ceil(num_rows / 8)], as `np.packbits` packs them; empty if there are no validation rows.
    """

    num_rows: int
    count: int
    bits: npt.NDArray[np.uint8]

    @classmethod
    def none(cls, num_rows: int) -> ValidationSplit:
        """Builds the split without validation rows."""
        return cls(num_rows=num_rows, count=0, bits=np.empty(0, np.uint8))

    @classmethod
    def of(cls, mask: npt.NDArray[np.bool_]) -> ValidationSplit:
        """Builds the split from the mask of its validation rows, bool [num_rows]."""
        return cls(num_rows=len(mask), count=int(mask.sum()), bits=np.packbits(mask))

    @classmethod
    def all(cls, num_rows: int) -> ValidationSplit:
        """Builds the split of validation rows alone."""
        return cls.of(np.ones(num_rows, np.bool_))

    @property
    def train_rows(self) -> int:
        """Returns the number of training rows."""
        return self.num_rows - self.count

    def mask(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Returns which of the positions [start, stop) are validation rows, bool [stop - start]."""
        if not self.count:
            return np.zeros(stop - start, np.bool_)
        first = start // 8
        bits = np.unpackbits(self.bits[first : -(-stop // 8)])
        return bits[start - 8 * first : stop - 8 * first].astype(np.bool_)


def count_validation_rows(rows_per_class: Sequence[int], fraction: float) -> tuple[int, ...]:
    """Returns the number of validation rows of each class.

    Each class gives its fraction of rows, rounded by the method of largest remainders, so that the total is the rounded
    fraction of all rows. But it gives at least one row and keeps at least one; a class of a single row gives none.

    Raises:
        ConfigError: the fraction is above 0 but gives fewer rows than one per class.

    >>> count_validation_rows([40, 14, 6, 1], 0.1)
    (4, 1, 1, 0)
    """
    counts = np.asarray(rows_per_class, np.int64)
    if not fraction:
        return (0,) * len(counts)
    total, classes = round(fraction * int(counts.sum())), int((counts > 0).sum())
    if total < classes:
        raise ConfigError(_describe_too_few(fraction, total, classes, int(counts.sum())))
    exact = fraction * counts
    chosen = np.floor(exact).astype(np.int64)
    largest_remainders = np.argsort(chosen - exact, kind="stable")
    chosen[largest_remainders[: max(total - int(chosen.sum()), 0)]] += 1
    most = np.maximum(counts - 1, 0)
    return tuple(np.clip(chosen, np.minimum(1, most), most).tolist())


def choose_validation_rows(
    ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int32], counts: Sequence[int], seed: int
) -> npt.NDArray[np.bool_]:
    """Returns which rows are validation rows, bool [rows]: of class c the `counts[c]` rows of the smallest hashes.

    Args:
        ids: unique ids, int64 [rows].
        labels: int32 [rows].
        counts: number of validation rows of each class.
        seed: the run's seed.
    """
    hashes = hash_ids(ids, seed)
    mask = np.zeros(len(ids), np.bool_)
    by_class = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[by_class], np.arange(len(counts) + 1))
    for label, count in enumerate(counts):
        rows = by_class[bounds[label] : bounds[label + 1]]
        if count:
            mask[rows[np.argpartition(hashes[rows], count - 1)[:count]]] = True
    return mask


def hash_ids(ids: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """Returns a hash of (seed, id), uint64 [rows]; different ids have different hashes.

    It is the output function of SplitMix64 (Steele, Lea and Flood 2014), applied to the seed, then to the sum of it and
    the id.
    """
    start = _mix(np.array([seed % 2**64], np.uint64))
    return _mix(ids.astype(np.uint64) + start)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = values + np.uint64(_GOLDEN)  # uint64 arrays wrap around
    for shift, factor in _MIX:
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def _describe_too_few(fraction: float, total: int, classes: int, num_rows: int) -> str:
    # Rounded up, so that the rounded number of rows is not below the number of classes.
    least = math.ceil(classes / num_rows * 10_000) / 10_000
    advice = (
        f"Give --validation-fraction {least:g} or more."
        if least <= 0.5
        else "The split is too small for it: train without --validation-fraction."
    )
    return (
        f"validation_fraction={fraction:g} keeps {total} of {num_rows} rows from training, expected at least one of "
        f"each of the {classes} classes. {advice}"
    )
