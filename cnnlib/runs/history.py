"""The history of a training run, `history.parquet`: one record per epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from cnnlib.errors import NotFoundError
from cnnlib.storage import files, layout
from cnnlib.storage.parquet import Column, parquet_bytes, parquet_table


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """The result of one epoch. `HISTORY_COLUMNS` says what each value means.

    A number that is not known is NaN here and null in the file: see `mend_history`.
    """

    epoch: int
    step: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    images_per_s: float
    data_wait: float
    seconds: float
    time: datetime | None
    rows: int | None

    @classmethod
    def unknown(cls, epoch: int, step: int) -> EpochRecord:
        """Returns the record of an epoch of which nothing is known but that it was trained."""
        nan = math.nan
        return cls(
            epoch=epoch, step=step, loss=nan, accuracy=nan, validation_loss=None, validation_accuracy=None,
            learning_rate=nan, images_per_s=nan, data_wait=nan, seconds=nan, time=None, rows=None,
        )  # fmt: skip

    def to_document(self) -> dict[str, Any]:
        """Returns the record as JSON values; what is not known is null."""
        values = dataclasses.asdict(self) | {"time": None if self.time is None else self.time.isoformat()}
        return {name: None if _is_nan(value) else value for name, value in values.items()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> EpochRecord:
        """Reads what `to_document` returned.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        time = document["time"]
        return _from_values({**document, "time": None if time is None else datetime.fromisoformat(time)})

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of the epoch by their names in the history, without those that the run does not have."""
        metrics = {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "validation_loss": self.validation_loss,
            "validation_accuracy": self.validation_accuracy,
            "learning_rate": self.learning_rate,
            "images_per_s": self.images_per_s,
            "data_wait": self.data_wait,
        }
        return {name: value for name, value in metrics.items() if value is not None and not _is_nan(value)}


HISTORY_COLUMNS = (
    Column(name="epoch", type=pa.int32(), doc="Epochs completed; the first is 1."),
    Column(name="step", type=pa.int64(), doc="Training steps completed since the run began."),
    Column(
        name="loss",
        type=pa.float64(),
        doc="Mean cross-entropy over the training rows of the epoch, in nats, with label smoothing and class weights.",
        nullable=True,
    ),
    Column(
        name="accuracy",
        type=pa.float64(),
        doc="Fraction of the epoch's training rows that were predicted right.",
        nullable=True,
    ),
    Column(
        name="validation_loss",
        type=pa.float64(),
        doc="Mean cross-entropy over the validation rows, in nats, with label smoothing; null without validation rows.",
        nullable=True,
    ),
    Column(
        name="validation_accuracy",
        type=pa.float64(),
        doc="Fraction of the validation rows that were predicted right, 0..1; null without validation rows.",
        nullable=True,
    ),
    Column(
        name="learning_rate", type=pa.float64(), doc="Learning rate at the end of the epoch.", nullable=True
    ),
    Column(
        name="images_per_s",
        type=pa.float64(),
        doc="Training rows per second, over all workers.",
        nullable=True,
    ),
    Column(
        name="data_wait",
        type=pa.float64(),
        doc="Fraction of the training time in which the chief waited for data.",
        nullable=True,
    ),
    Column(name="seconds", type=pa.float64(), doc="Wall time of the epoch, in seconds.", nullable=True),
    Column(name="time", type=pa.timestamp("us", tz="UTC"), doc="When the epoch ended (UTC).", nullable=True),
    Column(
        name="rows", type=pa.int64(), doc="Training rows seen in the epoch, over all workers.", nullable=True
    ),
)
HISTORY_SCHEMA = pa.schema(
    [pa.field(column.name, column.type, column.nullable) for column in HISTORY_COLUMNS]
)


def encode_history(history: Sequence[EpochRecord]) -> bytes:
    """Encodes a history as Parquet; the same records give the same bytes."""
    rows = [
        {name: None if _is_nan(value) else value for name, value in dataclasses.asdict(record).items()}
        for record in history
    ]
    return parquet_bytes(pa.Table.from_pylist(rows, schema=HISTORY_SCHEMA))


def decode_history(data: bytes) -> list[EpochRecord]:
    """Decodes what `encode_history` returned."""
    return [_from_values(row) for row in parquet_table(data).to_pylist()]


def load_history(run: str) -> list[EpochRecord]:
    """Loads the history of a run; it is empty before the end of the first epoch."""
    try:
        return decode_history(files.read_bytes(layout.run_history(run)))
    except NotFoundError:
        return []


_MEASURED = ("loss", "accuracy", "learning_rate", "images_per_s", "data_wait", "seconds")


def _from_values(values: Mapping[str, Any]) -> EpochRecord:
    known: dict[str, Any] = {
        name: math.nan if value is None and name in _MEASURED else value for name, value in values.items()
    }
    return EpochRecord(**known)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
