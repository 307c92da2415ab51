"""Trainings on hosts with addresses and cables of their own: one that is lost, or cut off, costs no step and no bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cnnlib.storage import layout
from tests.hosts import Host, kill_host, run_cluster, run_hosts, titles, why_there_are_no_hosts
from tests.integration.conftest import run_job
from tests.integration.test_resumed_training import assert_same_end, resumed_steps, train_arguments

_PATIENCE_S = 240
_HEALTH = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_raylet_start_wait_time_s": "120",
}
_MISSING = why_there_are_no_hosts()
pytestmark = [
    pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING)),
    pytest.mark.timeout(1200),  # the first one starts five hosts
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def data(tiny_idx: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("hosts") / "data"
    done = run_job("prepare", ["idx", tiny_idx, "--output", output], {"HOME": str(home)})
    assert done.code == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def undisturbed(data: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    done = run_job("train", train_arguments(data, runs, "calm", "memory"), {"HOME": str(home)})
    assert done.code == 0, done.stderr[-6000:]
    return runs / "calm"


@dataclass(frozen=True, kw_only=True)
class Machines:
    """A head without CPUs, where the driver runs, and four hosts of one CPU: two train, and two are spare."""

    hosts: list[Host]
    processes: list[subprocess.Popen[bytes]]
    environment: dict[str, str]

    def find(self, title: str) -> list[int]:
        """Returns the processes of Ray, on any host, whose title has this part."""
        return [pid for host in self.processes for pid, each in titles(host.pid).items() if title in each]

    def hosts_with(self, title: str) -> list[int]:
        """Returns the numbers of the hosts on which a process has this title."""
        return [
            index
            for index, process in enumerate(self.processes)
            if any(title in each for each in titles(process.pid).values())
        ]


@pytest.fixture(scope="module")
def machines(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    environment = {
        **kept, **_HEALTH, "HOME": str(home), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.getcwd(),
    }  # fmt: skip
    log_file = tmp_path_factory.mktemp("log") / "ray"
    # Their own folder, so that other clusters of this machine are not found, nor find these. Short: sockets are in it.
    place = tempfile.TemporaryDirectory(dir="/tmp", prefix="hosts-", ignore_cleanup_errors=True)
    with place as folder, log_file.open("wb") as log, run_hosts(5) as hosts:
        environment |= {"RAY_TMPDIR": folder}
        with run_cluster(hosts, [0, 1, 1, 1, 1], environment, log) as (address, processes):
            yield Machines(
                hosts=hosts, processes=processes, environment=environment | {"RAY_ADDRESS": address}
            )


def train_with_a_fault(
    machines: Machines, data: Path, run: Path, fault: Callable[[], None]
) -> tuple[int, str]:
    """Trains, causes a fault when the first resume point is there, and returns the exit code and what was logged."""
    points = Path(layout.run_resume_points(str(run)))
    log = run.with_name("log")
    command = [sys.executable, "-m", "jobs.train", *train_arguments(data, run.parent, run.name, "memory")]
    with log.open("wb") as stderr:
        driver = machines.hosts[0].popen(command, env=machines.environment, stdout=stderr, stderr=stderr)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not list(points.glob("*.json")):
            assert driver.poll() is None, log.read_text()[-6000:]
            assert time.monotonic() < deadline, log.read_text()[-6000:]
            time.sleep(0.01)
        fault()
        return driver.wait(_PATIENCE_S), log.read_text()
    finally:
        driver.kill()
        driver.wait()


def test_a_controller_that_is_killed_costs_no_step_and_no_bit(
    machines: Machines, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    def fault() -> None:
        (controller,) = machines.find("TrainController")
        os.kill(controller, signal.SIGKILL)

    code, log = train_with_a_fault(machines, data, tmp_path / "controlled", fault)
    assert code == 0, log[-6000:]
    assert "the process that controls the workers ended" in log
    assert [steps % 40 for steps in resumed_steps(log)] == [0], log[-6000:]
    assert_same_end(tmp_path / "controlled", undisturbed)


def test_a_host_that_is_killed_costs_no_step_and_no_bit(
    machines: Machines, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """The last but one: this host does not come back."""

    def fault() -> None:
        kill_host(machines.processes[machines.hosts_with("RayTrainWorker")[-1]])

    code, log = train_with_a_fault(machines, data, tmp_path / "killed", fault)
    assert code == 0, log[-6000:]
    assert "all workers start again from the last" in log
    assert_same_end(tmp_path / "killed", undisturbed)


def test_a_host_whose_cable_is_cut_costs_no_step_and_no_bit(
    machines: Machines, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """The last: Ray does not take the host back when its cable is mended."""

    def fault() -> None:
        machines.hosts[machines.hosts_with("RayTrainWorker")[0]].cut_cable()

    code, log = train_with_a_fault(machines, data, tmp_path / "cut", fault)
    assert code == 0, log[-6000:]
    assert "all workers start again from the last" in log
    assert [steps % 40 for steps in resumed_steps(log)] == [0], log[-6000:]
    assert_same_end(tmp_path / "cut", undisturbed)
