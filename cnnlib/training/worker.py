"""The story of one training worker, in the order of its life. Every worker runs it; the chief also writes."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import ray.train
from ray.train.v2._internal.execution.context import logger as report_logger

from cnnlib.config import TrainConfig, to_dict
from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import ModelError
from cnnlib.feed.feed import Cache, Feed, FeedTask
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.stream import StreamFeed
from cnnlib.log import log_event, log_text
from cnnlib.models.registry import is_row_by_row
from cnnlib.models.runtime import count_chunks, load_tensorflow
from cnnlib.runs import checkpoints as runs
from cnnlib.runs.history import EpochRecord, encode_history, load_history
from cnnlib.storage import files, layout
from cnnlib.training import strategy as strategies
from cnnlib.training.class_weights import class_weights
from cnnlib.training.early_stopping import is_stopped
from cnnlib.training.precision import choose_precision

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_SCORE_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """All a worker is told.

    Attributes:
        cpus: threads of this worker.
        steps_per_epoch: the same for every worker, or the last all-reduce would wait for ever.
        cache: where rows are kept, the same for every worker and, in a run that is continued, as it began.
        live: a terminal watches.
    """

    config: TrainConfig
    dataset_uri: str
    manifest: Manifest
    run: str
    cpus: int
    steps_per_epoch: int
    cache: Cache
    live: bool


def train_worker(task: WorkerTask) -> None:
    """Trains this worker's part of the run, from its last checkpoint to its last epoch."""
    report_logger.setLevel(logging.WARNING)  # it would repeat every report, from every worker
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    feeding = _build_feed(task, rank, workers)  # rows arrive while TensorFlow is imported
    parts = _count_parts(task)
    load_tensorflow(task.cpus, parts)
    strategy = strategies.build_strategy()
    state = _build_state(task, strategy, parts)
    if rank == 0:
        _describe_model(task.config.model, state.model)
    history = _resume(task, state)
    feed = feeding.result()
    progress = _build_progress(task) if rank == 0 else _silent()
    observers: Any = _build_observers(task) if rank == 0 else None
    if rank == 0:
        calls_per_epoch = -(-task.steps_per_epoch // task.config.loop.steps_per_call)
        calls = (task.config.epochs - len(history)) * calls_per_epoch
        state = state._replace(train_call=observers.watch(state.train_call, calls))

    for epoch in range(len(history) + 1, task.config.epochs + 1):
        if is_stopped(history, task.config.early_stopping):
            break
        record = _train_epoch(task, state, feed, strategy, epoch, history, progress)
        history.append(record)
        if rank == 0:
            # History before checkpoint: a crash between them leaves a history row that the resumed run drops.
            _write_history(task.run, history)
            observers.write(record)
            _save(task, state, record)
            log_event("epoch", **_metrics(record))
        ray.train.report(_metrics(record))  # a barrier: no worker runs ahead of a checkpoint
    progress.close()
    if rank == 0:
        observers.close()
        if len(history) < task.config.epochs:
            log_event("early-stopping", epochs=len(history), patience=task.config.early_stopping.patience)


class _TrainState(NamedTuple):
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    train_call: Any
    score_call: Any
    sum_call: Any


def _build_feed(task: WorkerTask, rank: int, workers: int) -> Future[Feed]:
    feed_task = FeedTask(
        dataset_uri=task.dataset_uri,
        manifest=task.manifest,
        split_name=task.config.split,
        validation_fraction=task.config.validation_fraction,
        batch_size=task.config.batch_size,
        seed=task.config.seed,
        rank=rank,
        workers=workers,
    )
    future: Future[Feed] = Future()

    def build() -> None:
        try:
            future.set_result(MemoryFeed(feed_task) if task.cache == "memory" else StreamFeed(feed_task))
        except BaseException as err:  # raised where the feed is asked for
            future.set_exception(err)

    threading.Thread(target=build, name="build-feed", daemon=True).start()
    return future


def _count_parts(task: WorkerTask) -> int:
    config = task.config
    if config.gpus_per_worker or not is_row_by_row(config.model):
        return 1
    return count_chunks(task.cpus, config.batch_size // config.workers // config.loop.micro_batches)


def _build_state(task: WorkerTask, strategy: tf.distribute.Strategy, parts: int = 1) -> _TrainState:
    import keras
    import tensorflow as tf

    from cnnlib.models.registry import build_model, gives_probabilities
    from cnnlib.training import step
    from cnnlib.training.optimizer import build_optimizer, build_plain_optimizer

    config, shape = task.config, task.manifest.image_shape
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(choose_precision(config.loop.precision, strategy))
    with strategy.scope():
        model = build_model(config.model, shape, task.manifest.num_classes)
        if not model.trainable_variables:
            raise ModelError(f"{config.model} has nothing to train: no trainable weights.")
        optimizer = build_optimizer(
            config.optimizer,
            config.scaled_learning_rate,
            epochs=config.epochs,
            steps_per_epoch=task.steps_per_epoch,
        )
        optimizer.build(model.trainable_variables)
    from_logits = not gives_probabilities(model)
    on_gpu = bool(tf.config.list_logical_devices("GPU"))
    common: dict[str, Any] = {
        "model": model,
        "strategy": strategy,
        "image_shape": shape,
        "from_logits": from_logits,
        "label_smoothing": config.loss.label_smoothing,
    }
    # For whoever opens the checkpoint in plain Keras: an optimizer of the same kind, unused here.
    model.compile(
        optimizer=build_plain_optimizer(config.optimizer, config.scaled_learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        metrics=["accuracy"],
    )
    return _TrainState(
        model=model,
        optimizer=optimizer,
        train_call=step.build_train_call(
            **common,
            optimizer=optimizer,
            batch_size=config.batch_size,
            jit_compile=on_gpu if config.loop.jit_compile is None else config.loop.jit_compile,
            seed=config.seed,
            micro_batches=config.loop.micro_batches,
            side_by_side=parts,
            class_weights=class_weights(config.loss, task.manifest.split(config.split).rows_per_class),
        ),
        score_call=step.build_score_call(**common, rows=_SCORE_ROWS),
        sum_call=step.build_sum_call(strategy, size=3),
    )


def _describe_model(name: str, model: keras.Model) -> None:
    model.summary(print_fn=lambda text, **_: log_text(text))
    log_event("model", name=name, parameters=model.count_params())


def _resume(task: WorkerTask, state: _TrainState) -> list[EpochRecord]:
    """Continues from the last checkpoint, if there is one; returns the history up to it."""
    checkpoints = runs.list_checkpoints(task.run)
    if not checkpoints:
        return []
    from cnnlib.training.checkpoint import restore_checkpoint

    last = checkpoints[-1]
    restore_checkpoint(last, state.model, state.optimizer)
    log_event("resume", checkpoint=last.uri, epoch=last.epoch, step=last.step)
    return [record for record in load_history(task.run) if record.epoch <= last.epoch]


def _build_progress(task: WorkerTask) -> Any:
    from cnnlib.training.observe.progress import LiveBar, LogLines

    if task.live:
        return LiveBar(task.config.epochs * task.steps_per_epoch, task.config.epochs)
    return LogLines(task.config.loop.log_every_steps, task.config.epochs)


def _build_observers(task: WorkerTask) -> Any:
    from cnnlib.training.observe.observers import Observers

    return Observers(task.config, task.run)


def _silent() -> Any:
    from cnnlib.training.observe.progress import Silent

    return Silent()


def _train_epoch(
    task: WorkerTask,
    state: _TrainState,
    feed: Feed,
    strategy: tf.distribute.Strategy,
    epoch: int,
    history: list[EpochRecord],
    progress: Any,
) -> EpochRecord:
    import keras

    from cnnlib.feed.device import iter_macro_batches
    from cnnlib.training.ema import averaged_weights
    from cnnlib.training.loop import run_epoch, score_rows

    config = task.config
    host_batches = feed.epoch(epoch, task.steps_per_epoch, config.loop.steps_per_call)
    batches = iter_macro_batches(host_batches, strategies.replica_device(strategy))
    done_steps = history[-1].step if history else 0
    metrics = run_epoch(
        state.train_call,
        batches,
        batch_size=config.batch_size,
        epoch=epoch,
        first_step=done_steps,
        progress=progress,
    )
    strategies.average_moving_statistics(strategy, state.model)
    with averaged_weights(state.model, state.optimizer):
        scores = score_rows(state.score_call, feed.validation_rows(), _SCORE_ROWS)
    loss_sum, correct, scored = (
        state.sum_call(scores).numpy() if config.validation_fraction else (0.0, 0.0, 0.0)
    )
    return EpochRecord(
        epoch=epoch,
        step=done_steps + metrics.steps,
        loss=metrics.loss,
        accuracy=metrics.accuracy,
        validation_loss=float(loss_sum / scored) if scored else None,
        validation_accuracy=float(correct / scored) if scored else None,
        learning_rate=float(keras.ops.convert_to_numpy(state.optimizer.learning_rate)),
        images_per_s=metrics.images_per_s,
        data_wait=metrics.data_wait,
        seconds=metrics.seconds,
        time=datetime.now(UTC),
        rows=metrics.rows,
    )


def _write_history(run: str, history: list[EpochRecord]) -> None:
    from cnnlib.runs.learning_curves import learning_curves_png  # 0.8 s, which no start needs to wait for

    files.write_bytes(layout.run_history(run), encode_history(history))
    files.write_bytes(layout.run_learning_curves(run), learning_curves_png(history))


def _save(task: WorkerTask, state: _TrainState, record: EpochRecord) -> None:
    from cnnlib.training.checkpoint import save_checkpoint

    facts = {
        "model": task.config.model,
        "config": to_dict(task.config),
        "seed": task.config.seed,
        "dataset_uri": task.dataset_uri,
        "dataset_fingerprint": task.manifest.fingerprint,
        "class_names": list(task.manifest.class_names),
        "image_shape": list(task.manifest.image_shape),
        "pixel_range": "0-255",
    }
    save_checkpoint(task.run, state.model, state.optimizer, record, facts)


def _metrics(record: EpochRecord) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "epoch": record.epoch,
        "step": record.step,
        "loss": record.loss,
        "accuracy": record.accuracy,
        "images_per_s": record.images_per_s,
        "data_wait": record.data_wait,
    }
    if record.validation_accuracy is not None:
        metrics |= {
            "validation_loss": record.validation_loss,
            "validation_accuracy": record.validation_accuracy,
        }
    return metrics
