"""Loads Fashion-MNIST: finds its four IDX files, checks the sha256 of each, and returns them as a source.

It reads the given folder, or else the first of these places that has the files: the folder of Debian's package
`dataset-fashion-mnist`; Keras's cache; the public download that Keras uses, which is then kept in that cache; the
Debian package, which is downloaded and unpacked into that cache without root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from cnnlib.dataset.source import Source
from cnnlib.errors import DatasetError, InputError, NotFoundError
from cnnlib.log import log_event
from cnnlib.sources import idx
from cnnlib.storage import files
from cnnlib.storage.publish import sha256_hex
from cnnlib.storage.uri import join_uri

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
_DOWNLOAD_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
_DOWNLOAD_TIMEOUT_S = 20.0
_APT_TIMEOUT_S = 300.0

# Digests of the uncompressed files: Debian compresses them again, so its .gz files differ from those of the download.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load_fashion_mnist(source_uri: str | None = None) -> Source:
    """Finds, checks and reads Fashion-MNIST: 60,000 `train` and 10,000 `test` rows of 28x28x1, 10 classes.

    Args:
        source_uri: the folder that holds the four files; None: the places that the module's docstring lists.

    Raises:
        NotFoundError: no place has the files; the message lists what was tried.
        DatasetError: a file of `source_uri` is not Fashion-MNIST's.
    """
    if source_uri is not None:
        return _read(source_uri)
    failures = []
    for place, find_folder in _places():
        try:
            folder = find_folder()
            source = _read(folder)
        except (InputError, OSError, subprocess.SubprocessError) as err:
            failures.append(f"{place}: {_first_line(err)}")
            continue
        log_event("fashion-mnist", found=place, folder=folder)
        return source
    raise NotFoundError(
        "Fashion-MNIST was not found. Tried\n  - " + "\n  - ".join(failures) + "\n"
        f"Download the four files and pass --source DIR, or: apt-get install {DEBIAN_PACKAGE}"
    )


def _places() -> Iterator[tuple[str, Callable[[], str]]]:
    yield "Debian's package", lambda: DEBIAN_FOLDER
    yield "Keras's cache", lambda: str(_keras_cache())
    yield "Keras's download", _download
    yield f"apt-get download {DEBIAN_PACKAGE}", _unpack_debian_package


def _read(folder_uri: str) -> Source:
    contents = {name: _checked(data, name, folder_uri) for name, data in idx.read_files(folder_uri).items()}
    return idx.parse_source(
        contents.__getitem__, CLASS_NAMES, "Fashion-MNIST (Zalando SE, MIT license)", first_label=0
    )


def _checked(content: bytes, name: str, place: str) -> bytes:
    digest = sha256_hex(content)
    if digest != SHA256[name]:
        raise DatasetError(
            f"{name} of {place} is not Fashion-MNIST's. Received sha256 {digest} of the uncompressed file, "
            f"expected {SHA256[name]}. For another IDX dataset: python -m jobs.prepare idx DIR"
        )
    return content


def _keras_cache() -> Path:
    # The folder of keras.utils.get_file, which Keras reads from the environment in the same way.
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets" / "fashion-mnist"


def _download() -> str:
    cache = str(_keras_cache())
    for name in SHA256:
        with urllib.request.urlopen(f"{_DOWNLOAD_URL}/{name}.gz", timeout=_DOWNLOAD_TIMEOUT_S) as response:
            data = response.read()
        _checked(idx.decompress(data, name), name, _DOWNLOAD_URL)
        files.write_bytes(join_uri(cache, f"{name}.gz"), data)
    return cache


def _unpack_debian_package() -> str:
    """Downloads the Debian package, unpacks it into Keras's cache and returns that folder."""
    # A package manager is the only way to the files on a machine that reaches a Debian mirror but not the public
    # download, such as the one that runs CI.
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise NotFoundError("this machine has no apt-get")
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        (work / "lists" / "partial").mkdir(parents=True)
        # A package list and a cache in this folder need no root. apt's download user may not enter a private folder.
        settings = (f"Dir::State::Lists={work}/lists", f"Dir::Cache={work}", "APT::Sandbox::User=")
        options = [option for setting in settings for option in ("-o", setting)]
        for command in (["update", "-qq"], ["download", "-qq", DEBIAN_PACKAGE]):
            _run(["apt-get", *options, *command], work)
        package = next(work.glob("*.deb"), None)
        if package is None:
            raise NotFoundError("apt-get downloaded nothing")
        _run(["dpkg-deb", "--extract", str(package), str(work / "unpacked")], work)
        cache = str(_keras_cache())
        for file in (work / "unpacked" / DEBIAN_FOLDER.lstrip("/")).iterdir():
            files.write_bytes(join_uri(cache, file.name), file.read_bytes())
    return cache


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise NotFoundError(f"`{command[0]}` failed: {done.stderr.strip() or f'exit code {done.returncode}'}")


def _first_line(err: Exception) -> str:
    if isinstance(err, urllib.error.URLError):
        return f"{_DOWNLOAD_URL} cannot be reached ({err.reason})"
    return (str(err).splitlines() or [type(err).__name__])[0]
