"""The history of a training run: one record per epoch, to and from Parquet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from cnnlib.errors import NotFoundError
from cnnlib.storage import files, layout
from cnnlib.storage.parquet import Column, parquet_bytes, parquet_table


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What one epoch did. `HISTORY_COLUMNS` says what each value means."""

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
    time: datetime
    rows: int


HISTORY_COLUMNS = (
    Column(name="epoch", type=pa.int32(), doc="Epochs completed; the first is 1."),
    Column(name="step", type=pa.int64(), doc="Training steps completed since the run began."),
    Column(
        name="loss",
        type=pa.float64(),
        doc="Mean cross-entropy over the epoch's training rows, in nats, with the run's smoothing and class weights.",
    ),
    Column(
        name="accuracy", type=pa.float64(), doc="Share of the epoch's training rows predicted right, 0..1."
    ),
    Column(
        name="validation_loss",
        type=pa.float64(),
        doc="Mean cross-entropy over the rows held out, with the run's smoothing; null without any.",
        nullable=True,
    ),
    Column(
        name="validation_accuracy",
        type=pa.float64(),
        doc="Share of the rows held out predicted right, 0..1; null without any.",
        nullable=True,
    ),
    Column(name="learning_rate", type=pa.float64(), doc="Learning rate at the end of the epoch."),
    Column(name="images_per_s", type=pa.float64(), doc="Training rows per second, over all workers."),
    Column(
        name="data_wait", type=pa.float64(), doc="Share of the training time spent waiting for data, 0..1."
    ),
    Column(name="seconds", type=pa.float64(), doc="Wall time of the epoch, in seconds."),
    Column(name="time", type=pa.timestamp("us", tz="UTC"), doc="When the epoch ended (UTC)."),
    Column(name="rows", type=pa.int64(), doc="Training rows seen in the epoch, over all workers."),
)
HISTORY_SCHEMA = pa.schema(
    [pa.field(column.name, column.type, column.nullable) for column in HISTORY_COLUMNS]
)


def encode_history(history: Sequence[EpochRecord]) -> bytes:
    """The history as Parquet; the same records give the same bytes."""
    rows = [dataclasses.asdict(record) for record in history]
    return parquet_bytes(pa.Table.from_pylist(rows, schema=HISTORY_SCHEMA))


def decode_history(data: bytes) -> list[EpochRecord]:
    """The records out of what `encode_history` gave."""
    return [EpochRecord(**row) for row in parquet_table(data).to_pylist()]


def load_history(run: str) -> list[EpochRecord]:
    """Loads the history of a run; empty before its first epoch ended."""
    try:
        return decode_history(files.read_bytes(layout.run_history(run)))
    except NotFoundError:
        return []
