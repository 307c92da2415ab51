"""Every optimizer of the config is the Keras one of that name."""

from __future__ import annotations

from typing import get_args

import keras
import pytest

from cnnlib.config import OptimizerConfig, OptimizerName
from cnnlib.training.optimizer import build_optimizer

pytestmark = pytest.mark.usefixtures("strategy")

CLASSES = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_optimizer_is_keras_own_with_its_defaults(name: OptimizerName) -> None:
    built = build_optimizer(OptimizerConfig(name=name), 0.05, total_steps=10)
    assert type(built) is CLASSES[name]
    assert built.get_config() == CLASSES[name](0.05, name=built.name).get_config()
    assert float(built.learning_rate.numpy()) == pytest.approx(0.05)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_weight_decay_reaches_every_optimizer(name: OptimizerName) -> None:
    assert (
        build_optimizer(OptimizerConfig(name=name, weight_decay=0.25), 0.05, total_steps=10).weight_decay
        == 0.25
    )


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_momentum_reaches_the_optimizers_that_have_it(name: OptimizerName) -> None:
    assert build_optimizer(OptimizerConfig(name=name, momentum=0.75), 0.05, total_steps=10).momentum == 0.75


def test_cosine_falls_to_zero_over_the_run() -> None:
    rate = build_optimizer(OptimizerConfig(schedule="cosine"), 0.5, total_steps=10)._learning_rate
    rates = [float(rate(step)) for step in (0, 5, 10)]
    assert rates == pytest.approx([0.5, 0.25, 0.0])
