"""Writes the inputs of the programs before anything is measured: the same rows in the format of each program.

A program names an input as `{kind:rows}`. `{dataset:9600}` is a dataset of the first 9,600 training images of
Fashion-MNIST and at most as many test images.
"""

from __future__ import annotations

import gzip
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnlib.bench.programs import Program, run_program, whole_command
from cnnlib.errors import ConfigError
from cnnlib.log import log_event

FRESH = "{fresh}"
_PHOTO, _PHOTO_CLASSES = (500, 375), 5
_PLACEHOLDER = re.compile(r"\{(\w+):(\d+)\}")

_SOURCES = ("{idx}", "{photos}")
_SMALL_PHOTOS = ("-m", "jobs.prepare", "folders", "{photos}", "--size", "64", "--splits", "train=1")
# Each program writes to the path in its last argument. `write_idx` writes the kind "idx", `write_photos` "photos".
_WRITERS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("-m", "jobs.prepare", "idx", "{idx}", "--output"),
    "jpeg_dataset": (
        *("-m", "jobs.prepare", "folders", "{photos}", "--size", "224", "--encoding", "jpeg"),
        *("--splits", "train=1", "--output"),
    ),
    "small_jpeg_dataset": (*_SMALL_PHOTOS, "--encoding", "jpeg", "--output"),
    "small_raw_dataset": (*_SMALL_PHOTOS, "--encoding", "raw", "--output"),
    "ray_parquet": ("-m", "cnnlib.bench.peers.ray.write_parquet", "{idx}"),
    "tfrecord": ("-m", "cnnlib.bench.peers.tfrecord.write", "{idx}"),
    "model": ("-m", "cnnlib.bench.ours.save_seed_model"),
}


class Inputs:
    """Keeps inputs in one folder, and writes each of them when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, placeholder: str) -> str:
        """Returns the path of an input, and writes it if it does not exist.

        Raises:
            ConfigError: the kind of input is unknown.
            CnnlibError: the input cannot be written.
        """
        kind, rows = _parse(placeholder)
        name = f"{kind}-{rows}{'.keras' if kind == 'model' else ''}"
        path, unfinished = self._folder / name, self._folder / f"unfinished-{name}"
        if not path.exists():
            log_event("input", kind=kind, rows=rows)
            if kind == "idx":
                write_idx(unfinished, rows)
            elif kind == "photos":
                write_photos(unfinished, rows)
            else:
                self._write(kind, rows, unfinished)
            unfinished.rename(path)
        return str(path)

    @contextmanager
    def fill(self, program: Program) -> Iterator[Program]:
        """Yields the program with the paths of its inputs and of a new folder, which is deleted afterwards."""
        wanted = {each for each in program.arguments if _PLACEHOLDER.fullmatch(each)}
        paths = {each: self.find(each) for each in wanted}
        fresh = Path(tempfile.mkdtemp(prefix="run-", dir=self._folder))
        try:
            yield program.resolve(paths | {FRESH: str(fresh / "out")})
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _write(self, kind: str, rows: int, path: Path) -> None:
        arguments = tuple(
            self.find(f"{each[:-1]}:{rows}}}") if each in _SOURCES else each for each in _WRITERS[kind]
        )
        run_program(
            Program(name=f"writing {kind}", arguments=(*arguments, str(path)), measurement=whole_command)
        )


def write_idx(folder: Path, rows: int) -> None:
    """Writes the first rows of Fashion-MNIST in its own format: four gzipped IDX files."""
    from cnnlib.sources.fashion_mnist import load_fashion_mnist

    folder.mkdir(parents=True)
    splits = load_fashion_mnist().splits
    for name, prefix in (("train", "train"), ("test", "t10k")):
        part = splits[name].read(0, min(rows, len(splits[name])))
        _write_file(folder / f"{prefix}-images-idx3-ubyte.gz", part.images[..., 0])
        _write_file(folder / f"{prefix}-labels-idx1-ubyte.gz", part.labels.astype(np.uint8))


def write_photos(folder: Path, rows: int) -> None:
    """Writes JPEG files of 500x375 pixels, about 50 kB each, in five folders of classes: smooth colours with noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(rows):
        smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(
            _PHOTO, Image.Resampling.BICUBIC
        )
        pixels = np.asarray(smooth) + rng.normal(0, 6, (*reversed(_PHOTO), 3))
        path = folder / f"class {number % _PHOTO_CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=88)


def _write_file(path: Path, array: npt.NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=6))


def _parse(placeholder: str) -> tuple[str, int]:
    match = _PLACEHOLDER.fullmatch(placeholder)
    if not match or match.group(1) not in {"idx", "photos", *_WRITERS}:
        raise ConfigError(
            f"Unknown input. Received {placeholder}. Expected one of idx, photos, {', '.join(_WRITERS)}."
        )
    return match.group(1), int(match.group(2))
