"""Defines the contract of a source: each format in sources/ returns a `Source`, and the writer takes one.

A source has classes, an image shape, and the rows of every split in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.class_names import check_class_names
from cnnlib.dataset.metadata import describe_columns
from cnnlib.dataset.record import Rows
from cnnlib.errors import DatasetError
from cnnlib.shapes import ImageShape


@dataclass(frozen=True, kw_only=True)
class SourceSplit:
    """Holds one split in memory.

    Attributes:
        images: uint8 [rows, height, width, channels].
        labels: int32 [rows].
        metadata: further columns by name: bool, int64, float64 or string, with one value per row, nulls allowed.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    metadata: Mapping[str, pa.Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, start: int, stop: int) -> Rows:
        """Returns the rows at positions [start, stop); a row's id is its position."""
        return Rows(
            ids=np.arange(start, stop, dtype=np.int64),
            images=self.images[start:stop],
            labels=self.labels[start:stop],
            metadata={name: values.slice(start, stop - start) for name, values in self.metadata.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """Describes a dataset before it is written as shards and a manifest.

    Attributes:
        class_names: the name of class i at index i; a DatasetError if two are the same.
        image_shape: of every image; a DatasetError if it has no pixels.
        description: where the rows came from, in words, for the manifest.
    """

    class_names: tuple[str, ...]
    image_shape: ImageShape
    splits: Mapping[str, SourceSplit]
    description: str

    def __post_init__(self) -> None:
        check_class_names(self.class_names, self.description)
        if 0 in self.image_shape:
            raise DatasetError(
                f"{self.description}: the images have no pixels. Received height, width, channels {self.image_shape}."
            )

    @cached_property
    def metadata(self) -> dict[str, str]:
        """Returns the types of the metadata columns by name.

        Raises:
            DatasetError: a shard cannot hold a column, or the splits have different columns.
        """
        columns = {name: describe_columns(split.metadata, len(split)) for name, split in self.splits.items()}
        first_name, first = next(iter(columns.items()), ("", {}))
        for name, own in columns.items():
            if own != first:
                raise DatasetError(
                    "All splits need the same metadata columns. "
                    f"Received {first or 'none'} in {first_name!r}, and {own or 'none'} in {name!r}."
                )
        return first

    @cached_property
    def digest(self) -> str:
        """Returns the sha256 (hex) over classes, shapes, pixels, labels and metadata, but not over file names."""
        digest = hashlib.sha256(repr((self.class_names, self.image_shape)).encode())
        for name, split in self.splits.items():
            digest.update(f"{name} {split.images.shape}".encode())
            digest.update(np.ascontiguousarray(split.images).data)
            digest.update(np.ascontiguousarray(split.labels).data)
            for column, values in split.metadata.items():
                digest.update(json.dumps([column, values.to_pylist()]).encode())
        return digest.hexdigest()
