"""Learning rates are tried in one process, without Ray, and the result on S3 is found again."""

from __future__ import annotations

import json
from pathlib import Path

from cnnlib.storage import files
from cnnlib.storage.uri import join_uri
from infra.local_s3 import LocalS3Server
from tests.datasets import make_source, write_dataset_without_ray
from tests.integration.conftest import run_job


def test_a_range_test_writes_a_picture_and_its_result_to_s3_once(
    s3_server: LocalS3Server, s3_uri: str, tmp_path: Path
) -> None:
    data, output = join_uri(s3_uri, "data"), join_uri(s3_uri, "rates")
    write_dataset_without_ray(data, make_source(train_rows=400, image_shape=(12, 12, 1)), shard_rows=100)
    # An address that nobody answers: a job that asked for Ray would fail.
    environment = {"HOME": str(tmp_path), "RAY_ADDRESS": "127.0.0.1:1", **s3_server.environment()}
    arguments = ["dnn", "--data", data, "--output", output, "--batch-size", "40", "--test.steps", "40"]
    first, again = (run_job("learning_rate", arguments, environment) for _ in range(2))
    for job in (first, again):
        assert job.code == 0, job.stderr[-3000:]
    assert again.result == {**first.result, "finished_before": True}
    stored = json.loads(files.read_bytes(first.result["result"]))
    assert 10 <= len(stored["rates"]) == len(stored["losses"]) <= 40
    assert stored["rates"][0] == 1e-6
    assert files.read_bytes(first.result["picture"]).startswith(b"\x89PNG")
    found = {each.uri for each in files.list_objects(output)}
    assert found == {first.result["picture"], first.result["result"]}
    assert first.result["result"].startswith(join_uri(output, "dnn", "learning-rates-"))
