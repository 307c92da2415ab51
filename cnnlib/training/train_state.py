"""Builds what a worker trains: the model, the optimizer and the compiled calls."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import tensorflow as tf

from cnnlib.config import TrainConfig
from cnnlib.models.batches import fit_batch
from cnnlib.models.freeze import FrozenLayers, freeze_layers
from cnnlib.models.outputs import OutputKind
from cnnlib.models.registry import build_model, check_trainable, find_trained_outputs
from cnnlib.training.augment.augment import Augment, build_augment
from cnnlib.training.class_weights import class_weights
from cnnlib.training.plan import WorkerTask
from cnnlib.training.precision import choose_precision
from cnnlib.training.state.layer_rates import LayerRates, find_layer_rates, scale_rates
from cnnlib.training.state.moving_statistics import synchronize
from cnnlib.training.state.optimizer import build_optimizer, build_plain_optimizer, decay_kernels_only
from cnnlib.training.step import ScoreCall, TrainCall, build_score_call, build_train_call
from cnnlib.training.strategy import SumCall, build_sum_call

SCORED_ROWS = 500
"""Validation rows in one call of `TrainState.score_call`."""


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The train state of a worker.

    Attributes:
        train_call: see `build_train_call`.
        score_call: see `build_score_call`; it takes `scored_rows` rows.
        sum_call: see `build_sum_call`; it takes float64 [3].
        outputs: whether the model gives probabilities or logits.
        augment: what `train_call` changes the rows with; None: nothing.
        frozen: the layers that are not trained; None if all are.
        layer_rates: the learning rates of the layers; None if all have the same.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    train_call: TrainCall
    score_call: ScoreCall
    scored_rows: int
    sum_call: SumCall
    outputs: OutputKind
    augment: Augment | None = None
    frozen: FrozenLayers | None = None
    layer_rates: LayerRates | None = None

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))


def build_train_state(
    task: WorkerTask, strategy: tf.distribute.Strategy, chunks: int = 1, rate_factor: float = 1.0
) -> TrainState:
    """Builds the train state at the start of a run. All workers build the same one, from the seed.

    Args:
        chunks: see `build_train_call`.
        rate_factor: what the learning rate of every step is multiplied by.

    Raises:
        ModelError: the model cannot be built, does not fit the data, or has nothing to train.
    """
    config, shape = task.config, task.manifest.image_shape
    learning_rate = config.scaled_learning_rate * rate_factor
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(choose_precision(config.loop.precision, strategy))
    with strategy.scope():
        model = build_model(config.model, shape, task.manifest.num_classes, config.model_options)
        frozen = None if config.freeze is None else freeze_layers(model, config.freeze, config.model)
        check_trainable(model, config.model)
        if config.sync_batch_norm:
            synchronize(model)
        optimizer = build_optimizer(
            config.optimizer,
            learning_rate,
            epochs=config.epochs,
            steps_per_epoch=task.steps_per_epoch,
        )
        if config.optimizer.decay_kernels_only:
            decay_kernels_only(optimizer, model.trainable_variables)
        optimizer.build(model.trainable_variables)
    layer_rates = None
    if config.optimizer.layer_decay != 1:
        layer_rates = find_layer_rates(model, config.optimizer.layer_decay)
        scale_rates(optimizer, layer_rates.factors)
    outputs = find_trained_outputs(model, config.model, shape)
    from_logits = outputs == "logits"
    # The checkpoint's model file then opens compiled in plain Keras. This project does not use the compiled model.
    model.compile(
        optimizer=build_plain_optimizer(config.optimizer, learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        metrics=["accuracy"],
    )
    on_gpu = bool(tf.config.list_logical_devices("GPU"))
    augment = build_augment(config.augment, batch_size=config.batch_size, seed=config.seed)
    train_call = build_train_call(
        model=model,
        optimizer=optimizer,
        strategy=strategy,
        batch_size=config.batch_size,
        image_shape=shape,
        from_logits=from_logits,
        jit_compile=_uses_xla(config, on_gpu),
        seed=config.seed,
        micro_batches=config.loop.micro_batches,
        chunks=chunks,
        label_smoothing=config.loss.label_smoothing,
        augment=augment,
        synchronized=config.sync_batch_norm,
        class_weights=class_weights(config.loss, task.manifest.split(config.split).rows_per_class),
    )
    scored_rows = fit_batch(SCORED_ROWS, shape, on_gpu=on_gpu)
    score_call = build_score_call(
        model=model,
        strategy=strategy,
        rows=scored_rows,
        image_shape=shape,
        from_logits=from_logits,
        label_smoothing=config.loss.label_smoothing,
    )
    return TrainState(
        model=model,
        optimizer=optimizer,
        train_call=train_call,
        score_call=score_call,
        scored_rows=scored_rows,
        sum_call=build_sum_call(strategy, size=3),
        outputs=outputs,
        augment=augment,
        frozen=frozen,
        layer_rates=layer_rates,
    )


def _uses_xla(config: TrainConfig, on_gpu: bool) -> bool:
    """Returns whether XLA compiles the gradient: by default on GPUs, and never with an all-reduce inside."""
    if config.sync_batch_norm:
        return False
    return on_gpu if config.loop.jit_compile is None else config.loop.jit_compile
