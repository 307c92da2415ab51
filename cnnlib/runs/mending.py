"""The history that belongs to a run's checkpoints: records that were lost are taken from the manifests of checkpoints.

Checkpoints are written before the history, so after a crash the history may be shorter. It may also have been deleted,
damaged, or belong to epochs whose checkpoints were deleted. The checkpoints decide; the history follows them.
"""

from __future__ import annotations

from collections.abc import Sequence

from cnnlib.errors import InputError
from cnnlib.log import log_event
from cnnlib.runs.checkpoints import Checkpoint
from cnnlib.runs.history import EpochRecord, encode_history, load_history
from cnnlib.storage import files, layout


def mend_history(run: str, checkpoints: Sequence[Checkpoint]) -> list[EpochRecord]:
    """Returns one record per epoch up to the last checkpoint, and writes them if the stored history has others.

    A record is that of the epoch's checkpoint, else the stored one, else one of which only the epoch is known.

    Args:
        run: the run.
        checkpoints: all its complete checkpoints, by epoch.
    """
    try:
        stored = load_history(run)
        reason = ""
    except Exception as err:  # Arrow raises many kinds of errors for bytes that are no Parquet
        stored, reason = [], f"it cannot be read ({type(err).__name__})"
    history = match_history(stored, checkpoints)
    if [_identity(record) for record in history] != [_identity(record) for record in stored]:
        epochs = len(history)
        log_event(
            "history",
            note=reason
            or f"it had {len(stored)} epochs and the checkpoints have {epochs}: it follows the checkpoints",
        )
        files.write_bytes(layout.run_history(run), encode_history(history))
    return history


def match_history(stored: Sequence[EpochRecord], checkpoints: Sequence[Checkpoint]) -> list[EpochRecord]:
    """Returns one record per epoch up to the last checkpoint; see `mend_history`."""
    if not checkpoints:
        return []
    last = checkpoints[-1]
    by_epoch = {checkpoint.epoch: checkpoint for checkpoint in checkpoints}
    stored_by_epoch = {record.epoch: record for record in stored}
    history = []
    for epoch in range(1, last.epoch + 1):
        checkpoint, record = by_epoch.get(epoch), stored_by_epoch.get(epoch)
        step = checkpoint.step if checkpoint else epoch * last.step // last.epoch
        if checkpoint is not None and checkpoint.record is not None:
            record = checkpoint.record
        elif record is not None and record.step != step:
            record = None  # of a training whose steps were others
        history.append(record or EpochRecord.unknown(epoch, step))
    return history


def find_history(run: str) -> list[EpochRecord]:
    """Loads the history of a run for display; empty if there is none that can be read."""
    try:
        return load_history(run)
    except (InputError, ValueError, TypeError, OSError):
        return []


def _identity(record: EpochRecord) -> dict[str, object]:
    return record.to_document()
