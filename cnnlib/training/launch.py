"""Runs the driver's part of a training run: takes a plan, connects to a cluster and lets Ray Train run the workers.

Only `check_model` loads TensorFlow in the driver; otherwise the workers load it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypedDict

import ray

from cnnlib.cluster import connect as cluster
from cnnlib.cluster.local import in_local_mode
from cnnlib.errors import ResourceError, TrainingError
from cnnlib.feed.feed import Cache, choose_cache, fits_in_memory, split_bytes
from cnnlib.feed.index import RowIndex, index_rows
from cnnlib.feed.ray_data import deal_from_driver, deal_from_tasks
from cnnlib.feed.read_tasks import StreamedRows
from cnnlib.feed.shared import check_shared_folders
from cnnlib.log import log_event
from cnnlib.models.registry import build_model, check_trainable, find_trained_outputs, is_registered
from cnnlib.models.runtime import load_tensorflow
from cnnlib.models.source import ModelSource
from cnnlib.runs.checkpoints import list_checkpoints
from cnnlib.runs.lease import hold_lease
from cnnlib.runs.mending import find_history, match_history
from cnnlib.runs.record import RunRecord, build_run_record, find_run_record, write_run_record
from cnnlib.runs.resume_points import find_last_step
from cnnlib.storage import layout
from cnnlib.training.first_weights import take_first_weights
from cnnlib.training.plan import RunPlan, WorkerTask, check_continues, has_stopped_early
from cnnlib.training.ray.shards import TRAIN, VALIDATION, Deal, Dealt
from cnnlib.training.ray.trainer import run_workers
from cnnlib.training.worker import train_worker

if TYPE_CHECKING:
    from cnnlib.models.freeze import FrozenLayers
    from cnnlib.models.weights import TakenWeights


class RunResult(TypedDict):
    """What a run has left in storage, as `--json` shows it.

    Attributes:
        checkpoint: URI of the last checkpoint; None if the run has none.
        metrics: the last record of the history; empty before the end of the first epoch.
    """

    run: str
    model: str
    epochs: int
    stopped_early: bool
    checkpoint: str | None
    checkpoint_digest: str | None
    history: str
    learning_curves: str
    metrics: dict[str, str | int | float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckedModel:
    """A model that was built, saved and opened again before a training.

    Attributes:
        opens_in_keras: False if only this project opens its files, with the function that built it.
        weights: the layers that begin with the weights of a file; None if none do.
        frozen: the layers that are not trained; None if all are.
    """

    parameters: int
    opens_in_keras: bool
    weights: TakenWeights | None = None
    frozen: FrozenLayers | None = None


def check_model(plan: RunPlan) -> CheckedModel:
    """Builds the model in this process, without a GPU, saves it and opens it again as the evaluation will.

    Raises:
        ModelError: it cannot be built, does not fit the data, has nothing to train, gives neither probabilities nor
            logits, cannot be saved, or is another model when it is opened; or the file of weights or the layers to
            freeze do not fit it.
    """
    load_tensorflow(num_threads=1)
    import keras

    from cnnlib.models.freeze import freeze_layers
    from cnnlib.models.round_trip import check_round_trip

    config, manifest = plan.config, plan.manifest
    # Keras numbers layers without a name by what the process has built before: with --seeds, the same model. A worker
    # has built nothing, and `freeze` means its names.
    keras.utils.clear_session()
    keras.utils.set_random_seed(config.seed)
    model = build_model(config.model, manifest.image_shape, manifest.num_classes, config.model_options)
    source = ModelSource(
        function=config.model,
        image_shape=manifest.image_shape,
        num_classes=manifest.num_classes,
        options=config.model_options,
    )
    frozen = None if config.freeze is None else freeze_layers(model, config.freeze, config.model)
    weights = take_first_weights(model, config, plan.first_weights) if plan.first_weights else None
    check_trainable(model, config.model)
    find_trained_outputs(model, config.model, manifest.image_shape)
    parameters = int(model.count_params())
    checked = check_round_trip(model, source)
    if not checked.opens_in_keras:
        log_event("model-file", model=config.model, opens_in_keras=False, reason=checked.reason)
    return CheckedModel(
        parameters=parameters, opens_in_keras=checked.opens_in_keras, weights=weights, frozen=frozen
    )


def check_on_cluster(plan: RunPlan) -> CheckedModel | None:
    """Checks a model once on the cluster, where the workers will build it, before they start. Call it connected.

    Returns:
        None for a model of this project, whole and new: no worker could find that it does not work.

    Raises:
        ModelError: see `check_model`.
        TrainingError: the task that checks it has failed.
    """
    if not _is_in_doubt(plan):
        return None
    # max_calls: the process ends, because a worker with a GPU that took it over would find the GPU hidden.
    task = ray.remote(num_cpus=1, num_gpus=0, max_retries=0, max_calls=1)(check_model)
    try:
        checked: CheckedModel = ray.get(task.remote(plan))
        return checked
    except ray.exceptions.RayError as err:
        raise cluster.find_own_error(err) or TrainingError(
            f"The model could not be built on the cluster: {err}"
        ) from err


def train(plan: RunPlan, *, live: bool) -> None:
    """Trains a run to its end, on the cluster at RAY_ADDRESS or on this machine.

    Args:
        live: True if a person watches at a terminal: the run shows a progress bar instead of log lines.

    Raises:
        ResourceError: the cluster can never hold the workers.
        ConflictError: another job trains this run.
        ClusterError: other jobs used the cluster, or a lost machine was missing, for too long.
        InputError: a worker found the model or the data unusable.
        TrainingError: the workers failed more often than `cluster.max_failures`.
    """
    config = plan.config
    # A Ray of our own always has room for all of them.
    workers = [config.workers] if in_local_mode() else config.worker_counts
    cpus = cluster.divide_cores(config.workers, config.cluster.cpus_per_worker)
    request = cluster.ResourceRequest(
        what="workers",
        count=workers[0],
        cpus=cpus,
        gpus=config.gpus_per_worker,
        readers=0,  # rows are read by tasks that take no CPU of the cluster's count
    )
    with cluster.connect(request, config.cluster.wait_for_resources_s), ExitStack() as held:
        with cluster.reserve(request, config.cluster.wait_when_busy_s):
            pass  # from here on there was room: what follows need not be said to wait
        check_shared_folders(
            read={"--data": layout.dataset_manifest(plan.dataset_uri)}, written={"--runs": plan.run}
        )
        checked = check_on_cluster(plan)
        opens_in_keras = checked is None or checked.opens_in_keras
        held.enter_context(
            hold_lease(plan.run)
        )  # the first line that writes: what was refused leaves nothing
        cache = _record_run(plan, plan.cache or _choose_cache(plan, request))
        log_event(
            "run",
            run=plan.run,
            workers=workers[0] if len(workers) == 1 else f"{workers[0]}..{workers[-1]}",
            threads_per_worker=cpus,
            learning_rate=config.scaled_learning_rate,
            steps_per_epoch=plan.steps_per_epoch,
            rows_left_out_per_epoch=plan.remainder,
            continues_from_epoch=plan.done_epochs,
        )
        task = WorkerTask(
            config=config,
            dataset_uri=plan.dataset_uri,
            manifest=plan.manifest,
            run=plan.run,
            cpus=cpus,
            steps_per_epoch=plan.steps_per_epoch,
            cache=cache,
            index=_index_rows(plan, cache),
            live=live,
            opens_in_keras=opens_in_keras,
            validation_split=plan.validation_split,
            first_weights=plan.first_weights,
        )
        run_workers(
            lambda: train_worker(task),
            deal=_deal_rows(task),
            workers=workers,
            spread=config.cluster.spread,
            cpus_per_worker=cpus,
            gpus_per_worker=config.gpus_per_worker,
            max_failures=config.cluster.max_failures,
            wait_when_busy_s=config.cluster.wait_when_busy_s,
            find_progress=lambda: find_last_step(plan.run),
            hang_timeout_s=config.cluster.hang_timeout_s,
        )
    _check_last_checkpoint(plan)


def build_result(plan: RunPlan) -> RunResult:
    """Reads what a run has left so far: URIs, and the metrics of its last epoch."""
    checkpoints = list_checkpoints(plan.run)
    history = match_history(find_history(plan.run), checkpoints)
    done_epochs = checkpoints[-1].epoch if checkpoints else 0
    last = history[-1].to_document() if history else {}
    return {
        "run": plan.run,
        "model": plan.config.model_label,
        "epochs": done_epochs,
        "stopped_early": has_stopped_early(plan.config, plan.run, done_epochs),
        "checkpoint": checkpoints[-1].uri if checkpoints else None,
        "checkpoint_digest": checkpoints[-1].digest if checkpoints else None,
        "history": layout.run_history(plan.run),
        "learning_curves": layout.run_learning_curves(plan.run),
        "metrics": last,
    }


def _check_last_checkpoint(plan: RunPlan) -> None:
    """Checks that the workers left what they were started for: on a disk that is not shared it may be elsewhere."""
    checkpoints = list_checkpoints(plan.run)
    done_epochs = checkpoints[-1].epoch if checkpoints else 0
    if done_epochs < plan.config.epochs and not has_stopped_early(plan.config, plan.run, done_epochs):
        raise TrainingError(
            f"{plan.run}: the workers ended, but the last checkpoint here is of epoch {done_epochs}, not of epoch "
            f"{plan.config.epochs}. If --runs is a local path, every machine of the cluster must mount it."
        )


def _choose_cache(plan: RunPlan, request: cluster.ResourceRequest) -> Cache:
    """Chooses where rows are kept, and checks that rows in memory fit.

    Raises:
        ResourceError: they do not fit, and nobody asked for them to be in memory.
    """
    config = plan.config
    names = [config.split, *([plan.validation_split] if plan.validation_split else [])]
    total = sum(split_bytes(plan.manifest, name) for name in names)
    cache = choose_cache(config.cache, total, cropped=config.min_crop_area < 1)
    needed = -(-total // request.count)
    memory, store = cluster.memory_per_worker(request), cluster.object_store_per_worker(request)
    log_event(
        "cache",
        asked=config.cache,
        chosen=cache,
        rows_mib_per_worker=needed / 2**20,
        memory_mib_per_worker=memory / 2**20,
        object_store_mib_per_worker=store / 2**20,
    )
    if cache == "memory" and config.cache == "auto" and not fits_in_memory(needed, memory, store):
        raise ResourceError(
            f"The rows of a worker take {needed / 2**20:.0f} MiB and do not fit: at most half of its "
            f"{memory / 2**20:.0f} MiB of memory, and 80 % of its {store / 2**20:.0f} MiB of Ray's object store, may "
            "hold rows. Give --cache none, which streams them in another order, or more --workers on more machines."
        )
    return cache


def _record_run(plan: RunPlan, cache: Cache) -> Cache:
    """Writes the run's record and returns the cache that it states; of several writers, the first one decides.

    Raises:
        ConflictError: since the plan was made, another training has started a run of this name with another config.
    """
    if write_run_record(plan.run, _build_record(plan, cache)):
        return cache
    record = find_run_record(plan.run)
    if record is None:  # deleted since
        return cache
    check_continues(record, plan.config, plan.manifest, plan.run)
    return record["cache"]


def _index_rows(plan: RunPlan, cache: Cache) -> RowIndex:
    config = plan.config
    index = index_rows(
        plan.dataset_uri,
        plan.manifest,
        config.split,
        fraction=0.0 if plan.validation_split else config.validation_fraction,
        seed=config.seed,
        cache=cache,
    )
    if plan.validation_split:
        unused = {"note": "validation_fraction is not used"} if config.validation_fraction else {}
        rows = plan.manifest.split(plan.validation_split).rows
        log_event("validation", split=plan.validation_split, rows=rows, **unused)
    elif index.validation_split.count:
        log_event(
            "validation", rows=index.validation_split.count, train_rows=index.validation_split.train_rows
        )
    return index


def _deal_rows(task: WorkerTask) -> Deal:
    """Returns how rows reach the workers.

    Rows in memory are read here on a Ray of our own, else by tasks of the cluster; streamed ones by tasks that each
    worker starts.
    """
    memory_deal = deal_from_driver if in_local_mode() else deal_from_tasks

    def deal(workers: int) -> Mapping[str, Dealt]:
        own = task.for_workers(workers)
        parts = {TRAIN: own.feed_task(), VALIDATION: own.validation_task()}
        tasks = {name: part for name, part in parts.items() if part is not None}
        if task.cache == "memory":
            return {name: memory_deal(part) for name, part in tasks.items()}
        return {name: StreamedRows(task=part, cpus_per_worker=task.cpus) for name, part in tasks.items()}

    return deal


def _build_record(plan: RunPlan, cache: Cache) -> RunRecord:
    return build_run_record(
        plan.config,
        recipe=plan.recipe,
        cache=cache,
        validation_split=plan.validation_split,
        dataset_uri=plan.dataset_uri,
        dataset_fingerprint=plan.manifest.fingerprint,
    )


def _is_in_doubt(plan: RunPlan) -> bool:
    """Returns whether a worker could find that the model does not work: not for one of ours, whole and new."""
    return not is_registered(plan.config.model) or bool(plan.first_weights or plan.config.freeze)
