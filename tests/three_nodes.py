"""Streams the rows of two workers on a cluster of three machines, one of which only has CPUs, and loses that machine.

python -m tests.three_nodes DATASET FOLDER prints, as JSON, the ids that each worker received, and by which machines the
blocks were read before and after the loss. Each machine is a raylet of its own on this one (`ray.cluster_utils`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.record import Rows
from cnnlib.feed.feed import FeedTask
from cnnlib.feed.read import BlockReader
from cnnlib.feed.read_tasks import StreamedRows
from cnnlib.feed.stream import StreamFeed
from cnnlib.feed.stream_plan import PlannedRead
from cnnlib.feed.validation import ValidationSplit

WORKERS, BATCH, EPOCHS = 2, 16, 2


@dataclass(frozen=True, kw_only=True)
class NotingReader(BlockReader):
    """Notes on which machine it reads."""

    folder: str

    def __call__(self, read: PlannedRead) -> Rows:
        """Reads a block."""
        Path(self.folder, f"{ray.get_runtime_context().get_node_id()}-{uuid.uuid4()}").touch()
        return super().__call__(read)


def task_of(dataset: str, rank: int = 0) -> FeedTask:
    """Returns what one of two workers reads."""
    manifest = load_manifest(dataset)
    return FeedTask(
        dataset_uri=dataset,
        manifest=manifest,
        split_name="train",
        batch_size=BATCH,
        validation_split=ValidationSplit.none(manifest.split("train").rows),
        min_crop_area=0.5,
        rank=rank,
        workers=WORKERS,
    )


def main(dataset: str, folder: Path) -> dict[str, object]:
    """Streams two epochs, and loses the machine without workers between them."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second, spare = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=2)
    os.environ["RAY_ADDRESS"] = cluster.address
    ray.init(address=cluster.address)
    cluster.wait_for_nodes()
    nodes = [cluster.head_node.node_id, second.node_id]
    ids: list[list[int]] = []
    read_by: list[dict[str, int]] = []
    feeds = []
    (folder / "notes").mkdir()
    for rank, tasks in enumerate(StreamedRows(task=task_of(dataset), cpus_per_worker=1).for_workers(nodes)):
        noting = NotingReader(**_fields(tasks.reader), folder=str(folder / "notes"))
        tasks = dataclasses.replace(tasks, reader=noting)
        # Each epoch is a stream of its own, so that all reads of the first are done before the loss.
        feeds.append(StreamFeed(task_of(dataset, rank), tasks.read))
    for epoch in range(1, EPOCHS + 1):
        for feed in feeds:
            steps = feed._task.split.rows // BATCH
            ids.append([int(row) for batch in feed.epoch(epoch, steps, 3) for row in batch.ids.ravel()])
        read_by.append(dict(_count(folder / "notes")))
        if epoch == 1:
            cluster.remove_node(spare)
    ray.shutdown()
    cluster.shutdown()
    return {"ids": ids, "read_by": read_by, "spare": spare.node_id, "workers": nodes}


def _fields(reader: BlockReader) -> dict[str, object]:
    return {each.name: getattr(reader, each.name) for each in dataclasses.fields(reader)}


def _count(folder: Path) -> Iterator[tuple[str, int]]:
    names = [path.name.partition("-")[0] for path in folder.iterdir()]
    for path in folder.iterdir():
        path.unlink()
    for name in sorted(set(names)):
        yield name, names.count(name)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))  # noqa: T201
