"""Turns the records of packed files into a streamed source: what WebDataset, TFRecord and Parquet have in common.

A first pass lists the records, with the place of every image's bytes. Images are then read by range, in the shuffled
order of the dataset, by whoever prepares them.
"""

from __future__ import annotations

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
from cnnlib.sources.image_files import DEFAULT_SPLITS, describe_rules, parse_fractions
from cnnlib.sources.numbering import check_split_numbering
from cnnlib.sources.packed.find import PackedFile
from cnnlib.sources.packed.record_labels import find_record_labels, to_column
from cnnlib.storage import files


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
