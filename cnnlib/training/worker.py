"""Runs one training worker, in the order of its life. Every worker runs this code; the chief also writes.

A worker starts in one of three ways, and the code below is the same for all of them:

- The run is new: there is no checkpoint, the seed gives the weights, or a file does (`--weights`), and the history is
  empty.
- The run continues, because the same command came again after an interruption or with more epochs: the worker restores
  the last checkpoint, and keeps the history up to its epoch.
- Ray restarts the workers after one of them failed: this is a new process, in which the run continues in the same way.

A run that is finished starts no worker: see training/plan.py.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import NamedTuple

from cnnlib.errors import CheckpointError, DivergedError, RestartError
from cnnlib.feed.feed import Feed, FeedTask, TwoSplits
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.ray_data import collect_rows
from cnnlib.feed.stream import StreamFeed
from cnnlib.log import log_event
from cnnlib.models.runtime import load_tensorflow
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
from cnnlib.runs.rollbacks import load_rollbacks, rate_factor
from cnnlib.storage import layout
from cnnlib.training.first_weights import log_frozen, log_taken, take_first_weights
from cnnlib.training.plan import WorkerTask
from cnnlib.training.ray.ending import watch_for_end
from cnnlib.training.ray.session import agree, join_session, receive_rows
from cnnlib.training.ray.shards import TRAIN, VALIDATION
from cnnlib.training.rollback import roll_back
from cnnlib.training.watchdog import Watchdog


def train_worker(task: WorkerTask) -> None:
    """Trains this worker's part of the run, from its last checkpoint to its last epoch.

    Raises:
        RestartError: all workers are to start again, and go on from where these end.
    """
    rank = join_session()
    task = task.for_workers(rank.workers)
    config = task.config
    feed_future = _start_feed(task, rank.rank)  # its thread takes the rows while TensorFlow is imported
    chunks = task.chunks
    load_tensorflow(task.cpus, chunks, gpus=config.gpus_per_worker > 0)
    # Imported here, because the driver imports this file and must stay free of TensorFlow.
    from cnnlib.training.chief import Chief, log_model
    from cnnlib.training.epochs import Trainee, train_epochs
    from cnnlib.training.resume_points import ChiefSavedPoints, SavedPoints
    from cnnlib.training.state.checkpoint import restore_checkpoint
    from cnnlib.training.state.optimizer import set_rate
    from cnnlib.training.state.resume_point import restore_resume_point
    from cnnlib.training.strategy import build_strategy
    from cnnlib.training.train_state import build_train_state

    # 1. The state at the start of the run, or that of its last checkpoint or resume point.
    is_chief = rank.rank == 0
    watchdog = Watchdog(config.cluster.hang_timeout_s, rank.rank)
    watchdog.doing("joins the other workers")
    strategy = build_strategy()
    history, checkpoint, point, factor = _find_start(task.run, is_chief)
    watchdog.doing("builds the model and restores its state")
    state = build_train_state(task, strategy, chunks, factor)
    if is_chief:
        log_model(config.model_label, state.model)
        if state.frozen is not None:
            log_frozen(state.frozen)
        if state.layer_rates is not None:
            rates = state.layer_rates
            log_event("layer-rates", groups=rates.groups, lowest_factor=rates.lowest)
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
    else:
        taken = take_first_weights(state.model, config, task.first_weights)
        if is_chief and taken is not None:
            log_taken(taken, config.weights)
    set_rate(state.optimizer, config.scaled_learning_rate * factor)

    # 2. The rows, and on the chief the progress display and the observers.
    watchdog.rest()  # how long the rows take depends on storage, which has time limits of its own
    feed = feed_future.result()
    watchdog.doing("begins to train")
    chief = Chief.of(task) if is_chief else None
    if chief and point:
        chief.resume_points.adopt(point.uri)
    request = watch_for_end() if is_chief else None
    step = history[-1].step if history else 0
    saved = (config.checkpoint, step + done.steps, strategy, state)
    trainee = Trainee(
        task=task,
        strategy=strategy,
        state=state,
        train_call=chief.watch(state, len(history)) if chief else state.train_call,
        feed=feed,
        resume_points=ChiefSavedPoints(*saved, chief.resume_points, request.is_made)
        if chief and request
        else SavedPoints(*saved),
        watchdog=watchdog,
        chief=chief,
    )

    # 3. The epochs that are left, and of the first perhaps a part only.
    try:
        stopped = train_epochs(trainee, history, done)
    except DivergedError as err:
        if config.on_nan != "rollback":
            raise
        roll_back(err, task.run, len(history) + 1, chief.wait if chief else None)
    watchdog.stop()

    # 4. The end: after the last epoch, by early stopping, or because the run was asked to end or to start again.
    if chief:
        chief.close(len(history), stopped=stopped)
    if stopped and request and request.restart:
        raise RestartError(request.restart)


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


class _Start(NamedTuple):
    """Says where all workers begin.

    Attributes:
        history: the finished epochs.
        checkpoint: of the last of them; None for a new run.
        point: the resume point in the epoch after it; None: the epoch begins anew.
        rate_factor: what the learning rate of every step is multiplied by; 1 unless the run was rolled back.
    """

    history: list[EpochRecord]
    checkpoint: Checkpoint | None
    point: ResumePoint | None
    rate_factor: float


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
        rollbacks = load_rollbacks(run)
        factor = rate_factor(rollbacks)
        if rollbacks:
            log_event("rollback", rollbacks=len(rollbacks), rate_factor=factor)
        last = checkpoints[-1] if checkpoints else None
        agree(f"{last.epoch if last else 0} {factor!r} {point.uri if point else ''}")
        return _Start(history, last, point, factor)
    epoch_text, factor_text, point_uri = agree("").split(" ", 2)
    epoch = int(epoch_text)
    checkpoint = find_checkpoint(layout.checkpoint_uri(run, epoch)) if epoch else None
    point = find_resume_point(point_uri) if point_uri else None
    if (epoch and checkpoint is None) or (point_uri and point is None):
        raise CheckpointError(
            f"The first worker continues {run} from {point_uri or f'the checkpoint of epoch {epoch}'}, which is not "
            "here. If --runs is a local path, every machine of the cluster must mount it."
        )
    history = [record for record in load_history(run) if record.epoch <= epoch]
    return _Start(history, checkpoint, point, float(factor_text))
