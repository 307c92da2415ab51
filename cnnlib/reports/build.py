"""The result of an evaluation in, the Arrow tables of its report out. Equal results give equal tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cnnlib.metrics.formulas import Values, ratio
from cnnlib.metrics.intervals import wilson_interval
from cnnlib.metrics.measure import Metrics, measure, measure_slice
from cnnlib.metrics.sums.calibration import NUM_BINS
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.models.activations import LayerMaps
from cnnlib.reports.confusion import list_pairs, most_confused
from cnnlib.reports.result import EvaluationResult
from cnnlib.reports.schema import table_schema

# The metrics that predicted classes alone do not give, by the ends of their names.
_OF_PROBABILITIES = ("loss", "brier", "ece", "auc", "average_precision", "top_k_accuracy")

# Column -> one value per row, or one value for all rows; None is null.
_Columns = Mapping[str, NDArray[Any] | str | float | None]


def build_tables(result: EvaluationResult) -> dict[str, pa.Table]:
    """Builds all tables of a report, by name; in overall and per_class the whole split comes before its slices."""
    parts: list[tuple[str | None, MetricSums, Metrics]] = [
        (None, result.sums, measure(result.sums, result.rows))
    ]
    parts += [(name, sums, measure_slice(sums)) for name, sums in result.slices.items()]
    return {
        "overall": pa.concat_tables(_overall(result, *part) for part in parts),
        "per_class": pa.concat_tables(_per_class(result, *part) for part in parts),
        "confusion": _table("confusion", *_confusion(result)),
        "calibration": _calibration(result),
        "activations": _activations(result),
    }


def build_activations(example_id: int, layers: Iterable[LayerMaps]) -> pa.Table:
    """Builds the table `activations` without its `report_id`: one row per map, in the order of the layers and maps.

    Args:
        example_id: id of the row whose image went through the model.
        layers: what `record_activations` returned; no layers make an empty table.
    """
    schema = table_schema("activations")
    without_id = schema.remove(schema.get_field_index("report_id"))
    return pa.Table.from_pylist(
        [{"example_id": example_id} | row for layer in layers for row in _activation_rows(layer)],
        schema=without_id,
    )


def _overall(
    result: EvaluationResult, slice_name: str | None, sums: MetricSums, metrics: Metrics
) -> pa.Table:
    is_whole = slice_name is None
    versions = {f"{name}_version": version for name, version in dataclasses.asdict(result.versions).items()}
    columns = {
        **_keys(result, slice_name),
        "rows": sums.rows,
        "correct": sums.confusion.correct,
        **_metric_columns(result, metrics, "overall"),
        "top_k": sums.top_k,
        "parameters": result.parameters,
        "flops_per_image": result.flops_per_image,
        "seconds": result.seconds,
        "images_per_s": sums.rows / result.seconds if is_whole and result.seconds else None,
        **versions,
        "pixel_range": result.pixel_range,
        "outputs": result.outputs,
    }
    return _table("overall", 1, columns)


def _per_class(
    result: EvaluationResult, slice_name: str | None, sums: MetricSums, metrics: Metrics
) -> pa.Table:
    counts, names = sums.confusion, _names(result)
    confused, most = most_confused(counts)
    columns = {
        **_keys(result, slice_name),
        "class_index": np.arange(counts.num_classes),
        "class_name": names,
        "support": counts.rows_by_true,
        "correct": counts.correct_by_class,
        "predicted": counts.rows_by_predicted,
        **_metric_columns(result, metrics, "per_class"),
        "top_k": sums.top_k,
        "most_confused_with": np.where(most > 0, names[confused], np.array(None, dtype=object)),
        "most_confused_count": most,
    }
    return _table("per_class", counts.num_classes, columns)


def _confusion(result: EvaluationResult) -> tuple[int, _Columns]:
    """Returns the number of rows, one per pair of classes in the order of the indexes, and their columns."""
    true, predicted, counts = list_pairs(result.sums.confusion)
    names = _names(result)
    return len(counts), {
        "report_id": result.report_id,
        "true": true,
        "predicted": predicted,
        "true_name": names[true],
        "predicted_name": names[predicted],
        "count": counts,
    }


def _calibration(result: EvaluationResult) -> pa.Table:
    """Builds the bins of the predicted class's probability, then the bins of every class's probability."""
    if not result.has_probabilities:
        return table_schema("calibration").empty_table()
    bins, num_classes = result.sums.calibration, result.sums.num_classes
    # The bins of the predicted class are the last line of the sums and the first of the table.
    lines = np.array([num_classes, *range(num_classes)])
    rows, hits = bins.rows[lines].ravel(), bins.hits[lines].ravel()
    probability = bins.probability.to_float()[lines].ravel()
    index = np.tile(np.arange(NUM_BINS), len(lines))
    low, high = wilson_interval(hits, rows)
    columns = {
        "report_id": result.report_id,
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


def _activations(result: EvaluationResult) -> pa.Table:
    schema = table_schema("activations")
    if result.activations is None:
        return schema.empty_table()
    given = result.activations
    report_ids = pa.repeat(pa.scalar(result.report_id), given.num_rows)
    others = [given.column(name).cast(schema.field(name).type) for name in schema.names[1:]]
    return pa.table([report_ids, *others], schema=schema)


def _keys(result: EvaluationResult, slice_name: str | None) -> dict[str, Any]:
    return {
        "report_id": result.report_id,
        "evaluated_at": result.evaluated_at,
        **result.subject.to_columns(),
        "slice": slice_name,
    }


def _names(result: EvaluationResult) -> NDArray[np.object_]:
    return np.array(result.subject.class_names, dtype=object)


def _metric_columns(result: EvaluationResult, metrics: Metrics, scope: str) -> dict[str, NDArray[np.float64]]:
    """Returns the columns of every metric: its value, the ends of its interval and the bound on its error.

    Metrics that are not known are left out, and so are null.
    """
    endings = {"": metrics.values, "_low": metrics.low, "_high": metrics.high, "_error": metrics.errors}
    return {
        f"{name}{ending}": np.atleast_1d(value)
        for ending, values in endings.items()
        for name, value in _of_scope(values, scope).items()
        if result.has_probabilities or not name.removesuffix("_error").endswith(_OF_PROBABILITIES)
    }


def _of_scope(values: Values, scope: str) -> Mapping[str, NDArray[np.float64]]:
    return values.overall if scope == "overall" else values.per_class


def _table(name: str, rows: int, columns: _Columns) -> pa.Table:
    """Builds a table with the columns of its schema; a column that is not given is null, and so is a NaN."""
    schema = table_schema(name)
    unknown = set(columns) - set(schema.names)
    if unknown:
        raise ValueError(f"The table {name} has no column {', '.join(sorted(unknown))}.")
    return pa.table([_array(columns.get(field.name), field.type, rows) for field in schema], schema=schema)


def _array(value: NDArray[Any] | str | float | None, kind: pa.DataType, rows: int) -> pa.Array:
    if isinstance(value, np.ndarray):
        return pa.array(value, from_pandas=True).cast(kind)
    return pa.repeat(pa.scalar(value, kind), rows)


def _activation_rows(layer: LayerMaps) -> Iterable[dict[str, Any]]:
    _, height, width, channels = layer.maps.shape
    for index, values in enumerate(layer.maps):
        yield {
            "layer_index": layer.layer_index,
            "layer": layer.layer,
            "kind": layer.kind,
            "map": index,
            "height": height,
            "width": width,
            "channels": channels,
            "values": values.ravel(),
            "total": layer.total,
        }
