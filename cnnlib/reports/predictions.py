"""The predictions of every row of a split: predictors write them in parts, readers get one table.

A part is written before the report that it belongs to; the report's manifest lists the parts. A part is named after
its rows and its bytes, so two attempts at a report do not mix their predictions, even if their numbers differ. Whoever
finishes deletes the parts that the manifest does not list, because people read the folder without the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from cnnlib.errors import ReportError
from cnnlib.metrics.sums.arrays import as_scored
from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.reports.confusion import to_confusion
from cnnlib.reports.manifest import ReportRecord, StoredTable, read_record
from cnnlib.reports.read import read_stored
from cnnlib.reports.schema import table_schema
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import join_uri

TOP_CLASSES = 10
"""How many of a row's most probable classes are stored: with many classes, all would take 80 KB for a row of 20,000."""
SHARD = "shard_index"
"""The column of `read_predictions` that no object has: the index of the row's shard."""


def write_predictions(
    reports_uri: str,
    report_id: str,
    *,
    shard_index: int,
    ids: ArrayLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
    slices: Mapping[str, NDArray[np.bool_]] | None = None,
    has_probabilities: bool = True,
) -> StoredTable:
    """Stores the predictions of consecutive rows of one shard.

    The name follows from the rows and the bytes, so an object of that name holds the same predictions.

    Args:
        reports_uri: the folder of all reports.
        report_id: the report that the rows belong to, which need not exist yet.
        shard_index: index of the rows' shard in the dataset's manifest.
        ids: int64 [rows], at least one.
        labels: int32 [rows], true classes.
        probabilities: float32 [rows, classes].
        slices: which rows are in each slice, bool [rows] by the slice's name; None: nobody asked for slices.
        has_probabilities: False: only the most probable class counts, and its probability is not known.
    """
    table = predictions_table(ids, labels, probabilities, slices, has_probabilities=has_probabilities)
    data = parquet_bytes(table)
    digest = publish.sha256_hex(data)
    part = layout.predictions_part(shard_index, table["id"][0].as_py(), digest)
    files.write_bytes(join_uri(layout.report_predictions(reports_uri, report_id), part), data)
    return StoredTable(
        name=f"predictions/report_id={report_id}/{part}",
        num_bytes=len(data),
        sha256=digest,
        rows=table.num_rows,
    )


def delete_other_predictions(reports_uri: str, record: ReportRecord) -> None:
    """Deletes the predictions of other attempts at a report: the parts that its manifest does not list.

    An attempt that is still running loses its parts, too. It finds the manifest, and takes the report as it is.
    """
    listed = {join_uri(reports_uri, part.name) for part in record.predictions or ()}
    found = files.list_objects(layout.report_predictions(reports_uri, record.report_id))
    map_threads(files.delete, [part.uri for part in found if part.uri not in listed])


def predictions_table(
    ids: ArrayLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
    slices: Mapping[str, NDArray[np.bool_]] | None = None,
    *,
    has_probabilities: bool = True,
) -> pa.Table:
    """Builds the table `predictions`; see `write_predictions` for the arrays."""
    true, scored = as_scored(labels, probabilities)
    top_classes = _most_probable(scored, min(TOP_CLASSES, scored.shape[1]) if has_probabilities else 1)
    top_probabilities = np.take_along_axis(scored, top_classes, axis=1)
    if not has_probabilities:
        top_probabilities = np.full_like(top_probabilities, np.nan)
    schema = table_schema("predictions")
    offsets = np.arange(0, top_classes.size + 1, top_classes.shape[1], dtype=np.int32)
    lists = (
        pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), kind))
        for values, kind in ((top_classes, pa.int32()), (top_probabilities, pa.float32()))
    )
    columns = (np.asarray(ids), true, top_classes[:, 0], top_probabilities[:, 0])
    flat = (pa.array(column, field.type) for column, field in zip(columns, schema, strict=False))
    return pa.table([*flat, *lists, _slices_column(slices, len(true))], schema=schema)


def read_predictions(reports_uri: str, report_id: str, *, with_shards: bool = False) -> pa.Table:
    """Reads the predictions of a report as one table, sorted by id.

    Args:
        with_shards: True: the last column, `SHARD`, is the index of the row's shard in its split, int32.

    Raises:
        ReportError: there is no such report, it has no predictions, or another evaluation wrote them.
    """
    record = read_record(reports_uri, report_id)
    if record.predictions is None:
        raise ReportError(
            f"Report {report_id} has no predictions: it was evaluated with --no-predictions. Evaluate it "
            "without that, into another folder of reports, or delete the report's objects first."
        )
    parts = map_threads(lambda part: _read_part(reports_uri, record, part), record.predictions)
    empty = _add_shard(table_schema("predictions").empty_table(), 0)
    table = pa.concat_tables([empty, *parts], promote_options="default").sort_by("id")
    _check_counts(reports_uri, record, table)
    return table if with_shards else table.drop_columns([SHARD])


def rows_in_slice(slices: pa.Table, name: str) -> NDArray[np.bool_] | None:
    """Returns which rows of a table with the column `slices` are in a slice, bool [rows].

    None if the table does not tell: an earlier version wrote it, or the rows of the slice are no rows of the split,
    as under a corruption.
    """
    column = slices["slices"].combine_chunks()
    found = pc.list_parent_indices(column).filter(pc.equal(pc.list_flatten(column), name))
    mask = np.zeros(len(slices), np.bool_)
    mask[found.to_numpy()] = True
    return mask if mask.any() else None


def _read_part(reports_uri: str, record: ReportRecord, part: StoredTable) -> pa.Table:
    return _add_shard(read_stored(reports_uri, record, part), layout.shard_of_predictions(part.name))


def _add_shard(table: pa.Table, shard_index: int) -> pa.Table:
    return table.append_column(SHARD, pa.repeat(pa.scalar(shard_index, pa.int32()), len(table)))


def _slices_column(slices: Mapping[str, NDArray[np.bool_]] | None, rows: int) -> pa.Array:
    """Returns the names of each row's slices as a list array [rows]."""
    kind = table_schema("predictions").field("slices").type
    if slices is None:
        return pa.nulls(rows, kind)
    masks = np.stack([np.zeros(rows, np.bool_), *slices.values()], axis=1)
    offsets = np.concatenate([[0], np.cumsum(masks.sum(axis=1))]).astype(np.int32)
    _, indexes = np.nonzero(masks)
    names = pa.DictionaryArray.from_arrays(indexes.astype(np.int32), pa.array(["", *slices], pa.string()))
    return pa.ListArray.from_arrays(offsets, names.cast(pa.string()))


def _check_counts(reports_uri: str, record: ReportRecord, table: pa.Table) -> None:
    """Checks that the predictions belong to the report's evaluation: they give the report's confusion counts."""
    cells = read_stored(reports_uri, record, record.tables["confusion"])
    labels, predictions = table["label"].to_numpy(), table["prediction"].to_numpy()
    received = ConfusionCounts.from_labels(labels, predictions, len(record.subject.class_names))
    if received == to_confusion(cells, received.num_classes):
        return
    folder = layout.report_predictions(reports_uri, record.report_id)
    raise ReportError(
        f"The predictions in {folder} are not those that report {record.report_id} counts. Received {len(table)} "
        f"rows, {received.correct} right, expected {record.rows} and {record.correct}. They come from "
        "another evaluation. Delete all objects of that report, its predictions too, and evaluate again."
    )


def _most_probable(probabilities: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Returns the indexes of each row's most probable classes, most probable first, the lowest index among equals.

    Args:
        probabilities: float32 [rows, classes].

    Returns:
        int64 [rows, count].
    """
    num_classes = probabilities.shape[1]
    # The bits of a float >= 0, read as an integer, keep its order. So one integer, the bits and then the index, is
    # the sort key, and a plain partition breaks ties as a stable sort would. Adding 0 turns -0.0 into 0.0.
    bits = (probabilities + np.float32(0)).view(np.int32).astype(np.int64)
    keys = -((bits << 32) + (num_classes - np.arange(num_classes)))
    if count < num_classes:
        top = np.argpartition(keys, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(keys, top, axis=1), axis=1)
        return np.take_along_axis(top, order, axis=1)
    return np.argsort(keys, axis=1)
