"""Writes images as Parquet with `from_numpy` and `write_parquet`, as the guide of Ray Data for tensors shows.

https://docs.ray.io/en/latest/data/working-with-tensors.html
"""

from __future__ import annotations

import sys

import ray

from cnnlib.bench.peers.idx import read_idx


def main(folder: str, output: str) -> None:
    """Writes the training rows of a folder of IDX files."""
    images, labels = read_idx(folder, "train")
    ray.init(address="local")
    dataset = ray.data.from_numpy(images).rename_columns({"data": "image"})
    dataset = dataset.zip(ray.data.from_numpy(labels.astype("int32")).rename_columns({"data": "label"}))
    dataset.repartition(12).write_parquet(output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
