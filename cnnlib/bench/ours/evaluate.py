"""Measures our predictor without Ray: a loaded model scores the test rows of a dataset."""

from __future__ import annotations

import json
import sys
import time

import pyarrow as pa

from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.reader import read_shard
from cnnlib.dataset.record import SHARD_INDEX, decode_shard
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.predictor import Predictor, PredictorTask
from cnnlib.evaluation.target import find_target
from cnnlib.metrics.sums.rows import keeps_rows


def main(model_file: str, dataset_uri: str, threads: int) -> float:
    """Returns the images per second of the second pass over the test rows, with the sums of all metrics."""
    manifest = load_manifest(dataset_uri)
    predictor = Predictor(
        PredictorTask(
            targets=(find_target(model_file, "0-255"),),
            config=EvaluateConfig(),
            image_shape=manifest.image_shape,
            num_classes=manifest.num_classes,
            cpus=threads,
            reports_uri="",
            report_ids=None,
            keep_rows=keeps_rows(manifest.split("test").rows, manifest.num_classes),
        )
    )
    tables = [
        table.append_column(SHARD_INDEX, pa.repeat(pa.scalar(index, pa.int32()), len(table)))
        for index, table in enumerate(
            decode_shard(read_shard(dataset_uri, shard), shard.name)
            for shard in manifest.split("test").shards
        )
    ]

    def score_all() -> None:
        for table in tables:
            predictor(table)

    score_all()
    started = time.perf_counter()
    score_all()
    return manifest.split("test").rows / (time.perf_counter() - started)


if __name__ == "__main__":
    print(json.dumps({"images_per_s": main(sys.argv[1], sys.argv[2], int(sys.argv[3]))}))  # noqa: T201
