"""A streamed source becomes a dataset: every image a row or in the quarantine, whatever happens meanwhile."""

from __future__ import annotations

import os
import pickle
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cnnlib.dataset import stream_writer
from cnnlib.dataset.chunks import run_chunk
from cnnlib.dataset.decode import ImageRules
from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.dataset.reader import read_positions
from cnnlib.dataset.record import Rows, decode_shard
from cnnlib.dataset.stream_writer import StreamOptions, run_in_threads, shuffle, write_streamed
from cnnlib.dataset.streamed import StreamedSource, row_id
from cnnlib.dataset.verify import verify_dataset
from cnnlib.errors import ConflictError, DatasetError
from cnnlib.sources.folders import load_folders
from cnnlib.storage import files, layout, publish
from tests.image_files import encode, noise, write_folders

RULES = "size as it is, 1 channels, background (255, 255, 255)"
SMALL = StreamOptions(shard_bytes=8 * 8 * 10)  # ten images of 8x8


def load(folder: Path, **options: Any) -> StreamedSource:
    return load_folders(str(folder), options.pop("rules", ImageRules(channels=1)), **options)


def write(source: StreamedSource, output: str, options: StreamOptions = SMALL) -> Manifest:
    return write_streamed(source, output, options, run_in_threads).manifest


def read_all(output: str, split: str) -> Rows:
    manifest = load_manifest(output)
    own = manifest.split(split)
    return read_positions(output, manifest, own, np.arange(own.rows))


def test_every_image_becomes_the_row_of_its_file(base_uri: str, tmp_path: Path) -> None:
    source = load(write_folders(tmp_path / "images", rows=40))
    manifest = write(source, base_uri)
    assert manifest.fingerprint == load_manifest(base_uri).fingerprint
    by_id = {row_id(each.key): each for each in source.candidates}
    seen = []
    for split in manifest.splits:
        rows = read_all(base_uri, split)
        for number, image, label in zip(rows.ids.tolist(), rows.images, rows.labels, strict=True):
            np.testing.assert_array_equal(image, source.read(by_id[number].key)[1])
            assert label == by_id[number].label
            seen.append(number)
    assert sorted(seen) == sorted(by_id)
    assert verify_dataset(base_uri, manifest) == {name: each.rows for name, each in manifest.splits.items()}
    assert files.find_size(layout.dataset_preview(base_uri))
    assert files.find_size(layout.dataset_quarantine(base_uri)) is None
    assert files.list_objects(layout.prepare_marks(base_uri)) == []


def test_rows_of_sorted_folders_are_shuffled(tmp_path: Path) -> None:
    source = load(write_folders(tmp_path / "images", rows=100), splits=["train=1"])
    write(source, str(tmp_path / "data"))
    labels = read_all(str(tmp_path / "data"), "train").labels
    assert 30 < labels[:100].sum() < 70
    assert [each.key for each in shuffle(source).candidates] != sorted(each.key for each in source.candidates)


def test_ids_and_splits_do_not_depend_on_what_else_there_is(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "images", rows=60)
    write(load(folder), str(tmp_path / "before"))
    write_folders(folder, rows=90)  # thirty more of each class
    write(load(folder), str(tmp_path / "after"))
    for split in ("train", "test"):
        before, after = (
            set(read_all(str(tmp_path / each), split).ids.tolist()) for each in ("before", "after")
        )
        assert before < after


def test_equal_images_come_into_the_same_split(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    for seed in range(30):
        for copy in range(3):
            (tmp_path / ("cat", "dog")[seed % 2] / f"{seed}-{copy}.png").write_bytes(
                encode(noise(8, 8, 1, seed))
            )
    output = str(tmp_path / "data")
    write(load(tmp_path, splits=["train=0.5,test=0.5"]), output)
    images = {name: {each.tobytes() for each in read_all(output, name).images} for name in ("train", "test")}
    assert len(images["train"]) + len(images["test"]) == 30
    assert not images["train"] & images["test"]


def test_images_that_cannot_be_used_are_listed_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folders(tmp_path / "images", rows=50)
    (folder / "cat" / "empty.png").write_bytes(b"")
    (folder / "dog" / "text.jpg").write_bytes(b"text")
    (folder / "dog" / "torn.png").write_bytes(encode(noise(8, 8, 1))[:-60])
    output = str(tmp_path / "data")
    manifest = write(load(folder), output, StreamOptions(max_bad=0.05))
    assert sum(split.rows for split in manifest.splits.values()) == 100
    listed = pq.read_table(tmp_path / "data" / "quarantine.parquet").to_pylist()
    assert {(row["path"], row["class_name"], row["reason"]) for row in listed} == {
        ("cat/empty.png", "cat", "empty file"),
        ("dog/text.jpg", "dog", "not an image"),
        ("dog/torn.png", "dog", "damaged image"),
    }
    assert "quarantine images=3 of=103" in capsys.readouterr().err


def test_too_many_of_them_publish_nothing(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "images", rows=50)
    (folder / "cat" / "empty.png").write_bytes(b"")
    output = str(tmp_path / "data")
    with pytest.raises(DatasetError) as raised:
        write(load(folder), output, StreamOptions(max_bad=0.0))
    assert str(raised.value) == (
        f"1 of the 101 images of image folders of {folder} ({RULES}) cannot be used (1 empty file); at most "
        "0.00% may. First: "
        "cat/empty.png: empty file. Correct them, or give a larger --max-bad. Nothing was published."
    )
    assert files.list_objects(output) == []


def test_what_could_not_be_used_in_an_earlier_attempt_is_not_listed_when_it_was_mended(
    tmp_path: Path,
) -> None:
    folder, output = write_folders(tmp_path / "images", rows=20), str(tmp_path / "data")
    good = (folder / "cat" / "000.png").read_bytes()
    (folder / "cat" / "000.png").write_bytes(b"")

    def die(uri: str, document: Any) -> bool:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "write_manifest", die)
        with pytest.raises(KeyboardInterrupt):
            write(load(folder), output, replace(SMALL, max_bad=0.1))
    assert files.find_size(layout.dataset_quarantine(output)) is not None
    (folder / "cat" / "000.png").write_bytes(good)
    write(load(folder), output, replace(SMALL, max_bad=0.1))
    assert files.find_size(layout.dataset_quarantine(output)) is None


@pytest.mark.parametrize("published_at", ["begin", "middle", "end"])
def test_an_attempt_that_fails_leaves_the_shards_that_another_one_has_published(
    tmp_path: Path, published_at: str
) -> None:
    """Both make the same shards: only their limits for what cannot be used differ."""
    folder, output = write_folders(tmp_path / "images", rows=40), str(tmp_path / "data")
    (folder / "cat" / "empty.png").write_bytes(b"")
    place = {"begin": 0, "middle": 2, "end": -1}[published_at]

    def run(tasks: Sequence[bytes]) -> Iterator[bytes]:
        at = range(len(tasks))[place]
        for index, task in enumerate(tasks):
            if index == at and published_at != "end":
                write(load(folder), output, replace(SMALL, max_bad=0.1))
            yield run_chunk(task)
        if published_at == "end":
            write(load(folder), output, replace(SMALL, max_bad=0.1))

    with pytest.raises(DatasetError, match="Nothing was published"):
        write_streamed(load(folder), output, replace(SMALL, max_bad=0.0), run)
    manifest = load_manifest(output)
    assert verify_dataset(output, manifest) == {name: each.rows for name, each in manifest.splits.items()}
    known = {shard.name for split in manifest.splits.values() for shard in split.shards}
    stored = {each.uri.removeprefix(f"{output}/") for each in files.list_objects(output)}
    assert stored == known | {"manifest.json", "preview.png", "quarantine.parquet"}


@pytest.mark.parametrize("deleted_at", ["while it writes", "when it publishes"])
def test_shards_that_an_attempt_deletes_which_fails_meanwhile_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted_at: str
) -> None:
    folder, output = write_folders(tmp_path / "images", rows=40), str(tmp_path / "data")
    (folder / "cat" / "empty.png").write_bytes(b"")

    def fail() -> None:
        with pytest.raises(DatasetError, match="Nothing was published"):
            write(load(folder), output, replace(SMALL, max_bad=0.0))

    def run(tasks: Sequence[bytes]) -> Iterator[bytes]:
        yield from map(run_chunk, tasks)
        if deleted_at == "while it writes" and not failed:
            failed.append(fail())

    failed: list[None] = []
    real = publish.write_manifest

    def delete_first(uri: str, document: Any) -> bool:
        if deleted_at == "when it publishes":
            for shard in Path(output).rglob("*.parquet"):
                shard.unlink()
        return real(uri, document)

    monkeypatch.setattr(publish, "write_manifest", delete_first)
    written = write_streamed(load(folder), output, replace(SMALL, max_bad=0.1), run)
    assert written.created
    manifest = load_manifest(output)
    assert verify_dataset(output, manifest) == {name: each.rows for name, each in manifest.splits.items()}
    assert files.list_objects(layout.prepare_marks(output)) == []


def test_what_is_prepared_already_is_judged_by_the_same_limit(tmp_path: Path) -> None:
    folder, output = write_folders(tmp_path / "images", rows=20), str(tmp_path / "data")
    (folder / "cat" / "empty.png").write_bytes(b"")
    write(load(folder), output, StreamOptions(max_bad=0.1))
    with pytest.raises(DatasetError, match=r"1 of the 41 images .* cannot be used \(1 empty file\)"):
        write(load(folder), output, StreamOptions(max_bad=0.0))
    assert load_manifest(output)


def test_images_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "images", rows=5)
    (folder / "dog" / "large.png").write_bytes(encode(noise(9, 8, 1)))
    with pytest.raises(DatasetError, match=r"The images are of different sizes: .* Give --size"):
        write(load(folder), str(tmp_path / "data"))
    manifest = write(load(folder, rules=ImageRules(channels=3, size=(6, 7))), str(tmp_path / "data"))
    assert manifest.image_shape == (6, 7, 3)


@pytest.mark.parametrize(
    ("classes", "rows", "splits", "message"),
    [
        (("cat",), 20, ["train=1"], "has images of one class only, cat"),
        (("cat", "dog"), 1, ["train=0.5,test=0.000001,val=0.499999"], "The split '.*' of .* has no rows"),
    ],
)
def test_datasets_that_cannot_work_are_refused(
    tmp_path: Path, classes: tuple[str, ...], rows: int, splits: list[str], message: str
) -> None:
    source = load(write_folders(tmp_path / "images", rows=rows, classes=classes), splits=splits)
    with pytest.raises(DatasetError, match=message):
        write(source, str(tmp_path / "data"))
    assert files.list_objects(str(tmp_path / "data")) == []


def test_a_preparation_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    source, output = load(write_folders(tmp_path / "images", rows=40)), str(tmp_path / "data")
    done: list[int] = []

    def run_three(tasks: Sequence[bytes]) -> Iterator[bytes]:
        for task in tasks[:3]:
            done.append(pickle.loads(task).index)
            yield run_chunk(task)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_streamed(source, output, SMALL, run_three)
    assert done == [0, 1, 2]
    shards = {each.uri: each.version for each in files.list_objects(output) if each.uri.endswith(".parquet")}
    assert shards
    with pytest.raises(DatasetError, match="No dataset at"):
        load_manifest(output)
    write(source, output)
    after = {each.uri: each.version for each in files.list_objects(output)}
    assert {uri: after[uri] for uri in shards} == shards, "finished shards are kept, not written again"
    assert sum(split.rows for split in load_manifest(output).splits.values()) == 80


def test_shards_of_an_attempt_with_other_settings_do_not_stay(tmp_path: Path) -> None:
    folder, output = write_folders(tmp_path / "images", rows=30), str(tmp_path / "data")

    def run_and_die(tasks: Sequence[bytes]) -> Iterator[bytes]:
        yield from map(run_chunk, tasks)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_streamed(load(folder, splits=["train=0.5,test=0.5"]), output, SMALL, run_and_die)
    manifest = write(load(folder), output)
    shards = {each.uri.removeprefix(f"{output}/") for each in files.list_objects(output)}
    known = {shard.name for split in manifest.splits.values() for shard in split.shards}
    assert shards == known | {"manifest.json", "preview.png"}


def test_a_file_that_changed_meanwhile_is_read_again(tmp_path: Path) -> None:
    """The mark of a chunk says what was read then. What lies in its files now is what the dataset gets."""
    folder, output = write_folders(tmp_path / "images", rows=10), str(tmp_path / "data")

    def run_and_die(tasks: Sequence[bytes]) -> Iterator[bytes]:
        yield from map(run_chunk, tasks)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_streamed(load(folder), output, SMALL, run_and_die)
    (folder / "cat" / "000.png").write_bytes(encode(np.full((8, 8), 99, np.uint8)))
    manifest = write(load(folder), output)
    found = [read_all(output, name) for name in manifest.splits]
    [image] = [image for rows in found for image in rows.images[rows.ids == row_id("cat/000.png")]]
    assert (image == 99).all()


def test_the_same_source_is_not_written_twice_and_another_is_refused(tmp_path: Path) -> None:
    folder, output = write_folders(tmp_path / "images", rows=20), str(tmp_path / "data")
    write(load(folder), output)
    before = files.list_objects(output)
    assert not write_streamed(load(folder), output, StreamOptions(), run_in_threads).created
    assert files.list_objects(output) == before
    (folder / "cat" / "000.png").write_bytes(encode(np.full((8, 8), 99, np.uint8)))
    with pytest.raises(ConflictError, match="already holds another dataset"):
        write(load(folder), output)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("precious")
    with pytest.raises(ConflictError, match=r"already holds something else: .*notes\.txt"):
        write(load(folder), str(tmp_path / "full"))


def test_of_two_at_once_one_publishes_and_the_other_harms_nothing(tmp_path: Path) -> None:
    first, second = (
        load(write_folders(tmp_path / name, rows=20, side=side)) for name, side in (("a", 8), ("b", 9))
    )
    output = str(tmp_path / "data")

    def run_while_the_other_finishes(tasks: Sequence[bytes]) -> Iterator[bytes]:
        results = list(map(run_chunk, tasks))
        write(second, output)
        return iter(results)

    with pytest.raises(ConflictError, match="already holds another dataset"):
        write_streamed(first, output, SMALL, run_while_the_other_finishes)
    manifest = load_manifest(output)
    assert manifest.image_shape == (9, 9, 1)
    verify_dataset(output, manifest)
    shards = {each.uri for each in files.list_objects(output) if each.uri.endswith(".parquet")}
    assert len(shards) == sum(len(split.shards) for split in manifest.splits.values())


def test_file_names_need_not_be_utf_8(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "images", rows=20)
    strange = os.fsencode(folder / "cat") + b"/caf\xe9 'x'\n.png"
    Path(os.fsdecode(strange)).write_bytes(encode(noise(8, 8, 1)))
    Path(os.fsdecode(strange) + ".jpg").write_bytes(b"no image")
    manifest = write(load(folder), str(tmp_path / "data"), StreamOptions(max_bad=0.1))
    assert sum(split.rows for split in manifest.splits.values()) == 41
    [row] = pq.read_table(tmp_path / "data" / "quarantine.parquet").to_pylist()
    assert row["path"] == "cat/caf\ufffd 'x'\n.png.jpg"


def test_images_of_which_none_can_be_used_are_refused_with_the_first_reason(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"none of the 2 images can be used\. First: cat/a\.png: empty file\."
    ):
        write(load(tmp_path), str(tmp_path / "data"))


def test_metadata_becomes_columns(tmp_path: Path) -> None:
    from cnnlib.sources.table import TableColumns, load_table

    write_folders(tmp_path, rows=10)
    lines = [
        f"{name}/{row:03d}.png,{name},{row % 3},lens {row % 2}"
        for name in ("cat", "dog")
        for row in range(10)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,iso,lens", *lines]))
    source = load_table(
        str(tmp_path / "t.csv"), ImageRules(channels=1), columns=TableColumns(), splits=["train=1"]
    )
    manifest = write(source, str(tmp_path / "data"))
    assert manifest.metadata == {"iso": "int64", "lens": "string"}
    counts: Counter[tuple[int, str]] = Counter()
    for shard in manifest.split("train").shards:
        table = decode_shard(files.read_bytes(f"{tmp_path}/data/{shard.name}"), shard.name)
        counts.update(zip(table["iso"].to_pylist(), table["lens"].to_pylist(), strict=True))
    assert sum(counts.values()) == 20
    assert counts[0, "lens 0"] == 4


def test_damage_is_found_by_a_verification(tmp_path: Path) -> None:
    output = str(tmp_path / "data")
    manifest = write(load(write_folders(tmp_path / "images", rows=20)), output)
    shard = tmp_path / "data" / manifest.split("train").shards[0].name
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=r"sha256|digest"):
        verify_dataset(output, manifest)


def test_first_shard_gives_the_preview_all_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}

    def draw(images: Any, labels: Any, names: Any) -> bytes:
        drawn.update(labels=labels.tolist())
        return b"png"

    monkeypatch.setattr("cnnlib.dataset.preview.preview_png", draw)
    classes = tuple(f"class {number}" for number in range(5))
    write(
        load(write_folders(tmp_path / "images", rows=40, classes=classes)),
        str(tmp_path / "data"),
        StreamOptions(),
    )
    assert Counter(drawn["labels"]) == dict.fromkeys(range(5), 20)
    assert stream_writer.SEED == 0


def test_equal_images_in_several_classes_or_splits_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, name in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")):
        (tmp_path / "in" / split / name).mkdir(parents=True)
    seeds = {"train/cat": [1, 2, 3], "train/dog": [4, 5, 1], "test/cat": [6, 7, 2], "test/dog": [8, 9, 3]}
    for folder, own in seeds.items():
        for seed in own:
            (tmp_path / "in" / folder / f"{seed}.png").write_bytes(encode(noise(8, 8, 1, seed)))
    write(load(tmp_path / "in"), str(tmp_path / "data"))
    lines = capsys.readouterr().err.splitlines()
    [classes] = [line for line in lines if "2 images are in more than one class" in line]
    assert {"train/cat/1.png (cat)", "train/dog/1.png (dog)"} <= set(re.split(' = |; |"', classes))
    [splits] = [line for line in lines if "2 images are in more than one of the splits test, train" in line]
    assert "2.png (cat)" in splits
    assert "9.png" not in splits


def test_a_clean_source_says_nothing_about_equal_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(load(write_folders(tmp_path / "images", rows=30)), str(tmp_path / "data"))
    assert "more than one" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["deleted", "cut off", "one bit"])
def test_a_lost_shard_is_written_again(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images, output = write_folders(tmp_path / "images", rows=40), str(tmp_path / "data")
    manifest = write(load(images), output)
    lost = tmp_path / "data" / manifest.split("train").shards[1].name
    content = lost.read_bytes()
    if damage == "deleted":
        lost.unlink()
    else:
        changed = content[:9] + bytes([content[9] ^ 1]) + content[10:]
        lost.write_bytes(content[:-1] if damage == "cut off" else changed)
    again = write_streamed(load(images), output, SMALL, run_in_threads)
    assert (again.created, again.manifest.fingerprint) == (True, manifest.fingerprint)
    assert f"missing or damaged, and written again: 1, such as {lost.relative_to(tmp_path / 'data')}" in (
        capsys.readouterr().err
    )
    assert verify_dataset(output, manifest) == {name: each.rows for name, each in manifest.splits.items()}
    assert files.list_objects(layout.prepare_marks(output)) == []


def test_another_source_neither_mends_nor_harms_a_dataset_that_lost_a_shard(tmp_path: Path) -> None:
    output = tmp_path / "data"
    manifest = write(load(write_folders(tmp_path / "images", rows=40)), str(output))
    (output / manifest.split("train").shards[1].name).unlink()
    before = {each: each.read_bytes() for each in output.rglob("*") if each.is_file()}
    with pytest.raises(ConflictError, match="already holds another dataset"):
        write(load(write_folders(tmp_path / "others", rows=41)), str(output))
    assert {each: each.read_bytes() for each in output.rglob("*") if each.is_file()} == before


def test_a_lost_shard_that_would_now_be_another_one_is_an_error(tmp_path: Path) -> None:
    images, output = write_folders(tmp_path / "images", rows=40), tmp_path / "data"
    manifest = write(load(images), str(output))
    (output / manifest.split("train").shards[1].name).unlink()
    with pytest.raises(
        DatasetError,
        match=r"1 shards that its manifest states are missing or damaged, .* Delete the manifest",
    ):
        write(load(images), str(output), StreamOptions(shard_bytes=8 * 8 * 7))
