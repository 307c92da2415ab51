"""Tries batch sizes of a recipe's training, each in a process of its own, without Ray, and writes nothing."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from typing import Any, TypedDict

from cnnlib.config import TrainConfig
from cnnlib.cores import num_cores
from cnnlib.errors import ConfigError, ResourceError
from cnnlib.largest_batch_config import LargestBatchConfig
from cnnlib.log import log_event
from cnnlib.memory import find_free_memory
from cnnlib.training.largest_batch.search import find_largest
from cnnlib.training.largest_batch.trial import Trial, try_batch
from cnnlib.training.one_process import build_task
from cnnlib.training.plan import RunPlan, plan_run

_GIB = 2**30
_SHARE = 0.9  # of the free memory: the rest is for Ray, and for what else the machine does


class LargestBatch(TypedDict):
    """What the search found, as `--json` shows it.

    Attributes:
        batch_size: of all workers, as `--batch-size` takes it: the largest that fits.
        fastest_batch_size: the one with the most images per second, of those that were tried and fit.
        workers: workers of the training; with `--min-workers`, the fewest, whose batches are the largest.
        memory_bytes: the most that a worker may take; None: all of its GPU.
        trials: in ascending order, with the fields of `Trial`.
    """

    batch_size: int
    fastest_batch_size: int
    workers: int
    memory_bytes: int | None
    trials: list[dict[str, Any]]


def plan_search(config: TrainConfig, dataset_uri: str) -> RunPlan:
    """Checks config and data as for a training. No weights of a file: they take no more memory than new ones.

    Raises:
        InputError: the config or the data cannot work.
    """
    with tempfile.TemporaryDirectory() as nowhere:  # where a run would be written
        return plan_run(dataclasses.replace(config, weights=None), dataset_uri, nowhere, "batches")


def search_largest_batch(plan: RunPlan, search: LargestBatchConfig) -> LargestBatch:
    """Tries batch sizes, from that of the config on.

    The memory is that of the training steps: the rows that are kept (`--cache`) and what Ray takes are not in it.

    Raises:
        ConfigError: the free memory is not known and not given, or the highest batch is too small for the config.
        ResourceError: not even the smallest batch fits.
        ModelError: the model cannot be built, or does not fit the data.
    """
    config, workers = plan.config, plan.config.worker_counts[0]
    memory_bytes = _limit(config, search, workers)
    # A worker's batch must divide into micro-batches and pairs; that of all workers must divide by their number.
    unit = config.loop.micro_batches * (2 if config.augment.mixes else 1)
    unit *= config.workers // math.gcd(config.workers, workers)
    train_rows = plan.steps_per_epoch * config.batch_size + plan.remainder
    highest = min(search.highest, train_rows // workers)
    if highest < unit:
        raise ConfigError(f"highest must be at least {unit} for this config. Received {highest}.")
    cpus = config.cluster.cpus_per_worker or max(1, num_cores() // workers)
    trials: list[Trial] = []

    def fits(rows: int) -> bool:
        one = dataclasses.replace(plan, config=_for_one_worker(config, rows))
        trial = try_batch(build_task(one, cpus), steps=search.steps, memory_bytes=memory_bytes)
        trials.append(trial)
        log_event("batch", **_shown(trial))
        return trial.fits

    largest = find_largest(fits, first=config.batch_size // workers, unit=unit, highest=highest)
    trials.sort(key=lambda each: each.worker_batch_size)
    if largest is None:
        raise ResourceError(
            f"Not even a batch of {unit} fits: {trials[0].problem}. Expected at most {_in_gib(memory_bytes)}. Give "
            "smaller images, a smaller model, or more memory."
        )
    fastest = max((each for each in trials if each.fits), key=lambda each: each.images_per_s or 0.0)
    return {
        "batch_size": largest * workers,
        "fastest_batch_size": fastest.worker_batch_size * workers,
        "workers": workers,
        "memory_bytes": memory_bytes,
        "trials": [{**dataclasses.asdict(each), "fits": each.fits} for each in trials],
    }


def _limit(config: TrainConfig, search: LargestBatchConfig, workers: int) -> int | None:
    if search.memory_gib is not None:
        return int(search.memory_gib * _GIB)
    if config.gpus_per_worker:
        return None
    free = find_free_memory()
    if free is None:
        raise ConfigError("The free memory of this machine is not known. Give --memory-gib.")
    return int(free * _SHARE / workers)


def _for_one_worker(config: TrainConfig, rows: int) -> TrainConfig:
    """Returns the config of one worker with a batch of so many rows."""
    return dataclasses.replace(config, workers=1, min_workers=None, batch_size=rows)


def _shown(trial: Trial) -> dict[str, object]:
    fields: dict[str, object] = {"worker_batch_size": trial.worker_batch_size, "fits": trial.fits}
    if trial.peak_bytes is not None:
        fields["peak_gib"] = trial.peak_bytes / _GIB
    if trial.images_per_s is not None:
        fields["images_per_s"] = trial.images_per_s
    return fields if trial.problem is None else {**fields, "reason": trial.problem}


def _in_gib(memory_bytes: int | None) -> str:
    return "the memory of the GPU" if memory_bytes is None else f"{memory_bytes / _GIB:.2f} GiB"
