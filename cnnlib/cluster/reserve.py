"""Waits until a cluster that other jobs use has room for all processes of a job, and holds that room: all or nothing.

Two jobs that each held a part of what they need would wait for each other forever.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from cnnlib.errors import ClusterError
from cnnlib.log import log_event

_POLL_S = 2.0  # also the longest delay of a Ctrl-C
_FIRST_LINE_S = 5.0
_LINE_INTERVAL_S = 60.0

Bundle = Mapping[str, float]


@contextlib.contextmanager
def hold(bundles: Sequence[Bundle], what: str, wait_s: float) -> Iterator[PlacementGroup]:
    """Holds resources of the cluster, once all of them are free. Requires a connection.

    Args:
        bundles: resources by name, such as CPU; each bundle is on one machine.
        what: names the resources in messages.
        wait_s: the most seconds to wait for them.

    Raises:
        ClusterError: they did not become free in time.
    """
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        wait_until(lambda: group.wait(_POLL_S), what, wait_s, _describe_free)
        yield group
    finally:
        remove_placement_group(group)


def wait_until(
    is_ready: Callable[[], bool],
    what: str,
    wait_s: float,
    describe_free: Callable[[], str],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Waits for resources; says what for after 5 s, and then every minute.

    Args:
        is_ready: waits a short time, and returns whether they are free now.
        describe_free: says how much is free, as "0 of 2 CPU".

    Raises:
        ClusterError: they did not become free in `wait_s` seconds.
    """
    started = clock()
    next_line = started + _FIRST_LINE_S
    while not is_ready():
        now = clock()
        if now >= started + wait_s:
            raise ClusterError(
                f"The cluster had no room for {what} within {wait_s:g} s: {describe_free()} are free. Other jobs use "
                "the rest, or a machine was lost. Run it later, request fewer or smaller processes, add machines, or "
                "wait longer: --cluster.wait-when-busy-s (jobs.evaluate: --wait-when-busy-s)."
            )
        if now >= next_line:
            note = f"waiting for {what} ({describe_free()} free)"
            log_event("cluster", note=note, gives_up_in_s=round(started + wait_s - now))
            next_line = now + _LINE_INTERVAL_S


def _describe_free() -> str:
    free, total = ray.available_resources(), ray.cluster_resources()
    return " and ".join(
        f"{free.get(name, 0):g} of {total.get(name, 0):g} {name}" for name in ("CPU", "GPU") if name in total
    )
