"""A driver of tests: two controllers, watched by Ray's own cleaner and by ours; says what becomes of their groups.

The first line is while both controllers live, after several looks of the cleaners; the second one after that of ours
was killed.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import ray
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table

from cnnlib.training.ray.cleaner import CleanerOfThisCluster

_CLEANERS = {"rays": PlacementGroupCleanerCallback, "ours": CleanerOfThisCluster}
_LOOKS_S = 0.2
_PATIENCE_S = 60.0
_SEVERAL_LOOKS_S = 3.0


@ray.remote(num_cpus=0)
class Controller:
    """Does what Ray Train's controller does to have its group cleaned up."""

    def start(self, whose: str) -> PlacementGroup:
        """Launches a cleaner and has it watch a group that would outlive this actor."""
        group = placement_group([{"CPU": 1}], lifetime="detached")
        ray.get(group.ready())
        self.callback = _CLEANERS[whose](check_interval_s=_LOOKS_S)
        self.callback.after_controller_start(SimpleNamespace(run_id="run"))
        state = SimpleNamespace(placement_group_handle=SimpleNamespace(placement_group=group))
        self.callback.after_worker_group_start(SimpleNamespace(get_worker_group_state=lambda: state))
        return group


def main() -> None:
    """Writes the states of the groups to stdout, as JSON."""
    ray.init(log_to_driver=False)
    controllers = {whose: Controller.remote() for whose in _CLEANERS}
    groups = {whose: ray.get(each.start.remote(whose)) for whose, each in controllers.items()}
    _wait_until_removed(groups["rays"])
    time.sleep(_SEVERAL_LOOKS_S)
    _say({whose: _state(group) for whose, group in groups.items()})
    ray.kill(controllers["ours"])
    _wait_until_removed(groups["ours"])
    _say({"ours": _state(groups["ours"])})


def _say(states: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(states) + "\n")


def _wait_until_removed(group: PlacementGroup) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while _state(group) != "REMOVED" and time.monotonic() < deadline:
        time.sleep(_LOOKS_S)


def _state(group: PlacementGroup) -> str:
    return str(placement_group_table(group)["state"])


if __name__ == "__main__":
    main()
