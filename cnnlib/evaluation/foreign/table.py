"""A file of predictions in, the probabilities of every row out; it knows no data set but the names of its classes.

The file is a table (Parquet or CSV) with one row for every row of the split, in any order. `id` is the row's id, or
`path` is its path below the folder that `jobs.prepare` read. Then there are probabilities (or logits): a list
`probabilities`, or one column for every class, called after it, `p_` and its name, or its index. Or there is only
`prediction`: the name or the index of the predicted class; `predicted_name` and `predicted_index` say which. A column
`label` must agree with the data.

A list states no classes. It is read in the order of the data's classes, unless `jobs.predict` wrote the file, which
states its own. Where the file also states the predicted class, it must be the most probable one; of equal values,
which are common after rounding, it is the one that counts.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cnnlib.dataset.streamed import row_id
from cnnlib.errors import DatasetError
from cnnlib.evaluate_config import Outputs
from cnnlib.evaluation.foreign.classes import Labels, find_column, read_labels, read_predicted
from cnnlib.evaluation.foreign.parts import IDS, PATHS, PREDICTIONS, read_table
from cnnlib.evaluation.foreign.probabilities import check_stated, prefer, to_probabilities

_LIST = "probabilities"
_PREFIXES = ("", "p_", "prob_", "probability_")
_SHOWN = 3

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignPredictions:
    """The predictions of a file, sorted by id.

    Attributes:
        ids: int64 [rows].
        probabilities: float32 [rows, classes]; of a file that only states classes, 1 for these and else 0.
        labels: int64 [rows], the true classes that the file states; None if it states none.
        has_probabilities: False if the file only states classes: what needs probabilities is then null in the report.
        first_path: the path of its first row, for messages; None if its rows have ids.
    """

    ids: Ids
    probabilities: npt.NDArray[np.float32]
    labels: Labels | None
    has_probabilities: bool
    first_path: str | None = None


def load_predictions(uri: str, class_names: Sequence[str], outputs: Outputs = "auto") -> ForeignPredictions:
    """Reads a file of predictions, or a folder of Parquet files.

    Args:
        class_names: of the data, by index.
        outputs: what the values of the classes are; auto: probabilities if they lie in 0..1 and add up to 1, logits if
            they do not lie in 0..1.

    Raises:
        DatasetError: it is no table, lacks a column, or a value cannot be right.
    """
    table, list_names = read_table(uri)
    try:
        return _to_predictions(table, list_names, class_names, outputs, uri)
    except (ValueError, TypeError, pa.ArrowException) as err:
        raise DatasetError(
            f"{uri} has values of another kind than expected: {str(err).splitlines()[0]}."
        ) from err


def _to_predictions(
    table: pa.Table, list_names: Sequence[str] | None, class_names: Sequence[str], outputs: Outputs, uri: str
) -> ForeignPredictions:
    ids, first_path = _read_ids(table, uri)
    order = np.argsort(ids, kind="stable")
    twice = ids[order][1:][np.diff(ids[order]) == 0]
    if len(twice):
        raise DatasetError(
            f"{uri} has {len(twice)} rows too many: several predictions of one row. First ids: {first_of(twice)}."
        )
    values = _read_values(table, list_names, class_names, uri)
    classes = read_predicted(table, list_names, class_names, uri)
    if values is not None:
        if classes is not None:
            check_stated(values, classes, uri)
        probabilities = to_probabilities(values, outputs, uri)
        prefer(probabilities, values.argmax(axis=1) if classes is None else classes)
    elif classes is not None:
        probabilities = np.zeros((len(ids), len(class_names)), np.float32)
        probabilities[np.arange(len(ids)), classes] = 1
    else:
        raise DatasetError(
            f"{uri} has no predictions: its columns are {', '.join(table.column_names)}. Expected a list "
            f"{_LIST!r}, a column for every class ({', '.join(class_names[:_SHOWN])}, …), or {PREDICTIONS[0]!r}."
        )
    labels = read_labels(table, class_names, uri)
    return ForeignPredictions(
        ids=ids[order],
        probabilities=probabilities[order],
        labels=None if labels is None else labels[order],
        has_probabilities=values is not None,
        first_path=first_path,
    )


def first_of(ids: Ids) -> str:
    """Returns the first ids as the text of a message."""
    return ", ".join(map(str, ids[:_SHOWN].tolist()))


def _read_ids(table: pa.Table, uri: str) -> tuple[Ids, str | None]:
    """Returns the ids of all rows, and the path of the first one if they are those of paths."""
    name = find_column(table, IDS)
    # jobs.predict writes both columns, and fills one.
    if name is not None and (table[name].null_count < len(table) or not len(table)):
        column = table[name].combine_chunks()
        if not pa.types.is_integer(column.type) or column.null_count:
            raise DatasetError(
                f"The column {name!r} of {uri} is {column.type} with {column.null_count} nulls. Expected whole numbers."
            )
        return np.asarray(column.cast(pa.int64())), None
    name = find_column(table, PATHS)
    if name is None:
        raise DatasetError(
            f"{uri} does not say whose predictions it has: its columns are {', '.join(table.column_names)}. Expected "
            "'id', the id of a row of the data, or 'path', its path below the folder that was prepared."
        )
    if table[name].null_count:
        raise DatasetError(f"The column {name!r} of {uri} has {table[name].null_count} nulls. Expected none.")
    paths = [_to_key(str(path)) for path in table[name].to_pylist()]
    return np.array([row_id(path) for path in paths], np.int64), next(iter(paths), None)


def _to_key(path: str) -> str:
    r"""Returns a path as `jobs.prepare` spells it.

    >>> [_to_key(path) for path in ("./cat/1.png", "cat//1.png", r"cat\1.png", "s3://bucket/1.png")]
    ['cat/1.png', 'cat/1.png', 'cat/1.png', 's3://bucket/1.png']
    """
    if "://" in path or not path:
        return path
    return posixpath.normpath(path if "/" in path else path.replace("\\", "/"))


def _read_values(
    table: pa.Table, list_names: Sequence[str] | None, class_names: Sequence[str], uri: str
) -> npt.NDArray[np.float64] | None:
    """Returns the values of all classes, float64 [rows, classes]; None if the table has none."""
    if _LIST in table.column_names:
        values = _read_lists(table[_LIST].combine_chunks(), len(class_names), uri)
        return values if list_names is None else values[:, _find_order(list_names, class_names, uri)]
    _check_clear(table, class_names, uri)
    for names in _class_columns(class_names):
        present = [name for name in names if name in table.column_names]
        if len(present) == len(names):
            columns = [_to_floats(table[name].combine_chunks(), name, uri) for name in names]
            return _check_finite(np.stack(columns, axis=1), uri)
        if len(present) > len(names) // 2:
            absent = [name for name in names if name not in present]
            raise DatasetError(
                f"{uri} has no column for the classes {', '.join(absent[:_SHOWN])}. Expected all."
            )
    return None


def _read_lists(column: pa.Array, num_classes: int, uri: str) -> npt.NDArray[np.float64]:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise DatasetError(f"The column {_LIST!r} of {uri} is {kind}. Expected lists of numbers.")
    lengths = set(pc.list_value_length(column).to_pylist())
    if lengths - {num_classes}:
        found = sorted("no" if each is None else str(each) for each in lengths)
        raise DatasetError(
            f"The lists {_LIST!r} of {uri} have {', '.join(found[:_SHOWN])} values. Expected one for each of the "
            f"{num_classes} classes."
        )
    return _check_finite(_to_floats(pc.list_flatten(column), _LIST, uri).reshape(-1, num_classes), uri)


def _to_floats(column: pa.Array, name: str, uri: str) -> npt.NDArray[np.float64]:
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise DatasetError(f"The values of {name!r} in {uri} are {kind}. Expected numbers.")
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def _find_order(list_names: Sequence[str], class_names: Sequence[str], uri: str) -> list[int]:
    """Returns where each class of the data is in the lists of a file that states the order of its classes."""
    places = {name: index for index, name in enumerate(list_names)}
    if set(places) != set(class_names):
        odd = sorted(set(places) ^ set(class_names))
        raise DatasetError(
            f"{uri} has predictions of other classes than the data: only one of both has {', '.join(odd[:_SHOWN])}"
            f"{', …' if len(odd) > _SHOWN else ''}. Expected the {len(class_names)} classes of the data."
        )
    return [places[name] for name in class_names]


def _class_columns(class_names: Sequence[str]) -> Iterator[list[str]]:
    """Yields what the columns of all classes may be called."""
    for prefix in _PREFIXES:
        yield [f"{prefix}{name}" for name in class_names]
        yield [f"{prefix}{index}" for index in range(len(class_names))]


def _check_clear(table: pa.Table, class_names: Sequence[str], uri: str) -> None:
    """Checks that the columns of all classes are not called after names and indexes at once, in different orders.

    Folders called 0 to 11 are in the order 0, 1, 10, 11, 2, which is not that of their numbers.
    """
    indexes = [str(index) for index in range(len(class_names))]
    if set(class_names) != set(indexes) or list(class_names) == indexes:
        return
    for prefix in _PREFIXES:
        if all(f"{prefix}{index}" in table.column_names for index in indexes):
            raise DatasetError(
                f"The columns {prefix}0, {prefix}1, … of {uri} may be called after names or indexes: the classes are "
                f"{', '.join(class_names[:_SHOWN])}, …, in this order. Give one list {_LIST!r} in this order."
            )


def _check_finite(values: npt.NDArray[np.float64], uri: str) -> npt.NDArray[np.float64]:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DatasetError(
            f"{uri}: {len(bad)} rows have values that are not finite. First: row {bad[0] + 1}."
        )
    return values
