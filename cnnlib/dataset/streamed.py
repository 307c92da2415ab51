"""Defines the contract of a source whose images are read one by one: what there is, and how one of them is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.class_names import check_class_names
from cnnlib.dataset.compact import Compact
from cnnlib.errors import DatasetError


class BadImageError(Exception):
    """An image that cannot be used, and the reason in a few words. It never leaves the code that prepares images."""


Value = bool | int | float | str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An image that a source lists; it becomes a row unless it cannot be read.

    Attributes:
        key: what names it in the source, such as its path below the source's folder; unique.
        label: index of its class; None: its class is not known.
        split: name of its split; None: the content of the image decides.
        metadata: the values of the metadata columns by name.
        problem: why it cannot be used, if that is known already.
        version: a text that changes when its file is replaced; empty if that is not known.
        location: what `ReadImage` is called with, if that is not the key.
    """

    key: str
    label: int | None
    split: str | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)
    problem: str = ""
    version: str = ""
    location: str = ""


class Candidates(Compact[Candidate]):
    """Candidates in about a hundred bytes each."""

    def _to_values(self, item: Candidate) -> tuple[Any, ...]:
        place = item.location.split(" ", 2)  # where it is in a file, and the URI, which others have, too
        return (
            item.key,
            self.share(item.label),
            self.share(item.split),
            dict(item.metadata) or None,
            self.share(item.problem),
            self.share(item.version),
            place[:-1] or None,
            self.share(place[-1]),
        )

    def _from_values(self, values: tuple[Any, ...]) -> Candidate:
        key, label, split, metadata, problem, version, place, uri = values
        return Candidate(
            key=key,
            label=self.shared(label),
            split=self.shared(split),
            metadata=metadata or {},
            problem=self.shared(problem),
            version=self.shared(version),
            location=" ".join((*(place or ()), self.shared(uri))),
        )


class ReadImage(Protocol):
    """Reads one image, by its candidate's location or key. It is sent to other processes, so it can be pickled."""

    def __call__(self, key: str) -> tuple[bytes, npt.NDArray[np.uint8]]:
        """Returns the bytes that identify the image, and its pixels, uint8 [height, width, channels].

        Raises:
            BadImageError: it cannot be used.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class StreamedSource:
    """Describes a source of images that need not fit into memory.

    Attributes:
        class_names: the name of class i at index i.
        candidates: all images that are listed, in any order; `Candidates` where they may be many.
        read: reads the image of a key.
        fractions: the fraction of each split, for candidates without a split of their own; they add up to 1.
        metadata: name and type of the metadata columns, see `cnnlib.dataset.metadata`.
        settings: everything else that changes a pixel, in words: a part of what identifies the dataset.
        description: where the images came from, in words.
        copies: objects below the dataset's folder that the source made of its images; they are deleted at the end.
    """

    class_names: tuple[str, ...]
    candidates: Sequence[Candidate]
    read: ReadImage
    fractions: Mapping[str, float]
    settings: str
    description: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    copies: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_class_names(self.class_names, self.description)
        if not self.candidates:
            raise DatasetError(f"{self.description}: there is no image.")

    def split_of(self, candidate: Candidate, content: bytes) -> str:
        """Returns the split of an image: its own, or one that its content decides.

        Equal images come into the same split, and an image that is added later moves no other.
        """
        if candidate.split is not None:
            return candidate.split
        place = int.from_bytes(hashlib.sha256(b"split " + content).digest()[:8], "big") / 2**64
        reached = 0.0
        for name, fraction in self.fractions.items():
            reached += fraction
            if place < reached:
                return name
        return list(self.fractions)[-1]


def row_id(key: str) -> int:
    """Returns the id of the row of a key, 0..2**63 - 1: it does not depend on what else is in the dataset."""
    return int.from_bytes(hashlib.sha256(encode_text(key)).digest()[:8], "big") >> 1


def encode_text(text: str) -> bytes:
    """Returns the bytes of a text. A local path may have bytes that are not UTF-8; they stay as they are."""
    return text.encode(errors="surrogateescape")
