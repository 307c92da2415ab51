"""The config of a training run: frozen, keyword-only dataclasses that check their values when created.

Each default is in its field and nowhere else; `--help` shows the field's docstring. Values for one run come from a
recipe or from flags. This module imports only the standard library.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

from cnnlib.config_checks import check_above_0, check_at_least, check_below_1, check_range
from cnnlib.errors import ConfigError
from cnnlib.model_options import ModelOptions
from cnnlib.redact import redact

OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop"]
Schedule = Literal["constant", "cosine", "one-cycle", "step"]
Precision = Literal["auto", "float32", "mixed_bfloat16"]
ClassWeights = Literal["none", "balanced"]
CacheMode = Literal["auto", "memory", "none"]
OnNan = Literal["stop", "rollback"]
Flip = Literal["none", "horizontal", "vertical", "both"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its learning rate schedule. The learning rate itself is `--learning-rate`."""

    name: OptimizerName = "adam"
    """The Keras optimizer. What has no flag here keeps Keras's default."""
    schedule: Schedule = "constant"
    """The learning rate schedule. constant: no change. step: multiplied by step_factor every step_every_epochs epochs.
    cosine: falls to 0 over the run (Loshchilov and Hutter 2017, without restarts). one-cycle: rises from 1/25 of the
    rate in the first 30 % of the steps, then falls to almost 0, both along a cosine (Smith and Topin 2018)."""
    step_every_epochs: int = 30
    """Epochs between two drops of the learning rate, for the schedule step (He et al. 2016).
    They are counted from the start of the run."""
    step_factor: float = 0.1
    """Factor, 0..1, that the learning rate is multiplied by at each drop, for the schedule step."""
    warmup_epochs: float = 0.0
    """Epochs, or a fraction of one, in which the learning rate first grows linearly to its full value. 0: none."""
    momentum: float = 0.0
    """Momentum, at least 0 and below 1, of sgd and rmsprop. 0: none."""
    weight_decay: float = 0.0
    """Decoupled weight decay: each step subtracts learning rate x decay x weight from every weight.
    Source: Loshchilov and Hutter 2019. 0: no decay, with adamw too, for which Keras's own default is 0.004."""
    decay_kernels_only: bool = False
    """Leave biases, and the scales and offsets of normalisation layers, out of the weight decay: all weights with one
    axis or none."""
    clip_norm: float | None = None
    """Largest norm of the gradient of the whole batch, over all workers: a longer gradient is scaled down to it.
    None: gradients are not clipped."""
    layer_decay: float = 1.0
    """Factor, above 0 and at most 1, of the learning rate from each group of layers to the one before it: the head has
    the whole rate. A group is a layer of a chain or a block around which a shortcut goes, such as the 18 of ResNet-50.
    For fine-tuning (Clark et al. 2020); 0.65..0.9 is usual. 1: all layers have the same rate."""
    ema_momentum: float | None = None
    """Momentum, between 0 and 1, of an exponential moving average of the weights; the average is scored and saved.
    0.999 averages about 1,000 steps. None: no average; the weights themselves are scored and saved."""

    def __post_init__(self) -> None:
        if self.schedule == "one-cycle" and self.warmup_epochs:
            raise ConfigError(
                "The schedule one-cycle has a warm-up of its own. Received "
                f"optimizer.warmup_epochs={self.warmup_epochs}."
            )
        check_below_1("optimizer.momentum", self.momentum)
        if self.momentum and self.name in ("adam", "adamw"):
            raise ConfigError(
                f"optimizer.momentum is for sgd and rmsprop. Received {self.momentum} with {self.name}."
            )
        check_range("optimizer.weight_decay", self.weight_decay, 0.0, 1.0)
        check_at_least("optimizer.step_every_epochs", self.step_every_epochs, 1)
        check_range("optimizer.step_factor", self.step_factor, 0.0, 1.0)
        if self.clip_norm is not None:
            check_above_0("optimizer.clip_norm", self.clip_norm)
        check_above_0("optimizer.layer_decay", self.layer_decay)
        check_range("optimizer.layer_decay", self.layer_decay, 0.0, 1.0)
        if self.ema_momentum is not None and not 0 < self.ema_momentum < 1:
            raise ConfigError(
                f"optimizer.ema_momentum must be above 0 and below 1. Received {self.ema_momentum}."
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of the training images, anew in every step. Validation and evaluation see the images as they are.

    What a row gets depends on the seed, the step and its place in the batch alone, not on the number of workers.
    """

    flip: Flip = "none"
    """Mirror half of the rows: left and right (horizontal), top and bottom (vertical), or each of both."""
    shift: int = 0
    """Most pixels by which a row is shifted up, down, left and right: a crop of the image with a black border.
    0: no shift."""
    rotate: float = 0.0
    """Most degrees by which a row is rotated either way, 0..180. 0: no rotation."""
    brightness: float = 0.0
    """Most by which the brightness of a row is scaled, 0..1: 0.2 scales by 0.8 to 1.2. 0: no change."""
    contrast: float = 0.0
    """The same for the contrast."""
    saturation: float = 0.0
    """The same for the saturation of colours; images of three channels only."""
    rand_operations: int = 0
    """Operations that RandAugment draws for every row, 0..4 (Cubuk et al. 2020). 0: none."""
    rand_magnitude: float = 5.0
    """Magnitude of the operations of RandAugment, 0..10."""
    erase: float = 0.0
    """Probability, 0..1, that a rectangle of a row is hidden by noise (random erasing, Zhong et al. 2020). 0: none."""
    mixup: float = 0.0
    """Alpha of MixUp: pairs of rows are blended, with their labels, by a share of the Beta(alpha, alpha) distribution
    (Zhang et al. 2018). 0: no MixUp."""
    cutmix: float = 0.0
    """Alpha of CutMix: each of two rows gets a rectangle of the other, and that part of its label (Yun et al. 2019).
    With MixUp, a pair gets one of both. 0: no CutMix."""

    def __post_init__(self) -> None:
        check_at_least("augment.shift", self.shift, 0)
        check_range("augment.rotate", self.rotate, 0.0, 180.0)
        for name in ("brightness", "contrast", "saturation", "erase"):
            check_range(f"augment.{name}", getattr(self, name), 0.0, 1.0)
        check_range("augment.rand_operations", self.rand_operations, 0, 4)
        check_range("augment.rand_magnitude", self.rand_magnitude, 0.0, 10.0)
        for name in ("mixup", "cutmix"):
            check_range(f"augment.{name}", getattr(self, name), 0.0, 10.0)

    @property
    def mixes(self) -> bool:
        """True if rows are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The training loss: cross-entropy with these changes. They do not change how accuracy is counted."""

    label_smoothing: float = 0.0
    """Fraction, 0..1, of every label that is spread evenly over all classes, in the training and the validation loss.
    Source: Szegedy et al. 2016, section 7. 0: no smoothing."""
    class_weights: ClassWeights | tuple[float, ...] = "none"
    """Weight of a row in the training loss, by its class. none: every row weighs 1. Or one number per class.
    balanced: rows / (classes x rows of the class). The validation loss has no weights, as in Keras."""

    def __post_init__(self) -> None:
        check_below_1("loss.label_smoothing", self.label_smoothing)
        if not isinstance(self.class_weights, str):
            for weight in self.class_weights:
                check_range("loss.class_weights", weight, 0.0, sys.float_info.max)
            if not any(self.class_weights):
                raise ConfigError("loss.class_weights must not all be 0: then no row is trained.")


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig:
    """Ends a run before its last epoch. Needs --validation-fraction."""

    patience: int = 0
    """Epochs without a better validation accuracy after which the run ends. 0: the run trains all epochs."""
    min_delta: float = 0.0
    """Difference, 0..1, by which a validation accuracy must exceed the best one to count as better."""

    def __post_init__(self) -> None:
        check_at_least("early_stopping.patience", self.patience, 0)
        check_below_1("early_stopping.min_delta", self.min_delta)


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How the steps run. No flag here changes which rows a step sees."""

    steps_per_call: int = 25
    """Training steps in one call of the compiled function; fewer if their pixels take more than 8 MiB. More steps are
    faster, but progress is shown less often."""
    log_every_steps: int = 200
    """Steps between two lines of progress in the log, where no live progress bar is shown."""
    precision: Precision = "float32"
    """The Keras dtype policy. float32 is the default because it gives the same run everywhere.
    auto: mixed_bfloat16 if every worker's GPU (Ampere or newer) or CPU (AVX512-BF16, AMX) has instructions for it, else
    float32."""
    jit_compile: bool | None = None
    """Whether XLA compiles the step. None: on GPUs only, where it is faster; on CPUs it halves convolution speed."""
    micro_batches: int = 1
    """Equal parts of a worker's batch, computed one after the other to save memory; one update for all of them.
    1: the whole batch at once. Batch normalisation normalises one part at a time; its moving statistics move once, as
    for the whole batch of a worker."""
    profile_steps: int = 0
    """Steps of the first worker to trace for TensorBoard's profiler, into RUN/profile, in whole calls. 0: none."""
    tensorboard: bool = False
    """Also write each epoch's metrics for TensorBoard, into RUN/tensorboard."""
    mlflow_uri: str | None = None
    """URI of an MLflow server, such as http://host:5000, that also receives each epoch's metrics. None: no server.
    Needs the extra cnnlib[mlflow]. Its user and password come from MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD; those in a URI are not written down, but other users of the machine see them."""

    def __post_init__(self) -> None:
        check_at_least("loop.steps_per_call", self.steps_per_call, 1)
        check_at_least("loop.log_every_steps", self.log_every_steps, 1)
        check_at_least("loop.micro_batches", self.micro_batches, 1)
        check_at_least("loop.profile_steps", self.profile_steps, 0)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Checkpoints and resume points: every epoch ends with a checkpoint, and a long epoch has resume points inside.

    A run that is interrupted goes on from the last of them, with exactly the rows that the epoch has not seen. They are
    written in the background, and deleted once the epoch has its checkpoint. They are not evaluated.
    """

    every_steps: int = 0
    """Steps between two resume points, rounded up to whole calls (--loop.steps-per-call). 0: none by steps."""
    every_minutes: float = 10.0
    """Minutes between two resume points, about. 0: none by time."""
    keep: int = 0
    """Checkpoints to keep: so many of the newest, the best one (@best), and, with on_nan=rollback, the one that a
    rollback goes back to. The others are deleted after each epoch. 0: all are kept."""
    reports: str | None = None
    """Folder of reports: with --checkpoint.keep, a checkpoint is not deleted before there is a report about it, on
    whatever data. None: no report is waited for."""

    def __post_init__(self) -> None:
        check_at_least("checkpoint.every_steps", self.every_steps, 0)
        check_at_least("checkpoint.keep", self.keep, 0)
        if self.reports is not None and not self.keep:
            raise ConfigError(
                f"checkpoint.reports needs checkpoint.keep. Received reports={self.reports}, keep=0, which keeps all."
            )
        check_range("checkpoint.every_minutes", self.every_minutes, 0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """The resources of the workers, and how Ray handles their failures."""

    cpus_per_worker: int | None = None
    """CPU cores and TensorFlow threads of one worker.
    None: the cores of this machine divided by the number of workers; 1 on a cluster."""
    max_failures: int = 2
    """Number of times that Ray restarts the workers without getting to another checkpoint or resume point, before the
    run fails. 0: never."""
    hang_timeout_s: float = 600.0
    """Seconds without progress after which a worker counts as hanging: all workers are restarted, as after a failure.
    More than the longest call, which compiles, and the longest save of a checkpoint take. 0: never."""
    wait_for_resources_s: float = 0.0
    """Seconds to wait for a cluster with an autoscaler to grow. 0: a cluster that is too small is an error at once."""

    spread: bool = False
    """Put each worker on a machine of its own as far as the cluster has them, so that a lost machine costs few. Without
    it, the workers share as few machines as possible, which makes their all-reduce faster."""
    wait_when_busy_s: float = 1800.0
    """Seconds to wait for resources that other jobs use or that a lost machine had, at the start and before a restart.
    The job then fails."""

    def __post_init__(self) -> None:
        if self.cpus_per_worker is not None:
            check_at_least("cluster.cpus_per_worker", self.cpus_per_worker, 1)
        check_at_least("cluster.max_failures", self.max_failures, 0)
        check_range("cluster.hang_timeout_s", self.hang_timeout_s, 0.0, math.inf)
        check_range("cluster.wait_for_resources_s", self.wait_for_resources_s, 0.0, math.inf)
        check_range("cluster.wait_when_busy_s", self.wait_when_busy_s, 0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The config of a training run, without the locations of its data and results."""

    model: str = "seed-cnn"
    """The model: a registered one, such as seed-cnn, small-cnn or resnet, or your own package.module:function. All of
    them: python -m jobs.train --list-models."""
    weights: str | None = None
    """A .keras, .weights.h5 or .h5 file, a path or s3://bucket/key, whose weights a new run begins with, layer by layer
    where name and shape fit. The others, such as a head for other classes, begin anew. Nothing is downloaded from a
    hub. None: all weights are new."""
    freeze: str | None = None
    """Layers that are not trained, by their names in the model's order: LAYER, FIRST..LAST or ..LAST. Frozen batch
    normalisation uses its moving statistics. None: all layers are trained."""
    epochs: int = 7
    """Number of passes over the training rows."""
    steps_per_epoch: int | None = None
    """Steps of one epoch. None: one for every whole batch in the training rows."""
    batch_size: int = 32
    """Rows of one step over all workers together (the global batch). Must divide by the number of workers."""
    learning_rate: float = 1e-3
    """The learning rate; its highest value if --optimizer.schedule or a warm-up changes it."""
    scale_learning_rate_from: int | None = None
    """Rows of the batch for which the learning rate was chosen: the rate is multiplied by batch_size / rows.
    This is the linear scaling rule, Goyal et al. 2017, section 2.1. None: the rate is not scaled."""
    sync_batch_norm: bool = False
    """Let all batch normalisation layers normalise over the batch of all workers: then training does not depend on
    their number, and small batches of a worker do no harm. It costs three all-reduces for each such layer in every
    step."""
    on_nan: OnNan = "stop"
    """What happens when the loss or a weight is not finite. stop: the run ends with an error. rollback: it goes on from
    its checkpoint with the lowest training loss, with half the learning rate, at most three times; later checkpoints
    are deleted."""
    seed: int = 0
    """Seed of the initial weights, the order of the rows and every random layer."""
    workers: int = 1
    """Number of Ray Train workers, with one replica of the model each.
    It does not change which rows a step sees."""
    min_workers: int | None = None
    """The fewest workers with which the run starts and goes on: on a given cluster, as many train as it has room for,
    up to --workers, and more or fewer when machines come and go. --workers 1..4 is short for --workers 4 --min-workers
    1. Their number must divide the batch size. None: always --workers."""
    gpus_per_worker: int = 0
    """GPUs of one worker, 0 or 1. 0: training on CPUs. A machine with 8 GPUs runs 8 workers."""
    split: str = "train"
    """The split of the dataset to train on."""
    validation_fraction: float = 0.0
    """Fraction, 0..0.5, of the training rows that are kept as validation rows and scored after every epoch, where the
    validation rows are no split of their own. 0: none.
    @best is the epoch with the best validation accuracy; without validation rows, with the best training accuracy."""
    validation_split: str | None = None
    """The split whose rows are scored after every epoch, instead of a fraction of the training rows; none: no split.
    None: val, if the dataset has it."""
    min_crop_area: float = 1.0
    """The smallest part of an image's area, above 0, up to 1, that a random crop keeps; each epoch crops every row anew
    and scales it to the size of the images. 1: images are not cropped. 0.08 is usual for photographs (Szegedy et al.
    2015). Cropped rows are streamed."""
    cache: CacheMode = "auto"
    """How a worker gets its rows. memory: once, and keeps them. none: they are streamed in every epoch, in another
    order. auto: memory if the pixels of the split take at most 2 GiB and are not cropped, else none."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        _check_freeze(self.freeze)
        check_at_least("epochs", self.epochs, 1)
        if self.steps_per_epoch is not None:
            check_at_least("steps_per_epoch", self.steps_per_epoch, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("workers", self.workers, 1)
        check_at_least("seed", self.seed, 0)
        check_above_0("learning_rate", self.learning_rate)
        if self.scale_learning_rate_from is not None:
            check_at_least("scale_learning_rate_from", self.scale_learning_rate_from, 1)
        if self.gpus_per_worker not in (0, 1):
            raise ConfigError(
                f"gpus_per_worker must be 0 or 1. Received {self.gpus_per_worker}. "
                "For more GPUs give more workers: --workers 8 --gpus-per-worker 1."
            )
        check_range("validation_fraction", self.validation_fraction, 0.0, 0.5)
        check_above_0("min_crop_area", self.min_crop_area)
        check_range("min_crop_area", self.min_crop_area, 0.0, 1.0)
        if self.min_crop_area < 1 and self.cache == "memory":
            raise ConfigError(
                f"Cropped rows are streamed. Received min_crop_area={self.min_crop_area:g}, cache=memory. Leave out "
                "--cache."
            )
        if not 0 <= self.optimizer.warmup_epochs < self.epochs:
            raise ConfigError(
                "optimizer.warmup_epochs must be at least 0 and below epochs. Received "
                f"warmup_epochs={self.optimizer.warmup_epochs}, epochs={self.epochs}."
            )
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            raise ConfigError(
                f"min_workers must lie in 1..workers. Received min_workers={self.min_workers}, workers={self.workers}."
            )
        _check_batch_divides(self.batch_size, self.workers)
        if self.sync_batch_norm and (self.loop.jit_compile or self.loop.micro_batches > 1):
            raise ConfigError(
                "sync_batch_norm all-reduces inside the model, which neither XLA nor micro-batches can do. Received "
                f"loop.jit_compile={self.loop.jit_compile}, loop.micro_batches={self.loop.micro_batches}."
            )
        odd = [n for n in self.worker_counts if self.batch_size // n % 2]
        if self.augment.mixes and odd:
            raise ConfigError(
                "augment.mixup and augment.cutmix mix pairs of rows, so each worker's batch must be even. Received "
                f"batch_size={self.batch_size}, workers={odd[0]}."
            )
        _check_worker_batch_divides(self.batch_size // self.workers, self.loop.micro_batches)

    @property
    def model_label(self) -> str:
        """The model with the options that were given.

        >>> TrainConfig(model="resnet", model_options=ModelOptions(depth=56)).model_label
        'resnet depth=56'
        """
        return self.model_options.label(self.model)

    @property
    def worker_counts(self) -> list[int]:
        """The numbers of workers with which the run may train, in ascending order: they divide the batch.

        >>> TrainConfig(batch_size=32, workers=4, min_workers=1).worker_counts
        [1, 2, 4]
        """
        fewest = self.workers if self.min_workers is None else self.min_workers
        parts = self.loop.micro_batches
        return [n for n in range(fewest, self.workers + 1) if self.batch_size % (n * parts) == 0]

    @property
    def scaled_learning_rate(self) -> float:
        """The learning rate for this batch size.

        >>> TrainConfig(learning_rate=0.1, scale_learning_rate_from=256, batch_size=1024).scaled_learning_rate
        0.4
        """
        if self.scale_learning_rate_from is None:
            return self.learning_rate
        return self.learning_rate * self.batch_size / self.scale_learning_rate_from


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Returns a config as plain dicts, for JSON that is stored; without the password that a URI may hold."""
    document = dataclasses.asdict(config)
    if config.loop.mlflow_uri is not None:
        document["loop"]["mlflow_uri"] = redact(config.loop.mlflow_uri)
    return document


def _check_freeze(freeze: str | None) -> None:
    if freeze is None:
        return
    first, is_range, last = freeze.partition("..")
    if not (last if is_range else first) or ".." in last:
        raise ConfigError(f"freeze must be the name of a layer, FIRST..LAST or ..LAST. Received {freeze!r}.")


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
