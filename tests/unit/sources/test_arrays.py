"""NumPy archives and CIFAR files become sources, or are refused with what was expected."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlib.dataset.writer import write_dataset
from cnnlib.errors import ConfigError, DatasetError, NotFoundError
from cnnlib.sources.cifar import load_cifar
from cnnlib.sources.npz import load_npz

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_keras_mnist_archive(tmp_path: Path) -> None:
    arrays = {"x_test": IMAGES[:2], "y_test": LABELS[:2], "x_train": IMAGES, "y_train": LABELS[:, None]}
    np.savez(tmp_path / "mnist.npz", **arrays)
    source = load_npz(str(tmp_path / "mnist.npz"))
    assert (list(source.splits), source.image_shape, source.class_names) == (
        ["train", "test"],
        (5, 4, 1),
        ("0", "1", "2"),
    )
    np.testing.assert_array_equal(source.splits["train"].images[..., 0], IMAGES)
    np.testing.assert_array_equal(source.splits["train"].labels, LABELS)


def test_other_names_and_no_split(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", train_images=IMAGES, train_labels=LABELS, val_images=IMAGES, val_labels=LABELS
    )
    assert list(load_npz(str(tmp_path / "a.npz")).splits) == ["train", "val"]
    np.savez(tmp_path / "b.npz", images=np.stack([IMAGES] * 3, axis=-1), labels=LABELS)
    source = load_npz(str(tmp_path / "b.npz"), ["a", "b", "c"])
    assert (list(source.splits), source.image_shape, source.class_names) == (
        ["train"],
        (5, 4, 3),
        ("a", "b", "c"),
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x_train": IMAGES / 255, "y_train": LABELS},
            r"are float64 of 0\.\.[\d.]+\. Expected uint8 pixels of 0\.\.255: \(images \* 255\)\.round",
        ),
        (
            {"x_train": IMAGES.astype("f4"), "y_train": LABELS},
            r"255: images\.round\(\)\.astype\('uint8'\)\.$",
        ),
        ({"x_train": IMAGES.astype("i8"), "y_train": LABELS}, r"0\.\.255: images\.astype\('uint8'\)\.$"),
        ({"x_train": IMAGES.astype("u2") * 257, "y_train": LABELS}, "are divided by 257 and rounded"),
        ({"x_train": IMAGES / 127.5 - 1, "y_train": LABELS}, r"\(\(images \+ 1\) \* 127\.5\)"),
        ({"x_train": IMAGES > 9, "y_train": LABELS}, r"are bool\. .*: images\.astype\('uint8'\) \* 255\.$"),
        (
            {"x_train": IMAGES * np.nan, "y_train": LABELS},
            r"of nan\.\.nan\. .*: replace what is not a finite",
        ),
        ({"x_train": IMAGES / 255 * 1e6, "y_train": LABELS}, r"Expected uint8 pixels of 0\.\.255\.$"),
        (
            {"x_train": IMAGES.astype("c8"), "y_train": LABELS},
            r"are complex64\. Expected uint8 pixels of 0\.\.255\.$",
        ),
        ({"x_train": IMAGES, "y_train": np.eye(3)[LABELS]}, r"numbers by labels\.argmax\(axis=1\)"),
        ({"x_train": IMAGES, "y_train": LABELS[:5]}, r"shape \(6, 5, 4, 1\), the labels \(5,\)"),
        (
            {"x_train": IMAGES},
            r"has the arrays x_train, and train has no one meaning\. Expected x_train, y_train",
        ),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_dev": IMAGES, "y_dev": LABELS},
            "x_dev has no one meaning",
        ),
        ({"x_train": IMAGES, "y_train": LABELS, "X_train_small": IMAGES}, "X_train_small has no one meaning"),
        ({"x_train": IMAGES, "images": IMAGES, "y_train": LABELS}, "images has no one meaning"),
        ({"x": IMAGES, "train_fine_labels": LABELS, "train_coarse_labels": LABELS}, "has no one meaning"),
        ({"x_train": np.zeros((6, 3, 12, 12), np.uint8), "y_train": LABELS}, "Expected the channels last"),
        ({"x_train": IMAGES, "y_train": LABELS + 2**32}, "Expected whole numbers of 0"),
        ({"x_train": IMAGES, "y_train": LABELS - 1}, r"are -1\.\.1\. Expected whole numbers of 0"),
        ({"x_train": IMAGES, "y_train": LABELS / 2}, "Expected whole numbers of 0"),
    ],
)
def test_arrays_that_cannot_work_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        load_npz(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(("factor", "is_said"), [(1, True), (2, False)])
def test_images_that_lost_their_fractions_are_said_to_be_black(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: int, is_said: bool
) -> None:
    black = (IMAGES / 255).round().astype("u1") * factor
    np.savez(tmp_path / "a.npz", images=black, labels=LABELS)
    write_dataset(load_npz(str(tmp_path / "a.npz")), str(tmp_path / "data"))
    assert ("all images are nearly black: no pixel is above 1" in capsys.readouterr().err) == is_said


def test_other_words_for_splits_are_understood(tmp_path: Path) -> None:
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_testing": IMAGES[:2], "y_testing": LABELS[:2]}
    np.savez(tmp_path / "a.npz", **arrays)
    splits = load_npz(str(tmp_path / "a.npz")).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "test": 2}


def test_labels_that_count_from_1(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS + 1)
    for names in ([], ["a", "b", "c"]):
        source = load_npz(str(tmp_path / "a.npz"), names)
        assert source.class_names == (tuple(names) or ("1", "2", "3"))
        np.testing.assert_array_equal(source.splits["train"].labels, LABELS)


def test_files_that_are_no_archives_of_plain_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"text")
    np.savez(tmp_path / "b.npz", x_train=np.array([{"code": 1}], object), y_train=LABELS)
    np.savez(tmp_path / "c.npz", x_train=IMAGES, y_train=LABELS)
    patched = bytearray((tmp_path / "c.npz").read_bytes())
    patched[patched.index(b"PK\1\2") + 8] |= 0x20  # the flag for patched data, which zipfile does not read
    (tmp_path / "c.npz").write_bytes(patched)
    for name in ("a.npz", "b.npz", "c.npz"):
        with pytest.raises(DatasetError, match=r"is not an \.npz archive of plain arrays"):
            load_npz(str(tmp_path / name))
    with pytest.raises(NotFoundError):
        load_npz(str(tmp_path / "none.npz"))


PIXELS = np.random.default_rng(1).integers(0, 256, (10, 32, 32, 3), np.uint8)
CIFAR_LABELS = np.arange(10)
RECORDS = PIXELS.transpose(0, 3, 1, 2).reshape(10, -1)


def write_python(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        write_batch(folder / name, CIFAR_LABELS, **changes)
    names = [f"class {label}".encode() for label in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, 2))
    return folder


def write_batch(path: Path, labels: np.ndarray, **changes: Any) -> None:
    path.write_bytes(pickle.dumps({b"data": RECORDS, b"labels": labels.tolist(), **changes}, 2))


def test_cifar_10_in_python_and_binary(tmp_path: Path) -> None:
    python = load_cifar(str(write_python(tmp_path / "python")))
    binary = write_binary(tmp_path / "binary", "\n".join(f"class_{n}" for n in range(10)).encode() + b"\n\n")
    for source in (python, load_cifar(str(binary))):
        assert {name: len(split) for name, split in source.splits.items()} == {"train": 50, "test": 10}
        np.testing.assert_array_equal(source.splits["test"].images, PIXELS)
        np.testing.assert_array_equal(source.splits["train"].labels, np.tile(CIFAR_LABELS, 5))
    assert python.class_names[3] == "class 3"


def test_cifar_100_has_its_fine_classes(tmp_path: Path) -> None:
    names = [f"fine {label}" for label in range(100)]
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [each.encode() for each in names]}))
    for name in ("train", "test"):
        batch = {b"data": RECORDS, b"fine_labels": (CIFAR_LABELS + 90).tolist()}
        (tmp_path / name).write_bytes(pickle.dumps(batch))
    source = load_cifar(str(tmp_path))
    assert (source.class_names, source.splits["test"].labels[-1]) == (tuple(names), 99)


class Trap:
    def __reduce__(self) -> Any:
        return print, ("code was run",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_python(tmp_path, trap=Trap())
    with pytest.raises(
        DatasetError,
        match=r"is not a file of CIFAR's Python version: it needs __builtin__\.print|it needs builtins\.print",
    ):
        load_cifar(str(folder))
    assert "code was run" not in capsys.readouterr().out


def test_a_pickle_of_commands_that_fail_is_refused(tmp_path: Path) -> None:
    folder = write_python(tmp_path)
    (folder / "data_batch_2").write_bytes(b"\x80\x02U\x01a)R.")  # calls the text a
    with pytest.raises(
        DatasetError, match="data_batch_2 is not a file of CIFAR's Python version: 'bytes' object"
    ):
        load_cifar(str(folder))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"has no CIFAR files\. Received nothing"):
        load_cifar(str(tmp_path))
    (tmp_path / "data_batch_1.bin").write_bytes(b"12345")
    with pytest.raises(DatasetError, match=r"has 5 bytes\. Expected a multiple of 3073"):
        load_cifar(str(tmp_path))


def test_archive_of_one_class_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=IMAGES, y_train=LABELS * 0)
    source = load_npz(str(tmp_path / "x.npz"))
    with pytest.raises(DatasetError, match="has images of one class only, 0"):
        write_dataset(source, str(tmp_path / "data"))


def test_labels_that_are_whole_numbers_of_any_type_are_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS.astype(np.float32))
    np.testing.assert_array_equal(load_npz(str(tmp_path / "a.npz")).splits["train"].labels, LABELS)


def test_images_without_pixels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES[:, :0], labels=LABELS)
    with pytest.raises(DatasetError, match=r"have no pixels\. Received height, width, channels \(0, 4, 1\)"):
        load_npz(str(tmp_path / "a.npz"))


def write_binary(folder: Path, names: bytes) -> Path:
    folder.mkdir()
    data = np.concatenate([CIFAR_LABELS.astype(np.uint8)[:, None], RECORDS], axis=1).tobytes()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(data)
    (folder / "batches.meta.txt").write_bytes(names)
    return folder


def test_a_name_of_several_words_is_one_class_of_cifar(tmp_path: Path) -> None:
    names = [f"class {label}" for label in range(10)]
    folder = write_binary(tmp_path / "in", "\r\n".join([*names, "", ""]).encode())
    assert load_cifar(str(folder)).class_names == tuple(names)


def test_names_of_cifar_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"batches\.meta\.txt are no text in UTF-8"):
        load_cifar(str(write_binary(tmp_path / "binary", b"caf\xe9\n" * 10)))
    folder = write_python(tmp_path / "python")
    for names, message in ((7, "has no list of class names"), ([b"caf\xe9"] * 10, "are no text in UTF-8")):
        (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, 2))
        with pytest.raises(DatasetError, match=message):
            load_cifar(str(folder))
    write_batch(folder / "test_batch", CIFAR_LABELS / 2)
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a"] * 10}, 2))
    with pytest.raises(DatasetError, match=r"test_batch is not CIFAR: its labels are float64 \(10,\)"):
        load_cifar(str(folder))


def test_splits_of_an_archive_that_count_from_different_numbers_are_refused(tmp_path: Path) -> None:
    arrays = {"x_train": IMAGES, "y_train": LABELS + 1, "x_test": IMAGES, "y_test": LABELS}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(
        DatasetError, match=r"are 1\.\.3 in train and 0\.\.2 in test: they count from different"
    ):
        load_npz(str(tmp_path / "a.npz"))
    assert load_npz(str(tmp_path / "a.npz"), ["nothing", "a", "b", "c"]).class_names[0] == "nothing"


def test_cifar_whose_splits_count_from_different_numbers_or_below_0_is_refused(tmp_path: Path) -> None:
    folder = write_python(tmp_path / "a")
    for number in range(1, 6):
        write_batch(folder / f"data_batch_{number}", np.minimum(CIFAR_LABELS, 8))
    write_batch(folder / "test_batch", np.maximum(CIFAR_LABELS, 1))
    with pytest.raises(DatasetError, match=r"are 1\.\.9 in test and 0\.\.8 in train.*labels of one split\.$"):
        load_cifar(str(folder))
    write_batch(folder / "test_batch", CIFAR_LABELS - 1)
    with pytest.raises(DatasetError, match=r"the labels are -1\.\.8, but there are 10 class names"):
        load_cifar(str(folder))


@pytest.mark.parametrize(
    ("labels", "names", "first_label", "classes", "expected"),
    [
        ([5, 6, 7], "", 5, "567", [0, 1, 2]),
        ([5, 7, 7], "", 5, "567", [0, 2, 2]),
        ([5, 6, 7], "abcd", 5, "abcd", [0, 1, 2]),
        ([1, 2, 3], "abcde", 0, "abcde", [1, 2, 3]),
        ([1, 2, 3], "abcde", 1, "abcde", [0, 1, 2]),
        ([1, 2, 3], "", 0, "0123", [1, 2, 3]),
        ([2, 3, 3], "", None, "0123", [2, 3, 3]),
        ([1, 2, 3], "abc", None, "abc", [0, 1, 2]),
        ([1, 2, 3], "abcd", 0, "abcd", [1, 2, 3]),
    ],
)
def test_first_label_is_the_number_of_the_first_class(
    tmp_path: Path,
    labels: list[int],
    names: str,
    first_label: int | None,
    classes: str,
    expected: list[int],
) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES[:3], labels=np.array(labels))
    source = load_npz(str(tmp_path / "a.npz"), tuple(names), first_label)
    assert (source.class_names, source.splits["train"].labels.tolist()) == (tuple(classes), expected)


@pytest.mark.parametrize(
    ("labels", "names", "first_label", "error", "message"),
    [
        ([1, 2, 3], "abcd", None, ConfigError, r"=0 if 1 is 'b', or --first-label=1 if it is 'a'\."),
        ([1, 2, 3], "abcde", None, ConfigError, r"=0 if 1 is 'b', or --first-label=1 if it is 'a'\."),
        (
            [1, 2, 4],
            "ab",
            None,
            DatasetError,
            r"go up to 4, but .* 2 class names: a, b\. Give more of them, or ",
        ),
        ([5, 6, 7], "abc", None, DatasetError, r"or --first-label with the number of 'a'\."),
        ([5, 6, 9], "abc", 5, DatasetError, r"go up to 9, but there are 3 class names"),
        ([0, 1, 2], "abc", 1, DatasetError, r"are 0\.\.2\. Expected none below --first-label=1, "),
    ],
)
def test_labels_without_a_class_are_refused_with_a_way_out(
    tmp_path: Path,
    labels: list[int],
    names: str,
    first_label: int | None,
    error: type[Exception],
    message: str,
) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES[:3], labels=np.array(labels))
    with pytest.raises(error, match=message):
        load_npz(str(tmp_path / "a.npz"), tuple(names), first_label)
