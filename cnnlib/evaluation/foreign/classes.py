"""A column of a file of predictions in, the class of every row out: classes are stated by name or by index.

Folders called 0 to 11 are in the order 0, 1, 10, 11, 2: where classes are called after numbers, a number may be the
name of one class and the index of another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.dataset.class_names import compose
from cnnlib.errors import DatasetError
from cnnlib.evaluation.foreign.parts import INDEXES, LABELS, NAMES, PREDICTIONS
from cnnlib.sources.text_tables import usual_name

_SHOWN = 3

Labels = npt.NDArray[np.int64]


def find_column(table: pa.Table, usual: Sequence[str]) -> str | None:
    """Returns the name of the first column that has one of the usual names; None if none has."""
    by_name = {usual_name(name): name for name in reversed(table.column_names)}
    return next((by_name[name] for name in usual if name in by_name), None)


def read_predicted(
    table: pa.Table, list_names: Sequence[str] | None, class_names: Sequence[str], uri: str
) -> Labels | None:
    """Returns the classes that are predicted: int64 [rows]; None if the table states none.

    Raises:
        DatasetError: a value is no class, or the values may be names of some classes and indexes of others.
    """
    stated = _read_texts(table, PREDICTIONS, class_names, uri)
    if stated is None:
        return None
    name, texts = stated
    by_name, by_index = _name_classes(class_names), _number_classes(class_names)
    # jobs.predict, which states its classes, writes their names.
    is_clear = list_names is not None or usual_name(name) in (*NAMES, *INDEXES)
    confused = next((each for each in texts if by_name.get(each) != by_index.get(each)), None)
    if not is_clear and confused is not None and all(text in by_name and text in by_index for text in texts):
        clear = _read_texts(table, (*NAMES, *INDEXES), class_names, uri)
        if clear is None:
            raise DatasetError(
                f"The column {name!r} of {uri} may hold names or indexes: {confused} is the name of class "
                f"{by_name[confused]} and the index of class {class_names[by_index[confused]]!r}. Call it "
                f"{NAMES[0]!r} or {INDEXES[0]!r}."
            )
        name, texts = clear
    if usual_name(name) in INDEXES:
        return _to_classes(table, name, texts, by_index, class_names, uri)
    return _to_classes(table, name, texts, _choose_meaning(texts, class_names), class_names, uri)


def read_labels(table: pa.Table, class_names: Sequence[str], uri: str) -> Labels | None:
    """Returns the true classes that a column states: int64 [rows]; None without one. Wrong ones contradict the data."""
    stated = _read_texts(table, LABELS, class_names, uri)
    if stated is None:
        return None
    name, texts = stated
    return _to_classes(table, name, texts, _choose_meaning(texts, class_names), class_names, uri)


def _read_texts(
    table: pa.Table, usual: Sequence[str], class_names: Sequence[str], uri: str
) -> tuple[str, list[str]] | None:
    """Returns the name and the values of a column that states a class in every row; None without one."""
    name = find_column(table, usual)
    if name is None or name in class_names or table[name].null_count == len(table):
        return None
    texts = [_as_text(each) for each in table[name].to_pylist()]
    if "" in texts and "" not in map(_as_text, class_names):
        raise DatasetError(
            f"The column {name!r} of {uri} has no value in row {texts.index('') + 1}. Expected a class in every row."
        )
    return name, texts


def _choose_meaning(texts: Sequence[str], class_names: Sequence[str]) -> dict[str, int]:
    """Returns the class of each text. Whole numbers are indexes, unless classes are called after numbers."""
    by_name = _name_classes(class_names)
    numbers = all(text.isdecimal() for text in texts) and not any(text in by_name for text in texts)
    all_numbers = all(each.isdecimal() for each in class_names)
    return _number_classes(class_names) if numbers and not all_numbers else by_name


def _name_classes(class_names: Sequence[str]) -> dict[str, int]:
    by_name = {_as_text(each): index for index, each in enumerate(class_names)}
    if len(by_name) < len(class_names):
        twice = [name for name, count in Counter(map(_as_text, class_names)).items() if count > 1]
        raise DatasetError(f"Several classes of the data are called {twice[0]!r}, but for spaces around it.")
    return by_name


def _number_classes(class_names: Sequence[str]) -> dict[str, int]:
    return {str(index): index for index in range(len(class_names))}


def _to_classes(
    table: pa.Table,
    name: str,
    texts: Sequence[str],
    known: Mapping[str, int],
    class_names: Sequence[str],
    uri: str,
) -> Labels:
    classes = np.array([known.get(text, -1) for text in texts], np.int64)
    if (classes < 0).any():
        row = int(np.argmin(classes))
        raise DatasetError(
            f"The column {name!r} of {uri} has {table[name][row].as_py()!r} in row {row + 1}. Expected one of the "
            f"{len(class_names)} classes ({', '.join(class_names[:_SHOWN])}, …), or its index."
        )
    return classes


def _as_text(value: object) -> str:
    """Returns a class as text; a whole number is the same as an int and as a float, as pandas stores it."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else compose(str(value)).strip()
