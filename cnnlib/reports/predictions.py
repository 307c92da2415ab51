"""What the model said of every row, in parts as the rows were scored: written by predictors, read as one table.

A part is written before the report it belongs to, and the report's manifest lists the parts.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from cnnlib.errors import ReportError
from cnnlib.metrics.sums.arrays import as_scored
from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.reports.read import ReportRecord, read_record, read_stored
from cnnlib.reports.schema import table_schema
from cnnlib.reports.subject import StoredTable
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes, parquet_table
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import join_uri

TOP_CLASSES = 10
"""How many of a row's most probable classes are stored."""


def write_predictions(
    reports_uri: str,
    report_id: str,
    *,
    shard_index: int,
    ids: ArrayLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
) -> StoredTable:
    """Stores the predictions of some consecutive rows of one shard, unless they are stored.

    The name follows from the rows, so a retried task finds its own object. One that lies there already is kept,
    and told of as it is: if it is another evaluation's, `read_predictions` notices.

    Args:
        reports_uri: the folder of all reports.
        report_id: the report they belong to, which need not exist yet.
        shard_index: index of the rows' shard in the dataset's manifest.
        ids: int64 [rows], at least one.
        labels: int32 [rows], true classes.
        probabilities: float32 [rows, classes].
    """
    table = predictions_table(ids, labels, probabilities)
    part = layout.predictions_part(shard_index, table["id"][0].as_py())
    uri = join_uri(layout.report_predictions(reports_uri, report_id), part)
    data = parquet_bytes(table)
    if not files.create_bytes(uri, data):
        data = files.read_bytes(uri)
        table = parquet_table(data)
    return StoredTable(
        name=f"predictions/report_id={report_id}/{part}",
        num_bytes=len(data),
        sha256=publish.sha256_hex(data),
        rows=table.num_rows,
    )


def predictions_table(ids: ArrayLike, labels: ArrayLike, probabilities: ArrayLike) -> pa.Table:
    """The table `predictions` of some rows; see `write_predictions` for the arrays."""
    true, shares = as_scored(labels, probabilities)
    top = _most_probable(shares, min(TOP_CLASSES, shares.shape[1]))
    best = np.take_along_axis(shares, top, axis=1)
    schema = table_schema("predictions")
    offsets = np.arange(0, top.size + 1, top.shape[1], dtype=np.int32)
    lists = (
        pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), kind))
        for values, kind in ((top, pa.int32()), (best, pa.float32()))
    )
    columns = (np.asarray(ids), true, top[:, 0], best[:, 0])
    flat = (pa.array(column, field.type) for column, field in zip(columns, schema, strict=False))
    return pa.table([*flat, *lists], schema=schema)


def read_predictions(reports_uri: str, report_id: str) -> pa.Table:
    """Reads the predictions of a report as one table, sorted by id.

    Raises:
        ReportError: there is no such report, it has no predictions, or they are not those it counts.
    """
    record = read_record(reports_uri, report_id)
    if record.predictions is None:
        raise ReportError(
            f"Report {report_id} has no predictions: it was evaluated with --no-predictions. Evaluate it "
            "without that, into another folder of reports, or delete the report's objects first."
        )
    parts = map_threads(lambda part: read_stored(reports_uri, record, part), record.predictions)
    table = pa.concat_tables([table_schema("predictions").empty_table(), *parts]).sort_by("id")
    _check(reports_uri, record, table)
    return table


def _check(reports_uri: str, record: ReportRecord, table: pa.Table) -> None:
    """Checks that predictions and report are of the same evaluation: they agree on every count."""
    cells = read_stored(reports_uri, record, record.tables["confusion"])
    counts = cells["count"].to_numpy()
    num_classes = len(record.subject.class_names)
    labels, predictions = table["label"].to_numpy(), table["prediction"].to_numpy()
    stored = ConfusionCounts.from_labels(labels, predictions, num_classes).counts
    if np.array_equal(stored.ravel(), counts):
        return
    folder = layout.report_predictions(reports_uri, record.report_id)
    raise ReportError(
        f"The predictions in {folder} are not those that report {record.report_id} counts: {len(table)} rows, "
        f"{int(np.trace(stored))} right, against {record.rows} and {record.correct}. Two evaluations wrote them. "
        "Delete all objects of that report, its predictions too, and evaluate again."
    )


def _most_probable(shares: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The indexes of each row's most probable classes, in falling order; among equals the lowest comes first.

    A probability's bits, as an integer, are in its order, so probability and index are one whole number to sort by.
    """
    num_classes = shares.shape[1]
    bits = (shares + np.float32(0)).view(np.int32).astype(np.int64)  # + 0: a -0.0 has a bit of its own
    keys = -((bits << 32) + (num_classes - np.arange(num_classes)))
    if count < num_classes:
        nearest = np.argpartition(keys, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(keys, nearest, axis=1), axis=1)
        return np.take_along_axis(nearest, order, axis=1)
    return np.argsort(keys, axis=1)
