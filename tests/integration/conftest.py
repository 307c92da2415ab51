"""Provides one Ray cluster and one small dataset for all tests: starting either takes longer than most tests."""

from __future__ import annotations

import json
import os
import pty
import secrets
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.local_s3 import LocalS3Server
from tests.fashion import write_tiny_idx

_START_TIMEOUT_S = 120
_START_ATTEMPTS = 4
_CPUS = 6  # more than there are cores: workers, readers and predictors take turns
_LONGEST_FIRST = (
    "test_hosts",
    "test_elastic",
    "test_streamed_rows",
    "test_tune",
    "test_resumed_training",
    "test_small_cluster",
    "test_unattended",
    "test_local_mode",
)
"""Files that take minutes. With two files at a time, one of them must not be left for the end."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running head.

    Attributes:
        address: for RAY_ADDRESS of a driver, host:port.
        dashboard_url: for job submission.
        environment: what a client needs besides the address.
    """

    address: str
    dashboard_url: str
    environment: dict[str, str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first. Make's target lets the order stand: --no-loadscope-reorder."""
    assert all(Path(__file__).with_name(f"{name}.py").exists() for name in _LONGEST_FIRST)
    places = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, s3_server: LocalS3Server) -> Iterator[Cluster]:
    """A real head of its own, with token authentication, whose workers can reach the S3 server."""
    home = tmp_path_factory.mktemp("home")
    own = {
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.getcwd(),
    }
    environment = {**_without_aws(), **own, **s3_server.environment()}
    process, gcs_port, dashboard_port = _start_head(home / "head.log", environment)
    try:
        client = {name: own[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "HOME")}
        address, dashboard_url = f"127.0.0.1:{gcs_port}", f"http://127.0.0.1:{dashboard_port}"
        yield Cluster(address=address, dashboard_url=dashboard_url, environment=client)
    finally:
        _stop_head(process)


@contextmanager
def run_small_head(home: Path, cpus: int) -> Iterator[dict[str, str]]:
    """Runs another real head with this number of CPUs; yields the environment of its clients."""
    client = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "HOME": str(home)}
    with run_head(home / "head.log", client, cpus) as environment:
        yield environment


@contextmanager
def run_head(log: Path, client: dict[str, str], cpus: int) -> Iterator[dict[str, str]]:
    """Runs a head with this environment of its clients, and yields it with the address of the head."""
    own = {**client, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.getcwd()}
    process, gcs_port, _ = _start_head(log, {**_without_aws(), **own}, cpus)
    try:
        yield {**client, "RAY_ADDRESS": f"127.0.0.1:{gcs_port}"}
    finally:
        _stop_head(process)


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job left: its exit code, its last line of stdout as JSON, and all it wrote to stderr."""

    code: int
    result: dict[str, Any]
    stdout: str
    stderr: str


RunJob = Callable[..., JobResult]


def run_job(job: str, arguments: Sequence[str], environment: dict[str, str]) -> JobResult:
    """Runs `python -m jobs.<job>` as a user does, in a process of its own, with --json."""
    done = subprocess.run(**command_of_job(job, arguments, environment), capture_output=True, timeout=300)
    return result_of_job(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_job_on_terminal(job: str, arguments: Sequence[str], environment: dict[str, str]) -> JobResult:
    """Runs a job as `run_job` does, but with a terminal of 160 columns as stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 160))
    with subprocess.Popen(
        **command_of_job(job, arguments, environment), stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # reading a terminal that nobody has open any more is an error
            while part := os.read(ours, 65536):
                written += part
        assert process.stdout is not None
        stdout = process.stdout.read().decode()
    os.close(ours)
    return result_of_job(process.returncode, stdout, written.decode())


def command_of_job(job: str, arguments: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    """Returns the words and the environment of `python -m jobs.<job>`, as arguments of `subprocess.run`."""
    return {
        "args": [sys.executable, "-m", f"jobs.{job}", *map(str, arguments), "--json"],
        "env": {**_without_aws(), **environment},
    }


def result_of_job(code: int, stdout: str, stderr: str) -> JobResult:
    """Returns what a job left."""
    last = (stdout.strip().splitlines() or ["{}"])[-1]
    return JobResult(code=code, result=json.loads(last) if code == 0 else {}, stdout=stdout, stderr=stderr)


@pytest.fixture(scope="session")
def on_cluster(cluster: Cluster, s3_server: LocalS3Server) -> RunJob:
    """Runs a job as a driver of the shared cluster; fails the test if the job fails."""
    environment = {"RAY_ADDRESS": cluster.address, **cluster.environment, **s3_server.environment()}

    def run(job: str, *arguments: Any, expect: int = 0) -> JobResult:
        done = run_job(job, arguments, environment)
        assert done.code == expect, done.stderr[-6000:]
        return done

    return run


@pytest.fixture(scope="session")
def tiny_idx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four IDX files of 610 train and 120 test rows of the real Fashion-MNIST."""
    return write_tiny_idx(tmp_path_factory.mktemp("idx"))


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory, tiny_idx: Path, on_cluster: RunJob) -> str:
    """The rows of `tiny_idx` as a dataset on the local disk."""
    output = tmp_path_factory.mktemp("dataset") / "tiny"
    on_cluster("prepare", "idx", tiny_idx, "--output", output)
    return str(output)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _without_aws() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true"}


def _start_head(
    log: Path, environment: dict[str, str], cpus: int = _CPUS
) -> tuple[subprocess.Popen[bytes], int, int]:
    """Starts a head; returns its process, the port of its GCS and the port of its dashboard."""
    for _ in range(_START_ATTEMPTS):
        gcs_port, dashboard_port, agent_port = _free_port(), _free_port(), _free_port()
        ports = {
            "port": gcs_port,
            "dashboard-port": dashboard_port,
            # The agent takes submitted jobs. Another Ray on this machine may have its usual port.
            "dashboard-agent-listen-port": agent_port,
        }
        flags = ["--head", "--block", "--disable-usage-stats", f"--num-cpus={cpus}"]
        flags += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
        flags += [f"--{name}={port}" for name, port in ports.items()]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / "ray"), "start", *flags],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        # An open port proves nothing: on a busy machine, an agent may not start within 15 s, and Ray gives up.
        while process.poll() is None and time.monotonic() < deadline:
            if b"Ray runtime started" in log.read_bytes():
                return process, gcs_port, dashboard_port
            time.sleep(0.5)
        _stop_head(process)
    raise RuntimeError(
        f"No Ray head after {_START_ATTEMPTS} attempts: {log.read_text(errors='replace')[-2000:]}"
    )


def _stop_head(process: subprocess.Popen[bytes]) -> None:
    # By its process id, because `ray stop` would stop every cluster of this machine.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
