"""WebDataset, TFRecord and Parquet: what every kind of good or broken file gives."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cnnlib.dataset.decode import ImageRules, decode_image
from cnnlib.dataset.encoding import ImageEncoding
from cnnlib.dataset.manifest import load_manifest
from cnnlib.dataset.reader import read_positions
from cnnlib.dataset.stream_writer import StreamOptions, run_in_threads, write_streamed
from cnnlib.dataset.streamed import StreamedSource, row_id
from cnnlib.dataset.verify import verify_dataset
from cnnlib.errors import ConfigError, DatasetError, NotFoundError
from cnnlib.sources.packed.example import parse_example
from cnnlib.sources.packed.parquet_images import load_parquet_images
from cnnlib.sources.packed.records import PackedOptions
from cnnlib.sources.packed.tfrecord import load_tfrecord
from cnnlib.sources.packed.webdataset import load_webdataset
from cnnlib.storage import files, layout
from tests.packed_files import (
    example,
    frame,
    picture,
    record,
    samples,
    write_hugging_face,
    write_tar,
    write_tfrecord,
)

GREY = ImageRules(channels=1)
Load = Callable[..., StreamedSource]


def options(**changes: Any) -> PackedOptions:
    return PackedOptions(rules=GREY, **changes)


def tars(folder: str, **changes: Any) -> StreamedSource:
    return load_webdataset(folder, options(**changes))


def tfrecords(folder: str, **changes: Any) -> StreamedSource:
    return load_tfrecord(folder, options(**changes))


def parquets(folder: str, **changes: Any) -> StreamedSource:
    return load_parquet_images(folder, f"{Path(folder).parent}/data", options(**changes))


def write_all(folder: Path, kind: str, split: str, numbers: range) -> None:
    if kind == "tar":
        write_tar(folder / f"{split}-000.tar", samples(numbers))
    elif kind == "tfrecord":
        write_tfrecord(folder / f"{split}-000.tfrecord", [record(number) for number in numbers])
    else:
        write_hugging_face(folder / f"{split}-00000-of-00001.parquet", numbers)


def problems(source: StreamedSource) -> Mapping[str, str]:
    return {each.key: each.problem for each in source.candidates if each.problem}


KINDS = pytest.mark.parametrize(
    ("kind", "load", "key"),
    [
        ("tar", tars, "train-000.tar/{0:04d}"),
        ("tfrecord", tfrecords, "train-000.tfrecord#{0}"),
        ("parquet", parquets, "train-00000-of-00001.parquet#{0}"),
    ],
)


@KINDS
def test_every_image_becomes_the_row_of_its_record(tmp_path: Path, kind: str, load: Load, key: str) -> None:
    for split, numbers in (("train", range(40)), ("validation", range(40, 60)), ("test", range(60, 75))):
        write_all(tmp_path / "in", kind, split, numbers)
    output = str(tmp_path / "data")
    source = load(str(tmp_path / "in"))
    small = StreamOptions(shard_bytes=640)
    manifest = write_streamed(source, output, small, run_in_threads).manifest
    assert {name: split.rows for name, split in manifest.splits.items()} == {
        "train": 40,
        "val": 20,
        "test": 15,
    }
    assert verify_dataset(output, manifest) == {"train": 40, "val": 20, "test": 15}
    rows = read_positions(output, manifest, manifest.split("train"), np.arange(40))
    found = dict(zip(rows.ids.tolist(), rows.images, strict=True))
    labels = dict(zip(rows.ids.tolist(), rows.labels.tolist(), strict=True))
    for number in range(40):
        row = row_id(key.format(number))
        np.testing.assert_array_equal(found[row], decode_image(picture(number), GREY))
        assert labels[row] == number % 2
    assert files.list_objects(layout.prepare_marks(output)) == [], "nothing is left but the dataset"
    again = write_streamed(load(str(tmp_path / "in")), output, small, run_in_threads)
    assert not again.created
    assert again.manifest.fingerprint == manifest.fingerprint == load_manifest(output).fingerprint
    assert files.list_objects(layout.prepare_marks(output)) == []


@KINDS
def test_ids_do_not_depend_on_other_files_and_one_split_may_be_divided(
    tmp_path: Path, kind: str, load: Load, key: str
) -> None:
    write_all(tmp_path / "in", kind, "train", range(30))
    alone = load(str(tmp_path / "in"))
    assert {each.split for each in alone.candidates} == {"train"}
    divided = load(str(tmp_path / "in"), splits=["train=0.5", "val=0.5"])
    assert {each.split for each in divided.candidates} == {None}
    write_all(tmp_path / "in", kind, "test", range(30, 40))
    both = load(str(tmp_path / "in"))
    assert {each.key for each in alone.candidates} < {each.key for each in both.candidates}
    with pytest.raises(ConfigError, match=r"state the splits test, train\. Leave out --splits"):
        load(str(tmp_path / "in"), splits=["train=0.5", "val=0.5"])
    write_all(tmp_path / "in", kind, "more", range(40, 50))
    with pytest.raises(
        DatasetError, match="Expected train, val or test in the name of every file, or of none"
    ):
        load(str(tmp_path / "in"))


@KINDS
def test_a_source_without_files_is_an_error(tmp_path: Path, kind: str, load: Load, key: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    for pattern in (tmp_path / "in", tmp_path / "in" / "train-*", tmp_path / "nowhere"):
        with pytest.raises(NotFoundError):
            load(str(pattern))


@KINDS
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, kind: str, load: Load, key: str) -> None:
    write_all(tmp_path / "in", kind, "train", range(30))
    [path] = (tmp_path / "in").iterdir()
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) // 3 + 7, 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(DatasetError, match=path.name):
            load(str(tmp_path / "in"))
    path.write_bytes(b"<html>no such file</html>" * 50)
    with pytest.raises(DatasetError, match=path.name):
        load(str(tmp_path / "in"))


def test_braces_name_files_that_must_all_be_there(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / "in" / f"train-{number:03d}.tar", samples(range(4 * number, 4 * number + 4)))
    pattern = str(tmp_path / "in" / "train-{000..001}.tar")
    by_pattern = {each.key for each in tars(pattern).candidates}
    assert by_pattern == {f"train-{n // 4:03d}.tar/{n:04d}" for n in range(8)}
    assert by_pattern < {each.key for each in tars(str(tmp_path / "in")).candidates}
    with pytest.raises(NotFoundError, match=r"1 of 4 files are missing\. First: .*train-003\.tar\."):
        tars(str(tmp_path / "in" / "train-{000..003}.tar"))
    with pytest.raises(ConfigError, match="stands for more than 1,000,000 files"):
        tars(str(tmp_path / "in" / "train-{0..9999999}.tar"))
    assert len(tars(str(tmp_path / "in" / "{train-000,train-002}.tar")).candidates) == 8


def test_a_pattern_is_meant_as_a_shell_means_it(tmp_path: Path) -> None:
    places = ("train-0", "a/train-1", "a/b/train-2", "a/_half/train-3")
    for number, place in enumerate(places):
        write_tar(tmp_path / "in" / f"{place}.tar", samples(range(4 * number, 4 * number + 4)))

    def found(pattern: str) -> set[str]:
        return {each.key.rpartition("/")[0] for each in tars(str(tmp_path / "in" / pattern)).candidates}

    assert found("*.tar") == {"train-0.tar"}
    assert found("*/train-?.tar") == {"a/train-1.tar"}
    assert found("**/*.tar") == {"train-0.tar", "a/train-1.tar", "a/b/train-2.tar"}
    assert found("a/**/*[0-9].tar") == {"train-1.tar", "b/train-2.tar"}
    assert found("{a/train-1,a/b/train-2}.tar") == {"train-1.tar", "b/train-2.tar"}
    assert found("train-{0..0}.tar") == {"train-0.tar"}


@pytest.mark.parametrize("name", ["[a]", "{a,b}", "wh?t"])
def test_a_folder_or_a_file_may_be_called_like_a_pattern(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name / f"{name}.tar", samples(range(4)))
    assert len(tars(str(path)).candidates) == len(tars(str(path.parent)).candidates) == 4


@pytest.mark.parametrize("encoding", [None, ImageEncoding(format="png", rules=GREY)])
def test_shards_of_a_dataset_are_no_source(tmp_path: Path, encoding: ImageEncoding | None) -> None:
    write_hugging_face(tmp_path / "in" / "train.parquet", range(20))
    output = str(tmp_path / "in" / "data")
    source = load_parquet_images(str(tmp_path / "in"), output, options())
    write_streamed(source, output, StreamOptions(encoding=encoding), run_in_threads)
    for pattern in (tmp_path / "in", tmp_path / "in" / "**" / "*.parquet"):
        with pytest.raises(
            DatasetError, match=r"in/data/train/part-.* is a shard of a dataset that jobs\.prepare"
        ):
            parquets(str(pattern))
    assert len(parquets(str(tmp_path / "in" / "t*.parquet")).candidates) == 20


def test_labels_of_webdataset_are_names_numbers_or_a_field_of_json(tmp_path: Path) -> None:
    described = [
        ("a/1.PNG", picture(1)),
        ("a/1.json", json.dumps({"label": 1, "place": "zoo", "boxes": [1]}).encode()),
        ("b/1.png", picture(2)),
        ("b/1.json", json.dumps({"label": 0, "place": "home", "other": 7}).encode()),
        ("__licence.txt", b"free"),
    ]
    write_tar(tmp_path / "in" / "x.tar", described)
    source = tars(str(tmp_path / "in"), class_names=("dog", "cat"))
    assert [(each.key, each.label, dict(each.metadata)) for each in source.candidates] == [
        ("x.tar/a/1", 1, {"other": None, "place": "zoo"}),
        ("x.tar/b/1", 0, {"other": 7, "place": "home"}),
    ]
    by_place = tars(str(tmp_path / "in" / "x.tar"), label_column="place")
    assert by_place.class_names == ("home", "zoo")
    write_tar(
        tmp_path / "in" / "x.tar",
        [("1.png", picture(1)), ("1.cls", b"10\n"), ("2.png", picture(2)), ("2.cls", b"9")],
    )
    assert tars(str(tmp_path / "in")).class_names == ("9", "10")


def test_what_is_wrong_with_a_sample_is_its_reason(tmp_path: Path) -> None:
    members = [
        *samples(range(4)),
        ("no-label.png", picture(1)),
        ("no-image.cls", b"cat"),
        ("two.png", picture(1)),
        ("two.jpg", picture(2, "JPEG")),
        ("two.cls", b"cat"),
        ("bad.png", picture(3)),
        ("bad.json", b"{no json"),
        ("three.png", picture(3)),
        ("three.cls", b"cat"),
        ("three.cls", b"dog"),
    ]
    write_tar(tmp_path / "in" / "a.tar", members)
    assert problems(tars(str(tmp_path / "in"))) == {
        "a.tar/no-label": "no label, or an unknown one",
        "a.tar/no-image": "no image",
        "a.tar/two": "several images of one name",
        "a.tar/bad": ".json cannot be read",
        "a.tar/three": "several .cls of one name",
    }


def test_a_tar_file_with_a_damaged_header_or_a_second_one_behind_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "in" / "a.tar", samples(range(20)))
    whole = path.read_bytes()
    damaged = bytearray(whole)
    with tarfile.open(path) as archive:
        header = archive.getmembers()[9].offset
    damaged[header + 148 : header + 156] = b"xxxxxxxx"  # its checksum
    for data in (bytes(damaged), whole + whole):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match="damaged, or more than one tar file, after its byte"):
            tars(str(tmp_path / "in"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz"):
        pass
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DatasetError, match="Expected a tar file without compression"):
        tars(str(tmp_path / "in"))


def test_a_record_with_a_wrong_checksum_or_without_an_image_is_a_bad_row(tmp_path: Path) -> None:
    records = [record(number) for number in range(6)]
    path = write_tfrecord(tmp_path / "in" / "a.tfrecord", records)
    data = bytearray(path.read_bytes())
    data[len(frame(records[0])) + 30] ^= 1
    no_image = example({"image/encoded": 5, "image/class/label": 1})
    no_label = example({"image/encoded": picture(1)})
    path.write_bytes(bytes(data) + frame(no_image) + frame(b"\xff\xff no example") + frame(no_label))
    assert problems(tfrecords(str(tmp_path / "in"))) == {
        "a.tfrecord#1": "the record's checksum is wrong",
        "a.tfrecord#6": "no image",
        "a.tfrecord#7": "the record is no tf.train.Example",
        "a.tfrecord#8": "no label, or an unknown one",
    }


def test_features_of_other_names_are_found_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.tfrecord"
    write_tfrecord(
        path, [example({"image": picture(n), "label": n % 3, "score": 0.5, "site": "x"}) for n in range(6)]
    )
    source = tfrecords(str(path))
    assert source.class_names == ("0", "1", "2")
    assert dict(source.metadata) == {"score": "float64", "site": "string"}
    write_tfrecord(path, [example({"pixels": picture(n), "label": n % 2}) for n in range(6)])
    with pytest.raises(
        ConfigError,
        match=r"without a feature called image/encoded.*It has label, pixels\. Give --image-column",
    ):
        tfrecords(str(path))
    assert not problems(tfrecords(str(path), image_column="pixels"))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DatasetError, match="is compressed"):
        tfrecords(str(path))


def test_files_of_tensorflow_itself_are_read(tmp_path: Path) -> None:
    import tensorflow as tf

    (tmp_path / "in").mkdir()
    expected = []
    with tf.io.TFRecordWriter(str(tmp_path / "in" / "a.tfrecord")) as writer:
        for number in range(5):
            features = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture(number)])),
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2])),
                "weights": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, -2.0])),
                "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[-number])),
            }
            data = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
            expected.append(parse_example(data))
            writer.write(data)
    assert expected[3] == {
        "image/encoded": [picture(3)],
        "image/class/label": [1],
        "weights": [0.5, -2.0],
        "number": [-3],
    }
    source = tfrecords(str(tmp_path / "in"))
    for number, each in enumerate(source.candidates):
        content, _ = source.read(each.location)
        assert (content, each.label, each.metadata["number"]) == (picture(number), number % 2, -number)


def test_parquet_of_other_columns_is_found_or_asked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.parquet"
    table = {
        "jpg": pa.array([picture(n) for n in range(9)]),
        "target": pa.array([f"class {n % 3}" for n in range(9)]),
        "subset": pa.array(["train"] * 6 + ["test"] * 3),
        "camera": pa.array([n * 0.5 for n in range(9)]),
        "boxes": pa.array([[1, 2]] * 9),
    }
    pq.write_table(pa.table(table), path)
    source = parquets(str(path))
    assert source.class_names == ("class 0", "class 1", "class 2")
    assert [each.split for each in source.candidates] == ["train"] * 6 + ["test"] * 3
    assert dict(source.metadata) == {"camera": "float64"}
    pq.write_table(pa.table({**table, "mask": table["jpg"]}), path)
    with pytest.raises(ConfigError, match="Columns of bytes: jpg, mask"):
        parquets(str(path))
    assert len(parquets(str(path), image_column="jpg").candidates) == 9
    with pytest.raises(ConfigError, match="'camera' is no image column"):
        parquets(str(path), image_column="camera")


def test_rows_of_hugging_face_without_an_image_or_a_label_are_bad_rows(tmp_path: Path) -> None:
    path = write_hugging_face(tmp_path / "in" / "train.parquet", range(6))
    table = pq.read_table(path)
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    images[1], images[2], labels[3], labels[4] = None, {"bytes": None, "path": "x.png"}, -1, None
    changed = pa.table({"image": pa.array(images, table["image"].type), "label": pa.array(labels)})
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    source = parquets(str(tmp_path / "in"))
    assert source.class_names == ("cat", "dog")
    assert problems(source) == {
        "train.parquet#1": "no image",
        "train.parquet#2": "only a path, no bytes",
        "train.parquet#3": "no label, or an unknown one",
        "train.parquet#4": "no label, or an unknown one",
    }


def test_files_of_different_classes_are_refused(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "in" / "train-0.parquet", range(6))
    path = write_hugging_face(tmp_path / "in" / "train-1.parquet", range(6))
    table = pq.read_table(path)
    names = {
        b"huggingface": json.dumps({"info": {"features": {"label": {"names": ["dog", "cat"]}}}}).encode()
    }
    pq.write_table(table.replace_schema_metadata(names), path)
    with pytest.raises(DatasetError, match="have different classes: cat, dog, … and dog, cat"):
        parquets(str(tmp_path / "in"))


def test_a_preparation_that_fails_leaves_no_copies(tmp_path: Path) -> None:
    path = write_hugging_face(tmp_path / "in" / "train.parquet", range(20))
    table = pq.read_table(path)
    broken = [{"bytes": b"no image", "path": None}] * 20
    pq.write_table(pa.table({"image": pa.array(broken, table["image"].type), "label": table["label"]}), path)
    with pytest.raises(DatasetError, match="none of the 20 images can be used"):
        write_streamed(parquets(str(path)), str(tmp_path / "data"), StreamOptions(), run_in_threads)
    assert not list((tmp_path / "data").rglob("images-*"))


def test_labels_that_are_names_in_some_records_and_numbers_in_others_are_refused(tmp_path: Path) -> None:
    labels = ["cat", 3]
    write_tfrecord(
        tmp_path / "in" / "x.tfrecord", [example({"image": picture(1), "label": each}) for each in labels]
    )
    with pytest.raises(
        DatasetError, match=r"names and some are numbers: 'cat' of x\.tfrecord#0 and 3 of x\.tfrecord#1\."
    ):
        tfrecords(str(tmp_path / "in"))
    source = tfrecords(str(tmp_path / "in"), class_names=("cat", "3"))
    assert [each.label for each in source.candidates] == [0, 1]


def test_truth_values_and_numbers_are_two_kinds_of_labels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, labels in (("a", [True, False]), ("b", [1, 0])):
        rows = {"image": pa.array([picture(n) for n in range(2)]), "label": pa.array(labels)}
        pq.write_table(pa.table(rows), tmp_path / "in" / f"{name}.parquet")
    with pytest.raises(
        DatasetError, match=r"some are truth values: 1 of b\.parquet#0 and True of a\.parquet#0"
    ):
        parquets(str(tmp_path / "in"))


def labelled(labels: Sequence[str]) -> list[tuple[str, bytes]]:
    """Returns samples with these texts in their `.cls`."""
    return [
        member
        for number, label in enumerate(labels)
        for member in ((f"{number}.png", picture(number)), (f"{number}.cls", label.encode()))
    ]


def test_texts_name_the_numbers_of_a_tfrecord_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"

    def load_pairs(pairs: Sequence[tuple[int, str]]) -> StreamedSource:
        names = ("image/class/label", "image/class/text")
        features = [dict(zip(names, pair, strict=True)) for pair in pairs]
        write_tfrecord(path, [example({"image": picture(1), **each}) for each in features])
        return tfrecords(str(path))

    source = load_pairs([(2, "ape"), (1, "zebra"), (3, "crane"), (4, "crane")])
    assert source.class_names == ("zebra", "ape", "crane (3)", "crane (4)")
    assert [each.label for each in source.candidates] == [1, 0, 2, 3]
    assert load_pairs([(2, ""), (1, "")]).class_names == ("1", "2")
    assert tfrecords(str(path), label_column="image/class/label").class_names == ("1", "2")
    write_tfrecord(path, [example({"image": picture(1), "image/class/text": each}) for each in ("b", "a")])
    assert tfrecords(str(path)).class_names == ("a", "b")


def test_what_holds_no_label_says_where_one_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    write_tfrecord(path, [example({"image": picture(n), "label": n, "place": "zoo"}) for n in range(2)])
    with pytest.raises(
        DatasetError, match=r"has no label in any row.*image in kind.*there are also label, place"
    ):
        tfrecords(str(path), label_column="kind")
    for ending, message in (
        ("txt", r"no sample has a label\. Its members end in \.png, \.txt\. Expected KEY\.jpg"),
        ("v1.png", r"no sample has an image\. Its members end in \.v1\.png\."),
    ):
        members = [(f"{n}.png" if ending == "txt" else f"{n}.v1.png", picture(n)) for n in range(2)]
        write_tar(tmp_path / "a.tar", [*members, ("x.txt", b"")] if ending == "txt" else members)
        with pytest.raises(DatasetError, match=message):
            tars(str(tmp_path / "a.tar"))


def test_names_of_some_parquet_files_only_are_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hugging_face(tmp_path / "in" / "train-0.parquet", range(6))
    path = write_hugging_face(tmp_path / "in" / "train-1.parquet", range(6))
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert parquets(str(tmp_path / "in")).class_names == ("0", "1")
    assert "are not used, because train-1.parquet states none" in capsys.readouterr().err


def test_long_numbers_and_texts_with_a_byte_order_mark_are_labels(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", labelled(["9" * 5000, "\ufeffcat", "cat"]))
    assert tars(str(tmp_path / "a.tar")).class_names == ("9" * 5000, "cat")


def test_labels_of_webdataset_are_numbers_only_if_all_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tar(tmp_path / "in" / "a.tar", labelled(["7", "10", "2"]))
    assert tars(str(tmp_path / "in")).class_names == ("2", "7", "10")
    write_tar(tmp_path / "in" / "b.tar", labelled(["A", "7", " "]))
    source = tars(str(tmp_path / "in"))
    assert source.class_names == ("10", "2", "7", "A")
    assert [each.label for each in source.candidates] == [2, 0, 1, 3, 2, None]
    assert "classes that are numbers among names: 10, 2, 7" in capsys.readouterr().err
    by_hand = tars(str(tmp_path / "in"), class_names=("A", "7", "2", "10"))
    assert [each.label for each in by_hand.candidates] == [1, 3, 2, 0, 1, None]
    write_tar(tmp_path / "in" / "b.tar", labelled(["07", "08"]))
    assert tars(str(tmp_path / "in")).class_names == ("07", "08", "10", "2", "7")


def test_a_list_in_json_is_no_label(tmp_path: Path) -> None:
    members = samples(range(4))
    members += [("x.png", picture(1)), ("x.json", json.dumps({"label": [0, 1]}).encode())]
    write_tar(tmp_path / "in" / "a.tar", members)
    assert problems(tars(str(tmp_path / "in"))) == {"a.tar/x": "the label is no name or number"}


@pytest.mark.parametrize("kind", ["tar", "tfrecord", "parquet"])
def test_fractions_are_no_labels_of_packed_files_and_whole_numbers_are(tmp_path: Path, kind: str) -> None:
    def load_labels(labels: Sequence[float]) -> StreamedSource:
        path = tmp_path / "in" / f"x.{kind}"
        path.parent.mkdir(exist_ok=True)
        if kind == "tar":
            fields = [json.dumps({"label": each}).encode() for each in labels]
            members = [(f"{n}.png", picture(n)) for n in range(len(labels))]
            write_tar(path, members + [(f"{n}.json", each) for n, each in enumerate(fields)])
            return tars(str(path))
        if kind == "tfrecord":
            write_tfrecord(path, [example({"image": picture(1), "label": each}) for each in labels])
            return tfrecords(str(path))
        images = pa.array([picture(n) for n in range(len(labels))])
        pq.write_table(pa.table({"image": images, "label": pa.array(labels)}), path)
        return parquets(str(path))

    source = load_labels([3.0, 1.0, 3.0, float("nan")])
    assert source.class_names == ("1", "3")
    assert [each.label for each in source.candidates] == [1, 0, 1, None]
    with pytest.raises(DatasetError, match=r"are numbers, and 2\.5 is no whole one"):
        load_labels([3.0, 1.0, 2.5])


def test_lists_are_no_labels_of_parquet(tmp_path: Path) -> None:
    rows = {"image": pa.array([picture(1)]), "label": pa.array([[0, 1]])}
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match=r"are of the type list.*Expected one name or number for every"):
        parquets(str(tmp_path / "x.parquet"))


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    images, labels = pa.array([picture(n) for n in range(2)]), pa.array(["cat", "dog"])
    for name in ("label", "camera"):
        columns = pa.Table.from_arrays([images, labels, labels, labels], names=["image", "label", name, name])
        pq.write_table(columns, tmp_path / "x.parquet")
        with pytest.raises(DatasetError, match=f"has two columns called '{name}'"):
            parquets(str(tmp_path / "x.parquet"))


def test_files_whose_labels_are_in_different_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, column in (("a", "label"), ("b", "category")):
        rows = {"image": pa.array([picture(n) for n in range(2)]), column: pa.array(["cat", "dog"])}
        pq.write_table(pa.table(rows), tmp_path / "in" / f"{name}.parquet")
    with pytest.raises(
        DatasetError, match=r"label of a\.parquet#0 is its label, and that of b\.parquet#0 its category"
    ):
        parquets(str(tmp_path / "in"))


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_two_fields_of_labels_that_disagree_are_refused_until_one_is_named(tmp_path: Path, kind: str) -> None:
    pairs = [("crane", 0), ("dog", 1), ("crane", 2)]
    path = tmp_path / "in" / f"x.{kind}"
    path.parent.mkdir()
    load: Load
    if kind == "tar":
        load, names = tars, ("cls", "label")
        numbers = [
            (f"{n}.json", json.dumps({"label": number}).encode()) for n, (_, number) in enumerate(pairs)
        ]
        write_tar(path, [*labelled([text for text, _ in pairs]), *numbers])
    else:
        load, names = parquets, ("label", "target")
        columns = {name: pa.array([pair[side] for pair in pairs]) for side, name in enumerate(names)}
        pq.write_table(pa.table({"image": pa.array([picture(n) for n in range(3)]), **columns}), path)
    with pytest.raises(
        DatasetError, match=f"they disagree: rows whose {names[0]} is 'crane' have the {names[1]} 0 or 2"
    ):
        load(str(path))
    assert load(str(path), label_column=names[0]).class_names == ("crane", "dog")
    assert load(str(path), label_column=names[1]).class_names == ("0", "1", "2")


def test_a_field_of_names_names_the_numbers_of_a_packed_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["zebra", "ape"]
    members = []
    for number in range(4):
        fields = {"label": number % 2, "class_name": names[number % 2]}
        members += [(f"{number}.png", picture(number)), (f"{number}.json", json.dumps(fields).encode())]
    write_tar(tmp_path / "in" / "x.tar", members)
    source = tars(str(tmp_path / "in"))
    assert source.class_names == ("zebra", "ape")
    assert [each.label for each in source.candidates] == [0, 1, 0, 1]
    assert "the class names are those of class_name" in capsys.readouterr().err
    assert [each.label for each in tars(str(tmp_path / "in"), first_label=1).candidates] == [0, 1, 0, 1]
    members[-1] = ("3.json", json.dumps({"label": 1, "class_name": "zebra"}).encode())
    write_tar(tmp_path / "in" / "x.tar", members)
    with pytest.raises(DatasetError, match="contradict each other"):
        tars(str(tmp_path / "in"))
    assert tars(str(tmp_path / "in"), label_column="label").class_names == ("0", "1")


def test_files_of_splits_that_count_from_different_numbers_are_refused(tmp_path: Path) -> None:
    for split, first in (("train", 1), ("test", 0)):
        rows = {
            "image": pa.array([picture(n) for n in range(6)]),
            "label": pa.array([first + n % 3 for n in range(6)]),
        }
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(pa.table(rows), tmp_path / "in" / f"{split}.parquet")
    with pytest.raises(DatasetError, match=r"are 0\.\.2 in test|are 1\.\.3 in train and 0\.\.2 in test"):
        parquets(str(tmp_path / "in"))


def test_columns_of_some_files_only_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for name, more in (("a", {}), ("b", {"camera": pa.array([1, 2])})):
        rows = {"image": pa.array([picture(n) for n in range(2)]), "label": pa.array(["cat", "dog"]), **more}
        pq.write_table(pa.table(rows), tmp_path / "in" / f"{name}.parquet")
    source = parquets(str(tmp_path / "in"))
    assert [each.metadata["camera"] for each in source.candidates] == [None, None, 1, 2]
    assert "columns of some files only, null in the others: camera" in capsys.readouterr().err


def test_what_lacks_is_said_images_or_labels(tmp_path: Path) -> None:
    write_tar(tmp_path / "heic" / "a.tar", [("1.heic", b"x"), ("1.cls", b"cat")])
    with pytest.raises(DatasetError, match=r"no sample has an image\. Its members end in \.cls, \.heic"):
        tars(str(tmp_path / "heic"))
    twice = [("1.png", picture(1)), ("1.png", picture(2)), ("1.cls", b"cat")]
    write_tar(tmp_path / "twice" / "a.tar", twice)
    with pytest.raises(
        DatasetError, match=r"no sample can be used\. First: a\.tar/1: several images of one name\."
    ):
        tars(str(tmp_path / "twice"))


def test_of_several_image_columns_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [picture(1)], "thumb": [picture(2)], "label": ["cat"]}), path)
    with pytest.raises(
        ConfigError, match=r"several columns may hold the images\. Columns of bytes: image, thumb"
    ):
        parquets(str(path))
