"""Two jobs prepare into one folder at the same time: one dataset is there afterwards, and it is whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.reader import check_shards
from cnnlib.storage import files, layout
from cnnlib.storage.uri import join_uri
from infra.local_s3 import LocalS3Server
from tests.fashion import encode_idx
from tests.integration.conftest import JobResult, run_job


@pytest.mark.parametrize("same", [True, False])
def test_two_jobs_at_once_leave_one_whole_dataset(
    base_uri: str, tmp_path: Path, s3_server: LocalS3Server, same: bool
) -> None:
    sources = [_write_source(tmp_path / "a", 0), _write_source(tmp_path / "b", 0 if same else 1)]

    def prepare(source: Path) -> JobResult:
        return run_job("prepare", ["idx", source, "--output", base_uri], s3_server.environment())

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(prepare, sources))
    errors = [each.stderr for each in done if each.code]
    assert sorted(each.code for each in done) == ([0, 0] if same else [0, 2]), errors
    assert all("already holds another dataset" in error for error in errors)
    manifest = load_manifest(base_uri)
    assert {each.result["fingerprint"] for each in done if not each.code} == {manifest.fingerprint}
    for split in manifest.splits:
        check_shards(base_uri, manifest, split)
    shards = [join_uri(base_uri, shard.name) for split in manifest.splits.values() for shard in split.shards]
    expected = {*shards, layout.dataset_manifest(base_uri), layout.dataset_preview(base_uri)}
    assert {stored.uri for stored in files.list_objects(base_uri)} == expected


def _write_source(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for split, rows in (("train", 3000), ("t10k", 500)):
        images = rng.integers(0, 256, (rows, 28, 28), np.uint8)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(encode_idx(images))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(encode_idx(np.arange(rows) % 10))
    return folder
