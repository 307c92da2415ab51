"""Lists the images that a table names: CSV, JSON lines or Parquet with a path, a label, and any further columns."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from cnnlib.dataset.decode import ImageRules
from cnnlib.dataset.streamed import Candidate, Candidates, StreamedSource
from cnnlib.errors import ConfigError, DatasetError
from cnnlib.log import log_event
from cnnlib.sources.columns import (
    LABEL_NAMES,
    check_column_names,
    find_column,
    find_labels,
    find_metadata,
    find_split,
)
from cnnlib.sources.folders import limit
from cnnlib.sources.image_files import (
    DEFAULT_SPLITS,
    ImageReader,
    describe_rules,
    list_versions,
    parse_fractions,
    shorten,
    to_split,
)
from cnnlib.sources.numbering import check_split_numbering
from cnnlib.sources.second_column import NAME_NAMES, RIVAL_NAMES, check_rivals, find_names, find_second
from cnnlib.sources.text_tables import check_header, check_text, read_csv, read_json
from cnnlib.storage import files

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_ENDINGS = (*_DELIMITERS, *_JSON, ".parquet")
_PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "uri", "url")


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """Which columns of a table mean what; None: the one with a usual name.

    Attributes:
        first_label: for labels that are numbers, that of the first class name; None: 0, or 1 if they plainly count
            from 1.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None
    first_label: int | None = None


def load_table(
    table_uri: str,
    rules: ImageRules,
    *,
    columns: TableColumns,
    class_names: Sequence[str] = (),
    splits: Sequence[str] = (),
    max_images: int | None = None,
) -> StreamedSource:
    """Lists the images that a table names. Reads none of them.

    A path is relative to the table's folder, absolute, or a URI. Columns that mean nothing else become metadata: bool,
    whole numbers, other numbers, and everything else as text.

    Args:
        table_uri: the table.
        rules: what every image becomes.
        class_names: for labels that are numbers, the name of each; else the classes in the order of their indexes.
        splits: NAME=FRACTION of each split, where no column states it; empty: `DEFAULT_SPLITS`.
        max_images: the most images of each class and split; None: all.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: a column or a class name does not exist, or both a column and `splits` state the splits.
        DatasetError: the file is no table, or has no rows.
    """
    table = _read_table(table_uri, columns.label)
    path = find_column(table, columns.path, _PATHS, "path-column")
    if not _holds_texts(table[path].type):
        raise DatasetError(
            f"The column {path!r} of {table_uri} is of the type {table[path].type}. Expected the paths of images. Give "
            "--path-column."
        )
    label = find_column(table, columns.label, LABEL_NAMES, "label-column")
    split = find_split(table, columns.split)
    if split is not None and splits:
        raise ConfigError(f"The column {split!r} of {table_uri} states the splits. Leave out --splits.")
    second = _read_second(table, label, columns, class_names, table_uri)
    first_label = None if second else columns.first_label  # the names in a column state their numbers
    names, labels = find_labels(table[label], class_names or second, table_uri, first_label)
    metadata = find_metadata(table, {path, label, split})
    if split is not None and not class_names and not second:
        check_split_numbering(names, labels, table[split].to_pylist(), table_uri)
    keys, split_names = table[path].to_pylist(), None if split is None else table[split].to_pylist()
    values = {name: column.to_pylist() for name, (_, column) in metadata.items()}
    folder = table_uri.rpartition("/")[0]
    # One listing, instead of a request for every image. Images elsewhere have no known version.
    versions = list_versions(folder)
    seen: set[str] = set()
    candidates = Candidates()
    for index, key in enumerate(keys):
        problem = "" if labels[index] is not None else "no label, or an unknown one"
        if not isinstance(key, str) or not key.strip():
            key, problem = f"row {index + 1} of the table", "no path"
        else:
            try:
                key = _find_file(key, folder, versions)
            except ConfigError:
                problem = "neither a path nor an S3 URI"
        if key in seen:
            key, problem = f"{key} (row {index + 1})", "the path is in the table twice"
        seen.add(key)
        own_split = None if split_names is None else to_split(split_names[index])
        if split_names is not None and own_split is None:
            problem = problem or "no split, or none that can be the name of a folder"
        candidates.append(
            Candidate(
                key=key,
                label=labels[index],
                split=own_split,
                metadata={name: column[index] for name, column in values.items()},
                problem=problem,
                version=versions.get(key, ""),
            )
        )
    return StreamedSource(
        class_names=names,
        candidates=limit(candidates, max_images),
        read=ImageReader(folder=folder, rules=rules),
        fractions={} if split else parse_fractions(splits or DEFAULT_SPLITS),
        settings=describe_rules(rules),
        description=f"the table {table_uri} ({describe_rules(rules)})",
        metadata={name: kind for name, (kind, _) in metadata.items()},
    )


def _read_second(
    table: pa.Table, label: str, columns: TableColumns, class_names: Sequence[str], origin: str
) -> tuple[str, ...]:
    """Checks the columns beside the labels; returns the class names that one of them gives to labels that are numbers.

    Where a person named the column of the labels, no other can contradict it.
    """
    own = table[label].to_pylist()
    if columns.label is None:
        rivals = [
            field.name
            for field in table.schema
            if field.name.strip().lower() in RIVAL_NAMES and not pa.types.is_nested(field.type)
        ]
        check_rivals(own, {name: table[name].to_pylist() for name in rivals}, label, origin)
    second = find_second(table.column_names, label)
    if second is None or class_names:
        return ()
    names = find_names(own, table[second].to_pylist(), second, origin, is_chosen=columns.label is not None)
    if names:
        log_event("labels", note=f"the class names are those of the column {second}")
    return names


def _read_table(uri: str, label: str | None) -> pa.Table:
    ending = f".{uri.rpartition('.')[2].lower()}"
    if ending not in _ENDINGS:
        raise ConfigError(f"{uri} is not a table. Expected a file that ends in {', '.join(_ENDINGS)}.")
    data = files.read_bytes(uri)
    if ending != ".parquet":
        check_text(uri, data, is_json=ending in _JSON)
    try:
        table = _parse(data, ending, label)
        table.validate(full=True)
    # A damaged Parquet file is an OSError of pyarrow's; the bytes are in memory, so it is none of the disk's.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as err:
        first_line = str(err).splitlines()[0]
        raise DatasetError(f"{uri} cannot be read as {ending[1:]}: {first_line}.") from err
    if not len(table):
        raise DatasetError(f"{uri} has no rows. Expected one row per image.")
    if ending in _DELIMITERS:
        check_header(uri, table.column_names)
    check_column_names(table.column_names, uri)
    no_text = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if no_text:
        raise DatasetError(f"The column {no_text[0]!r} of {uri} holds bytes. Expected text and numbers.")
    return table


def _parse(data: bytes, ending: str, label: str | None) -> pa.Table:
    if ending == ".parquet":
        return pq.read_table(io.BytesIO(data))
    if ending in _JSON:
        return read_json(data)
    own = () if label is None else (label.strip().lower(),)
    return read_csv(data, _DELIMITERS[ending], labels={*LABEL_NAMES, *NAME_NAMES, *own})


def _holds_texts(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_texts(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _find_file(key: str, folder: str, versions: Mapping[str, str]) -> str:
    """Returns the one spelling of a path, of those with spaces around it or with backslashes the one that is there.

    Raises:
        ConfigError: it is neither a path nor an S3 URI.
    """
    spellings = dict.fromkeys((key, key.strip(), key.strip().replace("\\", "/")))
    found = [shorten(folder, each) for each in spellings if each]
    if (inside := next((each for each in found if each in versions), None)) is not None:
        return inside
    # Of files elsewhere there is no listing. Those with a backslash in their name are rarer than paths of Windows.
    return found[-1] if "\\" in found[0] and "/" not in found[0] else found[0]
