"""A folder of images becomes candidates: classes, splits, and what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnlib.dataset.decode import ImageRules
from cnnlib.dataset.streamed import BadImageError
from cnnlib.errors import ConfigError, DatasetError, InputError, NotFoundError
from cnnlib.sources.folders import load_folders
from cnnlib.storage import files
from tests.image_files import encode, noise, write_folders

RULES = ImageRules(channels=1)


def test_folders_are_classes_at_any_depth_and_on_s3_too(
    base_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = encode(noise(4, 4, 1))
    for path in (
        "dog/1.PNG",
        "cat/2021/may/2.JpEg",
        "cat/3.webp",
        "cat/.hidden.png",
        "cat/Thumbs.db",
        "notes.txt",
    ):
        files.write_bytes(f"{base_uri}/{path}", data)
    source = load_folders(base_uri, RULES)
    assert source.class_names == ("cat", "dog")
    assert {each.key: each.label for each in source.candidates} == {
        "cat/2021/may/2.JpEg": 0,
        "cat/3.webp": 0,
        "dog/1.PNG": 1,
    }
    assert source.fractions == {"train": 0.9, "test": 0.1}
    assert source.read("dog/1.PNG")[0] == data
    assert "left out, because they are no image files: 1 .txt, 2 hidden or of the system" in (
        capsys.readouterr().err
    )


def test_what_is_left_out_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path, rows=1)
    for name in ("cat/a.txt", "cat/b.txt", "cat/Thumbs.db", "dog/desktop.ini"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "loose.png").write_bytes(b"")
    assert len(load_folders(str(tmp_path), RULES).candidates) == 2
    lines = capsys.readouterr().err
    assert "left out, because they are no image files: 2 .txt, 2 hidden or of the system" in lines
    assert "1 images lie in no folder of a class, such as loose.png" in lines


def test_a_level_of_splits_is_understood(tmp_path: Path) -> None:
    for split in ("train", "Validation", "test"):
        write_folders(tmp_path / split, rows=2)
    source = load_folders(str(tmp_path), RULES)
    assert source.class_names == ("cat", "dog")
    assert {each.split for each in source.candidates} == {"train", "val", "test"}
    assert source.fractions == {}
    with pytest.raises(DatasetError, match=r"has the splits Validation, test, train of its own"):
        load_folders(str(tmp_path), RULES, splits=["train=1"])


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    write_folders(tmp_path, rows=2, classes=("test", "train"))
    assert load_folders(str(tmp_path), RULES).class_names == ("test", "train")


@pytest.mark.parametrize("stray", ["labels.jpg", "TRAIN/overview.png"])
def test_an_image_beside_the_folders_does_not_hide_the_splits(
    tmp_path: Path, stray: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("TRAIN", "Val", "test"):
        write_folders(tmp_path / split, rows=2)
    (tmp_path / stray).write_bytes(encode(noise(8, 8, 1)))
    source = load_folders(str(tmp_path), RULES)
    assert (source.class_names, len(source.candidates)) == (("cat", "dog"), 12)
    assert f"left out: 1 images lie in no folder of a class, such as {stray}" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["unlabelled", "dev"])
def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path: Path, other: str) -> None:
    for split in ("train", other):
        write_folders(tmp_path / split, rows=2)
    with pytest.raises(
        DatasetError, match=f"the folders train, which look like splits, and {other}, which do not"
    ):
        load_folders(str(tmp_path), RULES)
    source = load_folders(str(tmp_path), RULES, class_names=["train", other])
    assert source.class_names == ("train", other)


@pytest.mark.parametrize(
    ("one", "two"), [("training_set", "test_set"), ("images-train", "val2017"), ("dev", "eval")]
)
def test_folders_that_are_called_like_splits_are_no_classes(tmp_path: Path, one: str, two: str) -> None:
    for name in (one, two):
        write_folders(tmp_path / name, rows=2)
    with pytest.raises(
        DatasetError, match=r"look like splits, with cat, dog in them\. Call them train, val and test"
    ):
        load_folders(str(tmp_path), RULES)
    assert load_folders(str(tmp_path), RULES, class_names=[two, one]).class_names == (two, one)


def test_folders_of_splits_that_count_from_different_numbers_are_refused(tmp_path: Path) -> None:
    for split, first in (("train", 1), ("test", 0)):
        write_folders(tmp_path / split, rows=1, classes=[str(first + number) for number in range(3)])
    with pytest.raises(DatasetError, match=r"are 1\.\.3 in train and 0\.\.2 in test|are 0\.\.2 in test"):
        load_folders(str(tmp_path), RULES)
    assert load_folders(str(tmp_path), RULES, class_names=["0", "1", "2", "3"]).class_names[0] == "0"


def test_names_that_look_the_same_are_one_class(tmp_path: Path) -> None:
    composed, apart = "M\u00fcnze", "Mu\u0308nze"
    write_folders(tmp_path / "train", rows=1, classes=(composed, "cat"))
    write_folders(tmp_path / "test", rows=1, classes=(apart, "cat"))
    assert load_folders(str(tmp_path), RULES).class_names == (composed, "cat")
    for name in (composed, apart):
        source = load_folders(str(tmp_path), RULES, class_names=["cat", name])
        assert source.class_names == ("cat", name)
        assert sorted((each.key.split("/")[1], each.label) for each in source.candidates) == sorted(
            [("cat", 0), ("cat", 0), (composed, 1), (apart, 1)]
        )


def test_folders_of_classes_in_one_folder_are_found(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", rows=2)
    with pytest.raises(
        DatasetError, match=f"has one folder, data, with the folders cat, dog.*give {tmp_path}/data"
    ):
        load_folders(str(tmp_path), RULES)


def test_folders_that_all_classes_have_are_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat", "dog"):
        write_folders(tmp_path / name, rows=1, classes=("2020", "2021"))
    assert load_folders(str(tmp_path), RULES).class_names == ("cat", "dog")
    assert (
        "the classes are cat, dog, each with the folders 2020, 2021: these are no" in capsys.readouterr().err
    )


def test_what_looks_like_a_mistake_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path, rows=1, classes=("cat", "dog", "Cat"))
    (tmp_path / "cow").mkdir()
    (tmp_path / "cow" / "1.heic").write_bytes(b"x")
    load_folders(str(tmp_path), RULES)
    lines = capsys.readouterr().err
    assert "no class, because no image lies in them: cow" in lines
    assert "classes of their own that differ only in case: Cat, cat" in lines


def test_links_that_lead_nowhere_or_upwards(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "images", rows=1)
    (folder / "cat" / "gone.png").symlink_to("nowhere.png")
    (folder / "cat" / "itself.png").symlink_to("itself.png")
    (folder / "cat" / "up").symlink_to(folder)
    (folder / "dog" / "linked.png").symlink_to(folder / "cat" / "000.png")
    source = load_folders(str(folder), RULES)
    keys = ["cat/000.png", "cat/gone.png", "cat/itself.png", "dog/000.png", "dog/linked.png"]
    assert sorted(each.key for each in source.candidates) == keys
    with pytest.raises(BadImageError, match="no such file"):
        source.read("cat/gone.png")


def test_class_names_give_the_order(tmp_path: Path) -> None:
    write_folders(tmp_path, rows=1)
    source = load_folders(str(tmp_path), RULES, class_names=["dog", "cat"])
    assert {each.key.split("/")[0]: each.label for each in source.candidates} == {"dog": 0, "cat": 1}
    with pytest.raises(ConfigError, match=r"there is no class 'cow'\. Found: cat, dog\."):
        load_folders(str(tmp_path), RULES, class_names=["dog", "cat", "cow"])
    with pytest.raises(ConfigError, match="it leaves out 'cat'"):
        load_folders(str(tmp_path), RULES, class_names=["dog"])


def test_a_first_try_takes_some_of_each_class(tmp_path: Path) -> None:
    write_folders(tmp_path, rows=9)
    keys = [each.key for each in load_folders(str(tmp_path), RULES, max_images=2).candidates]
    assert keys == ["cat/000.png", "cat/001.png", "dog/000.png", "dog/001.png"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train=0.8,test=0.3"], "must add up to 1"),
        (["train=0.5", "train=0.5"], "Received 'train=0.5'"),
        (["train"], "Received 'train'"),
        (["a b=1"], "Received 'a b=1'"),
        (["train=1.5,test=-0.5"], "Received 'train=1.5'"),
    ],
)
def test_fractions_that_cannot_work_are_refused(tmp_path: Path, splits: list[str], message: str) -> None:
    write_folders(tmp_path, rows=1)
    with pytest.raises(ConfigError, match=message):
        load_folders(str(tmp_path), RULES, splits=splits)


def test_folders_without_images_of_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist or is empty"):
        load_folders(str(tmp_path / "none"), RULES)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(
        DatasetError, match=r"1 images lie in no folder of a class, such as a\.png\. Expected"
    ):
        load_folders(str(tmp_path), RULES)
    (tmp_path / "a.png").rename(tmp_path / "a.txt")
    with pytest.raises(DatasetError, match=r"has no image in a folder of a class\. Received 1 \.txt"):
        load_folders(str(tmp_path), RULES)


def test_a_pipe_is_no_image_and_nobody_waits_for_it(tmp_path: Path) -> None:
    write_folders(tmp_path / "in", rows=2)
    os.mkfifo(tmp_path / "in" / "cat" / "pipe.png")
    source = load_folders(str(tmp_path / "in"), RULES)
    assert sorted(each.key for each in source.candidates) == [
        "cat/000.png",
        "cat/001.png",
        "dog/000.png",
        "dog/001.png",
    ]
    with pytest.raises(BadImageError, match="not the path of a file"):
        source.read("cat/pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png is a pipe, a socket or a device\. Expected a file"):
        files.read_range(str(tmp_path / "in" / "cat" / "pipe.png"), 0, 1)
