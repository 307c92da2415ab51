"""The images of a prediction: every one in one chunk, and the table of a chunk states all of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.decode import ImageRules
from cnnlib.errors import NotFoundError
from cnnlib.evaluation.foreign.parts import CLASS_NAMES
from cnnlib.prediction import chunks
from cnnlib.prediction.chunks import ReadImages, find_manifest, list_files, list_shards
from cnnlib.prediction.predictor import SCHEMA, build_table
from tests.datasets import TEST_ROWS, make_source, write_dataset_without_ray
from tests.image_files import write_folders

RULES = ImageRules(size=(8, 8), resize="fill", channels=1, background=(255, 255, 255))
NAMES = ("cat", "dog", "owl")


def read(problems: list[str], rows: int) -> ReadImages:
    paths = [f"{index}.png" for index in range(len(problems))]
    return ReadImages(paths=paths, ids=None, images=np.zeros((rows, 8, 8, 1), np.uint8), problems=problems)


def test_every_file_is_in_one_chunk_sorted_and_hidden_ones_in_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path / "images", rows=5)
    (tmp_path / "images/.hidden.png").write_bytes(b"")
    (tmp_path / "images/notes.txt").write_bytes(b"")
    monkeypatch.setattr(chunks, "_CHUNK_IMAGES", 4)
    found = list_files(str(tmp_path / "images"), RULES, 3)
    assert [len(each) for each in found] == [4, 4, 2]
    paths = [path for each in found for path in each.read().paths or ()]
    assert paths == [f"{name}/{row:03d}.png" for name in ("cat", "dog") for row in range(5)]
    some = list_files(str(tmp_path / "images/dog/*[13].png"), RULES, 3)
    assert [path for each in some for path in each.read().paths or ()] == ["001.png", "003.png"]
    with pytest.raises(NotFoundError, match="No image at"):
        list_files(str(tmp_path / "images/*.tif"), RULES, 3)


def test_a_pattern_is_meant_as_a_shell_means_it_and_a_folder_may_look_like_one(tmp_path: Path) -> None:
    base = tmp_path / "shots [new]"
    write_folders(base, rows=1)
    write_folders(base / "cat", rows=1)

    def paths(pattern: str) -> list[str]:
        found = list_files(str(tmp_path / pattern), RULES, 3)
        return [path for each in found for path in each.read().paths or ()]

    assert paths("shots [new]") == ["cat/000.png", "cat/cat/000.png", "cat/dog/000.png", "dog/000.png"]
    assert find_manifest(str(base)) is None
    base.rename(tmp_path / "shots")
    assert paths("shots/*/*.png") == ["cat/000.png", "dog/000.png"]
    assert paths("shots/c*/**/*.png") == ["cat/000.png", "cat/cat/000.png", "cat/dog/000.png"]
    assert paths("shots/?og/00[0-9].png") == ["dog/000.png"]
    with pytest.raises(NotFoundError, match="No image at"):
        paths("shots/*.png")


def test_chunks_are_bounded_by_the_bytes_of_pixels_and_of_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path / "images", rows=5)
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 3 * 64)
    assert [len(each) for each in list_files(str(tmp_path / "images"), RULES, 3)] == [3, 3, 3, 1]
    monkeypatch.setattr(chunks, "_OUTPUT_BYTES", 2 * 4 * 1000)
    assert [len(each) for each in list_files(str(tmp_path / "images"), RULES, 1000)] == [2] * 5
    monkeypatch.setattr(chunks, "_OUTPUT_BYTES", 1)
    assert [len(each) for each in list_files(str(tmp_path / "images"), RULES, 1000)] == [1] * 10


def test_chunks_of_shards_hold_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source()
    write_dataset_without_ray(str(tmp_path), source)
    manifest = find_manifest(str(tmp_path))
    assert manifest is not None
    monkeypatch.setattr(chunks, "_OUTPUT_BYTES", 4 * 4 * 3)
    found = list_shards(str(tmp_path), manifest, "test", 3)
    assert [len(each) for each in found] == [4, 4, 2, 4, 4, 2, 3]
    assert len({each.identity() for each in found}) == len(found)
    parts = [each.read() for each in found]
    assert sorted(row for part in parts for row in part.ids or ()) == list(range(TEST_ROWS))
    np.testing.assert_array_equal(
        np.concatenate([part.images for part in parts]), source.splits["test"].images
    )


def test_a_file_name_that_is_no_utf_8_is_escaped_and_predicted(tmp_path: Path) -> None:
    write_folders(tmp_path / "images", rows=1)
    os.rename(tmp_path / "images/cat/000.png", os.fsencode(tmp_path / "images/cat") + b"/\xff.png")
    [chunk] = list_files(str(tmp_path / "images"), RULES, 3)
    found = chunk.read()
    assert list(found.paths or ()) == ["cat/\\udcff.png", "dog/000.png"]
    table = build_table(found, np.full((2, 3), 1 / 3, np.float32), NAMES, 1)
    assert table["path"].to_pylist() == ["cat/\\udcff.png", "dog/000.png"]
    repr(chunk.identity()).encode()


def test_the_table_of_a_chunk_has_a_row_for_every_image(tmp_path: Path) -> None:
    probabilities = np.array([[0.2, 0.2, 0.6], [0.5, 0.5, 0.0]], np.float32)
    table = build_table(read(["", "truncated", ""], 2), probabilities, NAMES, 2)
    assert table.schema.equals(SCHEMA)
    assert json.loads(table.schema.metadata[CLASS_NAMES]) == list(NAMES)
    first, bad, last = table.to_pylist()
    assert (first["prediction"], first["prediction_index"]) == ("owl", 2)
    assert first["probabilities"] == pytest.approx([0.2, 0.2, 0.6])
    assert (first["top_classes"], first["problem"]) == (["owl", "cat"], None)
    assert {name for name, value in bad.items() if value is not None} == {"path", "problem"}
    assert (bad["path"], bad["problem"]) == ("1.png", "truncated")
    assert (last["prediction"], last["probability"], last["top_classes"]) == ("cat", 0.5, ["cat", "dog"])


def test_a_chunk_without_readable_images_is_a_table_of_problems() -> None:
    table = build_table(read(["empty", "truncated"], 0), np.zeros((0, 3), np.float32), NAMES, 3)
    assert table["problem"].to_pylist() == ["empty", "truncated"]
    assert table["probabilities"].null_count == table["top_classes"].null_count == 2


def test_a_table_of_twenty_thousand_classes_lists_the_most_probable_ones() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(20_000), 5).astype(np.float32)
    names = [f"class {index}" for index in range(20_000)]
    table = build_table(read([""] * 5, 5), probabilities, names, 3)
    best = np.argsort(-probabilities, axis=1, kind="stable")
    assert table["top_classes"].to_pylist() == [[names[index] for index in row[:3]] for row in best]
    np.testing.assert_array_equal(np.stack(table["probabilities"].to_numpy()), probabilities)


def test_files_that_are_no_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path / "in", rows=2)
    for name in ("a.heic", "b.AVIF", "noext"):
        (tmp_path / "in" / name).write_bytes(b"x")
    chunk_list = list_files(str(tmp_path / "in"), ImageRules(size=(8, 8)), 2)
    assert sum(map(len, chunk_list)) == 4
    line = "left out, because they are no image files: 1 .avif, 1 .heic, 1 without an ending"
    assert line in capsys.readouterr().err
    with pytest.raises(NotFoundError, match=r"Received 1 \.heic\.$"):
        list_files(str(tmp_path / "in" / "*.heic"), ImageRules(size=(8, 8)), 2)


def test_a_single_file_is_predicted(tmp_path: Path) -> None:
    path = str(write_folders(tmp_path / "in", rows=2) / "cat" / "001.png")
    assert find_manifest(path) is None
    [chunk] = list_files(path, ImageRules(size=(8, 8)), 2)
    assert chunk.read().paths == ["001.png"]
    assert chunk.read().problems == [""]
