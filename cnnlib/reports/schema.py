"""The columns of every report table: name, type and meaning. Column order, names and types are promises.

The writers follow these tables, and a test freezes them. A change that a reader could notice raises
`REPORT_VERSION`, which is part of every report's id.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

REPORT_VERSION = 1
VERSION_KEY = b"cnnlib.report_version"

_UTC = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a report table.

    Attributes:
        doc: what a value means, with its unit; where the column is nullable, also what null means.
    """

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False


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

_ACCURACY_INTERVAL = (
    _column("accuracy_low", pa.float64(), "Lower end of its 95 % Wilson interval.", nullable=True),
    _column("accuracy_high", pa.float64(), "Upper end of its 95 % Wilson interval.", nullable=True),
)

_PER_CLASS = (
    *_KEYS,
    _column("class_index", pa.int32(), "Index of the class, from 0: its label in the dataset."),
    _column("class_name", pa.string(), "Name of the class, from the dataset's manifest."),
    _column("support", pa.int64(), "Rows that truly are of this class."),
    _column("correct", pa.int64(), "Of those, the rows that were predicted so."),
    _column("predicted", pa.int64(), "Rows that were predicted to be of this class, rightly or not."),
    _column("accuracy", pa.float64(), "correct / support (the recall); null without support.", nullable=True),
    *_ACCURACY_INTERVAL,
    _column("precision", pa.float64(), "correct / predicted; null where nothing was.", nullable=True),
    _column("f1", pa.float64(), "2 correct / (support + predicted); null where both are 0.", nullable=True),
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
    _column("rows", pa.int64(), "Rows that were scored: all of the split."),
    _column("correct", pa.int64(), "Of those, the rows whose predicted class is the true one."),
    _column("accuracy", pa.float64(), "correct / rows; null for an empty split.", nullable=True),
    *_ACCURACY_INTERVAL,
    _column("loss", pa.float64(), "Mean cross-entropy in nats; null for an empty split.", nullable=True),
    _column("top_k", pa.int32(), "k of top_k_accuracy."),
    _column(
        "top_k_accuracy",
        pa.float64(),
        "Share of the rows whose true class is among the k most probable; null for an empty split.",
        nullable=True,
    ),
    _column("seconds", pa.float64(), "Wall time of the evaluation, in seconds."),
    _column("images_per_s", pa.float64(), "rows / seconds; null where no time passed.", nullable=True),
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

_PREDICTIONS = (
    _column("id", pa.int64(), "The row's id in its split."),
    _column("label", pa.int32(), "Index of the true class."),
    _column("prediction", pa.int32(), "Index of the most probable class."),
    _column("probability", pa.float32(), "The model's probability of the predicted class."),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "overall": _OVERALL,
    "per_class": _PER_CLASS,
    "confusion": _CONFUSION,
    "predictions": _PREDICTIONS,
}
"""The columns of every table, in their order in the file."""


def table_schema(table: str) -> pa.Schema:
    """The Arrow schema of a report table, with the report version in its metadata.

    >>> table_schema("predictions").names
    ['id', 'label', 'prediction', 'probability']
    """
    fields = [pa.field(column.name, column.type, nullable=column.nullable) for column in COLUMNS[table]]
    return pa.schema(fields, metadata={VERSION_KEY: str(REPORT_VERSION)})
