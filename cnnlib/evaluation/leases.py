"""Lets one of several evaluations score a target: the others score something else, or wait for its report.

Whoever scores a target holds the lease of its report. A job that waits for another one holds nothing meanwhile, neither
leases nor the resources of a cluster, so two jobs never wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from cnnlib.errors import CnnlibError
from cnnlib.evaluation.plan import EvaluationPlan
from cnnlib.evaluation.target import Target
from cnnlib.log import log_event
from cnnlib.reports.manifest import find_manifest
from cnnlib.storage import files, layout
from cnnlib.storage.lease import BEAT_S, LOOKS_PER_BEAT, Lease, LeaseState, LeaseWatch
from cnnlib.storage.uri import join_uri

_LOOK_S = BEAT_S / LOOKS_PER_BEAT
_TOLD_EVERY_S = 60.0


class TargetLeases:
    """The targets of a plan without a report, and which of them other jobs score."""

    def __init__(self, plan: EvaluationPlan) -> None:
        self._plan = plan
        self._untried: list[Target] = list(plan.missing)
        self._watches: dict[str, tuple[Target, LeaseWatch]] = {}  # of targets that others score, by report id
        # What was seen of leases that may be taken over, by report id.
        self._free: dict[str, Mapping[str, Any]] = {}

    @contextmanager
    def next_pass(self, most: int) -> Iterator[tuple[Target, ...]]:
        """Yields the next targets that this job may score, at most so many, and holds their leases meanwhile.

        It yields none if none is left, or if other jobs score all that are left.
        """
        with ExitStack() as held:
            taken: list[Target] = []
            while self._untried and len(taken) < most:
                target = self._untried.pop(0)
                if self._take(target, held):
                    taken.append(target)
            yield tuple(taken)

    def wait_for_others(self) -> bool:
        """Waits until a target that another job scores has a report, or may be scored here.

        Returns:
            False if no other job scores anything: all is done.
        """
        told_at = -_TOLD_EVERY_S
        while self._watches:
            if time.monotonic() - told_at >= _TOLD_EVERY_S:
                told_at = time.monotonic()
                log_event(
                    "evaluate",
                    note="waiting for another job that scores the same",
                    checkpoints=len(self._watches),
                )
            settled = [self._settle(report_id) for report_id in list(self._watches)]
            if any(settled):
                return True
            time.sleep(_LOOK_S)
        return False

    def tidy(self) -> None:
        """Deletes the leases of reports that exist: those of evaluations that were killed after they wrote one."""
        reports_uri = self._plan.reports_uri
        with suppress(CnnlibError):  # they do no harm
            for name in files.list_files(layout.report_leases(reports_uri)):
                if find_manifest(reports_uri, name.removesuffix(".json")) is not None:
                    files.delete(join_uri(layout.report_leases(reports_uri), name))

    def _take(self, target: Target, held: ExitStack) -> bool:
        """Takes the lease of a target and returns True, unless another job has it or there is a report by now."""
        report_id = self._plan.report_id(target)
        lease = Lease(layout.report_lease(self._plan.reports_uri, report_id), what="evaluate")
        try:
            seen = self._free.pop(report_id, None)
            if not (lease.create() if seen is None else lease.take_over(seen)):
                self._watches[report_id] = (target, LeaseWatch(lease))
                return False
            held.enter_context(lease.kept())
            return find_manifest(self._plan.reports_uri, report_id) is None
        except CnnlibError as err:
            # Each report is written once, also without leases: they only save work.
            log_event("evaluate", checkpoint=target.uri, note=f"scored without a lease: {err}")
            return True

    def _settle(self, report_id: str) -> bool:
        """Looks at a target that another job scores; returns True if it is done, or may be tried here."""
        target, watch = self._watches[report_id]
        state: LeaseState = watch.look()
        if state in ("gone", "abandoned"):
            self._free[report_id] = watch.seen
        elif find_manifest(self._plan.reports_uri, report_id) is None:
            return False
        del self._watches[report_id]
        self._untried.append(target)  # it is passed over if it has a report
        return True
