"""Bytes of a text table in, columns out: CSV and JSON lines, whose labels are as they were written."""

from __future__ import annotations

import codecs
import io
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from cnnlib.dataset.decode import EXTENSIONS
from cnnlib.errors import DatasetError

# Arrow takes 007, +7 and 0x7 for the number 7, and true, TRUE and True for one value.
_WHOLE = r"^\s*-?(0|[1-9][0-9]*)\s*$"
_DECIMAL = r"^\s*-?(0|[1-9][0-9]{0,14})(\.[0-9]*)?\s*$"  # a float holds no more digits


def check_text(uri: str, data: bytes, *, is_json: bool) -> None:
    """Checks for kinds of file that are no tables, but for which Arrow's message gives no hint.

    Raises:
        DatasetError: the text is not UTF-8, or one JSON document instead of a line per image.
    """
    try:
        data.decode()
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise DatasetError(
            f"{uri} is no text in UTF-8. Save the table as UTF-8. The first fault is in line {line}."
        ) from err
    if is_json and data.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        raise DatasetError(
            f"{uri} is one JSON list. Expected JSON lines: one object per image, each on its line."
        )


def read_csv(
    data: bytes, delimiter: str, *, labels: Collection[str] = (), texts: Collection[str] = ()
) -> pa.Table:
    """Reads CSV. A column that Arrow would change is text: of numbers such as 007, of dates and times.

    Args:
        labels: names in lower case of columns that may hold labels: truth values are text there, too, and 1e5 is.
        texts: names in lower case of columns that are text in any case. If there are any, only an empty value of any
            column is missing, because NA may be a name.

    Raises:
        ArrowInvalid: it is no CSV.
    """
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    convert = None
    if texts:
        names = pyarrow.csv.open_csv(io.BytesIO(data), parse_options=parse).schema.names
        forced = {name: pa.string() for name in names if usual_name(name) in texts}
        convert = pyarrow.csv.ConvertOptions(column_types=forced, null_values=[""], strings_can_be_null=True)
    table = pyarrow.csv.read_csv(io.BytesIO(data), parse_options=parse, convert_options=convert)
    typed = [
        field
        for field in table.schema
        if not (pa.types.is_string(field.type) or pa.types.is_binary(field.type))
    ]
    if not typed or len(set(table.column_names)) < len(table.column_names):
        return table
    as_text = pyarrow.csv.ConvertOptions(
        column_types={field.name: pa.string() for field in typed}, strings_can_be_null=True
    )
    written = pyarrow.csv.read_csv(io.BytesIO(data), parse_options=parse, convert_options=as_text)
    for field in typed:
        if _changes(field.type, written[field.name], usual_name(field.name) in labels):
            place = table.schema.get_field_index(field.name)
            table = table.set_column(place, field.name, written[field.name])
    return table


def usual_name(name: str) -> str:
    """Returns what a column's name is compared by."""
    return name.strip().lower()


def read_json(data: bytes) -> pa.Table:
    """Reads JSON lines. Texts that look like dates stay texts.

    Raises:
        ArrowInvalid: it is no JSON, or a column has values of several types.
    """
    table = pyarrow.json.read_json(io.BytesIO(data))
    dates = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if not dates:
        return table
    schema = pa.schema([(name, pa.string()) for name in dates])
    options = pyarrow.json.ParseOptions(explicit_schema=schema)
    return pyarrow.json.read_json(io.BytesIO(data), parse_options=options)


def check_header(uri: str, names: list[str]) -> None:
    """Checks that the first line of CSV names the columns.

    Raises:
        DatasetError: it names an image, or the whole line is one column.
    """
    image = next(
        (name for name in names if f".{name.rpartition('.')[2].strip().lower()}" in EXTENSIONS), None
    )
    if image is not None:
        raise DatasetError(
            f"The first line of {uri} has {image!r}. Expected the names of the columns there, such as path,label."
        )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|,"):
        raise DatasetError(
            f"{uri} has one column, {names[0]!r}. Expected commas between columns in .csv, and tabs in .tsv."
        )


def _changes(kind: pa.DataType, texts: pa.ChunkedArray, may_be_label: bool) -> bool:
    """Returns whether the values of a column that has become this type are not those that were written."""
    if pa.types.is_temporal(kind):
        return True
    if pa.types.is_boolean(kind):
        return may_be_label
    if pa.types.is_integer(kind) or (pa.types.is_floating(kind) and may_be_label):
        pattern = _WHOLE if pa.types.is_integer(kind) else _DECIMAL
        return not pc.all(pc.match_substring_regex(texts, pattern), min_count=0).as_py()
    return False
