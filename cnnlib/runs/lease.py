"""Lets one training at a time work on a run: it holds the lease `RUNS/NAME/lease.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cnnlib.errors import ConflictError
from cnnlib.log import log_event
from cnnlib.storage import layout
from cnnlib.storage.lease import BEAT_S, LOOKS_PER_BEAT, Lease, LeaseWatch


@contextmanager
def hold_lease(
    run: str, *, beat_s: float = BEAT_S, what: str = "run", flag: str = "--name"
) -> Iterator[None]:
    """Holds the lease of a run inside the context.

    Args:
        run: the run, or the folder of a search.
        beat_s: seconds between two writes of the lease.
        what: what it is, and `flag` the flag that names it, for messages.

    Raises:
        ConflictError: another training holds it, and is alive.
    """
    lease = Lease(layout.run_lease(run), what=what, beat_s=beat_s)
    if not lease.create() and not _take_over(lease, what):
        holder = lease.holder()
        raise ConflictError(
            f"The {what} {run} is being trained by another job ({holder.get('host', 'host unknown')}, process "
            f"{holder.get('pid', 'unknown')}). Wait until it ends, or choose another {flag}."
        )
    with lease.kept():
        yield


def _take_over(lease: Lease, what: str) -> bool:
    """Takes a lease once it is gone, or has not changed for several beats; returns False if its holder is alive."""
    watch = LeaseWatch(lease)
    log_event(what, note="another training of it did not end; looking for some seconds if it is alive")
    while (state := watch.look()) != "alive":
        if state != "unknown" and lease.take_over(watch.seen):
            return True
        time.sleep(lease.beat_s / LOOKS_PER_BEAT)
    return False
