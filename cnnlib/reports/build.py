"""Report facts in, Arrow tables and Parquet bytes out, and back again. The same facts give the same bytes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from cnnlib.metrics.confusion import ConfusionCounts
from cnnlib.metrics.per_class import ClassScore, Proportion, per_class_rows, proportion
from cnnlib.reports.facts import ReportFacts
from cnnlib.reports.schema import table_schema
from cnnlib.storage import publish

_CIRCUMSTANCES_KEY = b"cnnlib.circumstances"


def overall_row(facts: ReportFacts) -> dict[str, Any]:
    """The one row of the table `overall`, as column -> value."""
    score = facts.score
    return {
        **_keys(facts),
        "rows": score.rows,
        "correct": score.confusion.correct,
        **_accuracy(proportion(score.confusion.correct, score.rows)),
        "loss": score.loss_sum / score.rows if score.rows else None,
        "top_k": score.top_k,
        "top_k_accuracy": score.top_k_correct / score.rows if score.rows else None,
        "seconds": facts.seconds,
        "images_per_s": score.rows / facts.seconds if facts.seconds else None,
        **{f"{name}_version": version for name, version in dataclasses.asdict(facts.versions).items()},
    }


def overall_table(facts: ReportFacts) -> pa.Table:
    """The table `overall`: one row."""
    return pa.Table.from_pylist([overall_row(facts)], schema=table_schema("overall"))


def per_class_table(facts: ReportFacts) -> pa.Table:
    """The table `per_class`: one row per class, classes without rows included."""
    keys, names = _keys(facts), facts.subject.class_names
    rows = [keys | _class_columns(score, names) for score in per_class_rows(facts.score.confusion)]
    return pa.Table.from_pylist(rows, schema=table_schema("per_class"))


def confusion_table(facts: ReportFacts) -> pa.Table:
    """The table `confusion`: one row per pair of classes, in the order of the indexes.

    Its metadata carries the circumstances of the evaluation, so that this one file holds all the facts.
    """
    counts, names = facts.score.confusion.counts, np.array(facts.subject.class_names, dtype=object)
    true, predicted = (index.ravel() for index in np.indices(counts.shape))
    schema = table_schema("confusion")
    columns = [
        pa.repeat(facts.report_id, counts.size),
        pa.array(true, pa.int32()),
        pa.array(predicted, pa.int32()),
        pa.array(names[true], pa.string()),
        pa.array(names[predicted], pa.string()),
        pa.array(counts.ravel(), pa.int64()),
    ]
    circumstances = {_CIRCUMSTANCES_KEY: publish.canonical_json(facts.circumstances())}
    return pa.table(columns, schema=schema.with_metadata({**schema.metadata, **circumstances}))


def facts_from_confusion(table: pa.Table) -> ReportFacts:
    """The facts that a `confusion_table` was made of."""
    circumstances = json.loads(table.schema.metadata[_CIRCUMSTANCES_KEY])
    num_classes = len(circumstances["subject"]["class_names"])
    counts = table["count"].to_numpy().reshape(num_classes, num_classes)
    return ReportFacts.from_circumstances(circumstances, ConfusionCounts(counts))


def predictions_table(
    ids: ArrayLike, labels: ArrayLike, predictions: ArrayLike, probabilities: ArrayLike
) -> pa.Table:
    """The table `predictions` of some rows.

    Args:
        ids: int64 [rows].
        labels: int32 [rows], true classes.
        predictions: int32 [rows], predicted classes.
        probabilities: float32 [rows], of the predicted classes.
    """
    schema = table_schema("predictions")
    values = (ids, labels, predictions, probabilities)
    return pa.table(
        [pa.array(np.asarray(value), field.type) for value, field in zip(values, schema, strict=True)],
        schema=schema,
    )


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def parquet_table(data: bytes) -> pa.Table:
    """The table out of Parquet bytes."""
    # Not pq.read_table: it loads pyarrow.dataset and with it pandas, a second of start-up for a small table.
    return pq.ParquetFile(pa.BufferReader(data)).read()


def _keys(facts: ReportFacts) -> dict[str, Any]:
    subject = facts.subject.to_columns()
    return {"report_id": facts.report_id, "evaluated_at": facts.evaluated_at, **subject}


def _class_columns(score: ClassScore, names: Sequence[str]) -> dict[str, Any]:
    confused_with = score.most_confused_with
    return {
        "class_index": score.class_index,
        "class_name": names[score.class_index],
        "support": score.support,
        "correct": score.correct,
        "predicted": score.predicted,
        **_accuracy(score.accuracy),
        "precision": score.precision,
        "f1": score.f1,
        "most_confused_with": None if confused_with is None else names[confused_with],
        "most_confused_count": score.most_confused_count,
    }


def _accuracy(accuracy: Proportion) -> dict[str, float | None]:
    return {"accuracy": accuracy.share, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
