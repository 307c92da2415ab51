"""A folder or a pattern in, the objects below it out: `*` means the same wherever a person may give a pattern."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cnnlib.storage import files
from cnnlib.storage.place import StoredObject
from cnnlib.storage.uri import join_uri

_MARKS = "*?["


@dataclass(frozen=True, kw_only=True)
class Found:
    """The objects of a folder or a pattern.

    Attributes:
        folder: the folder; of a pattern, the one that all objects with such a name are below.
        objects: sorted by URI.
        is_pattern: False if all objects of the folder are found.
        num_listed: objects of the folder.
    """

    folder: str
    objects: tuple[StoredObject, ...]
    is_pattern: bool
    num_listed: int

    def relative(self, each: StoredObject) -> str:
        """Returns the path of an object below the folder."""
        return each.uri.removeprefix(join_uri(self.folder, ""))


def find_objects(pattern_uri: str) -> Found:
    """Lists the objects below a folder, at any depth, or those of a pattern such as `DIR/2026-*.jpg`.

    As in a shell, `*`, `?` and `[…]` stand for no slash, and `**` for folders of any depth, none included. A folder may
    have the marks of a pattern in its name. Nothing is found below a folder that does not exist.
    """
    listed = files.list_objects(pattern_uri)
    if listed or not any(mark in pattern_uri for mark in _MARKS):
        return Found(folder=pattern_uri, objects=tuple(listed), is_pattern=False, num_listed=len(listed))
    folder = re.split(f"[{re.escape(_MARKS)}]", pattern_uri, maxsplit=1)[0].rpartition("/")[0]
    listed, pattern = files.list_objects(folder), pattern_uri.split("/")
    objects = tuple(each for each in listed if matches(each.uri.split("/"), pattern))
    return Found(folder=folder, objects=objects, is_pattern=True, num_listed=len(listed))


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Returns whether the parts of a path are those of a pattern.

    >>> matches(["a", "1.png"], ["a", "*.png"]), matches(["a", "b", "1.png"], ["a", "*.png"])
    (True, False)
    >>> matches(["a", "b", "c", "1.png"], ["a", "**", "*.png"]), matches(["a", "1.png"], ["a", "**", "*.png"])
    (True, True)
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(matches(parts[first:], pattern[1:]) for first in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])
