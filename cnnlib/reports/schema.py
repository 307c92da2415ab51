"""The columns of every report table: name, type and meaning. Column order, names and types are promises.

The writers follow these tables, and a test freezes them. A change that a reader could notice raises
`REPORT_VERSION`, which is part of every report's id.
"""

from __future__ import annotations

import pyarrow as pa

from cnnlib.storage.parquet import Column

REPORT_VERSION = 2
VERSION_KEY = b"cnnlib.report_version"

_UTC = pa.timestamp("us", tz="UTC")


def _column(name: str, kind: pa.DataType, doc: str, *, nullable: bool = False) -> Column:
    return Column(name=name, type=kind, doc=doc, nullable=nullable)


_KEYS = (
    _column(
        "report_id", pa.string(), "16 hex digits; the same for the same checkpoint, data and evaluation."
    ),
    _column("evaluated_at", _UTC, "When the evaluation ended (UTC)."),
    _column(
        "run", pa.string(), "Name of the training run; null for a model of another origin.", nullable=True
    ),
    _column(
        "model",
        pa.string(),
        "Registered name of the model, or its file's name; null if unknown.",
        nullable=True,
    ),
    _column("checkpoint_uri", pa.string(), "Where the checkpoint or model file lay."),
    _column("checkpoint_step", pa.int64(), "Training steps it had seen; null if unknown.", nullable=True),
    _column("checkpoint_epoch", pa.int32(), "Epochs it had completed; null if unknown.", nullable=True),
    _column("checkpoint_digest", pa.string(), "sha256 of the model file, in hex."),
    _column("dataset_uri", pa.string(), "Where the dataset lay."),
    _column("dataset_fingerprint", pa.string(), "Fingerprint over all shards, from the dataset's manifest."),
    _column("split", pa.string(), "The split that was scored, such as test."),
)

_SLICE = _column(
    "slice",
    pa.string(),
    "The part of the split that the row is about, such as source=web or corruption=noise/3; null: all of it.",
    nullable=True,
)


def _interval(name: str, what: str, kind: str) -> tuple[Column, Column]:
    """The two ends of a figure's 95 % interval."""
    return (
        _column(f"{name}_low", pa.float64(), f"Lower end of {what}'s 95 % {kind} interval.", nullable=True),
        _column(f"{name}_high", pa.float64(), f"Upper end of {what}'s 95 % {kind} interval.", nullable=True),
    )


def _share(name: str, doc: str) -> tuple[Column, Column, Column]:
    """A share of rows with its Wilson interval."""
    return (_column(name, pa.float64(), doc, nullable=True), *_interval(name, name, "Wilson"))


def _estimate(name: str, doc: str) -> tuple[Column, Column, Column]:
    """A figure that is no share of rows, with its bootstrap interval, which only the whole split has."""
    return (_column(name, pa.float64(), doc, nullable=True), *_interval(name, name, "bootstrap"))


def _ranked(name: str, doc: str) -> tuple[Column, ...]:
    """A figure that needs the rows sorted by their score: exact, or from a histogram with a bound on its error."""
    error = "By how much it may be off at most; 0 where it is exact, null where it is."
    return (*_estimate(name, doc), _column(f"{name}_error", pa.float64(), error, nullable=True))


_PER_CLASS = (
    *_KEYS,
    _SLICE,
    _column("class_index", pa.int32(), "Index of the class, from 0: its label in the dataset."),
    _column("class_name", pa.string(), "Name of the class, from the dataset's manifest."),
    _column("support", pa.int64(), "Rows that truly are of this class."),
    _column("correct", pa.int64(), "Of those, the rows that were predicted so."),
    _column("predicted", pa.int64(), "Rows that were predicted to be of this class, rightly or not."),
    *_share("accuracy", "correct / support (the recall); null without support."),
    *_share("precision", "correct / predicted; null where nothing was."),
    *_estimate("f1", "2 correct / (support + predicted); null where both are 0."),
    _column("top_k", pa.int32(), "k of top_k_accuracy."),
    *_share("top_k_accuracy", "Share of its rows with it among the k most probable; null without support."),
    *_ranked(
        "auc",
        "Area under the ROC curve, this class against the rest; null in a slice, or where either has no row.",
    ),
    *_ranked(
        "average_precision",
        "Average precision, this class against the rest; null in a slice, or without support.",
    ),
    *_estimate("loss", "Mean cross-entropy of its rows in nats; null without support."),
    *_estimate(
        "brier",
        "Mean square of its probability's distance to 0 or 1, over all rows; null without rows.",
    ),
    *_estimate(
        "ece",
        "Expected calibration error of its probability, over all rows, in 15 bins of equal width; null without rows.",
    ),
    _column(
        "most_confused_with",
        pa.string(),
        "Name of the class it is most often mistaken for; null without a mistake.",
        nullable=True,
    ),
    _column("most_confused_count", pa.int64(), "How many of its rows were predicted to be of that class."),
)

_OVERALL = (
    *_KEYS,
    _SLICE,
    _column("rows", pa.int64(), "Rows that were scored: all of the split, or of the slice."),
    _column("correct", pa.int64(), "Of those, the rows whose predicted class is the true one."),
    *_share("accuracy", "correct / rows; null without rows."),
    *_estimate(
        "macro_accuracy",
        "Mean of the classes' accuracies (balanced accuracy), of those with support; null without rows.",
    ),
    *_estimate(
        "macro_precision",
        "Mean of the precisions of the classes of macro_f1, 0 where none was predicted so; null without rows.",
    ),
    *_estimate(
        "macro_f1", "Mean of the classes' F1, of those with support or predictions; null without rows."
    ),
    *_estimate("weighted_precision", "Mean of the classes' precisions, by their support; null without rows."),
    *_estimate("weighted_f1", "Mean of the classes' F1, by their support; null without rows."),
    *_ranked("macro_auc", "Mean of the classes' areas under the ROC curve; null in a slice."),
    *_ranked("weighted_auc", "The same by the classes' support; null in a slice."),
    *_ranked("macro_average_precision", "Mean of the classes' average precisions; null in a slice."),
    *_estimate("loss", "Mean cross-entropy in nats; null without rows."),
    *_estimate(
        "brier",
        "Mean over the rows of the sum over the classes of (probability - truth) squared, 0..2; null without rows.",
    ),
    *_estimate(
        "ece",
        "Expected calibration error of the predicted class's probability, in 15 equal bins; null without rows.",
    ),
    _column("top_k", pa.int32(), "k of top_k_accuracy."),
    *_share(
        "top_k_accuracy", "Share of rows whose true class is among the k most probable; null without rows."
    ),
    _column(
        "parameters",
        pa.int64(),
        "Numbers that the model holds, trained or not; null if unknown.",
        nullable=True,
    ),
    _column(
        "flops_per_image",
        pa.int64(),
        "Floating-point operations of one prediction in its convolutions and dense layers, an addition and a "
        "multiplication counted as two; null where a layer is of another kind that multiplies.",
        nullable=True,
    ),
    _column("seconds", pa.float64(), "Wall time of the evaluation, in seconds."),
    _column(
        "images_per_s",
        pa.float64(),
        "rows / seconds; null in a slice, or where no time passed.",
        nullable=True,
    ),
    *(
        _column(
            f"{name}_version",
            pa.string(),
            f"Version of {name}; null where it is not installed.",
            nullable=True,
        )
        for name in ("python", "cnnlib", "ray", "tensorflow", "keras", "numpy")
    ),
)

_CONFUSION = (
    _KEYS[0],
    _column("true", pa.int32(), "Index of the true class."),
    _column("predicted", pa.int32(), "Index of the predicted class."),
    _column("true_name", pa.string(), "Name of the true class."),
    _column("predicted_name", pa.string(), "Name of the predicted class."),
    _column(
        "count", pa.int64(), "Rows of the true class that were predicted so; every pair has a row, also 0."
    ),
)

_CALIBRATION = (
    _KEYS[0],
    _column(
        "class_index",
        pa.int32(),
        "The class whose probability it is, against the rest; null: the probability of whatever class was predicted.",
        nullable=True,
    ),
    _column("bin", pa.int32(), "Index of the bin, from 0; the bins cut 0..1 into 15 equal parts."),
    _column("bin_low", pa.float64(), "Lower end of the bin, which it leaves out, but for 0."),
    _column("bin_high", pa.float64(), "Upper end of the bin, which it includes."),
    _column("rows", pa.int64(), "Rows whose probability lies in the bin."),
    _column("hits", pa.int64(), "Of those, the rows that truly are of the class."),
    _column("confidence", pa.float64(), "Their mean probability; null without rows.", nullable=True),
    *_share("accuracy", "hits / rows; null without rows."),
)

_ACTIVATIONS = (
    _KEYS[0],
    _column("layer_index", pa.int32(), "Index of the layer in the model, from 0; -1 for the image itself."),
    _column("layer", pa.string(), "Name of the layer; image for the image itself."),
    _column(
        "kind", pa.string(), "image, kernel (weights of the first convolution) or activation (its output)."
    ),
    _column("map", pa.int32(), "Index of the kernel or of the output's channel, from 0."),
    _column("height", pa.int32(), "Rows of pixels; bigger maps are scaled down to at most 64."),
    _column("width", pa.int32(), "Columns of pixels; likewise."),
    _column("channels", pa.int32(), "Values per pixel: 1, or the input's channels for image and kernel."),
    _column("values", pa.list_(pa.float32()), "The pixels, row by row, channels last."),
    _column("example_id", pa.int64(), "Id of the row whose image it is, the first of the split."),
    _column("total", pa.int32(), "Kernels or channels that the layer has; at most 64 are stored."),
)

_PREDICTIONS = (
    _column("id", pa.int64(), "The row's id in its split."),
    _column("label", pa.int32(), "Index of the true class."),
    _column("prediction", pa.int32(), "Index of the most probable class."),
    _column("probability", pa.float32(), "The model's probability of the predicted class."),
    _column("top_classes", pa.list_(pa.int32()), "The most probable classes, up to 10, in falling order."),
    _column("top_probabilities", pa.list_(pa.float32()), "Their probabilities."),
)

_GATES = (
    _KEYS[0],
    _column("checked_at", _UTC, "When the gates were applied (UTC)."),
    _column("gates_digest", pa.string(), "sha256 (hex) of the gates as JSON: the same for the same gates."),
    _column("check", pa.string(), "What is asked: min_accuracy or max_drop."),
    _column("scope", pa.string(), "overall, class or slice: what it is asked of."),
    _column("slice", pa.string(), "The slice; null: the whole split.", nullable=True),
    _column("class_name", pa.string(), "The class; null: all of them.", nullable=True),
    _column("limit", pa.float64(), "The least accuracy, or the greatest drop, that passes, 0..1."),
    _column(
        "observed", pa.float64(), "The accuracy, or by how much it fell; null without rows.", nullable=True
    ),
    *_interval("observed", "the observed value", "two-sided"),
    _column(
        "p_value",
        pa.float64(),
        "Of the limit being kept, adjusted by Holm; null without a test.",
        nullable=True,
    ),
    _column("significance", pa.float64(), "Level: how often a model that keeps all limits may fail, 0..1."),
    _column(
        "baseline_id", pa.string(), "Report that it is compared with; null for min_accuracy.", nullable=True
    ),
    _column("verdict", pa.string(), "pass, fail or inconclusive."),
    _column("reason", pa.string(), "The verdict in words."),
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
"""The columns of every table, in their order in the file."""


def table_schema(table: str) -> pa.Schema:
    """The Arrow schema of a report table, with the report version in its metadata.

    >>> table_schema("predictions").names
    ['id', 'label', 'prediction', 'probability', 'top_classes', 'top_probabilities']
    """
    fields = [pa.field(column.name, column.type, nullable=column.nullable) for column in COLUMNS[table]]
    return pa.schema(fields, metadata={VERSION_KEY: str(REPORT_VERSION)})
