"""A trial is a training in a process of its own, and its end is a result; the search gives the batch of all workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from cnnlib.config import AugmentConfig, ClusterConfig, LoopConfig, TrainConfig
from cnnlib.errors import ConfigError, ModelError, ResourceError
from cnnlib.largest_batch_config import LargestBatchConfig
from cnnlib.training.largest_batch import run
from cnnlib.training.largest_batch.run import plan_search, search_largest_batch
from cnnlib.training.largest_batch.trial import Trial, is_out_of_memory, try_batch
from cnnlib.training.one_process import build_task
from cnnlib.training.plan import WorkerTask
from jobs.largest_batch import main
from tests.datasets import TRAIN_ROWS, make_source, write_dataset_without_ray

MIB = 2**20


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A dataset of 50 train rows of 8x8x1 in three classes."""
    write_dataset_without_ray(str(tmp_path / "data"), make_source())
    return str(tmp_path / "data")


def task(data: str, model: str, batch_size: int = 8) -> WorkerTask:
    return build_task(plan_search(TrainConfig(model=model, batch_size=batch_size), data), cpus=1)


def test_a_trial_that_takes_too_much_is_ended(data: str) -> None:
    tried = try_batch(task(data, "dnn"), steps=1, memory_bytes=50 * MIB)  # TensorFlow alone takes more
    assert not tried.fits
    assert tried.peak_bytes is not None
    assert tried.peak_bytes > 50 * MIB
    assert (tried.images_per_s, tried.problem) == (None, "more memory than it may take")


def test_a_trial_that_the_kernel_kills_does_not_fit_and_kills_nobody_else(data: str) -> None:
    tried = try_batch(task(data, "tests.models:build_killed"), steps=1, memory_bytes=None)
    assert (tried.fits, tried.problem) == (False, "the kernel killed it")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), True),
        (
            tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
            True,
        ),
        (tf.errors.InternalError(None, None, "Failed to allocate scratch buffer"), True),
        (tf.errors.InternalError(None, None, "no algorithm worked"), False),
        (ValueError("shapes differ"), False),
    ],
)
def test_errors_of_too_little_memory_are_told_from_others(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_model_that_cannot_be_trained_is_an_error_and_no_matter_of_memory(data: str) -> None:
    with pytest.raises(ModelError, match="classes"):
        try_batch(task(data, "tests.models:build_eleven_classes"), steps=1, memory_bytes=None)


def test_the_job_shows_memory_and_speed_and_the_batch_to_take(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", data, "--batch-size", "16", "--highest", "32", "--steps", "1"]
    code = main(["dnn", *flags, "--cluster.cpus-per-worker", "1", "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    assert (result["batch_size"], result["workers"]) == (32, 1)
    assert result["fastest_batch_size"] in (16, 32)
    assert [each["worker_batch_size"] for each in result["trials"]] == [16, 32]
    for each in result["trials"]:
        assert each["fits"]
        assert 100 * MIB < each["peak_bytes"] < result["memory_bytes"]  # at least TensorFlow
        assert each["images_per_s"] > 0
    assert "--batch-size 32 is the largest that fits" in captured.err
    assert list(Path(data).parent.iterdir()) == [Path(data)], "it writes nothing"


class Tries:
    """Stands for the trials: batches of at most `most` rows fit, and half of that is the fastest."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tasks: list[WorkerTask] = []
        self.memory_bytes: int | None = None

    def __call__(self, task: WorkerTask, *, steps: int, memory_bytes: int | None) -> Trial:
        self.tasks.append(task)
        self.memory_bytes = memory_bytes
        rows = task.config.batch_size
        if rows > self.most:
            return Trial(worker_batch_size=rows, peak_bytes=None, images_per_s=None, problem="too much")
        speed = 100.0 - abs(rows - self.most / 2)
        return Trial(worker_batch_size=rows, peak_bytes=rows, images_per_s=speed, problem=None)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Tries:
    stand_in = Tries(16)
    monkeypatch.setattr(run, "try_batch", stand_in)
    monkeypatch.setattr(run, "find_free_memory", lambda: 1000 * MIB)
    return stand_in


def search(data: str, config: TrainConfig, **options: Any) -> run.LargestBatch:
    return search_largest_batch(plan_search(config, data), LargestBatchConfig(**options))


def test_the_batch_is_that_of_all_workers_who_share_the_memory(data: str, tries: Tries) -> None:
    found = search(data, TrainConfig(batch_size=8, workers=2, cluster=ClusterConfig(cpus_per_worker=3)))
    assert (found["batch_size"], found["fastest_batch_size"], found["workers"]) == (32, 16, 2)
    assert [each["worker_batch_size"] for each in found["trials"]] == [4, 8, 16, 18, 20, 25]
    assert tries.memory_bytes == found["memory_bytes"] == 450 * MIB
    assert {each.config.workers for each in tries.tasks} == {1}
    assert {each.cpus for each in tries.tasks} == {3}
    assert search(data, TrainConfig(batch_size=8), memory_gib=2.0)["memory_bytes"] == 2048 * MIB


def test_with_fewer_workers_their_batches_are_larger(data: str, tries: Tries) -> None:
    found = search(data, TrainConfig(batch_size=12, workers=3, min_workers=1))
    assert (found["batch_size"], found["workers"]) == (15, 1)  # three workers can divide it too


def test_batches_divide_into_micro_batches_and_pairs_and_are_no_more_than_the_rows(
    data: str, tries: Tries
) -> None:
    tries.most = 10_000
    config = TrainConfig(batch_size=12, loop=LoopConfig(micro_batches=3), augment=AugmentConfig(mixup=1.0))
    assert search(data, config)["batch_size"] == TRAIN_ROWS // 6 * 6
    with pytest.raises(ConfigError, match=r"highest must be at least 6 for this config\. Received 5\."):
        search(data, config, highest=5)


def test_if_nothing_fits_it_says_so(data: str, tries: Tries) -> None:
    tries.most = 0
    with pytest.raises(
        ResourceError, match=r"Not even a batch of 1 fits: too much\. Expected at most 0\.88 GiB\."
    ):
        search(data, TrainConfig(batch_size=8))


def test_where_the_system_does_not_tell_the_memory_must_be_given(
    data: str, tries: Tries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "find_free_memory", lambda: None)
    with pytest.raises(ConfigError, match="Give --memory-gib"):
        search(data, TrainConfig(batch_size=8))
    assert search(data, TrainConfig(batch_size=8, gpus_per_worker=1))["memory_bytes"] is None
