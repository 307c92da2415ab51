"""Opens the feed of a training that streams its rows, on a Ray of its own, without the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from cnnlib.cluster.connect import ResourceRequest, connect
from cnnlib.dataset.manifest import load_manifest
from cnnlib.feed.feed import FeedTask
from cnnlib.feed.read_tasks import StreamedRows
from cnnlib.feed.stream import StreamFeed
from cnnlib.feed.validation import ValidationSplit


@contextmanager
def open_stream(
    dataset_uri: str, *, batch_size: int, threads: int, epochs: int, min_crop_area: float = 1.0
) -> Iterator[tuple[StreamFeed, int]]:
    """Opens the feed of one worker for the split train; yields it and the steps of an epoch.

    Args:
        threads: CPUs that the worker would take.
        epochs: up to which the stream goes on.
        min_crop_area: see `TrainConfig`.
    """
    manifest = load_manifest(dataset_uri)
    rows = manifest.split("train").rows
    task = FeedTask(
        dataset_uri=dataset_uri,
        manifest=manifest,
        split_name="train",
        batch_size=batch_size,
        validation_split=ValidationSplit.none(rows),
        min_crop_area=min_crop_area,
    )
    with connect(ResourceRequest(what="workers", count=1, cpus=threads, gpus=0, readers=0)):
        streamed = StreamedRows(task=task, cpus_per_worker=threads)
        [tasks] = streamed.for_workers([ray.get_runtime_context().get_node_id()])
        yield StreamFeed(task, tasks.read, last_epoch=epochs), rows // batch_size
