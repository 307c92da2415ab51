"""Reads the image files that a source lists, and parses the options that all sources of image files share."""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.class_names import compose
from cnnlib.dataset.decode import EXTENSIONS, ImageRules, decode_image
from cnnlib.dataset.streamed import BadImageError
from cnnlib.errors import AccessError, ConfigError, InputError, NotFoundError
from cnnlib.log import log_event
from cnnlib.storage import files
from cnnlib.storage.uri import join_uri, normalize_uri

DEFAULT_SPLITS = ("train=0.9", "test=0.1")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The usual names of splits, in lower case."""
_IGNORED = frozenset(("thumbs.db", "desktop.ini", ".ds_store"))
_SIZE = re.compile(r"(\d+)(?:x(\d+))?")
_COLOUR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """Reads an image file by its key: a path below the folder, or a URI."""

    folder: str
    rules: ImageRules

    def __call__(self, key: str) -> tuple[bytes, npt.NDArray[np.uint8]]:
        """Returns the bytes of the file, and its pixels, uint8 [height, width, channels].

        Raises:
            BadImageError: there is no such file, or it is no image that can be used.
            StorageError: storage failed.
        """
        try:
            data = files.read_bytes(locate(self.folder, key))
        except NotFoundError as err:
            raise BadImageError("no such file") from err
        except AccessError:
            raise
        except InputError as err:
            raise BadImageError("a folder, or not the path of a file") from err
        return data, decode_image(data, self.rules)


def list_versions(folder_uri: str, *, hidden: bool = False) -> dict[str, str]:
    """Lists a folder; returns a text that changes when a file is replaced, by the file's path below the folder.

    Args:
        hidden: True lists hidden files, too.
    """
    base = join_uri(folder_uri, "")
    found = files.list_objects(folder_uri, hidden=hidden)[::-1]
    versions = {}
    while found:  # millions of files need not be in memory twice
        each = found.pop()
        versions[each.uri.removeprefix(base)] = f"{each.num_bytes} {each.version}"
    return versions


def to_split(value: object) -> str | None:
    """Returns the name of a split: train, val and test under their usual names; None where it cannot be one.

    >>> to_split("Validation"), to_split("fold 1"), to_split(3)
    ('val', None, '3')
    """
    text = "" if value is None else str(value).strip()
    return SPLIT_NAMES.get(text.lower()) or (text if _SPLIT_NAME.fullmatch(text) else None)


def check_output(source_uri: str, output_uri: str) -> None:
    """Checks that a dataset is not written into the folder that its images come from.

    Raises:
        ConfigError: it is.
    """
    if f"{output_uri}/".startswith(f"{source_uri}/"):
        raise ConfigError(
            f"The output {output_uri} lies in the folder of the images, {source_uri}: the next preparation would take "
            "its preview for an image. Choose another --output."
        )


def locate(folder: str, path: str) -> str:
    """Returns the URI of a path that is relative to a folder, absolute, or a URI.

    >>> locate("s3://bucket/images", "cats/1.jpg")
    's3://bucket/images/cats/1.jpg'
    """
    return normalize_uri(path) if "://" in path or path.startswith("/") else join_uri(folder, path)


def shorten(folder: str, path: str) -> str:
    """Returns the one spelling of a path: below the folder if it lies there, else the whole.

    >>> [shorten("/data", path) for path in ("./a/../b.png", "/data/b.png", "../b.png")]
    ['b.png', 'b.png', '/b.png']
    """
    scheme, _, rest = locate(folder, path).rpartition("://")
    whole = f"{scheme}://{posixpath.normpath(rest)}" if scheme else posixpath.normpath(rest)
    return whole.removeprefix(join_uri(folder, ""))


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Returns height and width of `224` or `HEIGHTxWIDTH`; None for None.

    Raises:
        ConfigError: the text is something else.

    >>> parse_size("480x640")
    (480, 640)
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"size must be 224 or HEIGHTxWIDTH, such as 480x640, in pixels. Received {text!r}.")
    return int(match[1]), int(match[2] or match[1])


def parse_colour(text: str) -> tuple[int, int, int]:
    """Returns red, green and blue, 0..255, of white, black, grey or RRGGBB in hexadecimal digits.

    Raises:
        ConfigError: the text is something else.
    """
    match = _COLOUR.fullmatch(text)
    if text not in _COLOURS and match is None:
        raise ConfigError(
            f"background must be {', '.join(_COLOURS)}, or a colour such as 00ff00 (RRGGBB). Received {text!r}."
        )
    if match is None:
        return _COLOURS[text]
    return int(match[1], 16), int(match[2], 16), int(match[3], 16)


def parse_fractions(splits: Sequence[str]) -> dict[str, float]:
    """Returns the fraction of each split of `train=0.8 val=0.1 test=0.1`, also with commas between them.

    Raises:
        ConfigError: a word is something else, a split is named twice, or the fractions do not add up to 1.
    """
    fractions: dict[str, float] = {}
    for word in (part for each in splits for part in each.split(",")):
        name, _, text = word.partition("=")
        try:
            fraction = float(text)
        except ValueError:
            fraction = math.nan
        if not _SPLIT_NAME.fullmatch(name) or name in fractions or not 0 < fraction <= 1:
            raise ConfigError(
                f"splits takes NAME=FRACTION for each split, such as train=0.8,val=0.1,test=0.1. Received {word!r}."
            )
        fractions[name] = fraction
    if not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise ConfigError(
            f"The fractions of splits must add up to 1. Received {', '.join(splits)}, which add up to "
            f"{sum(fractions.values()):g}."
        )
    return fractions


def describe_rules(rules: ImageRules) -> str:
    """Returns all that decides the pixels of an image, in words, for the identity of a dataset."""
    size = "as it is" if rules.size is None else f"{rules.size[0]}x{rules.size[1]} {rules.resize}"
    return f"size {size}, {rules.channels} channels, background {rules.background}"


def check_names(given: Sequence[str], found: Sequence[str], origin: str) -> tuple[str, ...]:
    """Returns the class names in the order that a person gave, or as they were found.

    Raises:
        ConfigError: the given names are not those that were found.
    """
    if not given:
        return tuple(found)
    of_given, of_found = set(map(compose, given)), set(map(compose, found))
    missing, unknown = sorted(of_found - of_given), sorted(of_given - of_found)
    if missing or unknown:
        what = f"it leaves out {missing[0]!r}" if missing else f"there is no class {unknown[0]!r}"
        raise ConfigError(
            f"class_names must name every class of {origin}: {what}. Found: {', '.join(found)}."
        )
    return tuple(given)


def select_images(paths: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Returns the paths of image files, and how many others there are of each kind, which a log line says."""
    images, others = [], Counter[str]()
    for path in paths:
        name = path.rpartition("/")[2]
        ending = f".{name.rpartition('.')[2].lower()}" if "." in name else "without an ending"
        if any(part.startswith(".") for part in path.split("/")) or name.lower() in _IGNORED:
            others["hidden or of the system"] += 1
        elif ending in EXTENSIONS:
            images.append(path)
        else:
            others[ending] += 1
    if others:
        log_event("images", note=f"left out, because they are no image files: {counted(others)}")
    return images, others


def counted(counts: Mapping[str, int]) -> str:
    """Returns what was left out in words: `3 .txt, 1 hidden`."""
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
