"""Images that occur several times are counted once each, where they make a number wrong."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlib.dataset.equal_images import Occurrences, digest_image, log_equal_images
from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.dataset.writer import write_dataset


def said(
    capsys: pytest.CaptureFixture[str], contents: list[int], labels: list[int], splits: list[int]
) -> list[str]:
    found = Occurrences(
        contents=np.array(contents, np.uint64),
        labels=np.array(labels, np.int32),
        splits=np.array(splits, np.int32),
    )
    log_equal_images(found, ["test", "train"], lambda row: f"row{row}")
    return capsys.readouterr().err.splitlines()


def test_equal_images_of_one_class_and_split_are_nobodys_concern(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, [7, 7, 8, 8, 0], [1, 1, 0, 0, 1], [1, 1, 0, 0, 1]) == []
    assert said(capsys, [], [], []) == []


def test_each_image_counts_once_whatever_its_copies(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = said(capsys, [5, 5, 5, 0, 6, 6], [0, 1, 2, 0, 1, 1], [1] * 6)
    assert "1 image is in more than one class" in line
    assert 'examples="row0 = row1 = row2"' in line
    [line] = said(capsys, [5, 6, 5, 6, 2**64 - 1], [0, 1, 0, 1, 1], [0, 0, 1, 1, 1])
    assert "2 images are in more than one of the splits test, train" in line
    assert 'examples="row0 = row2; row1 = row3"' in line


def test_a_source_in_memory_is_looked_through_too(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    images[5] = images[0]
    splits = {
        "train": SourceSplit(images=images[:4], labels=np.array([0, 1, 0, 1], np.int32)),
        "test": SourceSplit(images=images[4:], labels=np.array([0, 1], np.int32)),
    }
    source = Source(class_names=("a", "b"), image_shape=(4, 4, 1), splits=splits, description="made up")
    write_dataset(source, f"{tmp_path}/data")
    lines = capsys.readouterr().err
    assert "1 image is in more than one class" in lines
    assert "train 0 (a) = test 1 (b)" in lines
    assert "1 image is in more than one of the splits test, train" in lines


def test_digests_are_of_64_bits() -> None:
    assert digest_image(b"a") != digest_image(b"b")
    assert 0 <= digest_image(memoryview(b"")) < 2**64
