"""A disk that is full, then read-only, then has room: every job says where, keeps what it has, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnnlib.storage import layout
from tests.fashion import TEST_ROWS, TRAIN_ROWS
from tests.full_disk import SmallDisk, run_small_disk
from tests.integration.conftest import JobResult, command_of_job, result_of_job, run_job

FULL = "The file system failed at {place}.*No space left on device.*free space"
READ_ONLY = "error: Not permitted at {place}.*Read-only file system.*how the disk is mounted"


@pytest.fixture(scope="module")
def dataset(tiny_idx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared on an ordinary disk, and without the cluster of other tests."""
    output = tmp_path_factory.mktemp("full") / "data"
    assert run_job("prepare", ["idx", tiny_idx, "--output", output], {}).code == 0
    return output


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (folder := tmp_path / "disk").mkdir()
    with run_small_disk(folder, "300k") as disk:
        yield disk


def run(disk: SmallDisk, job: str, *arguments: Any) -> JobResult:
    command = command_of_job(job, arguments, {"HOME": str(disk.folder.parent)})
    done = disk.run(*command["args"], env=command["env"])
    return result_of_job(done.returncode, done.stdout, done.stderr)


def matches(pattern: str, place: Path, text: str) -> bool:
    return pd.Series([text.replace("\n", " ")]).str.contains(pattern.format(place=place)).item()


def test_a_preparation(disk: SmallDisk, tiny_idx: Path) -> None:
    output = disk.folder / "data"
    command = ("prepare", "idx", tiny_idx, "--output", output)
    full = run(disk, *command)
    assert full.code == 1
    # Shards are written at the same time: the first that finds no room is of either split.
    assert matches(f"error: {FULL}", output / "(train|test)/part-", full.stderr)
    kept = disk.list_files()
    assert not [name for name in kept if name.endswith(("manifest.json", ".tmp"))]
    disk.remount("size=10m", "ro")
    refused = run(disk, *command)
    assert refused.code == 2
    assert matches(READ_ONLY, output, refused.stderr)
    disk.remount("rw")
    done = run(disk, *command)
    assert done.code == 0, done.stderr
    assert done.result["rows"] == {"train": TRAIN_ROWS, "test": TEST_ROWS}
    assert kept.items() <= disk.list_files().items(), "what was whole is used"


def test_a_report(disk: SmallDisk, dataset: Path, tmp_path: Path) -> None:
    predictions = [write_predictions(tmp_path / f"{seed}.parquet", seed) for seed in (1, 2)]
    reports = disk.folder / "reports"

    def evaluate(path: Path) -> JobResult:
        return run(disk, "evaluate", "--data", dataset, "--reports", reports, "--predictions", path)

    disk.remount("size=10m")
    first = evaluate(predictions[0])
    assert first.code == 0, first.stderr
    before, used = disk.list_files(), disk.used_kib()
    # No room for a second probe, for the claim, for all tables.
    for free_kib in (4, 24, 84):
        disk.remount(f"size={used + free_kib}k")
        full = evaluate(predictions[1])
        assert full.code == 1, full.stderr
        assert matches(f"error: {FULL}", reports, full.stderr)
        now = disk.list_files()
        assert before.items() <= now.items()
        assert not [name for name in now if Path(name).name.startswith(".")], "not even a probe"
    listed = run(disk, "report", reports)
    assert listed.code == 0, listed.stderr
    assert len(listed.result["reports"]) == 1
    assert run(disk, "report", reports, "latest").code == 0
    disk.remount("size=10m", "ro")
    refused = evaluate(predictions[1])
    assert refused.code == 2
    assert matches(READ_ONLY, reports, refused.stderr)
    disk.remount("rw")
    assert evaluate(predictions[1]).code == 0
    assert len(run(disk, "report", reports).result["reports"]) == 2


def test_a_training(disk: SmallDisk, dataset: Path) -> None:
    runs = disk.folder / "runs"
    size = ["--epochs", 2, "--batch-size", 32, "--steps-per-epoch", 4, "--workers", 1]
    command = ["train", "dnn", "--data", dataset, "--runs", runs, "--name", "a", *size]
    command += ["--model.units", 256, "--cluster.max-failures", 0]
    disk.remount("size=4m")  # a checkpoint has 2.4 MB
    full = run(disk, *command)
    assert full.code == 1
    second = Path(layout.checkpoint_uri(str(runs / "a"), 2))
    assert matches(f"error: {FULL}", second, full.stderr)
    kept = disk.list_files()
    first = "runs/a/checkpoints/epoch-0001/"
    assert {name for name in kept if name.startswith(first)} == {
        first + name for name in ("manifest.json", "model.keras", "state.npz")
    }
    assert not [name for name in kept if name.endswith(("epoch-0002/manifest.json", ".tmp", "lease.json"))]
    disk.remount("size=40m", "ro")
    refused = run(disk, *command)
    assert refused.code == 2
    assert matches(READ_ONLY, runs / "a", refused.stderr)
    disk.remount("rw")
    done = run(disk, *command)
    assert done.code == 0, done.stderr[-6000:]
    assert "continues_from_epoch=1" in done.stderr
    now = disk.list_files()
    assert {name: now[name] for name in kept if name.startswith(first)} == {
        name: kept[name] for name in kept if name.startswith(first)
    }
    assert "runs/a/checkpoints/epoch-0002/manifest.json" in now


def write_predictions(path: Path, seed: int) -> Path:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(10), TEST_ROWS)
    pd.DataFrame({"id": range(TEST_ROWS), "probabilities": list(probabilities)}).to_parquet(path)
    return path
