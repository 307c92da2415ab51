"""Tests the weights of the classes against the formula of scikit-learn's compute_class_weight."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlib.config import LossConfig
from cnnlib.errors import ConfigError
from cnnlib.training.class_weights import class_weights


def test_without_weights_there_are_none() -> None:
    assert class_weights(LossConfig(), [3, 0]) is None


def test_balanced_classes_have_the_same_total_weight() -> None:
    rows = [10, 30, 60]
    weights = class_weights(LossConfig(class_weights="balanced"), rows)
    assert weights == pytest.approx((100 / 30, 100 / 90, 100 / 180))
    totals = np.array(weights) * rows
    assert totals == pytest.approx([100 / 3] * 3)
    assert totals.sum() == pytest.approx(100)


def test_weights_given_are_taken_as_they_are() -> None:
    assert class_weights(LossConfig(class_weights=(1.0, 0.0, 2.5)), [1, 1, 1]) == (1.0, 0.0, 2.5)


def test_another_number_of_weights_than_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be one per class. Received 2, expected 3\."):
        class_weights(LossConfig(class_weights=(1.0, 2.0)), [1, 1, 1])


def test_class_without_rows_cannot_be_balanced() -> None:
    with pytest.raises(ConfigError, match=r"needs rows of every class\. Received none of class 1"):
        class_weights(LossConfig(class_weights="balanced"), [5, 0])
