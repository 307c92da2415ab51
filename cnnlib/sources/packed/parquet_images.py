"""Lists the images of Parquet files that hold them as bytes, those of Hugging Face datasets included.

An image is a binary value, or a struct with the fields `bytes` and `path`, as the package `datasets` writes it; the
names of its `ClassLabel` are in the schema's metadata. A row of a Parquet file cannot be read by itself, so the first
pass copies the images into larger objects below `DATASET/progress`, from which they are read by range. They are deleted
when the dataset is published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cnnlib.dataset.record import is_shard
from cnnlib.dataset.streamed import StreamedSource
from cnnlib.errors import ConfigError, DatasetError
from cnnlib.log import log_event
from cnnlib.sources.columns import LABEL_NAMES, check_column_names, find_column, find_split
from cnnlib.sources.image_files import to_split
from cnnlib.sources.packed.find import PackedFile, find_packed_files
from cnnlib.sources.packed.records import PackedOptions, Record, Records, Span, build_packed_source
from cnnlib.sources.second_column import to_label
from cnnlib.storage import files, layout, publish
from cnnlib.storage.range_file import open_range_file

_COPY_BYTES = 32 * 2**20
_BATCH_ROWS = 64
_BUFFER_BYTES = 4 * 2**20
_BYTES, _PATH = "bytes", "path"
_NO_LABEL = -1  # Hugging Face writes it for rows whose label is not published


def load_parquet_images(pattern_uri: str, dataset_uri: str, options: PackedOptions) -> StreamedSource:
    """Lists the images of Parquet files, and copies them below the dataset's folder.

    Args:
        pattern_uri: a folder with Parquet files, a file, or a pattern.
        dataset_uri: the folder of the dataset to write.
        options: `image_column`, `label_column` and `split_column` name the columns.

    Raises:
        NotFoundError: there is no such file.
        DatasetError: a file is no Parquet file or damaged, files have different classes, or there is no label.
        ConfigError: class names or splits cannot work, or there are no such columns.
    """
    packed = find_packed_files(pattern_uri, (".parquet",))
    listed, names = _Listed(), _ClassNames()
    copies = _Copies(dataset_uri, listed)
    for file in packed:
        _read_file(file, options, copies, names)
    copies.close()
    listed.say_columns()
    source = build_packed_source(
        list(listed.records.items()), options, f"Parquet {pattern_uri}", names.of_all(pattern_uri)
    )
    return replace(source, copies=copies.uris)


class _Listed:
    """Collects the records of every file and split."""

    def __init__(self) -> None:
        self.records: dict[PackedFile, Records] = {}
        self._by_columns: dict[tuple[str, ...], str] = {}

    def add(self, file: PackedFile, record: Record) -> None:
        self.records.setdefault(file, Records()).append(record)
        self._by_columns.setdefault(tuple(sorted(record.metadata)), file.name)

    def say_columns(self) -> None:
        """Logs the columns that only some of the files have; the rows of the others have no value there."""
        if len(self._by_columns) > 1:
            common = set.intersection(*map(set, self._by_columns))
            partly = sorted({name for columns in self._by_columns for name in columns} - common)
            log_event(
                "metadata",
                note=f"columns of some files only, null in the others: {', '.join(partly)}",
                different=", ".join(list(self._by_columns.values())[:5]),
            )


class _Copies:
    """Copies images into objects of about 32 MiB, named after their bytes."""

    def __init__(self, dataset_uri: str, listed: _Listed) -> None:
        self.uris: list[str] = []
        self._dataset_uri, self._listed = dataset_uri, listed
        self._data: list[bytes] = []
        self._waiting: list[tuple[PackedFile, Record, int, int]] = []
        self._num_bytes = 0

    def add(self, file: PackedFile, record: Record, data: bytes | None) -> None:
        """Takes a record with the bytes of its image, if any; lists it once they are written."""
        if not data:
            self._listed.add(file, record)
            return
        self._waiting.append((file, record, self._num_bytes, len(data)))
        self._data.append(data)
        self._num_bytes += len(data)
        if self._num_bytes >= _COPY_BYTES:
            self.close()

    def close(self) -> None:
        """Writes what was not written yet."""
        if not self._waiting:
            return
        data = b"".join(self._data)
        uri = layout.prepare_copy(self._dataset_uri, publish.sha256_hex(data))
        files.write_bytes(uri, data)
        self.uris.append(uri)
        for file, record, first, num_bytes in self._waiting:
            self._listed.add(file, replace(record, span=Span(uri, first, num_bytes)))
        self._data, self._waiting, self._num_bytes = [], [], 0


class _ClassNames:
    """Collects the class names that the files state."""

    def __init__(self) -> None:
        self._found: list[tuple[str, ...]] = []
        self._without = ""

    def add(self, file: PackedFile, schema: pa.Schema, label: str) -> None:
        """Takes the names of a ClassLabel from the metadata of a file's schema, where there are any."""
        try:
            features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
            names = features[label]["names"]
        except (KeyError, TypeError, ValueError):
            names = None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            self._found.append(tuple(names))
        else:
            self._without = self._without or file.name

    def of_all(self, origin: str) -> tuple[str, ...]:
        """Returns the names that all files state; none if some state none."""
        different = sorted(set(self._found))
        if len(different) > 1:
            first, second = (", ".join(names[:5]) for names in different[:2])
            raise DatasetError(
                f"The files of {origin} have different classes: {first}, … and {second}, … Expected the same "
                "ClassLabel in all of them."
            )
        if different and self._without:
            log_event(
                "labels",
                note=f"the class names of some files are not used, because {self._without} states none",
            )
            return ()
        return different[0] if different else ()


def _read_file(file: PackedFile, options: PackedOptions, copies: _Copies, names: _ClassNames) -> None:
    try:
        with open_range_file(file.uri, file.num_bytes, _BUFFER_BYTES) as opened:
            parquet = pq.ParquetFile(opened, buffer_size=_BUFFER_BYTES)
            if is_shard(parquet.schema_arrow):
                raise DatasetError(
                    f"{file.uri} is a shard of a dataset that jobs.prepare wrote. Leave it out: a narrower pattern, or "
                    "another folder."
                )
            columns = _find_columns(file, parquet.schema_arrow, options)
            names.add(file, parquet.schema_arrow, columns.label)
            number = 0
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns.read):
                for row in batch.to_pylist():
                    copies.add(*_to_record(file, number, row, columns))
                    number += 1
    # Storage has errors of its own; what pyarrow raises for a damaged file is among these.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as err:
        raise DatasetError(f"{file.uri} cannot be read as Parquet: {str(err).splitlines()[0]}.") from err


class _Columns(NamedTuple):
    image: str
    label: str
    split: str | None
    metadata: Sequence[str]

    @property
    def read(self) -> list[str]:
        return [self.image, self.label, *([self.split] if self.split else []), *self.metadata]


def _find_columns(file: PackedFile, schema: pa.Schema, options: PackedOptions) -> _Columns:
    check_column_names(schema.names, file.uri)
    empty = schema.empty_table()
    images = [field.name for field in schema if _holds_images(field.type)]
    image = options.image_column or (images[0] if len(images) == 1 else None)
    if image is None or image not in images:
        raise ConfigError(
            f"{file.uri}: {_say_image_column(image, images)}. Columns "
            f"of bytes: {', '.join(images) or 'none'}; all: {', '.join(schema.names)}. Give --image-column. "
            "For a table with the paths of images: python -m jobs.prepare table."
        )
    label = find_column(empty, options.label_column, LABEL_NAMES, "label-column")
    kind = schema.field(label).type
    if pa.types.is_nested(kind) or _is_binary(kind):
        raise DatasetError(
            f"The labels of {file.uri} are of the type {kind}. Expected one name or number for every image."
        )
    split = find_split(empty, options.split_column)
    scalar = [
        field.name
        for field in schema
        if field.name not in (image, label, split)
        and not (pa.types.is_nested(field.type) or _is_binary(field.type))
    ]
    return _Columns(image, label, split, scalar)


def _say_image_column(image: str | None, images: Sequence[str]) -> str:
    if image is not None:
        return f"{image!r} is no image column"
    return "several columns may hold the images" if images else "there is no image column"


def _to_record(
    file: PackedFile, number: int, row: Mapping[str, Any], columns: _Columns
) -> tuple[PackedFile, Record, bytes | None]:
    """Returns a record without the place of its image, its file and split, and the bytes of its image."""
    image, label, split, problem = row[columns.image], row[columns.label], file.split, ""
    if isinstance(image, dict):
        problem = "only a path, no bytes" if image.get(_BYTES) is None and image.get(_PATH) else ""
        image = image.get(_BYTES)
    if columns.split is not None:
        split = to_split(row[columns.split])
        problem = problem or ("" if split else "no split, or none that can be the name of a folder")
        file = replace(file, split=split or "train")
    label = to_label(label)
    record = Record(
        key=f"{file.name}#{number}",
        span=None,
        label=None if label == _NO_LABEL else label,
        label_field=columns.label,
        problem=problem,
        metadata={name: row[name] for name in columns.metadata},
    )
    return file, record, image


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == _BYTES and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
