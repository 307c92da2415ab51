"""Layer-wise learning rates scale the update of every weight, whatever else the optimizer does."""

from __future__ import annotations

from typing import Any, get_args

import keras
import numpy as np
import pytest

from cnnlib.config import OptimizerConfig, OptimizerName
from cnnlib.models.freeze import freeze_layers
from cnnlib.training.state.layer_rates import find_layer_rates, scale_rates
from cnnlib.training.state.optimizer import build_optimizer
from cnnlib.training.step import build_train_call
from tests.unit.training.conftest import CLASSES, IMAGE_SHAPE

BATCH, DECAY = 6, 0.5  # a power of two: scaling by it is exact
DEPTHS = [2, 2, 1, 1, 0, 0]  # of kernel and bias of conv, hidden and head


def build(strategy: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    with strategy.scope():
        return keras.Sequential(
            [
                keras.Input(IMAGE_SHAPE),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(4, 3, name="conv"),
                keras.layers.Flatten(),
                keras.layers.Dense(5, name="hidden"),
                keras.layers.Dense(CLASSES, activation="softmax", name="head"),
            ]
        )


def train(
    strategy: Any,
    batches: tuple[np.ndarray, np.ndarray],
    decay: float | None,
    micro_batches: int = 1,
    freeze: str | None = None,
    **config: Any,
) -> tuple[list[np.ndarray], keras.optimizers.Optimizer]:
    """Returns what each trained weight has moved by, and the optimizer. A decay of None: without `scale_rates`."""
    model = build(strategy)
    if freeze is not None:
        freeze_layers(model, freeze, "m")
    before = [weight.numpy() for weight in model.trainable_variables]
    with strategy.scope():
        optimizer = build_optimizer(OptimizerConfig(**config), 0.25, epochs=1, steps_per_epoch=10)
        optimizer.build(model.trainable_variables)
    if decay is not None:
        scale_rates(optimizer, find_layer_rates(model, decay).factors)
    run_call(strategy, model, optimizer, batches, micro_batches)
    after = [weight.numpy() for weight in model.trainable_variables]
    return [new - old for new, old in zip(after, before, strict=True)], optimizer


def run_call(
    strategy: Any,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    batches: tuple[np.ndarray, np.ndarray],
    micro_batches: int = 1,
) -> None:
    call = build_train_call(
        model=model,
        optimizer=optimizer,
        strategy=strategy,
        batch_size=BATCH,
        image_shape=IMAGE_SHAPE,
        from_logits=False,
        jit_compile=False,
        seed=0,
        micro_batches=micro_batches,
    )
    call(*batches)


def test_depth_counts_from_the_head_also_where_layers_are_frozen(strategy: Any) -> None:
    model = build(strategy)
    rates = find_layer_rates(model, 0.75)
    assert rates.factors == tuple(0.75**depth for depth in DEPTHS)
    assert (rates.groups, rates.lowest) == (3, 0.75**2)
    freeze_layers(model, "hidden", "m")
    assert find_layer_rates(model, 0.75).factors == (0.75**2, 0.75**2, 1.0, 1.0)


@pytest.mark.parametrize("name", get_args(OptimizerName))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.25},
        {"clip_norm": 0.01},
        {"schedule": "cosine", "warmup_epochs": 0.5},
        {"micro_batches": 2},
    ],
    ids=str,
)
def test_update_of_a_layer_is_the_plain_one_times_the_decay_for_its_depth(
    strategy: Any, make_batches: Any, name: OptimizerName, options: dict[str, Any]
) -> None:
    batches = make_batches(1, BATCH)
    plain, _ = train(strategy, batches, None, name=name, **options)
    scaled, optimizer = train(strategy, batches, DECAY, name=name, **options)
    for have, want, depth in zip(scaled, plain, DEPTHS, strict=True):
        assert np.abs(want).max() > 0
        # The weights are of the size 1, in float32: what they move by is rounded to some 1e-7.
        np.testing.assert_allclose(have, want * DECAY**depth, rtol=1e-4, atol=3e-7)
    assert optimizer.weight_decay == (options.get("weight_decay") or (0.0 if name == "adamw" else None))


def test_momentum_of_many_steps_is_that_of_a_training_with_the_rate_of_the_layer(
    strategy: Any, make_batches: Any
) -> None:
    """A single trained layer under a quarter of the rate is the same layer with depth 2."""
    batches = make_batches(4, BATCH)
    scaled, _ = train(strategy, batches, DECAY, name="sgd", momentum=0.75, freeze="hidden..head")
    model = build(strategy)
    freeze_layers(model, "hidden..head", "m")
    before = [weight.numpy() for weight in model.trainable_variables]
    with strategy.scope():
        optimizer = keras.optimizers.SGD(0.25 * DECAY**2, momentum=0.75)
        optimizer.build(model.trainable_variables)
    run_call(strategy, model, optimizer, batches)
    for have, new, old in zip(scaled, model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(have, new.numpy() - old)


def test_average_is_that_of_the_scaled_weights(strategy: Any, make_batches: Any) -> None:
    _, optimizer = train(strategy, make_batches(1, BATCH), DECAY, name="sgd", ema_momentum=0.75)
    weights = [weight.numpy() for weight in optimizer._trainable_variables]
    for average, weight in zip(optimizer._model_variables_moving_average, weights, strict=True):
        np.testing.assert_array_equal(
            average.numpy(), weight
        )  # it begins with the weights after the first step


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_a_decay_of_1_changes_no_bit_and_no_decay_adds_a_variable(
    strategy: Any, make_batches: Any, name: OptimizerName
) -> None:
    batches = make_batches(3, BATCH)
    plain, plain_optimizer = train(strategy, batches, None, name=name, weight_decay=0.1)
    same, _ = train(strategy, batches, 1.0, name=name, weight_decay=0.1)
    for have, want in zip(same, plain, strict=True):
        np.testing.assert_array_equal(have, want)
    _, scaled_optimizer = train(strategy, batches, DECAY, name=name, weight_decay=0.1)
    assert [each.shape for each in scaled_optimizer.variables] == [
        each.shape for each in plain_optimizer.variables
    ]
