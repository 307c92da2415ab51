"""Hosts of a cluster as network namespaces: each has its own address and a cable that can be cut. Needs root on Linux.

All hosts have one file system, as machines with a shared folder do. Nothing is added to the network of the machine
itself: the cables end at a switch in a namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_NETWORK = "10.213.77"
_PORT = 6399
_START_TIMEOUT_S = 120


def why_there_are_no_hosts() -> str | None:
    """Returns why this machine cannot have network namespaces; None if it can."""
    if shutil.which("ip") is None:
        return "there is no program `ip` (Debian: iproute2)"
    try:
        with run_hosts(1):
            return None
    except subprocess.CalledProcessError as err:
        return f"network namespaces are not permitted: {err.stderr.decode().strip()}"


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host: its network namespace, its address, and the name of its cable's end in the switch."""

    namespace: str
    address: str
    switch: str
    cable: str

    def popen(self, command: Sequence[object], **options: Any) -> subprocess.Popen[bytes]:
        """Starts a command on the host, in a session of its own."""
        words = ["ip", "netns", "exec", self.namespace, *map(str, command)]
        return subprocess.Popen(words, start_new_session=True, **options)

    def cut_cable(self) -> None:
        """From now on nothing reaches the host, and nothing leaves it; no connection is told."""
        _ip("-n", self.switch, "link", "set", self.cable, "down")

    def mend_cable(self) -> None:
        """The host is reached again."""
        _ip("-n", self.switch, "link", "set", self.cable, "up")


@contextmanager
def run_hosts(count: int) -> Iterator[list[Host]]:
    """Makes hosts, and takes them away at the end."""
    prefix = uuid.uuid4().hex[:6]
    switch = f"switch-{prefix}"
    with ExitStack() as stack:
        _add_namespace(switch, stack)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        hosts = []
        for index in range(count):
            host = Host(
                namespace=f"host-{prefix}-{index}",
                address=f"{_NETWORK}.{index + 1}",
                switch=switch,
                cable=f"cable{index}",
            )
            _add_namespace(host.namespace, stack)
            _ip(
                "-n",
                switch,
                "link",
                "add",
                host.cable,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                host.namespace,
            )
            _ip("-n", switch, "link", "set", host.cable, "master", "bridge", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            hosts.append(host)
        yield hosts


@contextmanager
def run_cluster(
    hosts: Sequence[Host], cpus: Sequence[int], environment: Mapping[str, str], log: IO[bytes]
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Runs Ray on hosts, the first of which is the head; yields its address and the process of each host.

    Args:
        cpus: of each host.
        environment: of all of Ray's processes.
    """
    address = f"{hosts[0].address}:{_PORT}"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index, (host, number) in enumerate(zip(hosts, cpus, strict=True)):
            where = (
                ["--head", f"--port={_PORT}", "--include-dashboard=false"]
                if not index
                else [f"--address={address}"]
            )
            command = [
                Path(sys.executable).with_name("ray"),
                "start",
                *where,
                f"--node-ip-address={host.address}",
            ]
            command += [
                f"--num-cpus={number}",
                "--object-store-memory=200000000",
                "--block",
                "--disable-usage-stats",
            ]
            processes.append(host.popen(command, env=environment, stdout=log, stderr=log))
            # One after the other: on one file system, two that start at once take the same names for their sockets.
            _wait_for_nodes(hosts[0], address, index + 1, environment)
        yield address, processes
    finally:
        for process in processes[::-1]:
            kill_host(process)


def kill_host(process: subprocess.Popen[bytes]) -> None:
    """Kills all processes that a host's `ray start` began, as a power cut does; does nothing if they are gone."""
    for pid in _below(process.pid):
        _kill(pid)
    process.wait(10)


def titles(pid: int) -> dict[int, str]:
    """Returns the command line, or the title that it gave itself, of a process and of all below it, by pid."""
    found = {}
    for each in _below(pid):
        with suppress(OSError):
            words = Path("/proc", str(each), "cmdline").read_bytes().replace(b"\0", b" ")
            found[each] = words.decode(errors="replace")
    return found


def _below(pid: int) -> list[int]:
    """Returns a process and all below it, the deepest last."""
    found = [pid]
    with suppress(OSError):  # it ends meanwhile
        for task in Path("/proc", str(pid), "task").glob("*/children"):
            for child in task.read_text().split():
                found += _below(int(child))
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _wait_for_nodes(head: Host, address: str, count: int, environment: Mapping[str, str]) -> None:
    """Waits, from the head, until so many nodes live."""
    program = (
        "import sys, time\n"
        "from ray._raylet import GcsClient\n"
        "deadline = time.monotonic() + float(sys.argv[3])\n"
        "while True:\n"
        "    try:\n"
        "        nodes = GcsClient(address=sys.argv[1]).get_all_node_info().values()\n"
        "        if sum(node.state == 0 for node in nodes) >= int(sys.argv[2]):\n"
        "            break\n"
        "    except Exception:\n"
        "        if time.monotonic() > deadline:\n"
        "            raise\n"
        "    if time.monotonic() > deadline:\n"
        "        sys.exit('the nodes did not start')\n"
        "    time.sleep(0.2)\n"
    )
    command = [sys.executable, "-c", program, address, count, _START_TIMEOUT_S]
    waiting = head.popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = waiting.communicate(timeout=_START_TIMEOUT_S + 30)
    if waiting.returncode != 0:
        raise RuntimeError(f"Ray did not start on the hosts: {output.decode()[-3000:]}")


def _add_namespace(name: str, stack: ExitStack) -> None:
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "delete", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
