"""Trains and evaluates under seeded random faults, then calmly, and compares: python -m tests.soak --minutes 30.

One training of two workers, started again whenever its driver ends, and evaluations of all pending checkpoints share a
Ray cluster of three machines and a real S3 server behind a proxy that spoils answers. After the given time the training
is ended. Then as many epochs are trained and evaluated without any fault. Every checkpoint must have the same weights,
bit for bit, and every report the same counts. Nothing may be left: no process, no unfinished object, no lease.

Prints what was done, what it cost and what was found, as JSON on the last line; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from ray.cluster_utils import Cluster

from cnnlib.runs.checkpoints import list_checkpoints
from infra.local_s3 import LocalS3Server, run_local_s3
from tests.datasets import make_source, write_dataset_without_ray
from tests.fault_proxy import run_fault_proxy
from tests.process_tree import descendants
from tests.soak.compare import compare_runs
from tests.soak.jobs import RepeatedJob
from tests.soak.storm import Storm

_BUCKET = "soak"
_DATA, _STORMY, _CALM = (f"s3://{_BUCKET}/{name}" for name in ("data", "stormy", "calm"))
_TRAIN = [
    "--model",
    "small-cnn",
    "--name",
    "a",
    "--workers",
    2,
    "--batch-size",
    32,
    "--loop.steps-per-call",
    5,
]
_TRAIN += ["--checkpoint.every-steps", 20, "--optimizer.ema-momentum", 0.99, "--optimizer.clip-norm", 1]
_TRAIN += ["--cluster.cpus-per-worker", 1, "--cluster.max-failures", 20]
_MOST_EPOCHS = 100_000
_PATIENCE_S = 400.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the storm")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument(
        "--logs", type=Path, default=Path("out/soak"), help="folder for the output of the jobs"
    )
    parser.add_argument("--pause-s", type=float, nargs=2, default=(8.0, 25.0), help="between two faults")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, run_local_s3(buckets=[_BUCKET]) as server:
        found = _soak(args, Path(folder), server)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 1 if found["differences"] or found["left_over"] else 0


def _soak(args: argparse.Namespace, folder: Path, server: LocalS3Server) -> dict[str, Any]:
    os.environ.update(server.environment())
    os.environ.update({"HOME": str(folder), "RAY_AUTH_MODE": "disabled", "CNNLIB_STORAGE_SILENCE_S": "10"})
    os.environ["PYTHONPATH"] = os.getcwd()
    write_dataset_without_ray(_DATA, make_source(train_rows=960, test_rows=300), shard_rows=120)
    started = time.monotonic()

    def tell(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:7.1f} s  {text}\n")

    stormy = _storm(args, folder, server, tell)
    epochs = stormy.pop("epochs")
    tell(f"the storm is over after {epochs} epochs; now the same without faults")
    calm_s = _calm(epochs, folder)
    differences = compare_runs(
        f"{_STORMY}/runs/a", f"{_CALM}/runs/a", f"{_STORMY}/reports", f"{_CALM}/reports", epochs
    )
    return {
        "minutes": args.minutes,
        "seed": args.seed,
        "epochs": epochs,
        **stormy,
        "calm_training_s": round(calm_s, 1),
        "differences": differences,
        "left_over": _left_over(server),
    }


def _storm(args: argparse.Namespace, folder: Path, server: LocalS3Server, tell: Any) -> dict[str, Any]:
    with run_fault_proxy(server.endpoint_url) as proxy:
        spoilt = {"AWS_ENDPOINT_URL": proxy.url}
        os.environ.update(spoilt)  # also for the machines of the cluster
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        environment = {"RAY_ADDRESS": cluster.address, **spoilt}
        train = ["seed", "--data", _DATA, "--runs", f"{_STORMY}/runs", "--epochs", _MOST_EPOCHS, *_TRAIN]
        args.logs.mkdir(parents=True, exist_ok=True)
        training = RepeatedJob("train", train, environment, args.logs / "train.log", pause_s=1)
        evaluate = ["--pending", f"{_STORMY}/runs", "--data", _DATA, "--reports", f"{_STORMY}/reports"]
        evaluate += ["--cpus-per-actor", 1, "--no-predictions"]
        evaluation = RepeatedJob("evaluate", evaluate, environment, args.logs / "evaluate.log", pause_s=10)
        storm = Storm(args.seed, cluster, proxy, training, evaluation, tell)
        _wait_for_the_first_epoch(f"{_STORMY}/runs/a", training)
        tell("the first epoch is trained; the storm begins")
        began = time.monotonic()
        storm.run(args.minutes * 60, tuple(args.pause_s))
        proxy.faults.clear()
        codes = {"train": training.end(), "evaluate": evaluation.end()}
        lasted = time.monotonic() - began
        epochs = list_checkpoints(f"{_STORMY}/runs/a")[-1].epoch
        os.environ.update(server.environment())
        _run("evaluate", evaluate, {"RAY_ADDRESS": cluster.address})
        cluster.shutdown()
    log = training.log()
    return {
        "epochs": epochs,
        "storm_s": round(lasted, 1),
        "faults": dict(sorted(storm.done.items())),
        "faults_that_found_nothing": dict(sorted(storm.missed.items())),
        "requests_spoilt": proxy.met,
        "restarts_of_workers": log.count("all workers start again"),
        "resumed_from_resume_points": len(re.findall(r"resume resume_point=", log)) // 2,
        "exit_codes": {
            "train": dict(training.codes), "evaluate": dict(evaluation.codes), "at_the_end": codes
        },
        "growth_of_drivers": {"train": training.growth, "evaluate": evaluation.growth},
        "processes_left": [each.command[:80] for each in descendants(os.getpid()) if "ray" in each.command],
    }  # fmt: skip


def _wait_for_the_first_epoch(run: str, training: RepeatedJob) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not list_checkpoints(run):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing was trained in {_PATIENCE_S:g} s:\n{training.log()[-4000:]}")
        time.sleep(1.0)


def _calm(epochs: int, folder: Path) -> float:
    """Trains and evaluates the same epochs without faults; returns the seconds of the training."""
    started = time.monotonic()
    train = ["seed", "--data", _DATA, "--runs", f"{_CALM}/runs", "--epochs", epochs, *_TRAIN]
    _run("train", train, {"HOME": str(folder)})
    seconds = time.monotonic() - started
    reports = ["--reports", f"{_CALM}/reports", "--no-predictions"]
    _run("evaluate", ["--pending", f"{_CALM}/runs", "--data", _DATA, *reports], {"HOME": str(folder)})
    return seconds


def _run(job: str, arguments: Sequence[object], environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", f"jobs.{job}", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"jobs.{job} ended with {done.returncode}:\n{done.stderr.decode()[-4000:]}")


def _left_over(server: LocalS3Server) -> list[str]:
    """Returns the objects that no manifest names: unfinished ones, probes, leases."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET)
    keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
    odd = re.compile(r"/\.probe-|\.tmp$|/lease\.json$|/leases/|/progress/")
    return [key for key in keys if odd.search(key)]


if __name__ == "__main__":
    np.seterr(all="raise")
    sys.exit(main())
