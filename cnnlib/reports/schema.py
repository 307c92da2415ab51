"""The columns of every report table: name, type and meaning. Names, types and order are promises to readers.

The writers build their tables from these lists, and a test freezes them. Every change that a reader could notice
raises `REPORT_VERSION`, which is part of every report's id.
"""

from __future__ import annotations

import pyarrow as pa

from cnnlib.storage.parquet import Column

REPORT_VERSION = 3
VERSION_KEY = b"cnnlib.report_version"
ALL_PAIRS_CLASSES = 100
"""Of up to this many classes, `confusion` has a row for every pair; of more, only for the pairs that have rows."""

_STRING, _UTC = pa.string(), pa.timestamp("us", tz="UTC")
_INT32, _INT64, _FLOAT32, _FLOAT64 = pa.int32(), pa.int64(), pa.float32(), pa.float64()


def _column(name: str, kind: pa.DataType, doc: str) -> Column:
    return Column(name=name, type=kind, doc=doc, nullable=False)


def _nullable(name: str, kind: pa.DataType, doc: str) -> Column:
    return Column(name=name, type=kind, doc=doc, nullable=True)


_KEYS = (
    _column("report_id", _STRING, "16 hex digits; the same for the same checkpoint, data and settings."),
    _column("evaluated_at", _UTC, "When the evaluation ended (UTC)."),
    _nullable("run", _STRING, "Name of the training run; null for a model of another origin."),
    _nullable(
        "model", _STRING, "Name of the model, with the options given, or of its file; null if unknown."
    ),
    _column("checkpoint_uri", _STRING, "URI of the checkpoint or model file when it was evaluated."),
    _nullable("checkpoint_step", _INT64, "Training steps completed; null if unknown."),
    _nullable("checkpoint_epoch", _INT32, "Epochs completed; null if unknown."),
    _column("checkpoint_digest", _STRING, "sha256 of the model file, in hex."),
    _column("dataset_uri", _STRING, "URI of the dataset when it was evaluated."),
    _column("dataset_fingerprint", _STRING, "Fingerprint over all shards, from the dataset's manifest."),
    _column("split", _STRING, "The split that was scored, such as test."),
)

_SLICE = _nullable(
    "slice",
    _STRING,
    "The part of the split that the metrics describe, such as source=web or corruption=noise/3; null: the whole split.",
)


def _interval(name: str, what: str, method: str) -> tuple[Column, Column]:
    """Returns the columns of the two ends of a 95 % interval."""
    return (
        _nullable(f"{name}_low", _FLOAT64, f"Lower end of the 95 % interval of {what} ({method})."),
        _nullable(f"{name}_high", _FLOAT64, f"Upper end of the 95 % interval of {what} ({method})."),
    )


def _fraction(name: str, doc: str) -> tuple[Column, Column, Column]:
    """Returns the columns of a fraction of rows and its Wilson interval."""
    return (_nullable(name, _FLOAT64, doc), *_interval(name, name, "Wilson"))


def _counted(name: str, doc: str) -> tuple[Column, Column, Column]:
    """Returns the columns of a metric from confusion or calibration counts, whose interval is null in a slice."""
    return (_nullable(name, _FLOAT64, doc), *_interval(name, name, "bootstrap"))


def _of_rows(name: str, doc: str) -> tuple[Column, Column, Column]:
    """Returns the columns of a metric from single rows, whose interval is null in a slice."""
    # A split is large above BOOTSTRAP_VALUES probabilities: see cnnlib/metrics/bootstrap.py.
    method = "bootstrap; normal for a large split"
    return (_nullable(name, _FLOAT64, doc), *_interval(name, name, method))


def _ranked(name: str, doc: str) -> tuple[Column, ...]:
    """Returns the columns of a ranking metric, which is exact, or comes from a histogram and has an error bound."""
    error = f"Bound on the error of {name}; 0 where it is exact, null where {name} is null."
    return (*_of_rows(name, doc), _nullable(f"{name}_error", _FLOAT64, error))


_PER_CLASS = (
    *_KEYS,
    _SLICE,
    _column("class_index", _INT32, "Index of the class, from 0; the label in the dataset."),
    _column("class_name", _STRING, "Name of the class, from the dataset's manifest."),
    _column("support", _INT64, "Rows whose true class is this class."),
    _column("correct", _INT64, "Of those, the rows whose predicted class is this class."),
    _column("predicted", _INT64, "Rows whose predicted class is this class, right or wrong."),
    *_fraction("accuracy", "correct / support (recall); null without support."),
    *_fraction("precision", "correct / predicted; null where no row was predicted as this class."),
    *_counted("f1", "2 correct / (support + predicted); null where both are 0."),
    _column("top_k", _INT32, "k of top_k_accuracy."),
    *_fraction(
        "top_k_accuracy",
        "Fraction of this class's rows that have it among their k most probable classes; null without support.",
    ),
    *_ranked(
        "auc",
        "Area under the ROC curve, this class against the rest; null in a slice, or where one of the two has no rows. "
        "The interval is null where one of the two has a single row.",
    ),
    *_ranked(
        "average_precision",
        "Average precision, this class against the rest; null in a slice, or without support. The interval is null for "
        "a single row.",
    ),
    *_of_rows(
        "loss",
        "Mean cross-entropy of this class's rows, in nats; null without support. The interval is null for a single "
        "row.",
    ),
    *_of_rows(
        "brier", "Brier score: mean over all rows of (probability of the class - truth)²; null without rows."
    ),
    *_counted(
        "ece",
        "Expected calibration error of this class's probability, over all rows, in 15 equal bins; null without rows.",
    ),
    _nullable(
        "most_confused_with",
        _STRING,
        "Name of the class that this class's rows are most often mistaken for; null without a mistake.",
    ),
    _column("most_confused_count", _INT64, "Number of this class's rows that were predicted as that one."),
)

_OVERALL = (
    *_KEYS,
    _SLICE,
    _column("rows", _INT64, "Rows that were scored, in the split or the slice."),
    _column("correct", _INT64, "Of those, the rows whose predicted class is the true one."),
    *_fraction("accuracy", "correct / rows; null without rows."),
    *_counted(
        "macro_accuracy", "Mean accuracy of the classes with support (balanced accuracy); null without rows."
    ),
    *_counted(
        "macro_precision",
        "Mean precision of the classes with support or predictions, 0 for a class never predicted; null without rows.",
    ),
    *_counted("macro_f1", "Mean F1 of the classes with support or predictions; null without rows."),
    *_counted("weighted_precision", "Mean precision of the classes, weighted by support; null without rows."),
    *_counted("weighted_f1", "Mean F1 of the classes, weighted by support; null without rows."),
    *_ranked("macro_auc", "Mean of the areas under the classes' ROC curves; null in a slice."),
    *_ranked("weighted_auc", "The same mean, weighted by support; null in a slice."),
    *_ranked("macro_average_precision", "Mean average precision of the classes; null in a slice."),
    *_of_rows(
        "loss",
        "Mean cross-entropy, in nats; a probability below 1e-7 counts as 1e-7; null without rows.",
    ),
    *_of_rows(
        "brier",
        "Brier score: mean over rows of the sum over classes of (probability - truth)², 0..2; null without rows.",
    ),
    *_counted(
        "ece",
        "Expected calibration error of the predicted class's probability, in 15 equal bins; null without rows.",
    ),
    _column("top_k", _INT32, "k of top_k_accuracy."),
    *_fraction(
        "top_k_accuracy",
        "Fraction of rows whose true class is among the k most probable classes; null without rows.",
    ),
    _nullable("parameters", _INT64, "Number of the model's parameters, trained or not; null if unknown."),
    _nullable(
        "flops_per_image",
        _INT64,
        "Floating-point operations of the convolutions and dense layers for one image, a multiplication and an "
        "addition counted as two; null if unknown, or if a layer of another kind multiplies.",
    ),
    _column("seconds", _FLOAT64, "Wall time of the evaluation, in seconds."),
    _nullable("images_per_s", _FLOAT64, "rows / seconds; null in a slice, or where seconds is 0."),
    *(
        _nullable(f"{name}_version", _STRING, f"Version of {name}; null where it is not installed.")
        for name in ("python", "cnnlib", "ray", "tensorflow", "keras", "numpy")
    ),
    _nullable(
        "pixel_range",
        _STRING,
        "Range of the pixels that the model was given, 0-255, 0-1 or -1..1, or their preprocessing, imagenet; null "
        "without rows.",
    ),
    _nullable(
        "outputs",
        _STRING,
        "What the model's outputs were taken for, probabilities or logits; null without rows.",
    ),
)

_CONFUSION = (
    _KEYS[0],
    _column("true", _INT32, "Index of the true class."),
    _column("predicted", _INT32, "Index of the predicted class."),
    _column("true_name", _STRING, "Name of the true class."),
    _column("predicted_name", _STRING, "Name of the predicted class."),
    _column(
        "count",
        _INT64,
        "Rows with this true class and this predicted class; 0 for a pair without rows. Of more than "
        f"{ALL_PAIRS_CLASSES} classes, only pairs that have rows are stored.",
    ),
)

_CALIBRATION = (
    _KEYS[0],
    _nullable(
        "class_index",
        _INT32,
        "The class whose probability is binned; null: the probability of each row's predicted class.",
    ),
    _column("bin", _INT32, "Index of the bin, from 0; 15 bins of equal width divide 0..1."),
    _column("bin_low", _FLOAT64, "Lower end of the bin; not in the bin, except 0."),
    _column("bin_high", _FLOAT64, "Upper end of the bin; in the bin."),
    _column("rows", _INT64, "Rows whose probability lies in the bin."),
    _column("hits", _INT64, "Of those, the rows whose true class is the one whose probability is binned."),
    _nullable("confidence", _FLOAT64, "Mean probability of the rows in the bin; null without rows."),
    *_fraction("accuracy", "hits / rows; null without rows."),
)

_ACTIVATIONS = (
    _KEYS[0],
    _column("layer_index", _INT32, "Index of the layer in the model, from 0; -1 for the input image."),
    _column("layer", _STRING, "Name of the layer; image for the input image."),
    _column(
        "kind", _STRING, "image, kernel (weights of the first convolution) or activation (output of a layer)."
    ),
    _column("map", _INT32, "Index of the kernel or of the output channel, from 0."),
    _column("height", _INT32, "Height in pixels; larger maps are scaled down to at most 64, in their shape."),
    _column("width", _INT32, "Width in pixels, likewise."),
    _column("channels", _INT32, "Values per pixel: the input's channels for image and kernel, else 1."),
    _column("values", pa.list_(_FLOAT32), "The pixel values, row by row, channels last."),
    _column(
        "example_id", _INT64, "Id of the row whose image went through the model, the first of the split."
    ),
    _column("total", _INT32, "Kernels or channels of the layer; at most 64 are stored."),
)

_PREDICTIONS = (
    _column("id", _INT64, "The row's id in its split."),
    _column("label", _INT32, "Index of the true class."),
    _column("prediction", _INT32, "Index of the predicted class, the most probable one."),
    _column(
        "probability",
        _FLOAT32,
        "The model's probability of the predicted class; NaN: it stated the class only.",
    ),
    _column(
        "top_classes",
        pa.list_(_INT32),
        "Indexes of the most probable classes, at most 10, most probable first.",
    ),
    _column("top_probabilities", pa.list_(_FLOAT32), "Probabilities of these classes; NaN: not known."),
    _nullable(
        "slices",
        pa.list_(_STRING),
        "Names of the slices that the row is in, one for every --slice-by; null: nobody asked for slices.",
    ),
)

_GATES = (
    _KEYS[0],
    _column("checked_at", _UTC, "When the gate was evaluated (UTC)."),
    _column("gates_digest", _STRING, "sha256 of the gate as JSON, in hex; the same for the same gate."),
    _column("check", _STRING, "Kind of check: min_accuracy or max_drop."),
    _column("scope", _STRING, "What is checked: overall, class or slice."),
    _nullable("slice", _STRING, "The slice that is checked; null: the whole split."),
    _nullable("class_name", _STRING, "The class that is checked; null: all classes."),
    _column("limit", _FLOAT64, "The lowest accuracy, or the largest drop, that passes, 0..1."),
    _nullable("observed", _FLOAT64, "The accuracy, or its drop; null where it cannot be observed."),
    *_interval("observed", "the observed value", "two-sided"),
    _nullable(
        "p_value",
        _FLOAT64,
        "One-sided p-value for the hypothesis that the limit holds, adjusted by Holm; null without a test.",
    ),
    _column(
        "significance",
        _FLOAT64,
        "Level of significance: how often a model that keeps all limits may fail, 0..1; 0 for no tests.",
    ),
    _nullable(
        "baseline_id",
        _STRING,
        "Id of the baseline, the report compared with; null for min_accuracy or without a baseline.",
    ),
    _column("verdict", _STRING, "pass, fail or inconclusive."),
    _column("reason", _STRING, "The verdict in words."),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "overall": _OVERALL,
    "per_class": _PER_CLASS,
    "confusion": _CONFUSION,
    "calibration": _CALIBRATION,
    "activations": _ACTIVATIONS,
    "predictions": _PREDICTIONS,
    "gates": _GATES,
}
"""The columns of every table, in the order of the file."""


def table_schema(table: str) -> pa.Schema:
    """Returns the Arrow schema of a report table, with the report version in its metadata.

    >>> table_schema("predictions").names
    ['id', 'label', 'prediction', 'probability', 'top_classes', 'top_probabilities', 'slices']
    """
    fields = [pa.field(column.name, column.type, nullable=column.nullable) for column in COLUMNS[table]]
    return pa.schema(fields, metadata={VERSION_KEY: str(REPORT_VERSION)})
