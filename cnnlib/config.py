"""What a run is asked to do: frozen, keyword-only values, checked when they are made.

A default lives in its field and nowhere else; `--help` shows the field's docstring. A value for one run is a
recipe's or a flag's. Nothing here imports more than the standard library.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

from cnnlib.errors import ConfigError

OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop"]
Schedule = Literal["constant", "cosine", "step"]
Precision = Literal["auto", "float32", "mixed_bfloat16"]
PixelRange = Literal["0-255", "0-1"]
ClassWeights = Literal["none", "balanced"]
Outputs = Literal["auto", "probabilities", "logits"]
CacheMode = Literal["auto", "memory", "none"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights move. The learning rate is the flat flag `--learning-rate`."""

    name: OptimizerName = "adam"
    """A Keras optimizer, with Keras's defaults for what is not given here."""
    schedule: Schedule = "constant"
    """How the learning rate goes on. cosine: falls to 0 over the run (Loshchilov and Hutter 2017, without restarts).
    step: falls by a factor every so many epochs."""
    step_every_epochs: int = 30
    """Epochs from one fall to the next, for the schedule step, counted from the run's begin (He et al. 2016)."""
    step_factor: float = 0.1
    """What the learning rate is multiplied by at each fall, for the schedule step."""
    warmup_epochs: float = 0.0
    """Epochs, or part of one, in which the learning rate grows linearly to its full value first; 0 is none."""
    momentum: float = 0.0
    """Momentum of sgd and rmsprop."""
    weight_decay: float = 0.0
    """Decoupled weight decay: each step takes learning rate x decay of every weight (Loshchilov and Hutter 2019). 0 is
    Keras's default: none, and 0.004 for adamw."""
    clip_norm: float | None = None
    """Scale the gradient of the whole batch, over all workers, down to this norm where it is longer. None: never."""
    ema_momentum: float | None = None
    """Keep a moving average of the weights, with so much of the old one per step (0.999 averages some 1,000 steps):
    it is what is scored and saved. None: the weights themselves."""

    def __post_init__(self) -> None:
        _check_range("optimizer.momentum", self.momentum, 0.0, 1.0)
        if self.momentum and self.name in ("adam", "adamw"):
            raise ConfigError(
                f"optimizer.momentum is for sgd and rmsprop. Received {self.momentum} with {self.name}."
            )
        _check_range("optimizer.weight_decay", self.weight_decay, 0.0, 1.0)
        _check_at_least("optimizer.step_every_epochs", self.step_every_epochs, 1)
        _check_range("optimizer.step_factor", self.step_factor, 0.0, 1.0)
        if self.clip_norm is not None:
            _check_above_0("optimizer.clip_norm", self.clip_norm)
        if self.ema_momentum is not None and not 0 < self.ema_momentum < 1:
            raise ConfigError(
                f"optimizer.ema_momentum must be above 0 and below 1. Received {self.ema_momentum}."
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What training minimises: the cross-entropy, with these changes. Accuracy counts rows, whatever they weigh."""

    label_smoothing: float = 0.0
    """Share of every label spread evenly over all classes (Szegedy et al. 2016, section 7), in validation too."""
    class_weights: ClassWeights | tuple[float, ...] = "none"
    """What a row counts in the training loss by its class: balanced (rows / (classes x rows of the class)), or one
    number per class. The validation loss has no weights, as in Keras."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"loss.label_smoothing must be at least 0 and below 1. Received {self.label_smoothing}."
            )
        if not isinstance(self.class_weights, str):
            for weight in self.class_weights:
                _check_range("loss.class_weights", weight, 0.0, sys.float_info.max)


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig:
    """When a run ends before its last epoch. It needs a validation_fraction."""

    patience: int = 0
    """Epochs without a better validation accuracy after which the run ends; 0 is never."""
    min_delta: float = 0.0
    """By more than how much an accuracy, 0..1, must beat the best one to be better."""

    def __post_init__(self) -> None:
        _check_at_least("early_stopping.patience", self.patience, 0)
        _check_range("early_stopping.min_delta", self.min_delta, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How the steps are run; none of it changes which rows a step sees."""

    steps_per_call: int = 25
    """Training steps inside one call of the compiled function: more is faster, and reports come less often."""
    log_every_steps: int = 200
    """One line of progress per so many steps, where no live bar is shown."""
    precision: Precision = "float32"
    """Keras dtype policy. auto: mixed_bfloat16 where every worker's GPU (Ampere or newer) or CPU (AVX512-BF16, AMX) has
    instructions for it, else float32. float32 is the default because it gives the same run everywhere."""
    jit_compile: bool | None = None
    """Compile the step with XLA. None: on GPUs only, where it pays; on CPUs it halves the speed of convolutions."""
    micro_batches: int = 1
    """Parts in which a worker computes its batch, one after the other: less memory, the same step. Batch normalisation
    sees a part at a time."""
    profile_steps: int = 0
    """Trace so many steps of the first worker for TensorBoard's profiler, in whole calls, in RUN/profile; 0: none."""
    tensorboard: bool = False
    """Write each epoch's figures for TensorBoard too, in RUN/tensorboard."""
    mlflow_uri: str | None = None
    """MLflow server that is told each epoch's figures too, as http://host:5000; needs the extra cnnlib[mlflow]."""

    def __post_init__(self) -> None:
        _check_at_least("loop.steps_per_call", self.steps_per_call, 1)
        _check_at_least("loop.log_every_steps", self.log_every_steps, 1)
        _check_at_least("loop.micro_batches", self.micro_batches, 1)
        _check_at_least("loop.profile_steps", self.profile_steps, 0)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """What the workers ask Ray for."""

    cpus_per_worker: int | None = None
    """CPU cores and TensorFlow threads of a worker. None: the machine's cores shared out locally, 1 on a cluster."""
    max_failures: int = 2
    """How often Ray restarts the workers, from the last checkpoint, before the run fails."""
    wait_for_resources_s: float = 0.0
    """How long to wait for a cluster that grows by itself, in seconds. 0: one that is too small is an error at once."""

    def __post_init__(self) -> None:
        if self.cpus_per_worker is not None:
            _check_at_least("cluster.cpus_per_worker", self.cpus_per_worker, 1)
        _check_at_least("cluster.max_failures", self.max_failures, 0)
        _check_range("cluster.wait_for_resources_s", self.wait_for_resources_s, 0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run, apart from where its data and results lie."""

    model: str = "seed-cnn"
    """A registered model (seed-cnn, small-cnn, dnn) or your own package.module:function."""
    epochs: int = 7
    """Passes over the training rows."""
    steps_per_epoch: int | None = None
    """Steps of one epoch. None: as many whole batches as the rows give."""
    batch_size: int = 32
    """Rows of one step over all workers together (the global batch)."""
    learning_rate: float = 1e-3
    """Learning rate: throughout, or where the schedule of the optimizer begins."""
    scale_learning_rate_from: int | None = None
    """Rows of the batch that the learning rate is meant for: it is multiplied by batch_size / rows (the linear scaling
    rule, Goyal et al. 2017, section 2.1). None: taken as it is."""
    seed: int = 0
    """Seed of the weights, the row order and every random layer."""
    workers: int = 1
    """Ray Train workers, one replica each. Which rows a step sees does not depend on their number."""
    gpus_per_worker: int = 0
    """GPUs of one worker, 0 or 1. A machine with 8 GPUs runs 8 workers."""
    split: str = "train"
    """The dataset's split to train on."""
    validation_fraction: float = 0.0
    """Share of the training rows held out and scored after every epoch; @best goes by it where it is above 0."""
    cache: CacheMode = "auto"
    """Where a worker's rows are: read once into memory, or (none) streamed every epoch. auto: memory if they take
    at most half of it. Streamed rows come in another order."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        _check_at_least("epochs", self.epochs, 1)
        if self.steps_per_epoch is not None:
            _check_at_least("steps_per_epoch", self.steps_per_epoch, 1)
        _check_at_least("batch_size", self.batch_size, 1)
        _check_at_least("workers", self.workers, 1)
        _check_at_least("seed", self.seed, 0)
        _check_above_0("learning_rate", self.learning_rate)
        if self.scale_learning_rate_from is not None:
            _check_at_least("scale_learning_rate_from", self.scale_learning_rate_from, 1)
        if self.gpus_per_worker not in (0, 1):
            raise ConfigError(
                f"gpus_per_worker must be 0 or 1. Received {self.gpus_per_worker}. "
                "For more GPUs give more workers: --workers 8 --gpus-per-worker 1."
            )
        _check_range("validation_fraction", self.validation_fraction, 0.0, 0.5)
        if self.early_stopping.patience and not self.validation_fraction:
            raise ConfigError(
                "early_stopping goes by the validation accuracy. Received "
                f"patience={self.early_stopping.patience}, validation_fraction=0. Try --validation-fraction 0.1."
            )
        if not 0 <= self.optimizer.warmup_epochs < self.epochs:
            raise ConfigError(
                "optimizer.warmup_epochs must be at least 0 and below epochs. Received "
                f"warmup_epochs={self.optimizer.warmup_epochs}, epochs={self.epochs}."
            )
        _check_batch_divides(self.batch_size, self.workers)
        _check_worker_batch_divides(self.batch_size // self.workers, self.loop.micro_batches)

    @property
    def scaled_learning_rate(self) -> float:
        """The learning rate for this batch size.

        >>> TrainConfig(learning_rate=0.1, scale_learning_rate_from=256, batch_size=1024).scaled_learning_rate
        0.4
        """
        if self.scale_learning_rate_from is None:
            return self.learning_rate
        return self.learning_rate * self.batch_size / self.scale_learning_rate_from


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """One evaluation, apart from where its inputs and reports lie."""

    split: str = "test"
    """The dataset's split to score."""
    pixel_range: PixelRange | None = None
    """What the model takes: raw pixels or scaled ones. None: 0-255 for our checkpoints, 0-1 for a model file."""
    outputs: Outputs = "auto"
    """What the model gives. auto: probabilities if its last layer is a softmax, else logits."""
    top_k: int = 3
    """k of the top-k accuracy."""
    batch_size: int = 500
    """Rows of one prediction. It changes the speed, not the counts."""
    actors: int = 1
    """Predictor actors, each with a TensorFlow of its own."""
    gpus_per_actor: int = 0
    """GPUs of one predictor, 0 or 1."""
    cpus_per_actor: int | None = None
    """CPU cores and TensorFlow threads of a predictor. None: the machine's cores shared out locally, 1 on a cluster."""
    wait_for_resources_s: float = 0.0
    """How long to wait for a cluster that grows by itself, in seconds. 0: one that is too small is an error at once."""
    predictions: bool = True
    """Every row's label, prediction and most probable classes are stored, unless this is given: comparing models row
    by row needs them."""
    slice_by: tuple[str, ...] = ()
    """Figures of parts of the split too: a metadata column, brightness, contrast, sharpness or size (in quantiles),
    near-duplicate (of a training image), or two of them crossed: source+brightness."""
    slice_quantiles: int = 4
    """How many parts of equal size a slice by an image property or a number has."""
    corruptions: bool = False
    """Figures under noise, blur, shift, rotation, contrast and occlusion too, at 5 strengths each, as slices: 31
    predictions of every image in place of one. The report's seconds are of the one."""

    def __post_init__(self) -> None:
        _check_at_least("top_k", self.top_k, 1)
        _check_at_least("batch_size", self.batch_size, 1)
        _check_at_least("actors", self.actors, 1)
        _check_at_least("slice_quantiles", self.slice_quantiles, 2)
        if self.cpus_per_actor is not None:
            _check_at_least("cpus_per_actor", self.cpus_per_actor, 1)
        _check_range("wait_for_resources_s", self.wait_for_resources_s, 0.0, math.inf)
        if self.gpus_per_actor not in (0, 1):
            raise ConfigError(f"gpus_per_actor must be 0 or 1. Received {self.gpus_per_actor}.")


def to_dict(config: TrainConfig | EvaluateConfig) -> dict[str, Any]:
    """A config as plain dicts, for JSON."""
    return dataclasses.asdict(config)


def _check_at_least(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise ConfigError(f"{name} must be at least {minimum}. Received {value}.")


def _check_above_0(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be above 0. Received {value}.")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must lie in {low:g}..{high:g}. Received {value}.")


def _check_batch_divides(batch_size: int, workers: int) -> None:
    if batch_size % workers == 0:
        return
    below, above = batch_size // workers * workers, (batch_size // workers + 1) * workers
    tries = " or ".join(str(size) for size in (below, above) if size > 0)
    raise ConfigError(
        f"batch_size must divide by workers. Received batch_size={batch_size}, workers={workers}. Try {tries}."
    )


def _check_worker_batch_divides(worker_batch_size: int, micro_batches: int) -> None:
    if worker_batch_size % micro_batches == 0:
        return
    raise ConfigError(
        "loop.micro_batches must divide the batch of a worker. Received "
        f"micro_batches={micro_batches}, expected a divisor of batch_size / workers = {worker_batch_size}."
    )
