"""Predictions of a model of any framework in, the scores of its report out: no model is opened, and no cluster used.

The file is a table (Parquet or CSV) with one row for every row of the split, in any order. `id` is the row's id, or
`path` is its path below the folder that `jobs.prepare` read. Then there are probabilities (or logits): a list
`probabilities`, or one column for every class, called after it, `p_` and its name, or its index. Or there is only
`prediction`: the name or the index of the predicted class. A column `label` must agree with the data.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from cnnlib.dataset.manifest import whole_shard
from cnnlib.dataset.reader import read_range
from cnnlib.dataset.record import Rows
from cnnlib.dataset.streamed import row_id
from cnnlib.errors import ConfigError, DatasetError, NotFoundError
from cnnlib.evaluate_config import EvaluateConfig, Outputs
from cnnlib.evaluation.partial_scores import CollectedScores, PartialScores
from cnnlib.evaluation.target import Target
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows, keeps_rows
from cnnlib.models.batches import split_rows
from cnnlib.reports.predictions import write_predictions
from cnnlib.slices.slicer import Mask, Slicer
from cnnlib.storage import files, publish
from cnnlib.storage.uri import join_uri, normalize_uri, uri_name

_IDS, _PATHS = ("id", "row_id"), ("path", "file", "filename")
_PREDICTIONS = ("prediction", "predicted", "predicted_label", "predicted_class", "predicted_name")
_LABELS = ("label", "true", "true_label", "class_name")
_LIST = "probabilities"
_PREFIXES = ("", "p_", "prob_", "probability_")
_TOLERANCE = 1e-3
_SHOWN = 3
_BATCH_ROWS = 4096

if TYPE_CHECKING:
    from cnnlib.evaluation.plan import EvaluationPlan

Ids = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignPredictions:
    """The predictions of a file, sorted by id.

    Attributes:
        ids: int64 [rows].
        probabilities: float32 [rows, classes]; of a file that only states classes, 1 for these and else 0.
        labels: int64 [rows], the true classes that the file states; None if it states none.
        has_probabilities: False if the file only states classes: what needs probabilities is then null in the report.
    """

    ids: Ids
    probabilities: npt.NDArray[np.float32]
    labels: Labels | None
    has_probabilities: bool


def find_predictions_target(name: str) -> Target:
    """Returns a file of predictions, or a folder of Parquet files, as the target of a report.

    Raises:
        NotFoundError: there is no such file.
    """
    uri = normalize_uri(name)
    parts = _list_parts(uri)
    digests = [f"{uri_name(part)} {publish.sha256_hex(files.read_bytes(part))}" for part in parts]
    whole = digests[0].split()[-1] if parts == [uri] else publish.sha256_hex("\n".join(digests).encode())
    return Target(
        uri=uri, model_uri=uri, digest=whole, pixel_range=None, model=uri_name(uri), is_predictions=True
    )


def score_predictions(plan: EvaluationPlan, target: Target, slicer: Slicer | None) -> CollectedScores:
    """Scores the predictions of a file against the labels of the split; also stores them under the report.

    Raises:
        DatasetError: the file is no such table, or does not have exactly one prediction for every row of the split.
    """
    config, manifest = plan.config, plan.manifest
    found = load_predictions(target.uri, manifest.class_names, config.outputs)
    started_at = time.monotonic()
    # Everything is checked before the first prediction is stored: people read that folder without the report.
    pieces = list(_match(plan, found, target.uri, slicer))
    _check_all_used(found, [piece.ids for piece in pieces], target.uri)
    collected = CollectedScores(started_at=started_at, has_probabilities=found.has_probabilities)
    for piece in pieces:
        collected.merge(_score(plan, target, found, piece))
    collected.ended_at = time.monotonic()
    return collected


@dataclass(frozen=True, kw_only=True, eq=False)
class _Piece:
    """Some rows of a shard.

    Attributes:
        ids, labels: of the rows.
        places: where their predictions are, int64 [rows].
        slices: which of the rows are in each slice; None: nobody asked for slices.
    """

    shard_index: int
    ids: Ids
    labels: npt.NDArray[np.int32]
    places: Ids
    slices: Mapping[str, Mask] | None


def _match(
    plan: EvaluationPlan, found: ForeignPredictions, uri: str, slicer: Slicer | None
) -> Iterator[_Piece]:
    """Yields the rows of the split with the places of their predictions."""
    manifest = plan.manifest
    split = manifest.split(plan.config.split)
    for shard_index, shard in enumerate(split.shards):
        rows = read_range(plan.dataset_uri, manifest, whole_shard(shard_index, shard))
        masks = None if slicer is None else slicer.masks(rows)
        places = _find(found, rows, split.rows, uri, manifest.class_names)
        for piece in split_rows(len(rows), manifest.num_classes, _BATCH_ROWS):
            yield _Piece(
                shard_index=shard_index,
                ids=rows.ids[piece],
                labels=rows.labels[piece],
                places=places[piece],
                slices=None if masks is None else {name: mask[piece] for name, mask in masks.items()},
            )


def _score(plan: EvaluationPlan, target: Target, found: ForeignPredictions, piece: _Piece) -> PartialScores:
    config, num_classes = plan.config, plan.manifest.num_classes
    probabilities, labels = found.probabilities[piece.places], piece.labels
    top_k = min(config.top_k, num_classes)
    keep_rows = keeps_rows(plan.manifest.split(config.split).rows, num_classes)
    stored = None
    if config.predictions:
        stored = write_predictions(
            plan.reports_uri,
            plan.report_id(target),
            shard_index=piece.shard_index,
            ids=piece.ids,
            labels=labels,
            probabilities=probabilities,
            slices=piece.slices,
            has_probabilities=found.has_probabilities,
        )
    return PartialScores(
        sums=MetricSums.from_probabilities(labels, probabilities, top_k=top_k, histogram=not keep_rows),
        rows=ScoredRows.from_probabilities(piece.ids, labels, probabilities) if keep_rows else None,
        predictions=None if stored is None else (stored,),
        slices={
            name: MetricSums.from_probabilities(labels[mask], probabilities[mask], top_k=top_k)
            for name, mask in (piece.slices or {}).items()
            if mask.any()
        },
        busy_s=0.0,
    )


def load_predictions(uri: str, class_names: Sequence[str], outputs: Outputs = "auto") -> ForeignPredictions:
    """Reads a file of predictions.

    Args:
        outputs: what the values of the classes are; auto: probabilities if they lie in 0..1 and add up to 1, logits if
            they do not lie in 0..1.

    Raises:
        DatasetError: it is no table, lacks a column, or a value cannot be right.
    """
    table = _read_table(uri)
    ids = _read_ids(table, uri)
    order = np.argsort(ids, kind="stable")
    twice = ids[order][1:][np.diff(ids[order]) == 0]
    if len(twice):
        raise DatasetError(
            f"{uri} has {len(twice)} rows too many: several predictions of one row. First ids: {_first(twice)}."
        )
    values = _read_values(table, class_names, uri)
    if values is None:
        classes = _read_classes(table, _PREDICTIONS, class_names, uri)
        if classes is None:
            raise DatasetError(
                f"{uri} has no predictions: its columns are {', '.join(table.column_names)}. Expected a list "
                f"{_LIST!r}, a column for every class ({', '.join(class_names[:_SHOWN])}, …), or {_PREDICTIONS[0]!r}."
            )
        probabilities = np.zeros((len(ids), len(class_names)), np.float32)
        probabilities[np.arange(len(ids)), classes] = 1
    else:
        probabilities = _to_probabilities(values, outputs, uri)
    labels = _read_classes(table, _LABELS, class_names, uri)
    return ForeignPredictions(
        ids=ids[order],
        probabilities=probabilities[order],
        labels=None if labels is None else labels[order],
        has_probabilities=values is not None,
    )


def _find(
    found: ForeignPredictions, rows: Rows, split_rows: int, uri: str, class_names: Sequence[str]
) -> Ids:
    """Returns where the predictions of some rows of the split are: int64 [rows]."""
    places = np.searchsorted(found.ids, rows.ids)
    places[places == len(found.ids)] = 0
    missing = rows.ids[found.ids[places] != rows.ids] if len(found.ids) else rows.ids
    if len(missing):
        raise DatasetError(
            f"{uri} has no prediction of some of the {split_rows} rows of the split. First ids: {_first(missing)}. "
            f"It has {len(found.ids)} rows. Expected exactly one for every row."
        )
    if found.labels is not None and (wrong := np.flatnonzero(found.labels[places] != rows.labels)).size:
        row = int(wrong[0])
        raise DatasetError(
            f"{uri} states other labels than the data: row {rows.ids[row]} is "
            f"{class_names[found.labels[places][row]]!r} there and {class_names[rows.labels[row]]!r} here. Are its "
            "classes numbered in another order?"
        )
    return places


def _check_all_used(found: ForeignPredictions, seen: Sequence[Ids], uri: str) -> None:
    unknown = np.setdiff1d(found.ids, np.concatenate(seen) if seen else np.zeros(0, np.int64))
    if len(unknown):
        raise DatasetError(
            f"{uri} has predictions of {len(unknown)} rows that are not in the split. First ids: {_first(unknown)}. "
            "Was another split or another version of the data predicted?"
        )


def _list_parts(uri: str) -> list[str]:
    if uri.lower().endswith((".parquet", ".csv", ".tsv")) and files.find_size(uri) is not None:
        return [uri]
    parts = [join_uri(uri, name) for name in sorted(files.list_files(uri)) if name.endswith(".parquet")]
    if not parts:
        raise NotFoundError(
            f"No predictions at {uri}. Expected a .parquet or .csv file, or a folder of Parquet files."
        )
    return parts


def _read_table(uri: str) -> pa.Table:
    try:
        return pa.concat_tables(list(_read_parts(uri)), promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OSError) as err:
        raise DatasetError(f"{uri} cannot be read as a table: {str(err).splitlines()[0]}.") from err


def _read_parts(uri: str) -> Iterator[pa.Table]:
    for part in _list_parts(uri):
        data = io.BytesIO(files.read_bytes(part))
        if part.lower().endswith(".parquet"):
            yield pq.read_table(data)
        else:
            delimiter = "\t" if part.lower().endswith(".tsv") else ","
            yield pyarrow.csv.read_csv(data, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter))


def _find_column(table: pa.Table, usual: Sequence[str]) -> str | None:
    by_name = {name.strip().lower(): name for name in reversed(table.column_names)}
    return next((by_name[name] for name in usual if name in by_name), None)


def _read_ids(table: pa.Table, uri: str) -> Ids:
    name = _find_column(table, _IDS)
    # jobs.predict writes both columns, and fills one.
    if name is not None and (table[name].null_count < len(table) or not len(table)):
        column = table[name].combine_chunks()
        if not pa.types.is_integer(column.type) or column.null_count:
            raise DatasetError(
                f"The column {name!r} of {uri} is {column.type} with {column.null_count} nulls. Expected whole numbers."
            )
        return np.asarray(column.cast(pa.int64()))
    name = _find_column(table, _PATHS)
    if name is None:
        raise DatasetError(
            f"{uri} does not say whose predictions it has: its columns are {', '.join(table.column_names)}. Expected "
            "'id', the id of a row of the data, or 'path', its path below the folder that was prepared."
        )
    return np.array([row_id(str(path)) for path in table[name].to_pylist()], np.int64)


def _read_values(table: pa.Table, class_names: Sequence[str], uri: str) -> npt.NDArray[np.float64] | None:
    """Returns the values of all classes, float64 [rows, classes]; None if the table has none."""
    if _LIST in table.column_names and pa.types.is_nested(table[_LIST].type):
        column = table[_LIST].combine_chunks()
        lengths = set(pc.list_value_length(column).to_pylist())
        if lengths != {len(class_names)} and len(table):
            raise DatasetError(
                f"The lists {_LIST!r} of {uri} have {', '.join(sorted(map(str, lengths))[:_SHOWN])} values. Expected "
                f"one for each of the {len(class_names)} classes."
            )
        flat = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float64)
        return _check_finite(flat.reshape(-1, len(class_names)), uri)
    for names in _class_columns(class_names):
        present = [name for name in names if name in table.column_names]
        if len(present) == len(names):
            columns = [table[name].to_numpy() for name in names]
            return _check_finite(np.stack(columns, axis=1).astype(np.float64), uri)
        if len(present) > len(names) // 2:
            absent = [name for name in names if name not in present]
            raise DatasetError(
                f"{uri} has no column for the classes {', '.join(absent[:_SHOWN])}. Expected all."
            )
    return None


def _class_columns(class_names: Sequence[str]) -> Iterator[list[str]]:
    """Yields what the columns of all classes may be called."""
    for prefix in _PREFIXES:
        yield [f"{prefix}{name}" for name in class_names]
        yield [f"{prefix}{index}" for index in range(len(class_names))]


def _check_finite(values: npt.NDArray[np.float64], uri: str) -> npt.NDArray[np.float64]:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DatasetError(
            f"{uri}: {len(bad)} rows have values that are not finite. First: row {bad[0] + 1}."
        )
    return values


def _to_probabilities(values: npt.NDArray[np.float64], outputs: Outputs, uri: str) -> npt.NDArray[np.float32]:
    inside = not len(values) or (values.min() >= -_TOLERANCE and values.max() <= 1 + _TOLERANCE)
    off = np.abs(values.sum(axis=1) - 1)
    if outputs != "logits" and inside and not (off > _TOLERANCE).any():
        return np.clip(values, 0, 1).astype(np.float32)
    if outputs == "probabilities" or (outputs == "auto" and inside):
        row = int(off.argmax())
        raise DatasetError(
            f"{uri}: the values of row {row + 1} lie in {values[row].min():.3g}..{values[row].max():.3g} and add up to "
            f"{values[row].sum():.3g}. Expected probabilities, which add up to 1, or --outputs logits."
        )
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float32] = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(
        np.float32
    )
    return probabilities


def _read_classes(
    table: pa.Table, usual: Sequence[str], class_names: Sequence[str], uri: str
) -> Labels | None:
    """Returns the classes that a column states by name or by index: int64 [rows]; None without such a column."""
    name = _find_column(table, usual)
    if name is None or name in class_names:
        return None
    by_name: Mapping[str, int] = {each: index for index, each in enumerate(class_names)}
    # A number is the name of a class where classes are called after numbers, else its index.
    if pa.types.is_integer(table[name].type) and not all(each.isdecimal() for each in class_names):
        by_name = {str(index): index for index in range(len(class_names))}
    found = [by_name.get(str(each).strip(), -1) for each in table[name].to_pylist()]
    classes = np.array(found, np.int64)
    if (classes < 0).any():
        row = int(np.argmin(classes))
        raise DatasetError(
            f"The column {name!r} of {uri} has {table[name][row].as_py()!r} in row {row + 1}. Expected one of the "
            f"{len(class_names)} classes ({', '.join(class_names[:_SHOWN])}, …), or its index."
        )
    return classes


def _first(ids: Ids) -> str:
    return ", ".join(map(str, ids[:_SHOWN].tolist()))


def check_settings(config: EvaluateConfig) -> None:
    """Checks that nothing is asked for that needs a model.

    Raises:
        ConfigError: it is.
    """
    if config.corruptions or config.class_map or config.tta != "none":
        raise ConfigError(
            "corruptions, class_map and tta need a model. Received --predictions, which has none."
        )
