"""Rows that are streamed: read by tasks, the same on one machine and on a cluster, cropped image files among them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnlib.feed.stream import StreamFeed
from cnnlib.runs.history import EpochRecord, decode_history
from cnnlib.storage import files, layout
from tests.feeds import build_feed
from tests.image_files import write_folders
from tests.integration.conftest import run_job, run_small_head
from tests.models import DIE_WHEN
from tests.three_nodes import task_of

WORKERS, BATCH = 2, 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset that keeps PNG files, with a split val, and small shards."""
    base = tmp_path_factory.mktemp("photos")
    folder = write_folders(base / "images", rows=150, side=40, classes=("cat", "dog"))
    options = ["--size", 16, "--encoding", "png", "--splits", "train=0.8,val=0.2", "--output", base / "data"]
    prepared = run_job("prepare", ["folders", folder, *options], {"HOME": str(base)})
    assert prepared.code == 0, prepared.stderr[-3000:]
    return str(base / "data")


def history_of(history: str) -> list[EpochRecord]:
    return decode_history(files.read_bytes(history))


def numbers(history: str) -> list[tuple[float, float | None, float | None]]:
    return [(each.loss, each.validation_loss, each.validation_accuracy) for each in history_of(history)]


def test_a_filled_cluster_streams_the_crops_that_a_single_machine_streams_and_survives_a_death(
    tmp_path: Path, photos: str
) -> None:
    command = ["dnn", "--data", photos, "--runs", tmp_path / "runs", "--workers", WORKERS, "--epochs", 3]
    command += ["--batch-size", BATCH, "--min-crop-area", 0.3, "--cluster.cpus-per-worker", 1]
    alone = run_job("train", [*command, "--name", "alone"], {"HOME": str(tmp_path)})
    assert alone.code == 0, alone.stderr[-6000:]
    assert "chosen=none" in alone.stderr, "cropped rows are streamed"
    assert "validation split=val" in alone.stderr
    first = Path(layout.checkpoint_uri(layout.run_uri(str(tmp_path / "runs"), "mortal"), 1))
    mortal = run_job(
        "train",
        [*command, "--name", "mortal", "--model", "tests.models:build_mortal"],
        {"HOME": str(tmp_path), DIE_WHEN: str(first / layout.MANIFEST)},
    )
    assert mortal.code == 0, mortal.stderr[-6000:]
    assert (first / "died").exists(), "no worker died, so nothing was tested"
    with run_small_head(tmp_path, WORKERS) as environment:
        plain = run_job("train", [*command, "--name", "plain"], environment)
        assert plain.code == 0, plain.stderr[-6000:]
    assert numbers(plain.result["history"]) == numbers(alone.result["history"])
    assert [each.rows for each in history_of(mortal.result["history"])] == [
        each.rows for each in history_of(alone.result["history"])
    ]
    assert None not in {loss for _, loss, _ in numbers(alone.result["history"])}


def test_a_machine_without_workers_decodes_for_all_and_may_be_lost(tmp_path: Path, photos: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.three_nodes", photos, tmp_path],
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout.splitlines()[-1])
    before, after = result["read_by"]
    assert set(before) == {result["spare"]}, "its CPUs are the only ones that no worker takes"
    assert after
    assert set(after) <= set(result["workers"]), "the others read on"
    expected = []
    for epoch in (1, 2):
        for rank in range(WORKERS):
            task = task_of(photos, rank)
            batches = build_feed(StreamFeed, task).epoch(epoch, task.split.rows // task.batch_size, 3)
            expected.append([int(row) for batch in batches for row in batch.ids.ravel()])
    assert result["ids"] == expected
