"""Report facts in, Arrow tables out. The same facts give the same tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cnnlib.metrics.figures import Figures, measure, measure_slice
from cnnlib.metrics.per_class import wilson_interval
from cnnlib.metrics.sums.calibration import NUM_BINS
from cnnlib.metrics.sums.score_sums import ScoreSums
from cnnlib.metrics.values import Values, ratio
from cnnlib.reports.schema import table_schema
from cnnlib.reports.subject import ReportFacts

# What a column is given as: one value per row, or one for all rows; None is null.
_Columns = Mapping[str, NDArray[Any] | str | float | None]


def build_tables(facts: ReportFacts) -> dict[str, pa.Table]:
    """All tables of a report, by name; in overall and per_class the whole split comes before its slices."""
    parts: list[tuple[str | None, ScoreSums, Figures]] = [
        (None, facts.score, measure(facts.score, facts.rows))
    ]
    parts += [(name, score, measure_slice(score)) for name, score in facts.slices.items()]
    return {
        "overall": pa.concat_tables(_overall(facts, *part) for part in parts),
        "per_class": pa.concat_tables(_per_class(facts, *part) for part in parts),
        "confusion": _confusion(facts),
        "calibration": _calibration(facts),
        "activations": _activations(facts),
    }


def _overall(facts: ReportFacts, slice_name: str | None, score: ScoreSums, figures: Figures) -> pa.Table:
    whole = slice_name is None
    versions = {f"{name}_version": version for name, version in dataclasses.asdict(facts.versions).items()}
    columns = {
        **_keys(facts, slice_name),
        "rows": score.rows,
        "correct": score.confusion.correct,
        **_figure_columns(figures, "overall"),
        "top_k": score.top_k,
        "parameters": facts.parameters,
        "flops_per_image": facts.flops_per_image,
        "seconds": facts.seconds,
        "images_per_s": score.rows / facts.seconds if whole and facts.seconds else None,
        **versions,
    }
    return _table("overall", 1, columns)


def _per_class(facts: ReportFacts, slice_name: str | None, score: ScoreSums, figures: Figures) -> pa.Table:
    counts, names = score.confusion.counts, _names(facts)
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    worst, most = mistakes.argmax(axis=1), mistakes.max(axis=1)  # the lowest index among equals
    columns = {
        **_keys(facts, slice_name),
        "class_index": np.arange(len(counts)),
        "class_name": names,
        "support": counts.sum(axis=1),
        "correct": np.diag(counts),
        "predicted": counts.sum(axis=0),
        **_figure_columns(figures, "per_class"),
        "top_k": score.top_k,
        "most_confused_with": np.where(most > 0, names[worst], None),
        "most_confused_count": most,
    }
    return _table("per_class", len(counts), columns)


def _confusion(facts: ReportFacts) -> pa.Table:
    """One row per pair of classes, in the order of the indexes."""
    counts, names = facts.score.confusion.counts, _names(facts)
    true, predicted = (index.ravel() for index in np.indices(counts.shape))
    columns: _Columns = {
        "report_id": facts.report_id,
        "true": true,
        "predicted": predicted,
        "true_name": names[true],
        "predicted_name": names[predicted],
        "count": counts.ravel(),
    }
    return _table("confusion", counts.size, columns)


def _calibration(facts: ReportFacts) -> pa.Table:
    """The bins of the predicted class's probability, then of every class's."""
    bins, num_classes = facts.score.calibration, facts.score.num_classes
    lines = np.array([num_classes, *range(num_classes)])
    rows, hits = bins.rows[lines].ravel(), bins.hits[lines].ravel()
    probability = bins.probability.to_float()[lines].ravel()
    index = np.tile(np.arange(NUM_BINS), len(lines))
    low, high = wilson_interval(hits, rows)
    columns = {
        "report_id": facts.report_id,
        "class_index": np.repeat(np.where(lines == num_classes, np.nan, lines), NUM_BINS),
        "bin": index,
        "bin_low": index / NUM_BINS,
        "bin_high": (index + 1) / NUM_BINS,
        "rows": rows,
        "hits": hits,
        "confidence": ratio(probability, rows.astype(np.float64)),
        "accuracy": ratio(hits.astype(np.float64), rows.astype(np.float64)),
        "accuracy_low": low,
        "accuracy_high": high,
    }
    return _table("calibration", len(index), columns)


def _activations(facts: ReportFacts) -> pa.Table:
    schema = table_schema("activations")
    if facts.activations is None:
        return schema.empty_table()
    given = facts.activations
    report_ids = pa.repeat(pa.scalar(facts.report_id), given.num_rows)
    others = [given.column(name).cast(schema.field(name).type) for name in schema.names[1:]]
    return pa.table([report_ids, *others], schema=schema)


def _keys(facts: ReportFacts, slice_name: str | None) -> dict[str, Any]:
    return {
        "report_id": facts.report_id,
        "evaluated_at": facts.evaluated_at,
        **facts.subject.to_columns(),
        "slice": slice_name,
    }


def _names(facts: ReportFacts) -> NDArray[np.object_]:
    return np.array(facts.subject.class_names, dtype=object)


def _figure_columns(figures: Figures, scope: str) -> dict[str, NDArray[np.float64]]:
    """Every figure under its name, the ends of its interval and the bound on its error under theirs."""
    endings = {"": figures.values, "_low": figures.low, "_high": figures.high, "_error": figures.errors}
    return {
        f"{name}{ending}": np.atleast_1d(value)
        for ending, values in endings.items()
        for name, value in _of_scope(values, scope).items()
    }


def _of_scope(values: Values, scope: str) -> Mapping[str, NDArray[np.float64]]:
    return values.overall if scope == "overall" else values.per_class


def _table(name: str, rows: int, columns: _Columns) -> pa.Table:
    """A table of the schema; a column that is not given is null, as is a NaN."""
    schema = table_schema(name)
    unknown = set(columns) - set(schema.names)
    if unknown:
        raise ValueError(f"The table {name} has no column {', '.join(sorted(unknown))}.")
    return pa.table([_array(columns.get(field.name), field.type, rows) for field in schema], schema=schema)


def _array(value: NDArray[Any] | str | float | None, kind: pa.DataType, rows: int) -> pa.Array:
    if isinstance(value, np.ndarray):
        return pa.array(value, from_pandas=True).cast(kind)
    return pa.repeat(pa.scalar(value, kind), rows)
