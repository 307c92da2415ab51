"""Turns the records of packed files into a streamed source: what WebDataset, TFRecord and Parquet have in common.

A first pass lists the records, with the place of every image's bytes. Images are then read by range, in the shuffled
order of the dataset, by whoever prepares them.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.decode import ImageRules, decode_image
from cnnlib.dataset.streamed import Candidate, StreamedSource
from cnnlib.errors import ConfigError, DatasetError, NotFoundError
from cnnlib.sources.columns import find_metadata
from cnnlib.sources.folders import limit
from cnnlib.sources.image_files import DEFAULT_SPLITS, SPLIT_NAMES, describe_rules, parse_fractions
from cnnlib.sources.numbering import check_split_numbering
from cnnlib.sources.packed.record_labels import find_record_labels, to_column
from cnnlib.storage import files
from cnnlib.storage.uri import join_uri

_WORDS = re.compile(r"[^A-Za-z]+")
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_MOST_NAMES = 1_000_000


class Span(NamedTuple):
    """The place of an image's bytes: an object, the first byte in it, and how many there are."""

    uri: str
    first: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """An image, as a packed file has it.

    Attributes:
        key: names it in the source; unique.
        span: where its bytes are; None if it has none.
        label: a name, a number or a truth value; None if it has none.
        label_field: what holds the label: the name of a column, a feature, or an ending.
        problem: why it cannot be used, if that is known already.
        metadata: further values by name.
    """

    key: str
    span: Span | None
    label: str | float | None
    label_field: str = ""
    problem: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


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


@dataclass(frozen=True, kw_only=True)
class PackedOptions:
    """How records become rows; see `jobs.prepare`."""

    rules: ImageRules
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    first_label: int | None = None
    class_names: Sequence[str] = ()
    splits: Sequence[str] = ()
    max_images: int | None = None


@dataclass(frozen=True, kw_only=True)
class RangeReader:
    """Reads an image by the location of its candidate."""

    rules: ImageRules

    def __call__(self, key: str) -> tuple[bytes, npt.NDArray[np.uint8]]:
        """Returns the bytes of the image, and its pixels, uint8 [height, width, channels].

        Raises:
            BadImageError: they are no image that can be used.
            DatasetError: the file was deleted or has become shorter meanwhile.
            StorageError: storage failed.
        """
        first, num_bytes, uri = key.split(" ", 2)
        try:
            data = files.read_range(uri, int(first), int(num_bytes))
        except NotFoundError as err:
            raise DatasetError(f"{uri} was deleted while it was prepared. Run it again.") from err
        if len(data) != int(num_bytes):
            raise DatasetError(f"{uri} has changed while it was prepared. Run it again.")
        return data, decode_image(data, self.rules)


def find_packed_files(pattern_uri: str, endings: Sequence[str]) -> list[PackedFile]:
    """Lists the files of a pattern such as `DIR/train-*.tar`, or all files of a folder with one of the endings.

    Raises:
        NotFoundError: there is no such file.
    """
    if (names := expand_braces(pattern_uri)) != [pattern_uri]:
        return _find_named(names)
    has_pattern = any(mark in pattern_uri for mark in "*?[")
    folder = pattern_uri
    if has_pattern:
        folder = re.split(r"[*?\[]", pattern_uri, maxsplit=1)[0].rpartition("/")[0]
    elif (single := files.find_object(pattern_uri)) is not None:
        return [_describe(single.uri, single.num_bytes, single.version, pattern_uri.rpartition("/")[0])]
    listed = files.list_objects(folder)
    found = [
        each
        for each in listed
        if (
            fnmatch.fnmatchcase(each.uri, pattern_uri)
            if has_pattern
            else each.uri.lower().endswith(tuple(endings))
        )
        and not any(part.startswith((".", "_")) for part in _relative(each.uri, folder).split("/"))
    ]
    if not found:
        raise NotFoundError(
            f"No file at {pattern_uri}: {len(listed)} files are in {folder}. Expected files that end in "
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


def build_packed_source(
    records: Sequence[tuple[PackedFile, Sequence[Record]]],
    options: PackedOptions,
    description: str,
    class_names: Sequence[str] = (),
) -> StreamedSource:
    """Builds the source of all records.

    Args:
        records: the records of every file.
        description: what the files are, in words.
        class_names: the names that the files state for labels that are numbers; a person's come first.

    Raises:
        ConfigError: class names or splits cannot work.
        DatasetError: there is no image or no label, or only some files state a split.
    """
    pairs = [(file, record) for file, of_file in records for record in of_file]
    if not pairs:
        raise DatasetError(f"{description}: there is no image.")
    has_splits = _find_splits([file for file, _ in records], options.splits, description)
    names, labels, are_named = find_record_labels(
        [record for _, record in pairs], options, description, class_names
    )
    if has_splits and not are_named:
        check_split_numbering(names, labels, [file.split for file, _ in pairs], description)
    columns = sorted({name for _, record in pairs for name in record.metadata})
    table = pa.table(
        {name: to_column([record.metadata.get(name) for _, record in pairs]) for name in columns}
    )
    metadata = find_metadata(table, set())
    values = {name: column.to_pylist() for name, (_, column) in metadata.items()}
    counts = Counter(record.key for _, record in pairs)
    candidates = [
        Candidate(
            key=record.key if counts[record.key] == 1 else f"{record.key} ({index})",
            label=label,
            split=file.split if has_splits else None,
            metadata={name: column[index] for name, column in values.items()},
            problem=record.problem
            or ("two images have this name" if counts[record.key] > 1 else "")
            or ("no image" if record.span is None else "")
            or ("no label, or an unknown one" if label is None else ""),
            version=file.version,
            location=""
            if record.span is None
            else f"{record.span.first} {record.span.num_bytes} {record.span.uri}",
        )
        for index, ((file, record), label) in enumerate(zip(pairs, labels, strict=True))
    ]
    return StreamedSource(
        class_names=names,
        candidates=limit(candidates, options.max_images),
        read=RangeReader(rules=options.rules),
        fractions={} if has_splits else parse_fractions(options.splits or DEFAULT_SPLITS),
        settings=describe_rules(options.rules),
        description=f"{description} ({describe_rules(options.rules)})",
        metadata={name: kind for name, (kind, _) in metadata.items()},
    )


def _find_splits(packed: Sequence[PackedFile], given: Sequence[str], description: str) -> bool:
    """Returns whether the names of the files state the splits."""
    found = {each.split for each in packed}
    if None in found and len(found) > 1:
        without = next(each.name for each in packed if each.split is None)
        some = next(each for each in packed if each.split is not None)
        raise DatasetError(
            f"{description}: {some.name} is of the split {some.split}, and the name of {without} states none. Expected "
            "train, val or test in the name of every file, or of none."
        )
    if None in found or (given and len(found) == 1):
        return False
    if given:
        raise ConfigError(
            f"The files of {description} state the splits {', '.join(sorted(map(str, found)))}. Leave out --splits."
        )
    return True


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
