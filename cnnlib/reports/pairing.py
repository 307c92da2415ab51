"""The stored predictions of several reports in, the paired rows out: which models are right on each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cnnlib.errors import NotFoundError, ReportError
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.predictions import read_predictions
from cnnlib.reports.schema import table_schema


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedRows:
    """The rows that several models scored.

    Attributes:
        ids: int64 [rows], ascending.
        labels: int32 [rows], indexes of the true classes.
        right: bool [models, rows], whether the model's prediction equals the label.
        slices: the column `slices` of the last model's predictions, as a table; None if that is not known.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int32]
    right: NDArray[np.bool_]
    slices: pa.Table | None = None


@dataclass(frozen=True, kw_only=True)
class Unpaired:
    """The rows of the reports cannot be paired.

    Attributes:
        reason: why, as a part of a sentence.
    """

    reason: str


def pair_rows(reports_uri: str, records: Sequence[ReportRecord]) -> PairedRows | Unpaired:
    """Reads the predictions of several reports and pairs them row by row.

    It holds the ids, labels and predictions of two models in memory, and one byte per row and model.

    Args:
        reports_uri: the folder of all reports.
        records: at least one; the models of the result are in this order.
    """
    first = records[0]
    for record in records[1:]:
        if record.subject.dataset_fingerprint != first.subject.dataset_fingerprint:
            return Unpaired(reason="their datasets differ")
        if record.subject.split != first.subject.split:
            return Unpaired(reason=f"their splits differ, {first.subject.split} and {record.subject.split}")
    rows: _Rows | None = None
    table = table_schema("predictions").empty_table()
    right = []
    for record in records:
        try:
            table = read_predictions(reports_uri, record.report_id)
        except (ReportError, NotFoundError) as err:
            return Unpaired(reason=str(err).rstrip("."))
        own = _Rows.of(table)
        if len(own.ids) != record.rows:
            return Unpaired(
                reason=f"report {record.report_id} has {len(own.ids)} predictions for its {record.rows} rows"
            )
        rows = rows or own
        if not (np.array_equal(rows.ids, own.ids) and np.array_equal(rows.labels, own.labels)):
            return Unpaired(
                reason=f"{first.report_id} and {record.report_id} have predictions of different rows"
            )
        right.append(own.predictions == own.labels)
    assert rows is not None
    return PairedRows(
        ids=rows.ids, labels=rows.labels, right=np.stack(right), slices=table.select(["slices"])
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    ids: NDArray[np.int64]
    labels: NDArray[np.int32]
    predictions: NDArray[np.int32]

    @classmethod
    def of(cls, table: pa.Table) -> _Rows:
        columns = (table[name].to_numpy() for name in ("id", "label", "prediction"))
        return cls(**dict(zip(("ids", "labels", "predictions"), columns, strict=True)))
