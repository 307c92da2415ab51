"""Finds images that a data set has several times where that makes a number wrong: in several classes or splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnlib.log import log_event

_SHOWN = 2


@dataclass(frozen=True, kw_only=True)
class Occurrences:
    """The images of a data set.

    Attributes:
        contents: a digest of each image, uint64 [rows].
        labels: the class of each, int32 [rows].
        splits: the index of the split of each, int32 [rows].
    """

    contents: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.int32]
    splits: npt.NDArray[np.int32]


def digest_image(content: bytes | memoryview) -> int:
    """Returns the digest of an image's bytes as a number of 64 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def log_equal_images(found: Occurrences, split_names: Sequence[str], describe: Callable[[int], str]) -> None:
    """Logs how many different images are in several classes, and how many in several splits, with examples.

    Args:
        split_names: the name of each split.
        describe: names the image of a row, such as by its path and class.
    """
    order = np.argsort(found.contents, kind="stable")
    contents = found.contents[order]
    starts = np.flatnonzero(np.diff(contents, prepend=contents[:1] ^ np.uint64(1)))
    counts = np.diff(starts, append=len(order))
    are_several = counts > 1
    several = [
        order[start : start + count]
        for start, count in zip(starts[are_several], counts[are_several], strict=True)
    ]
    in_classes = [group for group in several if len(set(found.labels[group])) > 1]
    if in_classes:
        log_event(
            "labels",
            note=f"{_count(in_classes)} in more than one class: a model can be right about one of them only",
            examples=_show(in_classes, describe),
        )
    in_splits = [group for group in several if len(set(found.splits[group])) > 1]
    if in_splits:
        names = ", ".join(
            sorted({split_names[split] for group in in_splits for split in found.splits[group]})
        )
        log_event(
            "splits",
            note=f"{_count(in_splits)} in more than one of the splits {names}: a model has seen what tests it",
            examples=_show(in_splits, describe),
        )


def _count(groups: Sequence[npt.NDArray[np.int64]]) -> str:
    return "1 image is" if len(groups) == 1 else f"{len(groups)} images are"


def _show(groups: Sequence[npt.NDArray[np.int64]], describe: Callable[[int], str]) -> str:
    return "; ".join(" = ".join(describe(int(row)) for row in group[:3]) for group in groups[:_SHOWN])
