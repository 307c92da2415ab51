"""Blocks of a stream are read from datasets of pixels and of image files, cropped or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.decode import ImageRules
from cnnlib.dataset.encoding import ImageEncoding
from cnnlib.dataset.manifest import Manifest
from cnnlib.dataset.reader import read_positions
from cnnlib.dataset.stream_writer import StreamOptions, run_in_threads, write_streamed
from cnnlib.feed.crop import crop_file, crop_pixels
from cnnlib.feed.feed import Feed, FeedTask, HostBatch
from cnnlib.feed.memory import MemoryFeed
from cnnlib.feed.read_tasks import share_cpus
from cnnlib.feed.stream import StreamFeed
from cnnlib.feed.validation import ValidationSplit
from cnnlib.sources.folders import load_folders
from tests.feeds import build_feed
from tests.image_files import write_folders

SIZE = (12, 10)
RULES = ImageRules(size=SIZE, channels=3)
PNG = ImageEncoding(format="png", rules=RULES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "images", rows=40, side=30)


def prepare(folder: Path, encoding: ImageEncoding | None) -> tuple[str, Manifest]:
    output = str(folder.parent / (encoding.format if encoding else "raw"))
    options = StreamOptions(shard_bytes=12 * 10 * 3 * 9, encoding=encoding)
    source = load_folders(str(folder), RULES, splits=["train=0.8", "val=0.2"])
    return output, write_streamed(source, output, options, run_in_threads).manifest


def task_of(data: str, manifest: Manifest, **changes: float) -> FeedTask:
    none = ValidationSplit.none(manifest.split("train").rows)
    task = FeedTask(
        dataset_uri=data, manifest=manifest, split_name="train", batch_size=8, validation_split=none, seed=5
    )
    return dataclasses.replace(task, **changes)  # type: ignore[arg-type]


def one_epoch(task: FeedTask, epoch: int, workers: int) -> list[HostBatch]:
    """Returns the batches of all workers, one after the other."""
    steps = task.split.rows // task.batch_size
    batches: list[HostBatch] = []
    for rank in range(workers):
        batches += build_feed(StreamFeed, dataclasses.replace(task, rank=rank, workers=workers)).epoch(
            epoch, steps, 3
        )
    return batches


def by_id(batches: list[HostBatch]) -> dict[int, bytes]:
    found = {}
    for batch in batches:
        images = batch.images.reshape(-1, *batch.images.shape[2:])
        found |= {
            number: image.tobytes() for number, image in zip(batch.ids.ravel().tolist(), images, strict=True)
        }
    return found


@pytest.mark.parametrize("encoding", [None, PNG])
def test_streamed_rows_are_those_that_the_evaluation_reads(
    folder: Path, encoding: ImageEncoding | None
) -> None:
    data, manifest = prepare(folder, encoding)
    stored = read_positions(data, manifest, manifest.split("train"), np.arange(manifest.split("train").rows))
    expected = dict(zip(stored.ids.tolist(), (image.tobytes() for image in stored.images), strict=True))
    found = by_id(one_epoch(task_of(data, manifest), 1, 2))
    assert len(found) == len(stored) // 8 * 8
    assert found.items() <= expected.items()


@pytest.mark.parametrize("encoding", [None, PNG])
def test_crops_are_the_same_whoever_reads_and_others_in_every_epoch(
    folder: Path, encoding: ImageEncoding | None
) -> None:
    data, manifest = prepare(folder, encoding)
    task = task_of(data, manifest, min_crop_area=0.3)
    one, four = by_id(one_epoch(task, 2, 1)), by_id(one_epoch(task, 2, 4))
    assert one == four
    later = by_id(one_epoch(task, 3, 1))
    assert (
        sum(image != later[number] for number, image in one.items() if number in later) > 0.9 * len(one) - 8
    )
    draw = {"min_area": 0.3, "seed": 5, "epoch": 2}
    stored = read_positions(data, manifest, manifest.split("train"), np.arange(manifest.split("train").rows))
    files = {row: path for path in folder.rglob("*.png") for row in [_row(path, folder)]}
    for number, image in zip(stored.ids.tolist(), stored.images, strict=True):
        if number in one:
            expected = (
                crop_pixels(image, row_id=number, **draw)  # type: ignore[arg-type]
                if encoding is None
                else crop_file(files[number].read_bytes(), encoding, (*SIZE, 3), row_id=number, **draw)  # type: ignore[arg-type]
            )
            assert one[number] == expected.tobytes()


@pytest.mark.parametrize("kind", [MemoryFeed, StreamFeed])
def test_the_rows_of_a_split_of_its_own_are_validation_rows(folder: Path, kind: type[Feed]) -> None:
    data, manifest = prepare(folder, PNG)
    rows = manifest.split("val").rows
    task = task_of(data, manifest, min_crop_area=0.3)
    task = dataclasses.replace(task, split_name="val", validation_split=ValidationSplit.all(rows))
    stored = read_positions(data, manifest, manifest.split("val"), np.arange(rows))
    for workers in (1, 2, 4):
        feeds = [
            build_feed(StreamFeed, dataclasses.replace(task, rank=rank, workers=workers))
            for rank in range(workers)
        ]
        given = [part for feed in feeds for part in feed.validation_rows()]
        assert np.concatenate([part.ids for part in given]).tolist() == stored.ids.tolist()
        np.testing.assert_array_equal(np.concatenate([part.images for part in given]), stored.images)


@pytest.mark.parametrize(
    ("spare", "nodes", "expected"),
    [
        ({"a": 2.0, "b": 2.0}, ["a", "b"], [["a", "a"], ["b", "b"]]),
        ({"a": 0.0, "b": 0.0, "cpu": 8.0}, ["a", "b"], [["cpu"] * 4, ["cpu"] * 4]),
        ({"a": -1.0, "b": 0.5}, ["a", "b"], [["a"] * 3, ["b"] * 3]),
        ({"a": 1.0}, ["a", "a", "gone"], [["a"], ["a"] * 3, ["gone"] * 3]),
    ],
)
def test_cpus_that_no_worker_takes_decode_for_all(
    spare: dict[str, float], nodes: list[str], expected: list[list[str]]
) -> None:
    assert share_cpus(spare, nodes, 3) == expected


def _row(path: Path, folder: Path) -> int:
    from cnnlib.dataset.streamed import row_id

    return row_id(path.relative_to(folder).as_posix())
