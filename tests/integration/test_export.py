"""Two jobs export a checkpoint of a run on S3 at once, and what a stranger downloads gives the checkpoint's answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cnnlib.dataset.manifest import load_manifest, whole_shard
from cnnlib.dataset.reader import read_range
from cnnlib.runs.checkpoints import resolve_checkpoint
from cnnlib.storage import files
from cnnlib.storage.uri import join_uri
from infra.local_s3 import LocalS3Server
from tests.integration.conftest import JobResult, RunJob, run_job


def test_two_exports_at_once_publish_one_model_that_gives_the_answers_of_the_checkpoint(
    on_cluster: RunJob, s3_server: LocalS3Server, s3_uri: str, tiny_dataset: str, tmp_path: Path
) -> None:
    runs, output = join_uri(s3_uri, "runs"), join_uri(s3_uri, "exported")
    on_cluster("train", "dnn", "--data", tiny_dataset, "--runs", runs, "--name", "a", "--epochs", 1)
    arguments = [
        "--checkpoint",
        join_uri(runs, "a"),
        "--data",
        tiny_dataset,
        "--output",
        output,
        "--cpus",
        "1",
    ]

    def export(_: int) -> JobResult:
        return run_job("export", arguments, {"HOME": str(tmp_path), **s3_server.environment()})

    with ThreadPoolExecutor() as threads:
        jobs = list(threads.map(export, range(2)))
    for job in jobs:
        assert job.code == 0, job.stderr[-3000:]
    assert jobs[0].result["model"] == jobs[1].result["model"]
    assert jobs[0].result["latency"] == jobs[1].result["latency"]  # that of the one that was published

    manifest = json.loads(files.read_bytes(join_uri(output, "manifest.json")))
    stored = {each.uri.removeprefix(f"{output}/") for each in files.list_objects(output)}
    assert stored == {*manifest["files"], "manifest.json"}
    for name in manifest["files"]:
        files.download(join_uri(output, name), tmp_path / "copy" / name)

    data = load_manifest(tiny_dataset)
    images = read_range(tiny_dataset, data, whole_shard(0, data.split("test").shards[0])).images
    inputs = images.astype(manifest["input"]["dtype"])
    served = tf.saved_model.load(str(tmp_path / "copy" / manifest["model"]))
    outputs = served.signatures["serving_default"](images=tf.constant(inputs))[manifest["output"]["name"]]
    checkpoint = resolve_checkpoint(join_uri(runs, "a"))
    files.download(checkpoint.model_uri, tmp_path / "model.keras")
    expected = keras.models.load_model(tmp_path / "model.keras", compile=False).predict(inputs, verbose=0)
    assert len(expected) == manifest["check"]["images"] == 120
    np.testing.assert_allclose(outputs.numpy(), expected, atol=1e-5)
    assert manifest["checkpoint_digest"] == checkpoint.digest
    assert tuple(manifest["class_names"]) == data.class_names
