"""Finds the four files of an IDX dataset under the names that they have in public.

    train-images-idx3-ubyte.gz                    MNIST, Fashion-MNIST, KMNIST; without .gz when unpacked
    train-images.idx3-ubyte                       the same, after some unpackers
    train-images-idx3-ubyte/train-images-idx3-ubyte   the same, after others
    emnist-letters-train-images-idx3-ubyte.gz     EMNIST, six datasets in one folder, `test` for `t10k`

Case does not count. Where a file is there several times, the gzipped one is read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from cnnlib.errors import ConfigError, NotFoundError, nearest
from cnnlib.storage import files
from cnnlib.storage.uri import join_uri

SPLIT_PREFIXES = {"train": "train", "test": "t10k"}
"""The prefixes of the names of a split's two files."""

_NAME = re.compile(
    r"(?:(?P<dataset>.+)[-_.])?(?P<split>train|t10k|test)[-_.](?P<kind>images|labels)[-_.]idx\d"
    r"(?:[-_.](?:ubyte|int))?(?:\.gz)?",
    re.IGNORECASE,
)
_ENDINGS = {"images": "idx3-ubyte", "labels": "idx1-ubyte"}


class IdxFiles(NamedTuple):
    """The files of one dataset.

    Attributes:
        prefix: what the names have before `train` and `t10k`; "" if nothing.
        paths: for each of `file_names`, the path below the folder.
    """

    prefix: str
    paths: Mapping[str, str]


def file_names() -> list[str]:
    """Returns the names of the four files in MNIST, without `.gz`."""
    return [
        f"{prefix}-{kind}-{ending}" for prefix in SPLIT_PREFIXES.values() for kind, ending in _ENDINGS.items()
    ]


def find_files(folder_uri: str, prefix: str | None = None) -> IdxFiles:
    """Finds the four files in a folder.

    Args:
        folder_uri: where to look.
        prefix: the dataset to take, where the folder holds several, such as `emnist-letters`; None: the only one, or
            the one whose names have no prefix.

    Raises:
        NotFoundError: a file is missing.
        ConfigError: the folder holds several datasets and none was chosen, or not the one that was.
    """
    found = _list_datasets(folder_uri)
    chosen = _choose(folder_uri, found, prefix)
    for name in file_names():
        if name not in found[chosen]:
            own = f"{chosen}-{name}" if chosen else name
            raise NotFoundError(
                f"{folder_uri} has neither {own}.gz nor {own}. Expected the four files of an IDX dataset."
            )
    return IdxFiles(prefix=chosen, paths=found[chosen])


def _list_datasets(folder_uri: str) -> dict[str, dict[str, str]]:
    """Returns, by prefix, the path of each file that is there, by its name in MNIST."""
    paths = files.list_files(folder_uri)
    for folder in filter(_NAME.fullmatch, files.list_folders(folder_uri)):
        paths += [f"{folder}/{name}" for name in files.list_files(join_uri(folder_uri, folder))]
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted(paths, key=lambda path: (path.count("/"), not path.lower().endswith(".gz"), path)):
        match = _NAME.fullmatch(path.rpartition("/")[2])
        if match:
            kind = match["kind"].lower()
            split = "train" if match["split"].lower() == "train" else "t10k"
            found[(match["dataset"] or "").lower()].setdefault(f"{split}-{kind}-{_ENDINGS[kind]}", path)
    return found


def _choose(folder_uri: str, found: Mapping[str, Mapping[str, str]], prefix: str | None) -> str:
    if prefix is not None:
        wanted = prefix.lower().rstrip("-_.")
        if wanted not in found:
            hint = (
                nearest(wanted, (name for name in found if name))
                if any(found)
                else "It holds none with a prefix."
            )
            raise ConfigError(f"{folder_uri} holds no IDX dataset with the prefix {prefix!r}. {hint}")
        return wanted
    complete = [name for name, paths in found.items() if len(paths) == len(file_names())]
    if "" in complete or not found:
        return ""
    if len(complete) > 1:
        raise ConfigError(
            f"{folder_uri} holds {len(complete)} IDX datasets: {', '.join(sorted(complete))}. Choose one, for example "
            f"--prefix {min(complete)}"
        )
    # The one that is complete, or else nearly complete: the caller says which of its files is missing.
    return max(found, key=lambda name: len(found[name]))
