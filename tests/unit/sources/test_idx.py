"""IDX files are read as rows; a damaged file is refused with its name."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.errors import ConfigError, DatasetError, NotFoundError
from cnnlib.sources.idx import decompress, load_idx, parse_idx, parse_source
from cnnlib.sources.idx_names import file_names, find_files
from tests.fashion import encode_idx

TRAIN_IMAGES, TRAIN_LABELS, _, TEST_LABELS = file_names()


def images(rows: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 256, (rows, *(shape or (4, 3))), np.uint8)


def contents(**changes: np.ndarray) -> dict[str, bytes]:
    """Returns the files of five train and two test rows of 4x3, labels 0..2; `changes` replace train_images, …"""
    arrays = {
        "train_images": images(5),
        "train_labels": np.array([0, 1, 2, 1, 0], np.uint8),
        "test_images": images(2),
        "test_labels": np.array([2, 0], np.uint8),
    } | changes
    return {name: encode_idx(array) for name, array in zip(file_names(), arrays.values(), strict=True)}


def write(directory: Path, files: dict[str, bytes]) -> str:
    directory.mkdir(exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return str(directory)


def test_the_four_files_have_the_names_of_mnist() -> None:
    assert file_names() == [
        "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
    ]  # fmt: skip


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_any_array_of_bytes_survives_the_format(shape: list[int]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    parsed = parse_idx(encode_idx(array), "images")
    assert (parsed.shape, parsed.dtype) == (tuple(shape), np.uint8)
    np.testing.assert_array_equal(parsed, array)


def test_folder_becomes_rows(tmp_path: Path) -> None:
    source = load_idx(write(tmp_path, contents()), ["Coat", "Bag", "Boot"])
    assert source.class_names == ("Coat", "Bag", "Boot")
    assert source.image_shape == (4, 3, 1)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 5, "test": 2}
    np.testing.assert_array_equal(source.splits["train"].images[..., 0], images(5))
    assert source.splits["test"].labels.tolist() == [2, 0]
    assert source.splits["test"].labels.dtype == np.int32
    assert str(tmp_path) in source.description


def test_classes_without_names_are_named_by_their_numbers(tmp_path: Path) -> None:
    assert load_idx(write(tmp_path, contents())).class_names == ("0", "1", "2")


def test_more_class_names_than_labels_are_classes_without_rows(tmp_path: Path) -> None:
    assert len(load_idx(write(tmp_path, contents()), list("abcde")).class_names) == 5


def test_gzipped_files_are_the_same_data_set(tmp_path: Path) -> None:
    plain = load_idx(write(tmp_path / "plain", contents()))
    zipped = load_idx(
        write(tmp_path / "zip", {f"{name}.gz": gzip.compress(data) for name, data in contents().items()})
    )
    assert plain.digest == zipped.digest


def test_images_of_four_dimensions_keep_their_channels(tmp_path: Path) -> None:
    colours = contents(train_images=images(5, 4, 3, 3), test_images=images(2, 4, 3, 3))
    source = load_idx(write(tmp_path, colours))
    assert source.image_shape == (4, 3, 3)
    np.testing.assert_array_equal(source.splits["train"].images, images(5, 4, 3, 3))


def test_digest_depends_on_the_rows_not_on_their_folder(tmp_path: Path) -> None:
    here, there = load_idx(write(tmp_path / "a", contents())), load_idx(write(tmp_path / "b", contents()))
    assert here.digest == there.digest
    assert here.description != there.description
    other = load_idx(write(tmp_path / "c", contents(test_labels=np.array([2, 1], np.uint8))))
    named = load_idx(write(tmp_path / "d", contents()), ["x", "y", "z"])
    assert len({here.digest, other.digest, named.digest}) == 3


HEADER_OF_TWO = bytes([0, 0, 8, 1]) + struct.pack(">I", 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file of unsigned bytes. Received nothing, expected 00 00 08 …"),
        (b"\0\0\x08", "not an IDX file of unsigned bytes. Received 00 00 08,"),
        (b"\0\x01\x08\x01", "not an IDX file of unsigned bytes. Received 00 01 08 01"),
        (b"\x89PNG....", "not an IDX file of unsigned bytes. Received 89 50 4e 47"),
        (bytes([0, 0, 0x0D, 1]) + HEADER_OF_TWO[4:] + b"12345678", "Received 00 00 0d 01"),
        (bytes([0, 0, 8, 3]) + b"\0" * 11, "ends inside its header. Received 15 bytes, expected 16"),
        (bytes([0, 0, 8, 255]), "ends inside its header. Received 4 bytes, expected 1024"),
        (HEADER_OF_TWO, "not have the size of its shape (2,). Received 0 bytes of data, expected 2"),
        (HEADER_OF_TWO + b"1", "size of its shape (2,). Received 1 bytes of data, expected 2"),
        (HEADER_OF_TWO + b"123", "size of its shape (2,). Received 3 bytes of data, expected 2"),
        (bytes([0, 0, 8, 4]) + b"\xff" * 16 + b"1", "Received 1 bytes of data,"),
    ],
)
def test_damaged_file_is_refused_with_its_name(data: bytes, message: str) -> None:
    with pytest.raises(DatasetError) as raised:
        parse_idx(data, "train-images-idx3-ubyte")
    assert str(raised.value).startswith("train-images-idx3-ubyte ")
    assert message in str(raised.value)


def _with_wrong_checksum(data: bytes) -> bytes:
    return data[:-8] + bytes(4) + data[-4:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:3],
        _with_wrong_checksum,
        lambda data: data[:10] + b"\xff" * 20,
    ],
    ids=["cut off", "header cut off", "wrong checksum", "no deflate stream"],
)
def test_damaged_gzip_file_is_refused_with_its_name(tmp_path: Path, damage: object) -> None:
    files = contents()
    files["t10k-labels-idx1-ubyte.gz"] = damage(gzip.compress(files.pop(TEST_LABELS) * 20))  # type: ignore[operator]
    with pytest.raises(DatasetError, match=r"^t10k-labels-idx1-ubyte\.gz is a damaged gzip file") as raised:
        load_idx(write(tmp_path, files))
    assert "Download it again" in str(raised.value)


def test_data_that_is_not_gzipped_is_returned_as_it_is() -> None:
    assert decompress(b"plain", "name") == b"plain"


@pytest.mark.parametrize("name", file_names())
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    files = contents()
    del files[name]
    with pytest.raises(NotFoundError, match=f"has neither {name}.gz nor {name}"):
        load_idx(write(tmp_path, files))


def test_gzipped_file_is_read_before_a_plain_one(tmp_path: Path) -> None:
    folder = write(tmp_path, {f"{name}{end}": b"" for name in file_names() for end in ("", ".gz")})
    assert find_files(folder).paths == {name: f"{name}.gz" for name in file_names()}


@pytest.mark.parametrize(
    "changes",
    [
        {"train_labels": np.zeros(4, np.uint8)},
        {"train_labels": np.zeros((5, 1), np.uint8)},
        {"train_images": images(6)},
        {"train_images": np.zeros((5, 12), np.uint8)},
        {"train_images": np.zeros((5, 2, 2, 3, 1), np.uint8)},
        {"train_images": np.zeros((), np.uint8)},
        {"train_labels": np.zeros((), np.uint8)},
    ],
    ids=["fewer labels", "labels in columns", "more images", "flat images", "5-D", "one number", "one label"],
)
def test_images_and_labels_that_do_not_match_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray]
) -> None:
    with pytest.raises(DatasetError, match=rf"{TRAIN_IMAGES} has the shape .*, {TRAIN_LABELS} ") as raised:
        load_idx(write(tmp_path, contents(**changes)))
    assert "Expected (n, height, width[, channels]) and (n,)." in str(raised.value)


def test_splits_of_different_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"different shapes: \[\(4, 3, 1\), \(5, 5, 1\)\]"):
        load_idx(write(tmp_path, contents(test_images=images(2, 5, 5))))


def test_too_few_class_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="go up to 2, but there are 2 class names: Coat, Bag"):
        load_idx(write(tmp_path, contents()), ["Coat", "Bag"])


def test_number_of_classes_includes_the_labels_of_the_test_split() -> None:
    files = contents(test_labels=np.array([9, 0], np.uint8))
    assert len(parse_source(files.__getitem__, None, "here").class_names) == 10


# --- names that the files have in public ---


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("-idx", ".idx"),
        lambda name: name.replace("-idx", ".idx") + ".gz",
        lambda name: name.replace("-ubyte", ".ubyte").upper(),
        lambda name: f"{name}/{name}",
        lambda name: f"emnist-letters-{name.replace('t10k', 'test')}.gz",
    ],
    ids=["dot", "dot gz", "upper case", "folder", "EMNIST"],
)
def test_files_are_found_under_the_names_of_unpackers_and_of_emnist(
    tmp_path: Path, rename: Callable[[str], str]
) -> None:
    for name, data in contents().items():
        path = tmp_path / "renamed" / rename(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    renamed = load_idx(str(tmp_path / "renamed"))
    assert renamed.digest == load_idx(write(tmp_path / "plain", contents())).digest


def write_two_datasets(folder: Path) -> str:
    letters = contents(test_labels=np.array([1, 0], np.uint8))
    for prefix, own in (("emnist-digits", contents()), ("emnist-letters", letters)):
        write(folder, {f"{prefix}-{name}": data for name, data in own.items()})
    return str(folder)


def test_folder_of_several_datasets_asks_for_one(tmp_path: Path) -> None:
    folder = write_two_datasets(tmp_path)
    with pytest.raises(ConfigError) as raised:
        load_idx(folder)
    assert "holds 2 IDX datasets: emnist-digits, emnist-letters. Choose one" in str(raised.value)
    assert str(raised.value).endswith("--prefix emnist-digits")
    assert load_idx(folder, prefix="emnist-letters").splits["test"].labels.tolist() == [1, 0]
    assert load_idx(folder, prefix="EMNIST-digits-").splits["test"].labels.tolist() == [2, 0]
    with pytest.raises(ConfigError, match="Did you mean 'emnist-letters'"):
        load_idx(folder, prefix="emnist-leters")


def test_missing_file_of_emnist_is_named_with_its_prefix(tmp_path: Path) -> None:
    folder = write_two_datasets(tmp_path)
    (tmp_path / f"emnist-letters-{TEST_LABELS}").unlink()
    with pytest.raises(NotFoundError, match=f"has neither emnist-letters-{TEST_LABELS}.gz nor"):
        load_idx(folder, prefix="emnist-letters")


def test_other_files_of_the_folder_are_not_looked_at(tmp_path: Path) -> None:
    folder = write(tmp_path, contents() | {"notes.txt": b"", "my-train-images.png": b"", "train-images": b""})
    assert load_idx(folder).digest == load_idx(write(tmp_path / "plain", contents())).digest


def test_transposed_images_are_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, {f"emnist-mnist-{name}": data for name, data in contents().items()})
    assert load_idx(folder).image_shape == (4, 3, 1)
    assert "EMNIST stores its images transposed; --transpose turns them upright" in capsys.readouterr().err
    source = load_idx(folder, transpose=True)
    assert source.image_shape == (3, 4, 1)
    np.testing.assert_array_equal(source.splits["train"].images[..., 0], images(5).transpose(0, 2, 1))
    assert capsys.readouterr().err == ""


# --- labels ---


def from_one() -> dict[str, bytes]:
    return contents(train_labels=np.array([1, 2, 3, 2, 1], np.uint8), test_labels=np.array([3, 1], np.uint8))


@pytest.mark.parametrize(("names", "expected"), [(None, ("1", "2", "3")), (["a", "b", "c"], ("a", "b", "c"))])
def test_labels_that_count_from_one_make_no_empty_class(
    names: list[str] | None, expected: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    source = parse_source(from_one().__getitem__, names, "here")
    assert source.class_names == expected
    assert source.splits["train"].labels.tolist() == [0, 1, 2, 1, 0]
    assert source.splits["test"].labels.tolist() == [2, 0]
    assert capsys.readouterr().err == 'labels note="the labels count from 1 to 3: class 0 is label 1"\n'


def test_name_for_class_0_keeps_the_labels_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["N/A", "a", "b", "c"]
    with pytest.raises(
        ConfigError, match=r"Give --first-label=0 if 1 is 'a', or --first-label=1 if it is 'N/A'\."
    ):
        parse_source(from_one().__getitem__, names, "here")
    source = parse_source(from_one().__getitem__, names, "here", first_label=0)
    assert source.splits["train"].labels.tolist() == [1, 2, 3, 2, 1]
    assert capsys.readouterr().err == ""


def test_first_label_of_an_idx_folder_is_the_number_of_its_first_class(tmp_path: Path) -> None:
    source = load_idx(write(tmp_path, from_one()), list("abcde"), first_label=1)
    assert (source.class_names, source.splits["test"].labels.tolist()) == (tuple("abcde"), [2, 0])
    assert parse_source(from_one().__getitem__, None, "here", first_label=0).class_names == tuple("0123")


def test_splits_that_count_from_different_numbers_are_refused() -> None:
    mixed = (from_one() | {TEST_LABELS: contents()[TEST_LABELS]}).__getitem__
    with pytest.raises(
        DatasetError, match=r"here are 1\.\.3 in train and 0\.\.2 in test: they count from different"
    ):
        parse_source(mixed, None, "here")
    source = parse_source(mixed, ["none", "a", "b", "c"], "here")
    assert source.splits["train"].labels.tolist() == [1, 2, 3, 2, 1]
