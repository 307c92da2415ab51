"""Draws faults from a seed and does them to a training, to evaluations, to machines and to storage."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ray.cluster_utils import Cluster

from tests.fault_proxy import FOR_EVER, Fault, FaultProxy
from tests.process_tree import descendants, send
from tests.s3_server import error
from tests.soak.jobs import RepeatedJob

_STOPPED_S, _DOWN_S, _EXPIRED_S = 12.0, 8.0, 5.0
_WORKER, _PREDICTOR = "RayTrainWorker", "MapWorker(MapBatches(Predictor"


@dataclass
class Storm:
    """The faults of a soak test.

    Attributes:
        done: how often each fault was done.
        missed: how often a fault found nothing to do it to, such as a worker to kill.
    """

    seed: int
    cluster: Cluster
    proxy: FaultProxy
    training: RepeatedJob
    evaluation: RepeatedJob
    tell: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    def run(self, seconds: float, pause_s: tuple[float, float]) -> None:
        """Does a fault after every pause, until the time is over.

        Args:
            pause_s: the shortest and the longest pause.
        """
        rng = random.Random(self.seed)
        faults: dict[str, Callable[[random.Random], bool]] = {
            "worker killed": lambda rng: self._signal(rng, _WORKER, signal.SIGKILL),
            "worker stopped for 12 s": lambda rng: self._signal(rng, _WORKER, signal.SIGSTOP),
            "predictor killed": lambda rng: self._signal(rng, _PREDICTOR, signal.SIGKILL),
            "training's driver killed": lambda rng: self.training.kill(),
            "evaluation's driver killed": lambda rng: self.evaluation.kill(),
            "machine lost, another one comes": self._lose_machine,
            "20 answers 503": lambda rng: self._spoil(
                Fault(kind="answer", times=20, answer=error(503, "SlowDown"))
            ),
            "5 connections reset": lambda rng: self._spoil(Fault(kind="reset", times=5)),
            "3 answers cut off": lambda rng: self._spoil(Fault(kind="truncate", times=3)),
            "3 answers with a wrong byte": lambda rng: self._spoil(Fault(kind="flip", times=3, method="GET")),
            "2 answers lost": lambda rng: self._spoil(Fault(kind="lose", times=2, method="PUT")),
            "1 connection hangs": lambda rng: self._spoil(Fault(kind="hang", times=1)),
            "storage down for 8 s": lambda rng: self._refuse(503, "ServiceUnavailable", _DOWN_S),
            "credentials expired for 5 s": lambda rng: self._refuse(400, "ExpiredToken", _EXPIRED_S),
            "1 answer of a clock that is wrong": lambda rng: self._spoil(
                Fault(kind="answer", times=1, answer=error(403, "RequestTimeTooSkewed"))
            ),
        }
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(rng.uniform(*pause_s))
            name = rng.choice(sorted(faults))
            done = faults[name](rng)
            (self.done if done else self.missed)[name] += 1
            self.tell(f"{name}{'' if done else ' (nothing there)'}")

    def _signal(self, rng: random.Random, title: str, number: signal.Signals) -> bool:
        found = sorted(each.pid for each in descendants(os.getpid()) if title in each.command)
        if not found:
            return False
        pid = rng.choice(found)
        if number == signal.SIGSTOP:
            timer = threading.Timer(_STOPPED_S, send, (pid, signal.SIGCONT))
            timer.daemon = True
            timer.start()
        return send(pid, number)

    def _lose_machine(self, rng: random.Random) -> bool:
        nodes = sorted(self.cluster.worker_nodes, key=lambda node: node.node_id)
        if not nodes:
            return False
        with suppress(Exception):  # what `ray.cluster_utils` says of a node that was killed
            self.cluster.remove_node(rng.choice(nodes), allow_graceful=False)
        self.cluster.add_node(wait=False, num_cpus=2)
        return True

    def _spoil(self, fault: Fault) -> bool:
        self.proxy.faults.append(fault)
        return True

    def _refuse(self, status: int, code: str, seconds: float) -> bool:
        """Gives this error as every answer for some seconds."""
        fault = Fault(kind="answer", times=FOR_EVER, answer=error(status, code))
        self.proxy.faults.insert(0, fault)
        timer = threading.Timer(seconds, self.proxy.faults.remove, (fault,))
        timer.daemon = True
        timer.start()
        return True
