"""Turns the records of packed files into a streamed source: what WebDataset, TFRecord and Parquet have in common.

A first pass lists the records, with the place of every image's bytes. Images are then read by range, in the shuffled
order of the dataset, by whoever prepares them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.compact import Compact
from cnnlib.dataset.decode import ImageRules, decode_image
from cnnlib.dataset.streamed import Candidate, Candidates, StreamedSource, Value, row_id
from cnnlib.errors import ConfigError, DatasetError, NotFoundError
from cnnlib.sources.columns import find_metadata
from cnnlib.sources.folders import limit
from cnnlib.sources.image_files import DEFAULT_SPLITS, describe_rules, parse_fractions
from cnnlib.sources.numbering import check_split_numbering
from cnnlib.sources.packed.find import PackedFile
from cnnlib.sources.packed.record_labels import find_record_labels, to_column
from cnnlib.storage import files

_PIECE_ROWS = 10_000


class Span(NamedTuple):
    """The place of an image's bytes: an object, the first byte in it, and how many there are."""

    uri: str
    first: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
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


class Records(Compact[Record]):
    """Records in about a hundred bytes each."""

    def _to_values(self, item: Record) -> tuple[Any, ...]:
        span = item.span
        return (
            item.key,
            None if span is None else (span.first, span.num_bytes, self.share(span.uri)),
            self.share(item.label),
            self.share(item.label_field),
            self.share(item.problem),
            dict(item.metadata) or None,
        )

    def _from_values(self, values: tuple[Any, ...]) -> Record:
        key, span, label, label_field, problem, metadata = values
        return Record(
            key=key,
            span=None if span is None else Span(self.shared(span[2]), span[0], span[1]),
            label=self.shared(label),
            label_field=self.shared(label_field),
            problem=self.shared(problem),
            metadata=metadata or {},
        )


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
    everything = _Joined([of_file for _, of_file in records])
    if not everything:
        raise DatasetError(f"{description}: there is no image.")
    has_splits = _find_splits([file for file, _ in records], options.splits, description)
    names, labels, are_named = find_record_labels(everything, options, description, class_names)
    if has_splits and not are_named:
        splits = [file.split for file, of_file in records for _ in range(len(of_file))]
        check_split_numbering(names, labels, splits, description)
    columns = sorted({name for record in everything for name in record.metadata})
    table = pa.table(
        {name: to_column([record.metadata.get(name) for record in everything]) for name in columns}
    )
    metadata = find_metadata(table, set())
    repeated = _find_repeated(everything)

    def list_candidates() -> Iterator[Candidate]:
        pairs = ((file, record) for file, of_file in records for record in of_file)
        values = _iter_values({name: column for name, (_, column) in metadata.items()})
        labelled = zip(pairs, labels, strict=True)
        for index, (((file, record), label), own) in enumerate(zip(labelled, values, strict=False)):
            is_repeated = bool(repeated) and row_id(record.key) in repeated
            yield Candidate(
                key=f"{record.key} ({index})" if is_repeated else record.key,
                label=label,
                split=file.split if has_splits else None,
                metadata=own,
                problem=record.problem
                or ("two images have this name" if is_repeated else "")
                or ("no image" if record.span is None else "")
                or ("no label, or an unknown one" if label is None else ""),
                version=file.version,
                location=""
                if record.span is None
                else f"{record.span.first} {record.span.num_bytes} {record.span.uri}",
            )

    candidates = Candidates(list_candidates())
    return StreamedSource(
        class_names=names,
        candidates=limit(candidates, options.max_images),
        read=RangeReader(rules=options.rules),
        fractions={} if has_splits else parse_fractions(options.splits or DEFAULT_SPLITS),
        settings=describe_rules(options.rules),
        description=f"{description} ({describe_rules(options.rules)})",
        metadata={name: kind for name, (kind, _) in metadata.items()},
    )


class _Joined(Collection[Record]):
    """The records of all files, one file after the other."""

    def __init__(self, parts: Sequence[Sequence[Record]]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[Record]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __contains__(self, record: object) -> bool:
        return any(record in part for part in self._parts)


def _find_repeated(records: Collection[Record]) -> frozenset[int]:
    """Returns the ids of the keys that several records have: rare, where a count of all keys takes much memory."""
    ids, counts = np.unique(
        np.fromiter((row_id(record.key) for record in records), np.int64, len(records)), return_counts=True
    )
    return frozenset(map(int, ids[counts > 1]))


def _iter_values(columns: Mapping[str, pa.ChunkedArray]) -> Iterator[dict[str, Value]]:
    """Yields the values of each row; without any column no values, for ever."""
    if not columns:
        return repeat({})
    batches = pa.table(dict(columns)).to_batches(max_chunksize=_PIECE_ROWS)
    return chain.from_iterable(batch.to_pylist() for batch in batches)


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
