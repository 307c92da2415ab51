"""Rows in memory are read once, outlive a worker, and are the same however they are dealt."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from cnnlib.dataset.manifest import Split, load_manifest
from cnnlib.runs.history import decode_history
from cnnlib.storage import files, layout, publish
from infra.local_s3 import LocalS3Server
from tests.counting_proxy import run_counting_proxy
from tests.fashion import TRAIN_ROWS
from tests.integration.conftest import run_job, run_small_head
from tests.models import DIE_WHEN

WORKERS, BATCH = 2, 32


def losses(history: str) -> list[float]:
    return [each.loss for each in decode_history(files.read_bytes(history))]


def state_one_row_more(dataset: str, folder: Path) -> Path:
    """Copies a dataset, with a manifest that states one training row more than its single shard has."""
    copy = folder / "wrong"
    shutil.copytree(dataset, copy)
    manifest = load_manifest(dataset)
    split = manifest.split("train")
    (shard,) = split.shards
    counts = (split.rows_per_class[0] + 1, *split.rows_per_class[1:])
    more = dataclasses.replace(shard, rows=shard.rows + 1)
    longer = Split(rows=split.rows + 1, rows_per_class=counts, shards=(more,))
    manifest = dataclasses.replace(manifest, splits={**manifest.splits, "train": longer})
    (copy / layout.MANIFEST).unlink()
    publish.write_manifest(layout.dataset_manifest(str(copy)), manifest.to_json())
    return copy


def test_workers_that_start_again_read_no_shard_again(
    tmp_path: Path, tiny_idx: Path, s3_server: LocalS3Server, s3_uri: str
) -> None:
    with run_counting_proxy(s3_server.endpoint_url) as proxy:
        environment = s3_server.environment() | {"AWS_ENDPOINT_URL": proxy.url, "HOME": str(tmp_path)}
        prepared = run_job("prepare", ["idx", tiny_idx, "--output", s3_uri], environment)
        assert prepared.code == 0, prepared.stderr[-3000:]
        before = proxy.reads(".parquet")
        first = Path(layout.checkpoint_uri(layout.run_uri(str(tmp_path / "runs"), "mortal"), 1))
        died = first / "died"
        options = ["--workers", WORKERS, "--batch-size", BATCH, "--epochs", 2, "--cache", "memory"]
        command = ["dnn", "--data", s3_uri, "--runs", tmp_path / "runs", "--name", "mortal", *options]
        trained = run_job(
            "train",
            [*command, "--model", "tests.models:build_mortal"],
            environment | {DIE_WHEN: str(first / layout.MANIFEST)},
        )
        assert trained.code == 0, trained.stderr[-6000:]
        assert died.exists(), "no worker died, so nothing was tested"
        assert "all workers start again from the last checkpoint" in trained.stderr
        after = proxy.reads(".parquet")
    prefix = s3_uri.removeprefix("s3://").partition("/")[2]
    names = [f"{prefix}/{shard.name}" for shard in load_manifest(s3_uri).split("train").shards]
    assert names
    # Once to check its digest before anything starts, and once to deal its rows to all workers.
    assert {name: after[name] - before.get(name, 0) for name in names} == dict.fromkeys(names, 2)
    rows = [each.rows for each in decode_history(files.read_bytes(trained.result["history"]))]
    assert rows == [TRAIN_ROWS // BATCH * BATCH] * 2


def test_a_cluster_that_the_workers_fill_deals_the_rows_that_a_single_machine_deals(
    tmp_path: Path, tiny_dataset: str
) -> None:
    command = ["dnn", "--data", tiny_dataset, "--runs", tmp_path / "runs", "--workers", WORKERS]
    command += ["--batch-size", BATCH, "--epochs", 2, "--validation-fraction", 0.1, "--cache", "memory"]
    command += ["--cluster.cpus-per-worker", 1]  # the same sums on every machine
    alone = run_job("train", [*command, "--name", "alone"], {"HOME": str(tmp_path)})
    assert alone.code == 0, alone.stderr[-6000:]
    with run_small_head(tmp_path, WORKERS) as environment:
        filled = run_job("train", [*command, "--name", "filled"], environment)
        assert filled.code == 0, filled.stderr[-6000:]
        wrong = run_job(
            "train",
            [*command, "--name", "wrong", "--data", state_one_row_more(tiny_dataset, tmp_path)],
            environment,
        )
    assert losses(filled.result["history"]) == losses(alone.result["history"])
    # The digests are right, so only counting finds it; a restart would find it again.
    assert wrong.code == 1
    [error] = [line for line in wrong.stderr.splitlines() if line.startswith("error: ")]
    assert error.endswith("rows, expected 611 as the manifest states. Prepare the dataset again.")
    assert "start again" not in wrong.stderr
