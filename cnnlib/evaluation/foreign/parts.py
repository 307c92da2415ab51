"""The files of a prediction in, one table out: Parquet or CSV, one file or the output folder of `jobs.predict`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cnnlib.errors import DatasetError, NotFoundError
from cnnlib.sources.text_tables import read_csv
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri, uri_name

IDS, PATHS = ("id", "row_id"), ("path", "file", "filename")
NAMES, INDEXES = ("predicted_name", "prediction_name"), ("predicted_index", "prediction_index")
PREDICTIONS = ("prediction", "predicted", "predicted_label", "predicted_class", *NAMES, *INDEXES)
LABELS = ("label", "true", "true_label", "class_name")
"""Usual names of the columns."""
CLASS_NAMES = b"cnnlib.class_names"
"""The key, in the metadata of a Parquet schema, of the class names of a list of probabilities, as JSON."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """An object of a folder of predictions; `sha256` is what its manifest states, None without a manifest."""

    uri: str
    sha256: str | None = None


def find_predictions_manifest(uri: str) -> dict[str, Any] | None:
    """Returns the manifest of an output of `jobs.predict`; None if there is none.

    Raises:
        InputError: it is no JSON object.
    """
    # The second one is its name of earlier versions.
    for name in (layout.PREDICTIONS_MANIFEST, layout.MANIFEST):
        with suppress(NotFoundError):
            return publish.read_manifest(join_uri(uri, name))
    return None


def digest_predictions(uri: str) -> str:
    """Returns a digest of the bytes of all predictions.

    Raises:
        NotFoundError: there is no such file.
    """
    parts = _list_parts(uri)
    digests = [f"{uri_name(part.uri)} {publish.sha256_hex(files.read_bytes(part.uri))}" for part in parts]
    if [part.uri for part in parts] == [uri]:
        return digests[0].rpartition(" ")[2]
    return publish.sha256_hex("\n".join(digests).encode())


def _list_parts(uri: str) -> list[_Part]:
    """Lists the objects: of an output of `jobs.predict`, those that its manifest names."""
    if uri.lower().endswith((".parquet", ".csv", ".tsv")) and files.find_size(uri) is not None:
        return [_Part(uri=uri)]
    manifest = find_predictions_manifest(uri) or {}
    if "predictions_version" in manifest and (stored := manifest["parts"]):
        return [_Part(uri=join_uri(uri, each["name"]), sha256=each["sha256"]) for each in stored]
    names = sorted(files.list_files(uri))
    parts = [_Part(uri=join_uri(uri, name)) for name in names if name.endswith(".parquet")]
    if not parts:
        raise NotFoundError(
            f"No predictions at {uri}. Expected a .parquet or .csv file, or a folder of Parquet files."
        )
    return parts


def read_table(uri: str) -> tuple[pa.Table, Sequence[str] | None]:
    """Returns the rows of all parts, and the class names that they state for their lists; None if they state none.

    Raises:
        NotFoundError: there is no such file.
        DatasetError: it is no table, is damaged, or has two columns of one name.
    """
    try:
        tables = [_read_part(part) for part in _list_parts(uri)]
        stated = {(table.schema.metadata or {}).get(CLASS_NAMES) for table in tables}
        if len(stated) > 1:
            raise DatasetError(
                f"The files of {uri} have their values in several orders. Expected one prediction."
            )
        table = pa.concat_tables(
            [each.replace_schema_metadata(None) for each in tables], promote_options="default"
        )
    except (pa.ArrowException, OSError, ValueError) as err:
        raise DatasetError(
            f"{uri} cannot be read as a table: {str(err).splitlines()[0].rstrip('.')}."
        ) from err
    names = stated.pop()
    return table, None if names is None else json.loads(names)


def _read_part(part: _Part) -> pa.Table:
    data = files.read_bytes(part.uri)
    if part.sha256 is not None and publish.sha256_hex(data) != part.sha256:
        raise DatasetError(f"{part.uri} is damaged: its bytes are not those of the manifest beside it.")
    if part.uri.lower().endswith(".parquet"):
        return pq.ParquetFile(pa.BufferReader(data)).read()
    # What names a class or a file is text, because 007 is such a name.
    delimiter = "\t" if part.uri.lower().endswith(".tsv") else ","
    return read_csv(data, delimiter, texts={*PATHS, *PREDICTIONS, *LABELS})
