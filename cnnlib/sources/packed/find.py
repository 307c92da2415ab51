"""Finds the packed files of a folder, a pattern or a name, and the split that a name states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cnnlib.errors import ConfigError, NotFoundError
from cnnlib.sources.image_files import SPLIT_NAMES
from cnnlib.storage import files
from cnnlib.storage.patterns import find_objects
from cnnlib.storage.uri import join_uri

_WORDS = re.compile(r"[^A-Za-z]+")
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_MOST_NAMES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """One file and the records in it.

    Attributes:
        name: its path below the folder of all files.
        version: a text that changes when the file is replaced.
        split: the name of its split; None: its name states none.
    """

    name: str
    uri: str
    num_bytes: int
    version: str
    split: str | None = None


def find_packed_files(pattern_uri: str, endings: Sequence[str]) -> list[PackedFile]:
    """Lists the files of a pattern such as `DIR/train-*.tar`, or all files of a folder with one of the endings.

    See `find_objects` for what a pattern means; braces stand for the names of files that must all be there.

    Raises:
        NotFoundError: there is no such file.
    """
    # A file or a folder may have the marks of a pattern in its name.
    if (single := files.find_object(pattern_uri)) is not None:
        return [_describe(single.uri, single.num_bytes, single.version, pattern_uri.rpartition("/")[0])]
    below = find_objects(pattern_uri)
    if not below.objects and (names := expand_braces(pattern_uri)) != [pattern_uri]:
        return _find_named(names)
    folder = below.folder
    found = [
        each
        for each in below.objects
        if (below.is_pattern or each.uri.lower().endswith(tuple(endings)))
        and not any(part.startswith((".", "_")) for part in below.relative(each).split("/"))
    ]
    if not found:
        raise NotFoundError(
            f"No file at {pattern_uri}: {below.num_listed} files are in {folder}. Expected files that end in "
            f"{', '.join(endings)}: a folder, a file, or a pattern such as {join_uri(folder, f'train-*{endings[0]}')}."
        )
    described = (_describe(each.uri, each.num_bytes, each.version, folder) for each in found)
    return sorted(described, key=lambda each: each.name)


def expand_braces(pattern: str) -> list[str]:
    """Returns the names that a pattern with braces stands for, as a shell and WebDataset write them.

    Raises:
        ConfigError: they are more than a million.

    >>> expand_braces("train-{08..10}.tar")
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    >>> expand_braces("{train,val}-0.tar")
    ['train-0.tar', 'val-0.tar']
    """
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], expand_braces(pattern[match.end() :])
    if match[1] is not None:
        first, last = int(match[1]), int(match[2])
        if abs(last - first) >= _MOST_NAMES:
            raise ConfigError(f"{pattern} stands for more than {_MOST_NAMES:,} files.")
        numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        middle = [f"{number:0{len(match[1])}d}" for number in numbers]
    else:
        middle = match[3].split(",")
    if len(middle) * len(after) > _MOST_NAMES:
        raise ConfigError(f"{pattern} stands for more than {_MOST_NAMES:,} files.")
    return [f"{before}{each}{rest}" for each in middle for rest in after]


def _find_named(uris: Sequence[str]) -> list[PackedFile]:
    """Returns the files of these names, all of which must be there."""
    base = uris[0].rpartition("/")[0]
    folders = {uri.rpartition("/")[0] for uri in uris}
    listed = {each.uri: each for folder in folders for each in files.list_objects(folder)}
    missing = [uri for uri in uris if uri not in listed]
    if missing:
        raise NotFoundError(f"{len(missing)} of {len(uris)} files are missing. First: {missing[0]}.")
    found = [listed[uri] for uri in uris]
    return [_describe(each.uri, each.num_bytes, each.version, base) for each in found]


def _describe(uri: str, num_bytes: int, version: str, folder: str) -> PackedFile:
    name = _relative(uri, folder)
    words = [SPLIT_NAMES[word] for word in _WORDS.split(name.lower()) if word in SPLIT_NAMES]
    return PackedFile(
        name=name,
        uri=uri,
        num_bytes=num_bytes,
        version=f"{num_bytes} {version}",
        split=words[-1] if words else None,
    )


def _relative(uri: str, folder: str) -> str:
    return uri.removeprefix(join_uri(folder, ""))
