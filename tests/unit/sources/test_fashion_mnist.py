"""Fashion-MNIST is searched for in a fixed order and accepted only with its exact bytes. No test needs a network."""

from __future__ import annotations

import gzip
import io
import subprocess
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnlib.errors import DatasetError, NotFoundError
from cnnlib.sources import fashion_mnist
from cnnlib.sources.fashion_mnist import load_fashion_mnist
from cnnlib.sources.idx_names import file_names
from cnnlib.storage.publish import sha256_hex
from tests.fashion import encode_idx


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small IDX files whose digests stand in for the real ones."""
    rng = np.random.default_rng(0)
    contents = {}
    for name in file_names():
        rows = 6 if name.startswith("train") else 3
        shape = (rows, 28, 28) if "images" in name else (rows,)
        contents[name] = encode_idx(rng.integers(0, 10, shape, np.uint8))
    for name, data in contents.items():
        monkeypatch.setitem(fashion_mnist.SHA256, name, sha256_hex(data))
    return contents


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the files of this machine and blocks the network."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", str(tmp_path / "debian"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(fashion_mnist.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda _: None)


def put(directory: Path, files: dict[str, bytes], *, zipped: bool = True) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    return directory


def test_every_file_of_the_data_set_has_a_digest() -> None:
    assert list(fashion_mnist.SHA256) == file_names()
    assert {len(digest) for digest in fashion_mnist.SHA256.values()} == {64}
    assert len(set(fashion_mnist.SHA256.values())) == 4


@pytest.mark.parametrize("zipped", [True, False])
def test_given_folder_is_read_and_named_classes_come_with_it(
    tmp_path: Path, files: dict[str, bytes], zipped: bool
) -> None:
    source = load_fashion_mnist(str(put(tmp_path / "given", files, zipped=zipped)))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 6, "test": 3}
    assert source.image_shape == (28, 28, 1)
    assert source.class_names == (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip


def test_given_folder_is_the_only_place_that_is_searched(tmp_path: Path, files: dict[str, bytes]) -> None:
    put(tmp_path / "debian", files)
    with pytest.raises(NotFoundError, match="given has neither train-images-idx3-ubyte"):
        load_fashion_mnist(str(tmp_path / "given"))


def test_file_with_another_digest_is_refused_with_its_name(tmp_path: Path, files: dict[str, bytes]) -> None:
    files["t10k-labels-idx1-ubyte"] = files["t10k-labels-idx1-ubyte"][:-1] + b"\x07"
    folder = put(tmp_path / "given", files)
    with pytest.raises(DatasetError, match=r"^t10k-labels-idx1-ubyte of .* is not Fashion-MNIST's") as raised:
        load_fashion_mnist(str(folder))
    assert fashion_mnist.SHA256["t10k-labels-idx1-ubyte"] in str(raised.value)
    assert sha256_hex(files["t10k-labels-idx1-ubyte"]) in str(raised.value)
    assert "python -m jobs.prepare idx DIR" in str(raised.value)


def test_places_are_searched_in_the_order_that_was_promised(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    files: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = [
        put(tmp_path / name, files) for name in ("debian", "keras/datasets/fashion-mnist", "web", "deb")
    ]
    requested: list[str] = []

    def place(name: str, folder: Path) -> Callable[[], str]:
        def find() -> str:
            requested.append(name)
            return str(folder)

        return find

    monkeypatch.setattr(fashion_mnist, "_download", place("web", folders[2]))
    monkeypatch.setattr(fashion_mnist, "_unpack_debian_package", place("deb", folders[3]))
    found = []
    for folder in folders:
        load_fashion_mnist()
        found.append(capsys.readouterr().err.strip())
        for file in folder.iterdir():
            file.unlink()
    assert [line.split("folder=")[1] for line in found] == [str(folder) for folder in folders]
    assert requested == ["web", "web", "deb"]


def test_place_with_wrong_bytes_is_skipped(tmp_path: Path, files: dict[str, bytes]) -> None:
    put(tmp_path / "debian", {name: data[:-1] + b"\xff" for name, data in files.items()})
    put(tmp_path / "keras" / "datasets" / "fashion-mnist", files)
    assert len(load_fashion_mnist().splits["train"]) == 6


def test_nothing_found_says_what_was_tried_and_what_to_do(tmp_path: Path, files: dict[str, bytes]) -> None:
    put(tmp_path / "debian", {name: data[:-1] + b"\xff" for name, data in files.items()})
    with pytest.raises(NotFoundError) as raised:
        load_fashion_mnist()
    first, *tried, last = str(raised.value).splitlines()
    assert first == "Fashion-MNIST was not found. Tried"
    assert [line.split(": ")[0] for line in tried] == [
        "  - Debian's package",
        "  - Keras's cache",
        "  - Keras's download",
        "  - apt-get download dataset-fashion-mnist",
    ]
    assert "is not Fashion-MNIST's" in tried[0]
    assert f"{tmp_path}/keras/datasets/fashion-mnist has neither" in tried[1]
    assert "storage.googleapis.com/tensorflow/tf-keras-datasets cannot be reached (no network" in tried[2]
    assert "this machine has no apt-get" in tried[3]
    assert last.endswith("pass --source DIR, or: apt-get install dataset-fashion-mnist")


def test_download_is_checked_and_kept_where_keras_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, bytes]
) -> None:
    requested = _serve(monkeypatch, {f"{name}.gz": gzip.compress(data) for name, data in files.items()})
    assert len(load_fashion_mnist().splits["test"]) == 3
    assert requested == [
        f"https://storage.googleapis.com/tensorflow/tf-keras-datasets/{name}.gz" for name in file_names()
    ]
    cache = tmp_path / "keras" / "datasets" / "fashion-mnist"
    assert sorted(path.name for path in cache.iterdir()) == sorted(f"{name}.gz" for name in files)
    load_fashion_mnist()
    assert len(requested) == 4


def test_download_with_wrong_bytes_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, bytes]
) -> None:
    _serve(monkeypatch, {f"{name}.gz": gzip.compress(data + b"!") for name, data in files.items()})
    with pytest.raises(
        NotFoundError, match=r"Keras's download: train-images-idx3-ubyte of .* is not Fashion-"
    ):
        load_fashion_mnist()
    assert not (tmp_path / "keras").exists()


def test_debian_package_is_unpacked_into_the_cache_without_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, bytes]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], *, cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if command[-2:] == ["-qq", "dataset-fashion-mnist"]:
            (cwd / "dataset-fashion-mnist_1_all.deb").write_bytes(b"")
        if command[0] == "dpkg-deb":
            put(Path(f"{command[-1]}{tmp_path}/debian"), files)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(fashion_mnist.subprocess, "run", run)
    assert len(load_fashion_mnist().splits["train"]) == 6
    assert [command[0] for command in commands] == ["apt-get", "apt-get", "dpkg-deb"]
    assert [command[-1] for command in commands[:2]] == ["-qq", "dataset-fashion-mnist"]
    assert len(list((tmp_path / "keras" / "datasets" / "fashion-mnist").iterdir())) == 4


def test_error_of_apt_get_is_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package\n")

    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(fashion_mnist.subprocess, "run", run)
    with pytest.raises(NotFoundError, match="`apt-get` failed: E: Unable to locate package"):
        load_fashion_mnist()


def _serve(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> list[str]:
    """Answers requests with these files; returns the list of requested URLs, which grows with every request."""
    requested: list[str] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        assert 0 < timeout < 60
        requested.append(url)
        return io.BytesIO(contents[url.rsplit("/", 1)[1]])

    monkeypatch.setattr(fashion_mnist.urllib.request, "urlopen", urlopen)
    return requested
