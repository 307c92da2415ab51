"""Lets one training at a time work on a run: it holds the lease `RUNS/NAME/lease.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cnnlib.errors import ConflictError
from cnnlib.log import log_event
from cnnlib.storage import layout
from cnnlib.storage.lease import BEAT_S, LOOKS_PER_BEAT, Lease, LeaseWatch


@contextmanager
def hold_lease(run: str, *, beat_s: float = BEAT_S) -> Iterator[None]:
    """Holds the lease of a run inside the context.

    Args:
        run: the run.
        beat_s: seconds between two writes of the lease.

    Raises:
        ConflictError: another training holds it, and is alive.
    """
    lease = Lease(layout.run_lease(run), what="run", beat_s=beat_s)
    if not lease.create():
        _wait_until_free(run, lease)
        if not lease.take_over():
            raise _taken(run, lease.holder())
    with lease.kept():
        yield


def _wait_until_free(run: str, lease: Lease) -> None:
    """Returns once a lease is gone, or has not changed for several beats."""
    watch, state = LeaseWatch(lease), "unknown"
    log_event("run", note="another training of it did not end; looking for some seconds if it is alive")
    while state == "unknown":
        state = watch.look()
        if state == "alive":
            raise _taken(run, lease.holder())
        if state == "unknown":
            time.sleep(lease.beat_s / LOOKS_PER_BEAT)


def _taken(run: str, holder: Mapping[str, Any]) -> ConflictError:
    return ConflictError(
        f"The run {run} is being trained by another job ({holder.get('host', 'host unknown')}, process "
        f"{holder.get('pid', 'unknown')}). Wait until it ends, or choose another --name."
    )
