"""Runs one training worker, in the order of its life. Every worker runs this code; the chief also writes.

A worker starts in one of three ways, and the code below is the same for all of them:

- The run is new: there is no checkpoint, the seed gives the weights, and the history is empty.
- The run continues, because the same command came again after an interruption or with more epochs: the worker restores
  the last checkpoint, and keeps the history up to its epoch.
- Ray restarts the workers after one of them failed: this is a new process, in which the run continues in the same way.

A run that is finished starts no worker: see training/plan.py.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import NamedTuple

from cnnlib.errors import CheckpointError
from cnnlib.feed.feed import Feed, FeedTask, TwoSplits
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.ray_data import collect_rows
from cnnlib.feed.stream import StreamFeed
from cnnlib.log import log_event
from cnnlib.models.registry import is_row_by_row
from cnnlib.models.runtime import count_chunks, load_tensorflow
from cnnlib.runs.checkpoints import Checkpoint, find_checkpoint, list_checkpoints
from cnnlib.runs.history import EpochRecord, load_history
from cnnlib.runs.mending import mend_history
from cnnlib.runs.resume_points import (
    EpochPart,
    ResumePoint,
    choose_resume_point,
    delete_resume_points,
    find_resume_point,
)
from cnnlib.storage import layout
from cnnlib.training.early_stopping import is_stopped
from cnnlib.training.plan import WorkerTask
from cnnlib.training.ray.ending import watch_for_end
from cnnlib.training.ray.session import agree, join_session, receive_rows, report_epoch
from cnnlib.training.ray.shards import TRAIN, VALIDATION
from cnnlib.training.watchdog import Watchdog


def train_worker(task: WorkerTask) -> None:
    """Trains this worker's part of the run, from its last checkpoint to its last epoch."""
    config = task.config
    rank = join_session()
    feed_future = _start_feed(task, rank.rank)  # its thread takes the rows while TensorFlow is imported
    chunks = _count_chunks(task)
    load_tensorflow(task.cpus, chunks, gpus=config.gpus_per_worker > 0)
    # Imported here, because the driver imports this file and must stay free of TensorFlow.
    from cnnlib.feed.device import iter_macro_batches
    from cnnlib.training.chief import Chief, log_model, report_values
    from cnnlib.training.loop import check_validation, check_weights, run_epoch, score_rows
    from cnnlib.training.resume_points import ChiefSavedPoints, SavedPoints
    from cnnlib.training.state.checkpoint import restore_checkpoint
    from cnnlib.training.state.ema import averaged_weights
    from cnnlib.training.state.resume_point import restore_resume_point
    from cnnlib.training.strategy import average_moving_statistics, build_strategy, replica_device
    from cnnlib.training.train_state import build_train_state

    # 1. The state at the start of the run, or that of its last checkpoint or resume point.
    is_chief = rank.rank == 0
    watchdog = Watchdog(config.cluster.hang_timeout_s, rank.rank)
    watchdog.doing("joins the other workers")
    strategy = build_strategy()
    watchdog.doing("builds the model and restores its state")
    state = build_train_state(task, strategy, chunks)
    if is_chief:
        log_model(config.model, state.model)
    history, checkpoint, point = _find_start(task.run, is_chief)
    done = EpochPart(epoch=len(history) + 1)
    if point is not None:
        restore_resume_point(point, state.model, state.optimizer, rank=rank.rank, workers=rank.workers)
        done = point.part
        log_event(
            "resume", resume_point=point.uri, epoch=done.epoch, step=point.step, steps_of_epoch=done.steps
        )
    elif checkpoint is not None:
        restore_checkpoint(checkpoint, state.model, state.optimizer)
        log_event("resume", checkpoint=checkpoint.uri, epoch=checkpoint.epoch, step=checkpoint.step)

    # 2. The rows, and on the chief the progress display and the observers.
    watchdog.rest()  # how long the rows take depends on storage, which has time limits of its own
    feed = feed_future.result()
    watchdog.doing("begins to train")
    chief = Chief.of(task) if is_chief else None
    if chief and point:
        chief.resume_points.adopt(point.uri)
    train_call = chief.watch(state.train_call, len(history)) if chief else state.train_call

    step = history[-1].step if history else 0
    saved = (config.checkpoint, step + done.steps, strategy, state)
    resume_points = (
        ChiefSavedPoints(*saved, chief.resume_points, watch_for_end()) if chief else SavedPoints(*saved)
    )

    stopped = False

    # 3. The epochs that are left, and of the first perhaps a part only. Every worker takes the same steps and makes the
    # same decision to stop.
    for epoch in range(len(history) + 1, config.epochs + 1):
        if is_stopped(history, config.early_stopping):
            break
        first_step = history[-1].step if history else 0
        host_batches = feed.epoch(epoch, task.steps_per_epoch, task.steps_per_call, done.steps)
        metrics = run_epoch(
            train_call,
            watchdog.follow(
                iter_macro_batches(host_batches, replica_device(strategy)),
                f"epoch {epoch}",
                wait="waits for rows",
                use="trains with the other workers",
            ),
            batch_size=config.batch_size,
            steps_per_epoch=task.steps_per_epoch,
            done=done,
            first_step=first_step,
            progress=chief.progress if chief else None,
            learning_rate=lambda: state.learning_rate,
            resume_points=resume_points,
        )
        stopped = metrics.stopped
        if metrics.steps < task.steps_per_epoch:
            break
        done = EpochPart(epoch=epoch + 1)
        average_moving_statistics(strategy, state.model)
        step = first_step + metrics.steps
        check_weights(state.model, epoch=epoch, step=step, learning_rate=state.learning_rate)
        loss_sum, correct, scored = 0.0, 0.0, 0.0
        if task.validates:
            with averaged_weights(state.model, state.optimizer):
                rows = watchdog.follow(
                    feed.validation_rows(),
                    f"validation of epoch {epoch}",
                    wait="waits for rows",
                    use="scores them",
                )
                own_sums = score_rows(state.score_call, rows, state.scored_rows)
            loss_sum, correct, scored = state.sum_call(own_sums).numpy()
            check_validation(float(loss_sum), epoch=epoch, step=step, learning_rate=state.learning_rate)
        record = EpochRecord(
            epoch=epoch,
            step=step,
            loss=metrics.loss,
            accuracy=metrics.accuracy,
            validation_loss=float(loss_sum / scored) if scored else None,
            validation_accuracy=float(correct / scored) if scored else None,
            learning_rate=state.learning_rate,
            images_per_s=metrics.images_per_s,
            data_wait=metrics.data_wait,
            seconds=metrics.seconds,
            time=datetime.now(UTC),
            rows=metrics.rows,
        )
        history.append(record)
        watchdog.doing(
            f"epoch {epoch}: " + ("saves the checkpoint" if chief else "waits for the chief's checkpoint")
        )
        if chief:
            chief.end_epoch(state, history)
        report_epoch(report_values(record))  # a barrier: no worker runs ahead of a checkpoint
        if stopped:
            break

    watchdog.stop()

    # 4. The end: after the last epoch, by early stopping, or because the run was asked to end.
    if chief:
        chief.close(len(history), stopped=stopped)


def _start_feed(task: WorkerTask, rank: int) -> Future[Feed]:
    """Starts to take the worker's rows in a thread. The future holds the feed, or the error that this raised."""
    future: Future[Feed] = Future()

    def build() -> None:
        try:
            future.set_result(_build_feeds(task, rank))
        except BaseException as err:
            future.set_exception(err)

    threading.Thread(target=build, name="build-feed", daemon=True).start()
    return future


def _build_feeds(task: WorkerTask, rank: int) -> Feed:
    """Builds the worker's feed, of two parts where the validation rows are a split of their own."""
    feed, validation_task = _build_feed(task, task.feed_task(rank), TRAIN), task.validation_task(rank)
    if validation_task is None:
        return feed
    return TwoSplits(feed, _build_feed(task, validation_task, VALIDATION))


def _build_feed(task: WorkerTask, part: FeedTask, name: str) -> Feed:
    received = receive_rows(name)
    if task.cache == "memory":
        return MemoryFeed(part, collect_rows(received, part.manifest.image_shape))
    return StreamFeed(part, received.read, last_epoch=task.config.epochs)


def _count_chunks(task: WorkerTask) -> int:
    """Returns in how many chunks a micro-batch is computed in parallel: 1 on GPUs."""
    config = task.config
    if config.gpus_per_worker or not is_row_by_row(config.model):
        return 1
    return count_chunks(task.cpus, config.batch_size // config.workers // config.loop.micro_batches)


class _Start(NamedTuple):
    """Says where all workers begin.

    Attributes:
        history: the finished epochs.
        checkpoint: of the last of them; None for a new run.
        point: the resume point in the epoch after it; None: the epoch begins anew.
    """

    history: list[EpochRecord]
    checkpoint: Checkpoint | None
    point: ResumePoint | None


def _find_start(run: str, is_chief: bool) -> _Start:
    """Returns where all workers begin, which the chief decides.

    A listing may show the newest checkpoint to one worker and not yet to another. The chief mends the history before it
    tells the others, so they read the same one, and deletes resume points that nobody needs: of an attempt that was
    interrupted, or damaged.
    """
    if is_chief:
        checkpoints = list_checkpoints(run)
        history = mend_history(run, checkpoints)
        point = choose_resume_point(run, checkpoints)
        delete_resume_points(run, keep=[point.uri] if point else [])
        agree(f"{checkpoints[-1].epoch if checkpoints else 0} {point.uri if point else ''}")
        return _Start(history, checkpoints[-1] if checkpoints else None, point)
    epoch_text, _, point_uri = agree("").partition(" ")
    epoch = int(epoch_text)
    checkpoint = find_checkpoint(layout.checkpoint_uri(run, epoch)) if epoch else None
    point = find_resume_point(point_uri) if point_uri else None
    if (epoch and checkpoint is None) or (point_uri and point is None):
        raise CheckpointError(
            f"The first worker continues {run} from {point_uri or f'the checkpoint of epoch {epoch}'}, which is not "
            "here. If --runs is a local path, every machine of the cluster must mount it."
        )
    return _Start([record for record in load_history(run) if record.epoch <= epoch], checkpoint, point)
