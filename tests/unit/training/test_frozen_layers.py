"""Frozen layers stay as they are, bit for bit, and cost neither gradient nor all-reduce nor optimizer state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from cnnlib.models.freeze import freeze_layers
from cnnlib.training.state.moving_statistics import MovingStatistics
from cnnlib.training.step import build_train_call
from cnnlib.training.strategy import moving_statistics
from tests.unit.training.conftest import IMAGE_SHAPE

STEPS, BATCH, CLASSES = 3, 6, 3
FROZEN = ("conv1", "norm1", "conv2", "norm2")


def build_model(strategy: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    with strategy.scope():
        return keras.Sequential(
            [
                keras.Input(IMAGE_SHAPE),
                layers.Rescaling(1 / 255),
                layers.Conv2D(4, 3, name="conv1", kernel_regularizer=keras.regularizers.L2(0.1)),
                layers.BatchNormalization(name="norm1"),
                layers.Conv2D(4, 3, name="conv2"),
                layers.BatchNormalization(name="norm2"),
                layers.Conv2D(4, 3, name="conv3"),
                layers.BatchNormalization(name="norm3"),
                layers.Flatten(),
                layers.Dense(CLASSES, activation="softmax", name="head"),
            ]
        )


class Trained:
    """A model that was trained for a few steps, and what its optimizer was given to all-reduce in each of them."""

    def __init__(self, strategy: Any, freeze: str | None, optimizer: str = "adamw", **options: Any) -> None:
        self.model = build_model(strategy)
        if freeze is not None:
            freeze_layers(self.model, freeze, "m")
        self.before = {weight.path: weight.numpy() for weight in self.model.weights}
        with strategy.scope():
            self.optimizer = keras.optimizers.get(
                {
                    "class_name": optimizer,
                    "config": {"weight_decay": 0.1, "use_ema": True, "learning_rate": 0.01},
                }
            )
            self.optimizer.build(self.model.trainable_variables)
        self.reduced: list[int] = []
        all_reduce = self.optimizer._all_reduce_sum_gradients

        def count(gradients: Iterable[tuple[Any, Any]]) -> Any:
            pairs = list(gradients)
            self.reduced.append(
                sum(gradient.shape.num_elements() * gradient.dtype.size for gradient, _ in pairs)
            )
            return all_reduce(pairs)

        self.optimizer._all_reduce_sum_gradients = count
        call = build_train_call(
            model=self.model,
            optimizer=self.optimizer,
            strategy=strategy,
            batch_size=BATCH,
            image_shape=IMAGE_SHAPE,
            from_logits=False,
            jit_compile=False,
            seed=0,
            **options,
        )
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (STEPS, BATCH, *IMAGE_SHAPE), np.uint8)
        call(images, random.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32))
        graph = call.get_concrete_function().graph.as_graph_def()  # type: ignore[attr-defined]
        self.operations = Counter(node.op for part in graph.library.function for node in part.node_def)

    def now(self, path: str) -> Any:
        """Returns the values of the weight with this path."""
        return next(each for each in self.model.weights if each.path == path).numpy()

    def moved(self) -> set[str]:
        """Returns the names of the layers of which every weight has moved."""
        still = {
            path.split("/")[-2]
            for path, value in self.before.items()
            if np.array_equal(value, self.now(path))
        }
        return {path.split("/")[-2] for path in self.before} - still


@pytest.mark.parametrize(
    ("optimizer", "micro_batches"), [("adam", 1), ("adamw", 2), ("sgd", 1), ("rmsprop", 1)]
)
def test_frozen_weights_and_statistics_stay_bit_for_bit_while_all_others_move(
    strategy: Any, optimizer: str, micro_batches: int
) -> None:
    done = Trained(strategy, "..norm2", optimizer, micro_batches=micro_batches)
    for path, value in done.before.items():
        assert np.array_equal(value, done.now(path)) == (path.split("/")[-2] in FROZEN), path
    assert done.moved() == {"conv3", "norm3", "head"}


def test_frozen_layers_have_no_gradient_no_all_reduce_and_no_state_in_the_optimizer(strategy: Any) -> None:
    whole, part = Trained(strategy, None), Trained(strategy, "..norm2")
    assert whole.moved() == {*FROZEN, "conv3", "norm3", "head"}
    for done in (whole, part):
        trained = sum(4 * weight.value.shape.num_elements() for weight in done.model.trainable_variables)
        assert set(done.reduced) == {trained}
    frozen_bytes = 4 * sum(np.prod(each.shape) for each in part.model.get_layer("conv1").weights)
    frozen_bytes += (
        4 * sum(np.prod(each.shape) for each in part.model.get_layer("conv2").weights) + 2 * 4 * 2 * 4
    )
    assert whole.reduced[0] - part.reduced[0] == frozen_bytes
    # Of Adam with an average, three variables for each weight; conv and norm have two weights that are trained each.
    assert len(whole.optimizer.variables) - len(part.optimizer.variables) == 3 * 8
    # The backward pass ends at the first layer that is trained.
    per_layer, rest = divmod(whole.operations["Conv2DBackpropFilter"], 3)
    assert (per_layer > 0, rest) == (True, 0)
    for kind in ("Conv2DBackpropFilter", "Conv2DBackpropInput"):
        assert (whole.operations[kind], part.operations[kind]) == (3 * per_layer, per_layer)


def test_a_layer_frozen_in_the_middle_passes_the_gradient_on(strategy: Any) -> None:
    assert Trained(strategy, "conv2..norm2").moved() == {"conv1", "norm1", "conv3", "norm3", "head"}


def test_statistics_of_frozen_normalisation_are_not_averaged_over_the_workers(strategy: Any) -> None:
    model = build_model(strategy)
    assert [each.path.split("/")[-2] for each in moving_statistics(model)] == sorted(
        ["norm1", "norm2", "norm3"] * 2
    )
    freeze_layers(model, "..norm2", "m")
    assert [each.path.split("/")[-2:] for each in moving_statistics(model)] == [
        ["norm3", "moving_mean"],
        ["norm3", "moving_variance"],
    ]
    assert len(MovingStatistics(model).read()) == 2


def test_file_of_a_model_with_frozen_layers_opens_in_plain_keras(strategy: Any, tmp_path: Path) -> None:
    done = Trained(strategy, "..norm2")
    done.model.save(tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((2, *IMAGE_SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(opened.predict(images, verbose=0), done.model.predict(images, verbose=0))
    assert [each.name for each in opened.layers if each.weights and not each.trainable] == list(FROZEN)
