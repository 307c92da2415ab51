"""Tests `python -m jobs.prepare` in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.manifest import load_manifest
from cnnlib.sources.idx_names import file_names
from jobs import prepare
from tests.fashion import TEST_ROWS, encode_idx, write_tiny_idx
from tests.image_files import write_folders
from tests.processes import run_job_and_list_imports


def test_preparing_loads_nothing_that_takes_longer_than_the_work(tmp_path: Path) -> None:
    source, output = str(write_tiny_idx(tmp_path / "idx")), str(tmp_path / "data")
    heavy = {"pandas", "matplotlib", "scipy", "boto3", "ray", "tensorflow"}
    ran = run_job_and_list_imports("prepare", "idx", source, "--output", output, of=heavy)
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (0, "set()"), ran.stderr
    assert load_manifest(output).splits["test"].rows == TEST_ROWS


def test_classes_without_rows_are_named_and_the_second_time_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, labels in zip(file_names()[1::2], ([0, 3, 3, 1], [3, 0, 5, 1]), strict=True):
        images = np.zeros((4, 8, 8), np.uint8)
        (tmp_path / name).write_bytes(encode_idx(np.array(labels, np.uint8)))
        (tmp_path / name.replace("labels-idx1", "images-idx3")).write_bytes(encode_idx(images))
    command = ["idx", str(tmp_path), "--output", str(tmp_path / "out")]
    assert prepare.main(command) == 0
    log = capsys.readouterr().err
    assert 'labels note="train has no rows of these classes: 2, 4, 5"\n' in log
    assert 'labels note="test has no rows of these classes: 2, 4"\n' in log
    assert "prepared already" not in log
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert prepare.main(command) == 0
    assert 'dataset note="prepared already; nothing was written"' in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_same_command_writes_a_lost_shard_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = np.arange(8 * 64, dtype=np.uint8).reshape(8, 8, 8), [0, 1] * 4
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    command = ["npz", str(tmp_path / "a.npz"), "--output", str(tmp_path / "out")]
    assert prepare.main(command) == 0
    [shard] = (tmp_path / "out" / "test").iterdir()
    shard.unlink()
    assert prepare.main(["verify", str(tmp_path / "out")]) == 2
    assert prepare.main(command) == 0
    log = capsys.readouterr().err
    assert f"missing or damaged, and written again: 1, such as test/{shard.name}" in log
    assert "prepared already" not in log
    assert prepare.main(["verify", str(tmp_path / "out")]) == 0


def test_many_classes_without_rows_and_a_missing_training_split_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    np.savez(tmp_path / "a.npz", test_images=images, test_labels=[0, 30, 0, 30])
    assert prepare.main(["npz", str(tmp_path / "a.npz"), "--output", str(tmp_path / "out")]) == 0
    log = capsys.readouterr().err
    names = ", ".join(map(str, range(1, 21)))
    assert f'labels note="test has no rows of these classes: {names} and 9 more"\n' in log
    assert "no split is called train: jobs.train needs one" in log


def test_a_dataset_is_not_written_into_the_folder_of_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_folders(tmp_path / "images", rows=3)
    for output in (images, images / "data"):
        assert prepare.main(["folders", str(images), "--output", str(output)]) == 2
        assert "lies in the folder of the images" in capsys.readouterr().err
    assert prepare.main(["folders", str(images), "--output", f"{images}-data", "--channels", "1"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "0"], "size must be 1 to 16,384 pixels. Received 0x0."),
        (["--size", "60000"], "size must be 1 to 16,384 pixels. Received 60000x60000."),
        (["--size", "32x"], "size must be 224 or HEIGHTxWIDTH, such as 480x640, in pixels. Received '32x'."),
        (["--background", "blueish"], "background must be white, black, grey, or a colour such as 00ff00"),
        (["--max-bad", "2"], "max_bad must be a fraction, 0..1. Received 2."),
        (["--max-images", "0"], "max_images must be at least 1. Received 0."),
        (["--splits", "train=0.5"], "The fractions of splits must add up to 1."),
    ],
)
def test_flags_of_image_files_that_cannot_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    images = write_folders(tmp_path / "images", rows=3)
    try:
        code = prepare.main(["folders", str(images), "--output", str(tmp_path / "data"), *flags])
    except SystemExit as err:
        code = err.code  # type: ignore[assignment]
    assert (code, message in capsys.readouterr().err) == (2, True)
    assert not (tmp_path / "data").exists()
