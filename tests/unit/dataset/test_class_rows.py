"""Rows of one class and a split none of whose classes is taught are refused; a split may lack some classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.class_rows import check_class_rows
from cnnlib.dataset.decode import ImageRules
from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.dataset.stream_writer import StreamOptions, run_in_threads, write_streamed
from cnnlib.dataset.writer import write_dataset
from cnnlib.errors import DatasetError
from cnnlib.sources.folders import load_folders
from tests.image_files import encode, noise

NAMES = ("ape", "bee", "cat", "dog", "elk")


@pytest.mark.parametrize(
    "counts",
    [
        {"train": (2, 2, 2, 2, 2), "test": (0, 0, 0, 0, 1)},
        {"train": (2, 2, 0, 0, 0), "test": (0, 1, 1, 1, 1)},
        {"test": (1, 0, 0, 0, 0), "fold2": (0, 1, 0, 0, 0)},
        {"train": (1, 1, 1, 1, 1), "val": (0, 0, 0, 0, 0)},
        {"train": (1, 1, 1, 1, 1)},
        {"train": (0, 0, 0, 0, 0)},
    ],
)
def test_splits_that_share_a_class_with_the_training_rows_are_right(
    counts: dict[str, tuple[int, ...]],
) -> None:
    check_class_rows(counts, NAMES, "data")


def test_a_split_of_other_classes_is_named_with_its_classes() -> None:
    counts = {"train": (3, 1, 0, 0, 0), "val": (1, 0, 0, 0, 0), "test": (0, 0, 2, 1, 1)}
    with pytest.raises(
        DatasetError, match=r"of the split 'test' has training.*has cat, dog, elk; 'train' has ape, bee"
    ):
        check_class_rows(counts, NAMES, "data")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": (0, 3, 0, 0, 0), "test": (0, 1, 0, 0, 0)}, "has images of one class only, bee"),
        (
            {"train": (0, 3, 0, 0, 0), "test": (1, 1, 1, 1, 0)},
            "'train' has rows of one class only, bee, and the others have ape, bee, cat, …",
        ),
    ],
)
def test_one_class_is_too_few(counts: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        check_class_rows(counts, NAMES, "data")


def test_arrays_of_which_no_test_class_is_taught_are_not_written(tmp_path: Path) -> None:
    images = np.zeros((4, 5, 5, 1), np.uint8)
    splits = {
        name: SourceSplit(images=images, labels=np.array(labels, np.int32))
        for name, labels in (("train", [0, 1, 0, 1]), ("test", [2, 2, 2, 2]))
    }
    source = Source(class_names=("a", "b", "c"), image_shape=(5, 5, 1), splits=splits, description="made up")
    with pytest.raises(DatasetError, match="no class of the split 'test' has training rows"):
        write_dataset(source, str(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_folders_of_which_no_test_class_is_taught_are_not_published(tmp_path: Path) -> None:
    for number, name in enumerate(("train/cat", "train/dog", "test/cats", "test/dogs")):
        path = tmp_path / "in" / name / "1.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(noise(8, 8, 1, seed=number)))
    source = load_folders(str(tmp_path / "in"), ImageRules(channels=1))
    with pytest.raises(DatasetError, match="It has cats, dogs; 'train' has cat, dog"):
        write_streamed(source, str(tmp_path / "data"), StreamOptions(), run_in_threads)
    assert not list((tmp_path / "data").rglob("*.parquet"))
