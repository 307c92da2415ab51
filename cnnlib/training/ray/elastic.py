"""Decides how many workers train, between a fewest and a most, by the room that the cluster has.

Before each start of the workers it takes as many as there is room for. While they train it looks for more room, and
asks the chief to save a resume point and to let all start again, in greater number. Fewer there are after a machine was
lost: that is a failure of the workers, after which they start again. The global batch stays, so only some numbers of
workers are possible.

This file uses internals of the Ray version that pyproject.toml pins; tests/unit/training/ray/test_trainer.py fails when
one of them moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from ray.train import ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import (
    FixedScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.worker_group import WorkerGroupPollStatus, WorkerGroupState

from cnnlib.cluster.machines import free_resources, total_resources
from cnnlib.log import log_event
from cnnlib.training.ray.ending import ask_to_restart

GRACE_S = 10.0
"""Seconds in which machines that hold workers which have just ended may become free, and lost ones be noticed."""
_LOOK_S = 3.0

Resources = Mapping[str, float]


def count_room(machines: Mapping[str, Resources], worker: Resources, held: Sequence[str] = ()) -> int:
    """Returns how many workers the machines have room for.

    Args:
        machines: the free resources of each machine, by name, by node id.
        worker: those of one worker.
        held: the node id of each worker that holds its resources still, and will be gone when others start.

    >>> count_room({"a": {"CPU": 5}, "b": {"CPU": 3, "GPU": 1}}, {"CPU": 2})
    3
    >>> count_room({"a": {"CPU": 1}}, {"CPU": 2}, held=["a", "b"])
    1
    """
    room = 0
    for node, free in machines.items():
        own = list(held).count(node)
        room += min(
            int((free.get(name, 0.0) + own * amount) // amount) for name, amount in worker.items() if amount
        )
    return room


def largest(counts: Sequence[int], room: int) -> int:
    """Returns the largest possible number of workers for which there is room; 0 if there is none for the fewest.

    >>> largest([1, 2, 4], 3), largest([2, 4], 1)
    (2, 0)
    """
    return max((count for count in counts if count <= room), default=0)


class ElasticPolicy(FixedScalingPolicy):  # type: ignore[misc]
    """Starts as many workers as there is room for, and more when there is room for more."""

    def __init__(
        self,
        scaling_config: ScalingConfig,
        counts: Sequence[int],
        clock: Callable[[], float] = time.monotonic,
        ask: Callable[[str], None] = ask_to_restart,
    ) -> None:
        """Takes the numbers of workers that are possible, in ascending order.

        Args:
            scaling_config: Ray's; its number of workers is the largest.
            ask: asks the chief to let all workers start again, for a reason.
        """
        super().__init__(scaling_config)
        self._counts, self._clock, self._ask = list(counts), clock, ask
        self._waits_since: float | None = None
        self._held: list[str] = []  # the machine of each worker
        self._looked_at = clock()
        self._seen = 0  # for how many there was room at the last look

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Takes as many workers as there is room for; waits a little while the cluster seems to have more.

        Workers that have failed still hold their resources here.
        """
        self._maybe_send_resource_request()
        worker, now = self.scaling_config._resources_per_worker_not_none, self._clock()
        count = largest(self._counts, count_room(free_resources(), worker, self._held))
        possible = largest(self._counts, count_room(total_resources(), worker))
        if self._waits_since is None:
            self._waits_since = now
        if count < possible and now < self._waits_since + GRACE_S:
            return NoopDecision()
        self._waits_since, self._held, self._seen, self._looked_at = None, [], 0, now
        # With room for none, the workers wait for the fewest, and give up in time: see trainer.WaitForRoom.
        chosen = count or self._counts[0]
        log_event("workers", workers=chosen, fewest=self._counts[0], most=self._counts[-1])
        return ResizeDecision(num_workers=chosen, resources_per_worker=worker)

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: WorkerGroupPollStatus
    ) -> ScalingDecision:
        """Never resizes at once: the chief saves first. Asks it when there was more room at two looks, and once."""
        del worker_group_status
        self._maybe_send_resource_request()
        self._held = [worker.metadata.node_id for worker in worker_group_state.workers]
        now, running = self._clock(), len(self._held)
        if now < self._looked_at + _LOOK_S:
            return NoopDecision()
        self._looked_at = now
        free = count_room(free_resources(), self.scaling_config._resources_per_worker_not_none)
        more = largest(self._counts, running + free)
        if more > running and more == self._seen:
            self._ask(f"there is room for {more} workers instead of {running}")
        self._seen = more
        return NoopDecision()
