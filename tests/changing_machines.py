"""Trains on a cluster whose machines come and go: python -m tests.changing_machines DATASET RUNS.

The training may have one to three workers of one CPU each. It begins on one machine of one CPU; then comes one of two
CPUs, which is announced to be taken away and is; then comes one of one CPU, which is lost without a word. Then the
training is ended. Prints, as JSON, its exit code and the numbers of workers in their order. Each machine is a raylet of
its own on this one (`ray.cluster_utils`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import keras
from keras import layers
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from cnnlib.storage import layout

_MOST_EPOCHS = 10_000  # it is ended before
TRAIN = ["--model", "tests.changing_machines:build", "--batch-size", "12", "--steps-per-epoch", "50"]
TRAIN += ["--loop.steps-per-call", "2", "--checkpoint.every-steps", "20"]
_PATIENCE_S = 240.0
_NOTICE_S = 60


def build(image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Builds a CNN that is slow enough for machines to come and go while it trains."""
    return keras.Sequential(
        [
            keras.Input(image_shape),
            layers.Rescaling(1 / 255),
            layers.Conv2D(48, 5, activation="relu"),
            layers.Conv2D(48, 5, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(num_classes),
        ]
    )


def main(dataset: str, runs: Path) -> dict[str, object]:
    """Trains, and changes the machines under way."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    log, run = runs / "log", str(runs / "elastic")
    command = [sys.executable, "-m", "jobs.train", "seed", "--data", dataset, "--runs", str(runs)]
    command += ["--name", "elastic", "--workers", "1..3", "--epochs", str(_MOST_EPOCHS), *TRAIN]
    with log.open("w") as stderr:
        job = subprocess.Popen(
            command, env={**os.environ, "RAY_ADDRESS": cluster.address}, stdout=stderr, stderr=stderr
        )

    def starts() -> list[int]:
        return [int(each) for each in re.findall(r"workers workers=(\d+) fewest=1 most=3", log.read_text())]

    def wait_for(workers: list[int]) -> None:
        """Returns once workers have started in these numbers, and the last have trained an epoch."""
        _wait(lambda: starts() == workers, job, log)
        epochs = _count_epochs(run)
        _wait(lambda: _count_epochs(run) > epochs, job, log)

    wait_for([1])
    leaving = cluster.add_node(num_cpus=2)
    wait_for([1, 3])
    _announce(cluster.address, leaving.node_id)
    wait_for([1, 3, 1])
    cluster.remove_node(leaving)
    lost = cluster.add_node(num_cpus=1)
    wait_for([1, 3, 1, 2])
    cluster.remove_node(lost, allow_graceful=False)
    _wait(lambda: starts()[-1] == 1, job, log)
    epochs = _count_epochs(run)
    _wait(lambda: _count_epochs(run) > epochs, job, log)
    job.terminate()
    code = job.wait(_PATIENCE_S)
    return {"code": code, "workers": starts(), "log": log.read_text()}


def _announce(address: str, node_id: str) -> None:
    """Lets Ray's head announce that a machine will be taken away, as a cloud's agent does."""
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + _NOTICE_S) * 1000)
    accepted, why = GcsClient(address=address).drain_node(node_id, reason, "preemption", deadline_ms)
    assert accepted, why


def _count_epochs(run: str) -> int:
    return len(list(Path(layout.run_checkpoints(run)).glob(f"*/{layout.MANIFEST}")))


def _wait(is_so: object, job: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():  # type: ignore[operator]
        assert job.poll() is None, f"the training ended with {job.returncode}:\n{log.read_text()[-6000:]}"
        assert time.monotonic() < deadline, log.read_text()[-6000:]
        time.sleep(0.2)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
