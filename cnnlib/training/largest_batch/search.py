"""Finds the largest batch that fits, from trials of single sizes. Pure: knows neither memory nor processes."""

from __future__ import annotations

from collections.abc import Callable

_GAP = 8  # the search ends when the next batch to try is less than an eighth larger


def find_largest(fits: Callable[[int], bool], *, first: int, unit: int, highest: int) -> int | None:
    """Returns the largest batch that was tried and fits, by at most an eighth too small; None: none fits.

    Batches double from `first` until one does not fit, or halve until one fits; then the gap is halved. Every trial is
    of another size, and all are multiples of `unit`.

    Args:
        fits: tries a batch.
        first: the batch to begin with.
        unit: rows that a batch must be a multiple of.
        highest: the most rows of a batch, at least `unit`.

    >>> find_largest(lambda rows: rows <= 100, first=32, unit=1, highest=4096)
    96
    """
    most = highest - highest % unit
    batch = min(max(first - first % unit, unit), most)
    fitting = 0
    while fits(batch):
        fitting = batch
        if batch == most:
            return fitting
        batch = min(2 * batch, most)
    too_large = batch
    while not fitting:
        if too_large == unit:
            return None
        batch = _halfway(0, too_large, unit)
        if fits(batch):
            fitting = batch
        else:
            too_large = batch
    while too_large - fitting > max(unit, fitting // _GAP):
        batch = _halfway(fitting, too_large, unit)
        if fits(batch):
            fitting = batch
        else:
            too_large = batch
    return fitting


def _halfway(low: int, high: int, unit: int) -> int:
    """Returns a multiple of `unit` between two others that differ by more than one of it, or `unit` itself."""
    return max(low // unit + (high - low) // (2 * unit), 1) * unit
