"""A folder of image files through the whole product: prepared by the cluster as files, trained on, scored, shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.reader import read_positions
from cnnlib.dataset.streamed import row_id
from cnnlib.storage import files, layout
from infra.local_s3 import LocalS3Server
from tests.fashion import TEST_ROWS, TRAIN_ROWS, fashion_mnist
from tests.image_files import encode
from tests.integration.conftest import RunJob, run_job
from tests.packed_files import record, samples, write_hugging_face, write_tar, write_tfrecord


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real Fashion-MNIST as PNG and WebP files in folders of classes and splits, and two files that are no images."""
    base, source = tmp_path_factory.mktemp("images"), fashion_mnist()
    for split, count in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
        rows = source.splits[split].read(0, count)
        for number, (image, label) in enumerate(zip(rows.images, rows.labels, strict=True)):
            of_class = base / split / source.class_names[label].replace("/", " or ")
            of_class.mkdir(parents=True, exist_ok=True)
            kind, options = (("PNG", {}), ("WEBP", {"lossless": True}))[number % 2]
            path = of_class / f"{number:05d}.{kind.lower()}"
            path.write_bytes(encode(image[..., 0], kind, **options))
    (base / "train" / "Bag" / "broken.jpg").write_bytes(b"<html>")
    (base / "train" / "Bag" / "notes.txt").write_text("no image")
    return base


def test_from_a_folder_of_images_to_a_report(
    folder: Path, on_cluster: RunJob, s3_uri: str, tmp_path: Path
) -> None:
    data = f"{s3_uri}/data"
    # Small shards, so that several tasks of the cluster share the work.
    prepare = ["prepare", "folders", folder, "--output", data, "--channels", 1, "--encoding", "png"]
    prepared = on_cluster(*prepare)
    assert prepared.result["rows"] == {"train": TRAIN_ROWS, "test": TEST_ROWS}
    assert 'quarantine images=1 of=731 reasons="1 not an image"' in prepared.stderr
    again = on_cluster(*prepare)
    assert again.result["fingerprint"] == prepared.result["fingerprint"]
    assert "prepared already" in again.stderr
    assert on_cluster("prepare", "verify", data).result["rows"] == prepared.result["rows"]

    source, manifest = fashion_mnist(), load_manifest(data)
    stored = read_positions(data, manifest, manifest.split("test"), np.arange(TEST_ROWS))
    by_id = dict(zip(stored.ids.tolist(), stored.images, strict=True))
    first = source.splits["test"].read(0, 1)
    name = source.class_names[first.labels[0]].replace("/", " or ")
    np.testing.assert_array_equal(by_id[row_id(f"test/{name}/00000.png")], first.images[0])

    runs, reports = f"{s3_uri}/runs", f"{s3_uri}/reports"
    train = ["dnn", "--data", data, "--runs", runs, "--name", "own", "--epochs", 3, "--batch-size", 32]
    on_cluster("train", *train, "--workers", 2)
    evaluate = ["--checkpoint", f"{runs}/own", "--data", data, "--reports", reports]
    [row] = on_cluster("evaluate", *evaluate, "--slice-by", "brightness").result["reports"]
    assert row["rows"] == TEST_ROWS
    assert row["accuracy"] > 0.5, "ten classes, so chance is 0.1"
    predictions = pd.read_parquet(files_of(reports, "predictions", tmp_path))
    assert set(predictions["id"]) == set(by_id)
    page = files.read_bytes(layout.report_page(reports, row["report_id"])).decode()
    assert "data:image/png" in page, "the page shows mistakes"


def files_of(reports: str, table: str, folder: Path) -> Path:
    """Copies the objects of a table from S3, for pandas."""
    for number, stored in enumerate(files.list_objects(f"{reports}/{table}")):
        (folder / f"{number}.parquet").write_bytes(files.read_bytes(stored.uri))
    return folder


def test_packed_files_in_a_bucket_become_datasets_of_the_same_images(
    s3_server: LocalS3Server, s3_uri: str, tmp_path: Path
) -> None:
    environment = s3_server.environment() | {"HOME": str(tmp_path)}
    numbers = range(60)
    write_tar(tmp_path / "train-0.tar", samples(numbers))
    write_tfrecord(tmp_path / "train-0.tfrecord", [record(number) for number in numbers])
    write_hugging_face(tmp_path / "train-0.parquet", numbers)
    found = {}
    for source, ending in (("webdataset", "tar"), ("tfrecord", "tfrecord"), ("parquet", "parquet")):
        name = f"train-0.{ending}"
        files.write_bytes(f"{s3_uri}/in/{name}", (tmp_path / name).read_bytes())
        output = f"{s3_uri}/{source}"
        options = ["--output", output, "--channels", 1, "--splits", "train=0.8,test=0.2", "--encoding", "png"]
        prepared = run_job("prepare", [source, f"{s3_uri}/in/train-*.{ending}", *options], environment)
        assert prepared.code == 0, prepared.stderr[-3000:]
        verified = run_job("prepare", ["verify", output], environment)
        assert verified.result["rows"] == prepared.result["rows"]
        manifest = load_manifest(output)
        assert manifest.class_names in (("cat", "dog"), ("0", "1"))
        found[source] = {
            (name, image.tobytes(), int(label))
            for name, split in manifest.splits.items()
            for rows in [read_positions(output, manifest, split, np.arange(split.rows))]
            for image, label in zip(rows.images, rows.labels, strict=True)
        }
        assert not files.list_objects(layout.prepare_marks(output))
    assert len(found["tfrecord"]) == len(numbers)
    assert found["webdataset"] == found["tfrecord"] == found["parquet"]
