"""The rollbacks of a run: how often it diverged and went on from a checkpoint with a smaller learning rate.

They are stored with the run, because every later start must train with that rate, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from cnnlib.errors import InputError, NotFoundError
from cnnlib.storage import files, layout, publish

MAX_ROLLBACKS = 3
RATE_FACTOR = 0.5
"""What a rollback multiplies the learning rate by."""


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """One rollback.

    Attributes:
        epoch: the epoch in which the run diverged.
        reason: what was not finite, and when.
        time: in UTC, ISO 8601.
    """

    epoch: int
    reason: str
    time: str


def load_rollbacks(run: str) -> list[Rollback]:
    """Loads the rollbacks of a run, oldest first.

    Raises:
        InputError: their file is damaged.
    """
    uri = layout.run_rollbacks(run)
    try:
        document = publish.read_manifest(uri)
        return [Rollback(**each) for each in document["rollbacks"]]
    except NotFoundError:
        return []
    except (KeyError, TypeError) as err:
        raise InputError(
            f"{uri} has a missing or invalid entry: {type(err).__name__}: {err}. It states how often the learning rate "
            "was halved. Delete it to go on with the full rate."
        ) from err


def add_rollback(run: str, epoch: int, reason: str) -> None:
    """Stores one more rollback. Only the chief of the training that holds the run's lease calls it."""
    added = Rollback(epoch=epoch, reason=reason, time=datetime.now(UTC).isoformat())
    rollbacks = [asdict(each) for each in [*load_rollbacks(run), added]]
    files.write_bytes(layout.run_rollbacks(run), publish.canonical_json({"rollbacks": rollbacks}))


def rate_factor(rollbacks: Sequence[Rollback]) -> float:
    """Returns what the learning rate is multiplied by after some rollbacks.

    >>> rate_factor([Rollback(epoch=2, reason="loss is nan", time="")] * 2)
    0.25
    """
    factor: float = RATE_FACTOR ** len(rollbacks)
    return factor
