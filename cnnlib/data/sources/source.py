"""What every source gives: classes, an image shape, and rows by split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cnnlib.data.record import ImageShape, Rows


@dataclass(frozen=True, kw_only=True)
class SourceSplit:
    """One split in memory: images uint8 [rows, height, width, channels], labels int32 [rows]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, start: int, stop: int) -> Rows:
        """Rows [start, stop); a row's id is its position."""
        return Rows(
            ids=np.arange(start, stop, dtype=np.int64),
            images=self.images[start:stop],
            labels=self.labels[start:stop],
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set before it is one of ours.

    Attributes:
        description: where the rows came from, in words, for the manifest.
    """

    class_names: tuple[str, ...]
    image_shape: ImageShape
    splits: Mapping[str, SourceSplit]
    description: str

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over classes, shapes, pixels and labels: of the rows, whatever file held them."""
        digest = hashlib.sha256(repr((self.class_names, self.image_shape)).encode())
        for name, split in self.splits.items():
            digest.update(f"{name} {split.images.shape}".encode())
            digest.update(np.ascontiguousarray(split.images).data)
            digest.update(np.ascontiguousarray(split.labels).data)
        return digest.hexdigest()
