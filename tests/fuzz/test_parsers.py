"""Every parser of bytes from elsewhere gives a result or one of the project's errors, whatever the bytes are.

`make fuzz FUZZ_INPUTS=20000` tries so many inputs on each parser; the unit tests try 30. Inputs are valid files, cut,
flipped, doubled and moved about; JSON documents also get other values in their entries.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlib.config import TrainConfig, to_dict
from cnnlib.dataset.decode import ImageRules, decode_image
from cnnlib.dataset.manifest import Manifest, load_manifest, whole_shard
from cnnlib.dataset.reader import read_range
from cnnlib.dataset.record import decode_labels, decode_shard
from cnnlib.dataset.streamed import BadImageError, StreamedSource
from cnnlib.errors import CnnlibError, ConflictError
from cnnlib.evaluation.foreign.table import load_predictions
from cnnlib.gates.selection import MadeSlices, select_gates
from cnnlib.model_options import ModelOptions
from cnnlib.reports.manifest import read_record
from cnnlib.reports.read import list_reports, read_report
from cnnlib.runs.checkpoints import find_checkpoint
from cnnlib.runs.history import encode_history
from cnnlib.runs.mending import find_history
from cnnlib.runs.record import find_run_record
from cnnlib.runs.resume_points import EpochPart, find_resume_point, write_resume_point
from cnnlib.runs.rollbacks import add_rollback, load_rollbacks
from cnnlib.sources.cifar import load_cifar
from cnnlib.sources.idx import load_idx
from cnnlib.sources.npz import load_npz
from cnnlib.sources.packed.parquet_images import load_parquet_images
from cnnlib.sources.packed.records import PackedOptions
from cnnlib.sources.packed.tfrecord import load_tfrecord
from cnnlib.sources.packed.webdataset import load_webdataset
from cnnlib.sources.table import TableColumns, load_table
from cnnlib.storage import layout
from cnnlib.storage.lease import Lease, LeaseWatch, encode_lease
from cnnlib.training.plan import check_continues
from tests.checkpoints import write_checkpoint_without_model, write_run_record
from tests.datasets import CLASS_NAMES, write_dataset_without_ray
from tests.fashion import encode_idx
from tests.histories import make_history
from tests.image_files import encode, noise
from tests.packed_files import example, frame, picture, samples, write_tar
from tests.report_folders import write_metrics

INPUTS = int(os.environ.get("FUZZ_INPUTS", "30"))
fuzzed = settings(max_examples=INPUTS, derandomize=False, print_blob=True)
RULES = ImageRules(size=(8, 8), resize="fill", channels=1, background=(255, 255, 255))
OPTIONS = PackedOptions(rules=RULES)


@dataclass(frozen=True)
class Parser:
    """A parser of a file in a folder.

    Attributes:
        name: of the file below the folder.
        write: writes the valid folder.
        read: parses the file, and returns anything.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]


def read_all(source: StreamedSource) -> list[object]:
    """Reads every image of a source as a preparation does: a bad image is a reason, and no error."""
    found: list[object] = []
    for each in source.candidates:
        if each.problem:
            continue
        try:
            found.append(source.read(each.location or each.key))
        except BadImageError as err:
            found.append(str(err))
    return found


def decode(data: bytes) -> object:
    try:
        return decode_image(data, RULES)
    except BadImageError as err:
        return str(err)


def write_image(kind: str, **options: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / "file").write_bytes(encode(noise(9, 7, 3), kind, **options))


def write_idx(folder: Path) -> None:
    for prefix, rows in (("train", 6), ("t10k", 4)):
        data = encode_idx(np.zeros((rows, 3, 2), np.uint8))
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(data))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(encode_idx(np.arange(rows, dtype=np.uint8) % 2))


def write_npz(folder: Path) -> None:
    images, labels = np.zeros((6, 3, 2), np.uint8), np.arange(6) % 2
    np.savez(folder / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)


def write_cifar(folder: Path) -> None:
    batch = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [b"a", b"b", b"c", b"d"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def write_cifar_binary(folder: Path) -> None:
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        rows = np.zeros((3, 3073), np.uint8)
        rows[:, 0] = [0, 1, 9]
        (folder / name).write_bytes(rows.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"))


def write_tfrecord(folder: Path) -> None:
    records = [
        example({"image/encoded": picture(index), "image/class/label": index % 2}) for index in range(3)
    ]
    (folder / "a.tfrecord").write_bytes(b"".join(map(frame, records)))


def write_parquet_images(folder: Path) -> None:
    rows = [
        {"image": {"bytes": picture(index), "path": f"{index}.png"}, "label": index % 2} for index in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")


def write_table(ending: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        for index in range(4):
            (folder / f"{index}.png").write_bytes(picture(index))
        table = pd.DataFrame(
            {"path": [f"{i}.png" for i in range(4)], "label": list("abab"), "size": [1, 2, 3, 4]}
        )
        path = folder / f"table{ending}"
        if ending == ".csv":
            table.to_csv(path, index=False)
        elif ending == ".jsonl":
            table.to_json(path, orient="records", lines=True)
        else:
            table.to_parquet(path)

    return write


def read_table(ending: str) -> Callable[[Path], object]:
    return lambda folder: read_all(load_table(str(folder / f"table{ending}"), RULES, columns=TableColumns()))


def read_dataset(folder: Path) -> object:
    manifest = load_manifest(str(folder))
    split = manifest.split("test")
    return [
        read_range(str(folder), manifest, whole_shard(index, shard))
        for index, shard in enumerate(split.shards)
    ]


def write_shard(folder: Path) -> None:
    manifest = write_dataset_without_ray(str(folder / "data"))
    shard = manifest.split("test").shards[0]
    (folder / "file").write_bytes((folder / "data" / shard.name).read_bytes())


def write_checkpoint(folder: Path) -> None:
    config = to_dict(TrainConfig(model_options=ModelOptions(filters=(8, 4), pooling="none", dropout=0.5)))
    record = make_history([0.5])[0].to_document()
    uri = write_checkpoint_without_model(str(folder), 1, record=record, config=config)
    (folder / "file").write_bytes(Path(uri, layout.MANIFEST).read_bytes())


def read_checkpoint(folder: Path) -> object:
    uri = layout.checkpoint_uri(str(folder), 1)
    Path(uri, layout.MANIFEST).write_bytes((folder / "file").read_bytes())
    return find_checkpoint(uri)


def write_point(folder: Path) -> None:
    (folder / "state").write_bytes(b"weights")
    uri = write_resume_point(str(folder / "run"), 30, EpochPart(2, 10), folder / "state")
    (folder / "uri").write_text(uri)
    (folder / "file").write_bytes(Path(uri).read_bytes())


def read_point(folder: Path) -> object:
    uri = (folder / "uri").read_text()
    Path(uri).write_bytes((folder / "file").read_bytes())
    return find_resume_point(uri)


def write_report(folder: Path) -> None:
    name = write_metrics(str(folder))
    (folder / "id").write_text(name)
    (folder / "file").write_bytes(Path(layout.report_manifest(str(folder), name)).read_bytes())


def read_manifest_of_report(folder: Path) -> object:
    name = (folder / "id").read_text()
    Path(layout.report_manifest(str(folder), name)).write_bytes((folder / "file").read_bytes())
    return read_record(str(folder), name), read_report(str(folder), name), list_reports(str(folder))


def write_report_table(folder: Path) -> None:
    name = write_metrics(str(folder))
    (folder / "id").write_text(name)
    (folder / "file").write_bytes(Path(layout.report_table(str(folder), "overall", name)).read_bytes())


def read_report_table(folder: Path) -> object:
    name = (folder / "id").read_text()
    Path(layout.report_table(str(folder), "overall", name)).write_bytes((folder / "file").read_bytes())
    return read_report(str(folder), name)


def write_predictions(ending: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        probabilities = np.full((4, 3), 1 / 3)
        if ending == "parquet":
            pd.DataFrame(
                {"id": range(4), "probabilities": list(probabilities), "label": [0, 1, 2, 0]}
            ).to_parquet(folder / "p.parquet")
        else:
            columns = {name: probabilities[:, index] for index, name in enumerate(CLASS_NAMES)}
            pd.DataFrame({"id": range(4), **columns, "label": [0, 1, 2, 0]}).to_csv(
                folder / "p.csv", index=False
            )

    return write


def write_gate(folder: Path) -> None:
    (folder / "gate.toml").write_text(
        '[min_accuracy]\noverall = 0.8\n[min_accuracy.classes]\n"Coat" = 0.5\n[max_drop]\noverall = 0.02\n'
    )


def read_gate(folder: Path) -> object:
    made = MadeSlices(slice_by=(), corruptions=False, list_names=lambda dimensions: {})
    return select_gates(str(folder / "gate.toml"), [], str(folder), made=made)


def continue_run(folder: Path) -> object:
    record = find_run_record(str(folder))
    assert record is not None
    manifest = Manifest(
        class_names=CLASS_NAMES, image_shape=(8, 8, 1), splits={}, source="made up", source_digest="da7a"
    )
    with suppress(ConflictError):  # another dataset, or another config
        check_continues(record, TrainConfig(), manifest, str(folder))
    return record


def look_at_lease(folder: Path) -> object:
    return LeaseWatch(Lease(str(folder / "file"), what="test")).look()


PARSERS = {
    "jpeg": Parser("file", write_image("JPEG"), lambda folder: decode((folder / "file").read_bytes())),
    "png": Parser("file", write_image("PNG"), lambda folder: decode((folder / "file").read_bytes())),
    "webp": Parser("file", write_image("WEBP"), lambda folder: decode((folder / "file").read_bytes())),
    "bmp": Parser("file", write_image("BMP"), lambda folder: decode((folder / "file").read_bytes())),
    "tiff": Parser("file", write_image("TIFF"), lambda folder: decode((folder / "file").read_bytes())),
    "gif": Parser("file", write_image("GIF"), lambda folder: decode((folder / "file").read_bytes())),
    "idx": Parser("train-labels-idx1-ubyte", write_idx, lambda folder: load_idx(str(folder))),
    "idx-gzip": Parser("train-images-idx3-ubyte.gz", write_idx, lambda folder: load_idx(str(folder))),
    "npz": Parser("a.npz", write_npz, lambda folder: load_npz(str(folder / "a.npz"))),
    "cifar": Parser("data_batch_1", write_cifar, lambda folder: load_cifar(str(folder))),
    "cifar-meta": Parser("batches.meta", write_cifar, lambda folder: load_cifar(str(folder))),
    "cifar-binary": Parser("test_batch.bin", write_cifar_binary, lambda folder: load_cifar(str(folder))),
    "webdataset": Parser(
        "a.tar",
        lambda folder: write_tar(folder / "a.tar", samples(range(4))),
        lambda folder: read_all(load_webdataset(str(folder / "a.tar"), OPTIONS)),
    ),
    "tfrecord": Parser(
        "a.tfrecord",
        write_tfrecord,
        lambda folder: read_all(load_tfrecord(str(folder / "a.tfrecord"), OPTIONS)),
    ),
    "parquet-images": Parser(
        "a.parquet",
        write_parquet_images,
        lambda folder: read_all(load_parquet_images(str(folder / "a.parquet"), str(folder / "out"), OPTIONS)),
    ),
    **{
        f"table{ending}": Parser(f"table{ending}", write_table(ending), read_table(ending))
        for ending in (".csv", ".jsonl", ".parquet")
    },
    "dataset-manifest": Parser(
        "manifest.json", lambda folder: write_dataset_without_ray(str(folder)), read_dataset
    ),
    "shard": Parser(
        "file", write_shard, lambda folder: decode_shard((folder / "file").read_bytes(), "shard")
    ),
    "shard-labels": Parser(
        "file", write_shard, lambda folder: decode_labels((folder / "file").read_bytes(), "shard")
    ),
    "checkpoint-manifest": Parser("file", write_checkpoint, read_checkpoint),
    "resume-point": Parser("file", write_point, read_point),
    "run-record": Parser(
        "run.json",
        lambda folder: write_run_record(str(folder), TrainConfig(), "da7a"),
        continue_run,
    ),
    "history": Parser(
        "history.parquet",
        lambda folder: (folder / "history.parquet").write_bytes(encode_history(make_history([0.5, 0.6]))),
        lambda folder: find_history(str(folder)),
    ),
    "rollbacks": Parser(
        "rollbacks.json",
        lambda folder: add_rollback(str(folder), 2, "The loss is nan."),
        lambda folder: load_rollbacks(str(folder)),
    ),
    "lease": Parser(
        "file", lambda folder: (folder / "file").write_bytes(encode_lease("owner", 3)), look_at_lease
    ),
    "report-manifest": Parser("file", write_report, read_manifest_of_report),
    "report-table": Parser("file", write_report_table, read_report_table),
    **{
        f"predictions-{ending}": Parser(
            f"p.{ending}",
            write_predictions(ending),
            lambda folder, ending=ending: load_predictions(str(folder / f"p.{ending}"), CLASS_NAMES),
        )
        for ending in ("parquet", "csv")
    },
    "gate": Parser("gate.toml", write_gate, read_gate),
}

json_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draws a function that damages bytes: one to four times."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["cut", "flip", "insert", "delete", "double", "fill"]),
                st.floats(0, 1),
                st.floats(0, 1),
                st.binary(min_size=1, max_size=8),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def damage(data: bytes) -> bytes:
        for kind, first, last, new in steps:
            start, stop = sorted((int(first * len(data)), int(last * len(data))))
            middle = data[start:stop]
            replaced = {
                "cut": data[:start],
                "flip": data[:start] + new + data[start + len(new) :],
                "insert": data[:start] + new + data[start:],
                "delete": data[:start] + data[min(stop, start + 8) :],
                "double": data[:stop] + middle[:4096] + data[stop:],
                "fill": data[:start] + bytes(len(middle)) + data[stop:],
            }
            data = replaced[kind]
        return data

    return damage


@st.composite
def changed_values(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draws a function that gives entries of a JSON document other values, or takes them away."""
    changes = draw(st.lists(st.tuples(st.floats(0, 1), st.booleans(), json_values), min_size=1, max_size=3))

    def damage(data: bytes) -> bytes:
        document = json.loads(data)
        for place, remove, value in changes:
            entries = list(_entries(document))
            if not entries:
                break
            container, key = entries[min(int(place * len(entries)), len(entries) - 1)]
            if remove:
                del container[key]
            else:
                container[key] = value
        return json.dumps(document).encode()

    return damage


def _entries(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _entries(inner)


def check(parser: Parser, damage: Callable[[bytes], bytes]) -> None:
    """Damages the file of a parser and parses it: any error that is not one of the project's fails the test."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        parser.write(folder)
        path = folder / parser.name
        path.write_bytes(damage(path.read_bytes()))
        with suppress(CnnlibError):
            parser.read(folder)


@pytest.mark.parametrize("name", PARSERS)
def test_the_file_itself_is_read(name: str, tmp_path: Path) -> None:
    PARSERS[name].write(tmp_path)
    assert PARSERS[name].read(tmp_path) is not None


@pytest.mark.parametrize("name", PARSERS)
@fuzzed
@given(damage=mutations())
def test_damaged_bytes_are_read_or_refused(name: str, damage: Callable[[bytes], bytes]) -> None:
    check(PARSERS[name], damage)


@pytest.mark.parametrize(
    "name",
    [
        "dataset-manifest",
        "checkpoint-manifest",
        "resume-point",
        "run-record",
        "rollbacks",
        "lease",
        "report-manifest",
    ],
)
@fuzzed
@given(damage=changed_values())
def test_documents_with_other_values_are_read_or_refused(name: str, damage: Callable[[bytes], bytes]) -> None:
    check(PARSERS[name], damage)
