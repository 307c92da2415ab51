"""Metadata columns of a source survive shards and manifest; a column that cannot be a slice is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.reader import read_shard
from cnnlib.dataset.record import decode_shard, table_to_rows
from cnnlib.dataset.source import Source
from cnnlib.dataset.writer import write_dataset
from cnnlib.errors import ConflictError, DatasetError
from cnnlib.storage import layout, publish
from tests.datasets import TEST_ROWS, add_metadata, make_source

COLUMNS = {
    "source": ["web", "camera", None],
    "age": [3, None, 70, 5],
    "angle": [0.5, None, -1.25],
    "indoors": [True, False, None],
}


def read_test_rows(dataset_uri: str) -> dict[str, list[Any]]:
    """Reads the metadata of all test rows."""
    manifest = load_manifest(dataset_uri)
    shards = [
        table_to_rows(decode_shard(read_shard(dataset_uri, shard), shard.name), manifest.image_shape)
        for shard in manifest.split("test").shards
    ]
    return {name: [value for rows in shards for value in rows.metadata[name].to_pylist()] for name in COLUMNS}


def test_metadata_survives_shards_row_by_row(tmp_path: Path) -> None:
    write_dataset(add_metadata(make_source(), COLUMNS), str(tmp_path), shard_bytes=64 * 7)  # seven rows each
    manifest = load_manifest(str(tmp_path))
    assert manifest.metadata == {
        "source": "string",
        "age": "int64",
        "angle": "float64",
        "indoors": "bool",
    }
    assert len(manifest.split("test").shards) == 4
    expected = {name: [values[i % len(values)] for i in range(TEST_ROWS)] for name, values in COLUMNS.items()}
    assert read_test_rows(str(tmp_path)) == expected


def test_a_data_set_without_metadata_keeps_its_manifest_and_its_fingerprint(tmp_path: Path) -> None:
    manifest = write_dataset(make_source(), str(tmp_path)).manifest
    document = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest.metadata == {}
    # The keys from before metadata existed: the fingerprint of a dataset is in the name of its reports.
    assert document.keys() == {
        "format_version", "class_names", "image_shape", "splits", "source", "source_digest", "fingerprint",
    }  # fmt: skip
    identity = {name: value for name, value in document.items() if name not in ("source", "fingerprint")}
    for shard in (shard for split in identity["splits"].values() for shard in split["shards"]):
        shard["name"] = layout.strip_digest(shard["name"])  # names had no digest then
    assert manifest.fingerprint == publish.sha256_hex(publish.canonical_json(identity))


def test_other_metadata_make_another_data_set(tmp_path: Path) -> None:
    plain, web, camera = (
        make_source(),
        add_metadata(make_source(), {"source": ["web"]}),
        add_metadata(make_source(), {"source": ["camera"]}),
    )
    assert len({each.digest for each in (plain, web, camera)}) == 3
    write_dataset(web, str(tmp_path))
    assert not write_dataset(web, str(tmp_path)).created
    with pytest.raises(ConflictError, match="already holds another dataset"):
        write_dataset(camera, str(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["id", "image", "label", "shard_index", "shard_error", "brightness", "near-duplicate", "a+b", "a=b", ""],
)
def test_a_name_that_means_something_else_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="A metadata column cannot be called") as raised:
        write_dataset(add_metadata(make_source(), {name: ["x"]}), str(tmp_path))
    assert repr(name) in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [b"bytes", [1, 2], {"a": 1}, None])
def test_a_type_that_no_slice_can_have_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"column 'extra' has the type .*Expected bool, int64, float64, string"
    ):
        write_dataset(add_metadata(make_source(), {"extra": [value]}), str(tmp_path))


def _with_test_metadata(columns: dict[str, pa.Array]) -> Source:
    source = add_metadata(make_source(), {"source": ["web"]})
    test = dataclasses.replace(source.splits["test"], metadata=columns)
    return dataclasses.replace(source, splits={**source.splits, "test": test})


def test_splits_with_different_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"same metadata columns.*'source': 'string'} in 'train', and none in 'test'\."
    ):
        write_dataset(_with_test_metadata({}), str(tmp_path))


def test_a_column_needs_a_value_for_every_row(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"Received 3, expected {TEST_ROWS}"):
        write_dataset(_with_test_metadata({"source": pa.array(["web"] * 3)}), str(tmp_path))


def test_a_manifest_with_a_type_of_another_version_is_refused(tmp_path: Path) -> None:
    write_dataset(add_metadata(make_source(), {"source": ["web"]}), str(tmp_path))
    path = tmp_path / "manifest.json"
    document = json.loads(path.read_text())
    document["metadata"]["source"] = "colour"
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"has a missing or invalid entry: .*'source': 'colour'"):
        load_manifest(str(tmp_path))


def test_taken_rows_have_their_own_metadata() -> None:
    rows = add_metadata(make_source(), COLUMNS).splits["test"].read(3, 9)
    taken = rows.take(np.array([4, 0], np.int64))
    assert {name: values.to_pylist() for name, values in taken.metadata.items()} == {
        name: [values[7 % len(values)], values[3 % len(values)]] for name, values in COLUMNS.items()
    }
