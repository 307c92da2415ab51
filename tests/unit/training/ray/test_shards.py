"""Workers are handed the rows that were dealt to them; the internals of Ray that shards.py uses are where they were."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
from ray.data import DataIterator
from ray.data._internal.execution.interfaces import BlockEntry, RefBundle
from ray.data.block import BlockMetadata
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.data_integration.interfaces import DatasetShardMetadata
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.context import TrainContext
from ray.train.v2._internal.execution.worker_group import RayTrainWorker, Worker

from cnnlib.errors import StorageError
from cnnlib.feed.ray_data import DealtRows, WorkerRows
from cnnlib.training.ray import shards
from cnnlib.training.ray.shards import DealRows, ReceivedRows

CONTEXT: Any = SimpleNamespace(num_workers=2)


class FakeWorker:
    """Runs what it is sent, at once, in this process, as if this process were the worker."""

    def __init__(self) -> None:
        self.received = ReceivedRows()
        self.metadata = SimpleNamespace(node_id="node")

    def execute_async(self, function: Any, *arguments: Any) -> None:
        assert function is shards._receive
        (received,) = arguments
        context = SimpleNamespace(dataset_shard_provider=self.received)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shards, "get_train_context", lambda: context)
            function(received)

    def rows(self) -> Any:
        return self.received.get_dataset_shard(DatasetShardMetadata("train", 0))


def rows_of(rank: int) -> Any:
    return f"the rows of worker {rank}"


def start(deal: DealRows, workers: Sequence[FakeWorker]) -> None:
    """Starts workers in the order of Ray Train."""
    deal.before_worker_group_start(CONTEXT)
    given = deal.before_init_train_context(workers)  # type: ignore[arg-type]
    assert [type(each) for each in given["dataset_shard_provider"]] == [ReceivedRows] * len(workers)
    deal.after_worker_group_start(SimpleNamespace(get_workers=lambda: workers))  # type: ignore[arg-type]


def test_each_worker_gets_its_own_rows_as_soon_as_they_are_dealt() -> None:
    may_read = threading.Event()

    def deal(workers: int) -> dict[str, DealtRows]:
        assert may_read.wait(60)
        return {"train": DealtRows(of_rank=[rows_of(0), rows_of(1)])}

    workers = [FakeWorker(), FakeWorker()]
    start(DealRows(deal), workers)
    assert not workers[0].received.rows.done(), "the workers start while the rows are read"
    may_read.set()
    assert [each.rows() for each in workers] == [rows_of(0), rows_of(1)]


def test_workers_that_start_again_get_the_rows_that_were_dealt_before() -> None:
    calls = []
    deal = DealRows(lambda _: calls.append(1) or {"train": DealtRows(of_rank=[rows_of(0)])})  # type: ignore[func-returns-value]
    for _ in range(3):
        worker = FakeWorker()
        start(deal, [worker])
        assert worker.rows() == rows_of(0)
    assert len(calls) == 1


def test_another_number_of_workers_is_dealt_its_own_rows() -> None:
    dealt: list[int] = []

    def deal(workers: int) -> dict[str, DealtRows]:
        dealt.append(workers)
        return {"train": DealtRows(of_rank=[f"{rank} of {workers}" for rank in range(workers)])}  # type: ignore[misc]

    dealing = DealRows(deal)
    for number in (1, 3, 3, 1):
        workers = [FakeWorker() for _ in range(number)]
        context: Any = SimpleNamespace(num_workers=number)
        dealing.before_worker_group_start(context)
        dealing.before_init_train_context(workers)  # type: ignore[arg-type]
        dealing.after_worker_group_start(SimpleNamespace(get_workers=lambda own=workers: own))  # type: ignore[arg-type]
        assert [each.rows() for each in workers] == [f"{rank} of {number}" for rank in range(number)]
    assert dealt == [1, 3, 1]


def test_an_error_reaches_every_worker_and_the_next_start_deals_again() -> None:
    answers: list[Any] = [
        StorageError("S3 is away"),
        {"train": DealtRows(of_rank=[rows_of(0), rows_of(1)])},
    ]

    def deal(workers: int) -> dict[str, DealtRows]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    dealing = DealRows(deal)
    workers = [FakeWorker(), FakeWorker()]
    start(dealing, workers)
    for worker in workers:
        with pytest.raises(StorageError, match="S3 is away"):
            worker.rows()
    workers = [FakeWorker(), FakeWorker()]
    start(dealing, workers)
    assert [each.rows() for each in workers] == [rows_of(0), rows_of(1)]


def test_a_worker_asks_for_datasets_that_were_dealt() -> None:
    received = ReceivedRows()
    received.rows.set_result({"train": rows_of(0), "validation": rows_of(1)})
    assert received.get_dataset_shard(DatasetShardMetadata("validation", 0)) == rows_of(1)
    with pytest.raises(KeyError, match="no dataset 'test', only 'train', 'validation'"):
        received.get_dataset_shard(DatasetShardMetadata("test", 0))


def test_the_place_for_the_rows_travels_empty() -> None:
    assert not pickle.loads(pickle.dumps(ReceivedRows())).rows.done()


@pytest.mark.parametrize(
    ("owner", "method", "expected"),
    [
        (WorkerGroupCallback, "before_worker_group_start", ["self", "worker_group_context"]),
        (WorkerGroupCallback, "before_init_train_context", ["self", "workers"]),
        (WorkerGroupCallback, "after_worker_group_start", ["self", "worker_group"]),
        (Worker, "execute_async", ["self", "fn", "fn_args", "fn_kwargs"]),
        (DataIterator, "_to_ref_bundle_iterator", ["self"]),
        (DataIterator, "get_context", ["self"]),
        (TrainContext, "get_dataset_shard", ["self", "dataset_info"]),
    ],
    ids=lambda value: getattr(value, "__name__", None) or (value if isinstance(value, str) else ""),
)
def test_method_that_is_replaced_or_called_has_the_parameters_it_had(
    owner: type, method: str, expected: list[str]
) -> None:
    assert list(inspect.signature(getattr(owner, method)).parameters) == expected


def test_worker_still_takes_the_provider_that_rays_own_callback_gives() -> None:
    assert "dataset_shard_provider" in inspect.signature(RayTrainWorker.init_train_context).parameters
    assert "dataset_shard_provider" in {each.name for each in dataclasses.fields(TrainContext)}
    assert "dataset_shard_provider" in inspect.getsource(DatasetsCallback.before_init_train_context)
    assert callable(ray.train.get_dataset_shard)


def test_blocks_are_described_to_ray_data_without_an_executor_or_statistics() -> None:
    ref = ray.ObjectRef.from_random()
    rows = WorkerRows([(ref, 3)], (2, 2, 1))
    bundles, stats, executor = rows._to_ref_bundle_iterator()
    (bundle,) = bundles
    assert isinstance(bundle, RefBundle)
    assert bundle.blocks == (BlockEntry(ref, BlockMetadata(num_rows=3, size_bytes=12, exec_stats=None)),)
    assert (stats, executor) == (None, None)
    assert rows.get_context().execution_options.preserve_order
