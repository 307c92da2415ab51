"""Makes small datasets up and writes them without Ray, for tests of everything that reads a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cnnlib.dataset.manifest import Manifest, Shard, Split
from cnnlib.dataset.record import encode_shard
from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.shapes import ImageShape
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri

TRAIN_ROWS, TEST_ROWS = 50, 23
CLASS_NAMES = ("Coat", "Bag", "Sandal")


def make_source(
    *,
    train_rows: int = TRAIN_ROWS,
    test_rows: int = TEST_ROWS,
    image_shape: ImageShape = (8, 8, 1),
    class_names: tuple[str, ...] = CLASS_NAMES,
    seed: int = 0,
) -> Source:
    """Makes rows of one noisy pattern per class: a simple model is right about most of them, not all."""
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(0, 255, (len(class_names), *image_shape))

    def split(rows: int) -> SourceSplit:
        labels = rng.integers(len(class_names), size=rows).astype(np.int32)
        # The noise is far stronger than the differences of the patterns: some rows are nearer to another class.
        images = patterns[labels] + rng.normal(0, 350, (rows, *image_shape))
        return SourceSplit(images=np.clip(images, 0, 255).astype(np.uint8), labels=labels)

    return Source(
        class_names=class_names,
        image_shape=image_shape,
        splits={"train": split(train_rows), "test": split(test_rows)},
        description="made up for a test",
    )


def add_metadata(source: Source, columns: Mapping[str, Sequence[Any]]) -> Source:
    """Returns the same rows with metadata columns, whose values repeat, in every split."""
    splits = {
        name: dataclasses.replace(
            split,
            metadata={
                column: pa.array([values[index % len(values)] for index in range(len(split))])
                for column, values in columns.items()
            },
        )
        for name, split in source.splits.items()
    }
    return dataclasses.replace(source, splits=splits)


def write_dataset_without_ray(
    dataset_uri: str, source: Source | None = None, shard_rows: int = 10
) -> Manifest:
    """Writes a source as a dataset: every shard, then the manifest, and no preview."""
    source = source or make_source()
    manifest = Manifest(
        class_names=source.class_names,
        image_shape=source.image_shape,
        splits={name: _write_split(dataset_uri, source, name, shard_rows) for name in source.splits},
        source=source.description,
        source_digest=source.digest,
        metadata=source.metadata,
    )
    publish.write_manifest(layout.dataset_manifest(dataset_uri), manifest.to_json())
    return manifest


def _write_split(dataset_uri: str, source: Source, name: str, shard_rows: int) -> Split:
    split = source.splits[name]
    shards = []
    for index, start in enumerate(range(0, len(split), shard_rows)):
        rows = split.read(start, min(start + shard_rows, len(split)))
        data = encode_shard(rows)
        shard = Shard(
            # As earlier versions named them, without a digest: a reader believes the manifest.
            name=f"{name}/part-{index:05d}.parquet",
            rows=len(rows),
            bytes=len(data),
            sha256=publish.sha256_hex(data),
        )
        files.write_bytes(join_uri(dataset_uri, shard.name), data)
        shards.append(shard)
    counts = np.bincount(split.labels, minlength=len(source.class_names))
    return Split(rows=len(split), rows_per_class=tuple(map(int, counts)), shards=tuple(shards))
