"""Does what only the chief, the worker of rank 0, does besides training: progress, observers, history, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from cnnlib.config import TrainConfig, to_dict
from cnnlib.log import log_event, log_text
from cnnlib.runs.history import EpochRecord, encode_history
from cnnlib.runs.retention import CheckpointCleaner
from cnnlib.storage import files, layout
from cnnlib.training.augment.augment import Augment
from cnnlib.training.observe.mlflow import MlflowRun
from cnnlib.training.observe.observers import Observer, Observers
from cnnlib.training.observe.progress import LiveBar, LogLines, Progress
from cnnlib.training.observe.tensorboard import ScalarWriter, StepProfiler
from cnnlib.training.plan import WorkerTask
from cnnlib.training.state.background import BackgroundWriter
from cnnlib.training.state.checkpoint import StagedCheckpoint, stage_checkpoint
from cnnlib.training.state.resume_point import ResumePointWriter
from cnnlib.training.step import TrainCall
from cnnlib.training.train_state import TrainState

_SHEET_SIDE = 8  # images, and steps, of the sheet of augmented images


class Chief:
    """The chief of one run. It exists in the worker of rank 0 alone; nothing that it does is a collective."""

    def __init__(self, task: WorkerTask, progress: Progress, observers: Observer) -> None:
        self.progress = progress
        self._writer = BackgroundWriter()
        self.resume_points = ResumePointWriter(task.run, self._writer)
        self._task = task
        self._observers = observers
        config = task.config.checkpoint
        self._cleaner = CheckpointCleaner(
            task.run, config.keep, config.reports, keeps_stable=task.config.on_nan == "rollback"
        )

    @classmethod
    def of(cls, task: WorkerTask) -> Chief:
        """Opens the progress display and the observers that the task asks for.

        Raises:
            ConfigError: MLflow cannot be reached.
        """
        config = task.config
        if task.live:
            progress: Progress = LiveBar(config.epochs * task.steps_per_epoch, config.epochs)
        else:
            progress = LogLines(config.loop.log_every_steps, config.epochs)
        return cls(task, progress, build_observers(config, task.run))

    def watch(self, state: TrainState, done_epochs: int) -> TrainCall:
        """Returns the function to call in place of `state.train_call` in the epochs that are left."""
        train_call = state.train_call
        if state.augment is not None and done_epochs == 0:
            train_call = _draw_first(train_call, state.augment, layout.run_augmented(self._task.run))
        calls_per_epoch = -(-self._task.steps_per_epoch // self._task.steps_per_call)
        return self._observers.watch(train_call, (self._task.config.epochs - done_epochs) * calls_per_epoch)

    def end_epoch(self, state: TrainState, history: Sequence[EpochRecord]) -> None:
        """Copies the state after the last epoch of `history`, and starts to store it while the training goes on.

        Raises:
            CnnlibError: what was stored before, the checkpoint of the epoch before this one, has failed.
        """
        started = time.monotonic()
        self.wait()
        staged = self._stage(state, history[-1])
        blocked_s = time.monotonic() - started
        self._writer.start(lambda: self._store_epoch(staged, tuple(history), blocked_s), "checkpoint")

    def wait(self) -> None:
        """Waits until nothing is being stored.

        Raises:
            CnnlibError: a checkpoint could not be stored.
        """
        self._writer.wait()

    def close(self, done_epochs: int, *, stopped: bool) -> None:
        """Closes the progress display and the observers, after the last epoch.

        Args:
            stopped: True if the run was asked to end before.

        Raises:
            CnnlibError: the last checkpoint could not be stored.
        """
        self.wait()
        self.progress.close()
        with failure_is_logged("observers"):
            self._observers.close()
        config = self._task.config
        if done_epochs < config.epochs and not stopped:
            log_event("early-stopping", epochs=done_epochs, patience=config.early_stopping.patience)

    def _store_epoch(
        self, staged: StagedCheckpoint, history: Sequence[EpochRecord], blocked_s: float
    ) -> None:
        """Stores a checkpoint, writes the history and informs the observers.

        The checkpoint comes first: what fails after it loses no training. A crash in between leaves a history that is
        too short, which the resumed run mends from the manifests of the checkpoints.
        """
        record, started = history[-1], time.monotonic()
        staged.publish()
        written_in_s = time.monotonic() - started
        self.resume_points.clear()
        files.write_bytes(layout.run_history(self._task.run), encode_history(history))
        with failure_is_logged("checkpoint.keep"):
            self._cleaner.clean()
        with failure_is_logged("learning-curves"):
            self._draw(history)
        with failure_is_logged("observers"):
            self._observers.end_epoch(record)
        log_event("checkpoint", epoch=record.epoch, blocked_s=blocked_s, written_in_s=written_in_s)
        log_event("epoch", **report_values(record))

    def _draw(self, history: Sequence[EpochRecord]) -> None:
        # Imported here, after the first epoch, because matplotlib takes 0.8 s, which would delay the start of the run.
        from cnnlib.runs.learning_curves import learning_curves_png

        files.write_bytes(layout.run_learning_curves(self._task.run), learning_curves_png(history))

    def _stage(self, state: TrainState, record: EpochRecord) -> StagedCheckpoint:
        task = self._task
        metadata = {
            "model": task.config.model,
            "config": to_dict(task.config),
            "seed": task.config.seed,
            "dataset_uri": task.dataset_uri,
            "dataset_fingerprint": task.manifest.fingerprint,
            "class_names": list(task.manifest.class_names),
            "image_shape": list(task.manifest.image_shape),
            "pixel_range": "0-255",
            "outputs": state.outputs,
            "dtype_policy": keras.config.dtype_policy().name,
            "opens_in_keras": task.opens_in_keras,
        }
        probe_shape = None if task.opens_in_keras else task.manifest.image_shape
        return stage_checkpoint(
            task.run, state.model, state.optimizer, record, metadata, probe_shape=probe_shape
        )


def _draw_first(train_call: TrainCall, augment: Augment, uri: str) -> TrainCall:
    """Returns a function that, before it is called for the first time, draws what the first steps do to some rows."""
    drawn = False

    def call(images: tf.Tensor, labels: tf.Tensor, request: float = 0.0) -> tf.Tensor:
        nonlocal drawn
        if not drawn:
            drawn = True
            with failure_is_logged("augmented.png"):
                files.write_bytes(uri, _draw_augmented(images[0], labels[0], augment))
        return train_call(images, labels, request)

    return call


def _draw_augmented(images: tf.Tensor, labels: tf.Tensor, augment: Augment) -> bytes:
    from cnnlib.runs.augmented_sheet import augmented_png

    rows = min(_SHEET_SIDE, images.shape[0] // 2 * 2) or images.shape[0]
    columns = [
        augment(images[:rows], labels[:rows], step, tf.constant(0))[0].numpy() for step in range(_SHEET_SIDE)
    ]
    return augmented_png(np.stack(columns, axis=1).astype(np.float32))


@contextmanager
def failure_is_logged(what: str) -> Iterator[None]:
    """Logs an error instead of raising it: no plot and no metrics server may end a training."""
    try:
        yield
    except Exception as err:
        log_event(what, note=f"failed, and the training goes on: {type(err).__name__}: {err}")


def build_observers(config: TrainConfig, run: str) -> Observer:
    """Builds the observers that a config asks for; by default there are none.

    Raises:
        ConfigError: MLflow cannot be reached.
    """
    loop = config.loop
    observers: list[Observer] = []
    if loop.profile_steps:
        observers.append(StepProfiler(run, loop.profile_steps))
    if loop.tensorboard:
        observers.append(ScalarWriter(run))
    if loop.mlflow_uri is not None:
        observers.append(MlflowRun.open(loop.mlflow_uri, run, config))
    return Observers(observers)


def log_model(name: str, model: keras.Model) -> None:
    """Logs the summary of a model and its number of parameters."""
    model.summary(print_fn=lambda text, **_: log_text(text))
    log_event("model", name=name, parameters=model.count_params())


def report_values(record: EpochRecord) -> dict[str, float]:
    """Returns the values of an epoch that are logged and reported to Ray."""
    metrics = record.metrics()
    names = ("loss", "accuracy", "images_per_s", "data_wait", "validation_loss", "validation_accuracy")
    return {
        "epoch": record.epoch,
        "step": record.step,
        **{name: metrics[name] for name in names if name in metrics},
    }
