"""Tests the formulas: their examples, and values that are not defined."""

from __future__ import annotations

import doctest

import numpy as np

from cnnlib.metrics import formulas
from cnnlib.metrics.formulas import per_class_accuracy


def test_accuracy_of_a_class_without_rows_is_nan() -> None:
    np.testing.assert_array_equal(per_class_accuracy([[2, 0], [0, 0]]), [1.0, np.nan])


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(formulas)
    assert result.attempted >= 2
    assert result.failed == 0
