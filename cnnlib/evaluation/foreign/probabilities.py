"""The values of a file of predictions in, probabilities out: what they are is decided by what they add up to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnnlib.errors import DatasetError
from cnnlib.evaluate_config import Outputs

_TOLERANCE = 1e-3
_TOTAL_TOLERANCE = 0.01
_WHOLE_TOTAL, _MOST_WHOLE_ROUNDING = 100, 0.1
_MOST_ROUNDING = 0.05
_MOST_DECIMALS = 6

Values = npt.NDArray[np.float64]


def to_probabilities(values: Values, outputs: Outputs, uri: str) -> npt.NDArray[np.float32]:
    """Returns the probabilities that values are, or the softmax of logits.

    Values that were rounded to some decimals may add up to a bit more or less than 1, the more the more classes there
    are; they are then scaled to add up to 1.

    Args:
        values: finite, [rows, classes].
        outputs: auto: probabilities if they lie in 0..1 and add up to 1, logits if they do not lie in 0..1.

    Raises:
        DatasetError: the values lie in 0..1 and do not add up to 1, or they are a multiple of probabilities, such as
            percentages.
    """
    if outputs == "logits" or not len(values):
        return _softmax(values)
    sums = values.sum(axis=1)
    inside = values.min() >= -_TOLERANCE and values.max() <= 1 + _TOLERANCE
    off = np.abs(sums - 1)
    if inside and (off <= _TOLERANCE).all():
        return np.clip(values, 0, 1).astype(np.float32)
    if inside and (off <= _rounding(values)).all():
        clipped = np.clip(values, 0, 1)
        scaled: npt.NDArray[np.float32] = (clipped / clipped.sum(axis=1, keepdims=True)).astype(np.float32)
        return scaled
    if not inside and (total := _find_total(values, sums)) is not None:
        raise DatasetError(
            f"{uri}: the values of every row add up to {total:g}{', as percentages' if total == 100 else ''}. Expected "
            f"probabilities, which add up to 1: divide them by {total:g}"
            + ("." if outputs == "probabilities" else ", or give --outputs logits.")
        )
    if inside or outputs == "probabilities":
        row = int(off.argmax())
        raise DatasetError(
            f"{uri}: the values of row {row + 1} lie in {values[row].min():.3g}..{values[row].max():.3g} and add up to "
            f"{sums[row]:.3g}. Expected probabilities, which add up to 1 (those of a softmax, not of a sigmoid per "
            "class)" + ("." if inside else ", or --outputs logits.")
        )
    return _softmax(values)


def _find_total(values: Values, sums: npt.NDArray[np.float64]) -> float | None:
    """Returns what all rows add up to, if they do, as probabilities times a number do and logits do not.

    Pixels of 0..255, which are rounded, add up to a bit more or less.
    """
    total = float(np.median(sums))
    tolerance = _TOTAL_TOLERANCE * total
    if total >= _WHOLE_TOTAL and (values == np.rint(values)).all():
        tolerance = max(tolerance, min(0.5 * values.shape[1], _MOST_WHOLE_ROUNDING * total))
    if values.min() < 0 or (np.abs(sums - total) > tolerance).any():
        return None
    usual = next((each for each in (100.0, 255.0) if abs(total - each) <= tolerance), None)
    return usual if usual is not None or len(values) == 1 else total


def check_stated(values: Values, stated: npt.NDArray[np.int64], uri: str) -> None:
    """Checks that the class that a file states for a row is the most probable one: else its lists have another order.

    Args:
        values: [rows, classes], probabilities or logits.
        stated: classes, int64 [rows].

    Raises:
        DatasetError: it is not.
    """
    if not len(values):
        return
    best = values.max(axis=1)
    allowed = np.maximum(
        _TOLERANCE, _TOLERANCE * np.abs(best)
    )  # values may be rounded, so that two are equal
    wrong = np.flatnonzero(values[np.arange(len(values)), stated] < best - allowed)
    if len(wrong):
        raise DatasetError(
            f"{uri}: {len(wrong)} rows state another class than the one with the highest value. First: row "
            f"{wrong[0] + 1}. Are the values in another order than the classes of the data?"
        )


def prefer(probabilities: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> None:
    """Makes a class of each row the most probable one, changing the values by no more than what was rounded.

    Values of few decimals, or that differ by less than a float32 holds, may be equal. The first of equals would count.

    Args:
        probabilities: [rows, classes], changed in place.
        classes: [rows]; each has nearly the highest value of its row.
    """
    rows = np.flatnonzero(probabilities.argmax(axis=1) != classes)
    highest = probabilities[rows].max(axis=1)
    below = np.nextafter(highest, np.float32(0))
    probabilities[rows] = np.minimum(probabilities[rows], below[:, np.newaxis])
    probabilities[rows, classes[rows]] = highest


def _softmax(values: Values) -> npt.NDArray[np.float32]:
    exponentials = np.exp(values - values.max(axis=1, keepdims=True)) if values.size else values
    probabilities: npt.NDArray[np.float32] = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(
        np.float32
    )
    return probabilities


def _rounding(values: Values) -> float:
    """Returns by how much the sum of a row can be off, where all values were rounded to the same decimals.

    >>> round(_rounding(np.array([[0.33, 0.33, 0.33]])), 3)
    0.015
    """
    for decimals in range(1, _MOST_DECIMALS + 1):
        scaled = values * 10.0**decimals
        # float32 keeps about seven digits
        if (np.abs(scaled - np.rint(scaled)) <= 1e-6 * 10.0**decimals).all():
            return float(min(_MOST_ROUNDING, 0.5 * 10.0**-decimals * values.shape[1] + 1e-6))
    return _TOLERANCE
