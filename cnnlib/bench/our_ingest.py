"""Our data path alone: a worker's shards into macro-batches of tensors, without training. Run by the harness."""

from __future__ import annotations

import json
import sys
import time

from cnnlib import cluster, local_ray
from cnnlib.data.manifest import load_manifest
from cnnlib.data.order import epoch_order
from cnnlib.data.record import Rows
from cnnlib.models.runtime import load_tensorflow

_STEPS_PER_CALL = 25


def main(dataset_uri: str, batch_size: int, threads: int) -> float:
    """Returns images per second of the second epoch."""
    rows = _read(dataset_uri, threads)
    load_tensorflow(threads)
    from cnnlib.data.batches import iter_macro_batches

    def epoch(number: int) -> int:
        order = epoch_order(len(rows), batch_size, range(batch_size), seed=0, epoch=number)
        batches = iter_macro_batches(rows, order, _STEPS_PER_CALL, "/device:CPU:0")
        return sum(int(batch.images.shape[0] * batch.images.shape[1]) for batch in batches)

    epoch(1)
    started = time.perf_counter()
    count = epoch(2)
    return count / (time.perf_counter() - started)


def _read(dataset_uri: str, threads: int) -> Rows:
    local_ray.set_environment()
    from cnnlib.data import ingest

    manifest = load_manifest(dataset_uri)
    with cluster.connect(cluster.Demand(what="readers", count=1, cpus=max(1, threads - 1), gpus=0)):
        dataset = ingest.build_dataset(dataset_uri, manifest, "train")
        return ingest.read_all(dataset.iterator(), manifest.image_shape)


if __name__ == "__main__":
    print(json.dumps({"images_per_s": main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))}))  # noqa: T201
