"""Of two clusters on a machine, neither touches a training of the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import run_head


@pytest.fixture(scope="module")
def older_of_two() -> Iterator[dict[str, str]]:
    """The environment of a client of the first of two clusters that want no token."""
    # Their own folder for what the last `ray start` notes: other clusters of this machine must not be found, nor find
    # these. Short, because sockets are in it.
    place = tempfile.TemporaryDirectory(dir="/tmp", prefix="two-", ignore_cleanup_errors=True)
    with place as folder, ExitStack() as stack:
        own = {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "HOME": folder}
        clients = []
        for name in ("older", "newer"):
            (home := Path(folder, name)).mkdir()
            clients.append(stack.enter_context(run_head(home / "head.log", own, cpus=3)))
        noted, newer = Path(folder, "ray/ray_current_cluster").read_text(), clients[1]["RAY_ADDRESS"]
        assert noted.rpartition(":")[2] == newer.rpartition(":")[2], "else this tests nothing"
        yield clients[0]


def test_a_living_training_keeps_its_resources_beside_a_newer_cluster(older_of_two: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.watched_controllers"],
        env={**environment, **older_of_two, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    living, killed = map(json.loads, done.stdout.splitlines())
    # When Ray's own is not removed, CleanerOfThisCluster may go.
    assert living == {"rays": "REMOVED", "ours": "CREATED"}
    assert killed == {"ours": "REMOVED"}
