"""Errors of a model are remembered where its bytes decide them, and tried again where the machine does."""

from __future__ import annotations

import pytest
import tensorflow as tf

from cnnlib.errors import EvaluationError, ModelError
from cnnlib.evaluation.predictor import to_own_error
from cnnlib.evaluation.target import Target

TARGET = Target(uri="runs/a", model_uri="runs/a/model.keras", digest="0a", pixel_range=None, model="m")


@pytest.mark.parametrize(
    ("err", "kind", "ending"),
    [
        (tf.errors.InvalidArgumentError(None, None, "shapes differ\nmore"), ModelError, "shapes differ."),
        (ValueError("no layer"), ModelError, "ValueError: no layer."),
        (tf.errors.UnknownError(None, None, "cuDNN failed"), EvaluationError, "cuDNN failed. Try again."),
        (tf.errors.InternalError(None, None, "no handle"), EvaluationError, "no handle. Try again."),
        (tf.errors.NotFoundError(None, None, "No algorithm worked!"), EvaluationError, "Try again."),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), EvaluationError, "with more memory."),
        (MemoryError(), EvaluationError, "with more memory."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_that_may_pass_is_no_error_of_the_model(
    err: Exception, kind: type[Exception], ending: str
) -> None:
    own = to_own_error(err, TARGET)
    assert type(own) is kind
    assert str(own).startswith("runs/a could not be scored: ")
    assert str(own).endswith(ending)
    assert len(str(own).splitlines()) == 1
