"""Runs a job again and again, as a scheduler does, and lets a fault kill it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.process_tree import Process, describe, send

_PATIENCE_S = 300.0
_SETTLED_S = 20.0  # after this time of its life, a driver should not grow


class RepeatedJob:
    """A job whose command is given again some time after it ends, with any exit code.

    Attributes:
        codes: how often it ended with each exit code.
        growth: of its driver, the most by which threads, files and memory grew after it had settled.
    """

    def __init__(
        self, job: str, arguments: Sequence[object], environment: Mapping[str, str], log: Path, pause_s: float
    ) -> None:
        self._command = [sys.executable, "-m", f"jobs.{job}", *map(str, arguments)]
        self._environment = {**os.environ, **environment}
        self._log = log
        self._pause_s = pause_s
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.codes: Counter[int] = Counter()
        self.growth = {"threads": 0.0, "files": 0.0, "rss_mib": 0.0}
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._thread.start()

    def kill(self) -> bool:
        """Kills the driver; returns False if there is none at this moment."""
        with self._lock:
            return (
                self._process is not None
                and self._process.poll() is None
                and send(self._process.pid, signal.SIGKILL)
            )

    def end(self) -> int:
        """Ends the job with SIGTERM, and does not repeat it; returns its last exit code."""
        self._ended.set()
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive(), f"{self._command[2]} does not end"
        assert self._process is not None
        return self._process.returncode

    def log(self) -> str:
        """Returns what it has written so far."""
        return self._log.read_text(errors="replace")

    def _repeat(self) -> None:
        with self._log.open("w") as stderr:
            while not self._ended.is_set():
                with self._lock:
                    self._process = subprocess.Popen(
                        self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=stderr
                    )
                self.codes[self._follow(self._process)] += 1
                self._ended.wait(self._pause_s)

    def _follow(self, process: subprocess.Popen[bytes]) -> int:
        started, first = time.monotonic(), None
        while True:
            try:
                return process.wait(2.0)
            except subprocess.TimeoutExpired:
                now = describe(process.pid)
                if now is not None and time.monotonic() - started > _SETTLED_S:
                    first = first or now
                    self._note(first, now)

    def _note(self, first: Process, now: Process) -> None:
        for name in self.growth:
            self.growth[name] = max(self.growth[name], getattr(now, name) - getattr(first, name))
