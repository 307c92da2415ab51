"""A table that names images becomes candidates: labels, splits, metadata, and rows that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cnnlib.dataset.decode import ImageRules
from cnnlib.dataset.streamed import BadImageError, StreamedSource
from cnnlib.errors import ConfigError, DatasetError, NotFoundError
from cnnlib.sources.table import TableColumns, load_table
from tests.image_files import encode, noise

ROWS: list[dict[str, Any]] = [
    {"path": "a.png", "label": "cat", "camera": "old", "size_mm": 1.5, "indoors": True, "split": "train"},
    {"path": "b/c.png", "label": "dog", "camera": None, "size_mm": None, "indoors": False, "split": "test"},
]


def load(uri: Path, columns: TableColumns | None = None, **options: Any) -> StreamedSource:
    return load_table(str(uri), ImageRules(channels=1), columns=columns or TableColumns(), **options)


def write(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"images.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        separator = {"csv": ",", "tsv": "\t"}[kind]
        lines = [separator.join("" if each is None else str(each) for each in row.values()) for row in rows]
        path.write_text("\n".join([separator.join(rows[0]), *lines]))
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_table_gives_the_same_candidates(tmp_path: Path, kind: str) -> None:
    source = load(write(tmp_path, kind, ROWS))
    assert source.class_names == ("cat", "dog")
    assert source.metadata == {"camera": "string", "size_mm": "float64", "indoors": "bool"}
    first, second = source.candidates
    assert (first.key, first.label, first.split) == ("a.png", 0, "train")
    assert dict(first.metadata) == {"camera": "old", "size_mm": 1.5, "indoors": True}
    assert (second.key, second.label, second.split) == ("b/c.png", 1, "test")
    assert second.metadata["size_mm"] is None


def test_paths_are_relative_to_the_table_or_absolute_or_uris(tmp_path: Path, s3_uri: str) -> None:
    from cnnlib.storage import files

    data = encode(noise(4, 4, 1))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(data)
    files.write_bytes(f"{s3_uri}/c.png", data)
    paths = ["a.png", str(tmp_path / "b.png"), f"{s3_uri}/c.png"]
    source = load(write(tmp_path, "csv", [{"path": path, "label": "x"} for path in paths]))
    assert [source.read(each.key)[0] for each in source.candidates] == [data] * 3


def test_numbers_are_classes(tmp_path: Path) -> None:
    rows = [{"file": f"{number}.png", "target": number} for number in (3, 7, 3)]
    table = write(tmp_path, "csv", rows)
    assert load(table).class_names == ("3", "7")
    assert [each.label for each in load(table).candidates] == [0, 1, 0]
    names = [f"class {number}" for number in range(8)]
    assert [each.label for each in load(table, class_names=names).candidates] == [3, 7, 3]


def test_numbers_from_1_with_as_many_names_begin_with_the_first_name(tmp_path: Path) -> None:
    table = write(tmp_path, "csv", [{"path": f"{number}.png", "label": number} for number in (1, 2, 3)])
    assert [each.label for each in load(table, class_names=["a", "b", "c"]).candidates] == [0, 1, 2]


def test_numbers_that_may_count_from_0_or_1_need_a_word(tmp_path: Path) -> None:
    table = write(tmp_path, "csv", [{"path": f"{number}.png", "label": number} for number in (1, 2)])
    names = ["red", "green", "blue"]
    with pytest.raises(
        ConfigError, match=r"--first-label=0 if 1 is 'green', or --first-label=1 if it is 'red'"
    ):
        load(table, class_names=names)
    for first, expected in ((0, [1, 2]), (1, [0, 1])):
        source = load(table, TableColumns(first_label=first), class_names=names)
        assert [each.label for each in source.candidates] == expected


@pytest.mark.parametrize("labels", [(1, 2, 3, 9), (0, 1, 2, 3), (-1, 1, 2, 4), (5, 6, 7)])
def test_numbers_that_have_no_name_need_a_word(tmp_path: Path, labels: tuple[int, ...]) -> None:
    rows = [{"path": f"{number}.png", "label": number} for number in labels]
    table, names = write(tmp_path, "csv", rows), ["red", "green", "blue"]
    with pytest.raises(
        ConfigError, match=r"there are 3 class names\. Give more of them, or --first-label with the"
    ):
        load(table, class_names=names)
    source = load(table, TableColumns(first_label=1), class_names=names)
    assert [each.label for each in source.candidates] == [
        number - 1 if number in (1, 2, 3) else None for number in labels
    ]


def test_a_number_below_0_does_not_hide_that_labels_count_from_1(tmp_path: Path) -> None:
    rows = [{"path": f"{number}.png", "label": number} for number in (-1, 1, 2, 3)]
    source = load(write(tmp_path, "csv", rows), class_names=["red", "green", "blue"])
    assert [each.label for each in source.candidates] == [None, 0, 1, 2]


def test_rows_that_cannot_be_used_keep_their_reason(tmp_path: Path) -> None:
    rows = [
        {"path": "a.png", "label": "cat"},
        {"path": "b.png", "label": "dog"},
        {"path": "a.png", "label": "cat"},
        {"path": None, "label": "cat"},
        {"path": "c.png", "label": None},
        {"path": "d.png", "label": "cow"},
    ]
    source = load(write(tmp_path, "jsonl", rows), class_names=["dog", "cat"])
    assert [(each.key, each.problem) for each in source.candidates[2:]] == [
        ("a.png (row 3)", "the path is in the table twice"),
        ("row 4 of the table", "no path"),
        ("c.png", "no label, or an unknown one"),
        ("d.png", "no label, or an unknown one"),
    ]


def test_labels_of_pandas_are_numbers_or_missing(tmp_path: Path) -> None:
    rows = [
        {"path": f"{row}.png", "label": label} for row, label in enumerate((0.0, 2.0, float("nan"), None))
    ]
    source = load(write(tmp_path, "parquet", rows))
    assert source.class_names == ("0", "2")
    assert [(each.label, bool(each.problem)) for each in source.candidates] == [
        (0, False),
        (1, False),
        (None, True),
        (None, True),
    ]


def test_one_file_has_one_row_however_its_path_is_written(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    paths = ["img/x.png", "./img/x.png", "../t/img/x.png", f"{tmp_path}/t/img/x.png", "img/y.png"]
    source = load(write(tmp_path / "t", "csv", [{"path": path, "label": "cat"} for path in paths]))
    assert [each.key for each in source.candidates if not each.problem] == ["img/x.png", "img/y.png"]
    assert [each.problem for each in source.candidates[1:4]] == ["the path is in the table twice"] * 3


def test_labels_that_begin_with_0_are_names(tmp_path: Path) -> None:
    rows = [
        {"path": f"{row}.png", "label": label, "zip": zip_}
        for row, (label, zip_) in enumerate((("007", "01234"), ("7", "99999"), ("010", "")))
    ]
    source = load(write(tmp_path, "csv", rows))
    assert source.class_names == ("007", "010", "7")
    assert [each.metadata["zip"] for each in source.candidates] == ["01234", "99999", None]


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (["true", "false"], ("false", "true")),
        (["1e5", "100000"], ("100000", "1e5")),
        (["0x1", "0x2"], ("0x1", "0x2")),
        (["+1", "1"], ("+1", "1")),
        (["2020-01-01", "2020-01-02"], ("2020-01-01", "2020-01-02")),
        (["10:30", "9:30"], ("10:30", "9:30")),
        (["2.0", "10"], ("2", "10")),
        (["9223372036854775808", "9223372036854775809"], ("9223372036854775808", "9223372036854775809")),
        (["-1", "7"], ("-1", "7")),
    ],
)
@pytest.mark.parametrize("name", ["label", "kind"])
def test_labels_of_csv_are_as_they_were_written(
    tmp_path: Path, written: list[str], classes: tuple[str, ...], name: str
) -> None:
    rows = [{"path": f"{row}.png", name: label} for row, label in enumerate([*written, ""])]
    source = load(write(tmp_path, "csv", rows), TableColumns(label=None if name == "label" else name))
    assert source.class_names == classes
    assert [each.label is None for each in source.candidates] == [False, False, True]


def test_labels_that_look_the_same_are_one_class(tmp_path: Path) -> None:
    composed, apart = "M\u00fcnze", "Mu\u0308nze"
    rows = [{"path": f"{row}.png", "label": label} for row, label in enumerate((composed, apart, "cat"))]
    table = write(tmp_path, "csv", rows)
    assert load(table).class_names == (composed, "cat")
    for name in (composed, apart):
        source = load(table, class_names=["cat", name])
        assert (source.class_names, [each.label for each in source.candidates]) == (("cat", name), [1, 1, 0])


def test_dates_are_as_they_were_written(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl"):
        rows = [
            {"path": f"{day}.png", "label": f"2020-01-0{day}", "at": f"2020-01-0{day}T10:00"}
            for day in (1, 2)
        ]
        source = load(write(tmp_path, kind, rows))
        assert source.class_names == ("2020-01-01", "2020-01-02")
        assert [each.metadata["at"] for each in source.candidates] == ["2020-01-01T10:00", "2020-01-02T10:00"]


def test_spaces_around_a_path_and_backslashes_in_it_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", " b.png", "sub/c.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "x.csv").write_text("label,path\ncat, a.png \ncat, b.png\ndog, sub\\c.png\ndog,.\\a.png\n")
    candidates = load(tmp_path / "x.csv").candidates
    assert [each.key for each in candidates] == ["a.png", " b.png", "sub/c.png", "a.png (row 4)"]
    assert candidates[3].problem == "the path is in the table twice"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png,cat\nb.png,dog\n", r"The first line of .* has 'a\.png'\. Expected the names of the columns"),
        (
            "path;label\na.png;cat\n",
            r"has one column, 'path;label'\. Expected commas between columns in \.csv",
        ),
        ("path\tlabel\na.png\tcat\n", "has one column"),
        (
            "path,label\n1,cat\n2,dog\n",
            "The column 'path' of .* is of the type int64. Expected the paths of images",
        ),
    ],
)
def test_csv_that_cannot_be_meant_says_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load(tmp_path / "x.csv")


def test_paths_that_cannot_be_read_cost_one_row_each(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    paths = ["http://host/a.png", "folder", "none.png"]
    source = load(write(tmp_path, "csv", [{"path": path, "label": "x"} for path in paths]))
    assert source.candidates[0].problem == "neither a path nor an S3 URI"
    for key, reason in (("folder", "a folder, or not the path of a file"), ("none.png", "no such file")):
        with pytest.raises(BadImageError, match=reason):
            source.read(key)


def test_large_numbers_are_texts(tmp_path: Path) -> None:
    rows = pa.table({"path": ["a.png"], "label": ["x"], "number": pa.array([2**64 - 1], pa.uint64())})
    pq.write_table(rows, tmp_path / "t.parquet")
    assert dict(load(tmp_path / "t.parquet").candidates[0].metadata) == {"number": "18446744073709551615"}


@pytest.mark.parametrize("odd", [1.5, float("inf"), -0.5])
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path: Path, odd: float) -> None:
    rows = [{"path": f"{row}.png", "label": label} for row, label in enumerate((1.0, 2.0, odd))]
    with pytest.raises(DatasetError, match=f"are numbers, and {odd:g} is no whole one"):
        load(write(tmp_path, "parquet", rows))


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_of_names_names_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: int
) -> None:
    pairs = [(0, "cat"), (1, "ape"), (2, "dog"), (1, "ape"), (None, "ape")]
    rows = [
        {"path": f"{row}.png", "label": None if number is None else number + first, "class_name": name}
        for row, (number, name) in enumerate(pairs)
    ]
    source = load(write(tmp_path, "parquet", rows))
    assert source.class_names == ("cat", "ape", "dog")
    assert [each.label for each in source.candidates] == [0, 1, 2, 1, None]
    assert "the class names are those of the column class_name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(0, "cat"), (1, "dog"), (0, "dog")], "the label 0 has the names 'cat' and 'dog'"),
        ([("a", "cat"), ("b", "dog"), ("b", "cat")], "the label 'b' has the names 'dog' and 'cat'"),
    ],
)
def test_columns_that_contradict_each_other_are_refused_unless_one_is_chosen(
    tmp_path: Path, pairs: list[tuple[object, str]], message: str
) -> None:
    rows = [
        {"path": f"{row}.png", "label": label, "class_name": name} for row, (label, name) in enumerate(pairs)
    ]
    table = write(tmp_path, "parquet", rows)
    with pytest.raises(DatasetError, match=message):
        load(table)
    assert set(load(table, columns=TableColumns(label="class_name")).class_names) == {"cat", "dog"}
    labels = sorted({label for label, _ in pairs}, key=str)
    assert load(table, columns=TableColumns(label="label")).class_names == tuple(map(str, labels))
    assert load(table, class_names=[str(each) for each in labels]).class_names == tuple(map(str, labels))


def test_numbers_with_gaps_keep_their_numbers_as_names(tmp_path: Path) -> None:
    pairs = [(3, "cat"), (7, "dog")]
    rows = [{"path": f"{row}.png", "label": a, "class_name": b} for row, (a, b) in enumerate(pairs)]
    assert load(write(tmp_path, "parquet", rows)).class_names == ("3", "7")


def test_splits_whose_labels_count_from_different_numbers_are_refused(tmp_path: Path) -> None:
    pairs = [("train", 1), ("train", 2), ("train", 3), ("test", 0), ("test", 1), ("test", 2)]
    rows = [
        {"path": f"{row}.png", "label": label, "split": split} for row, (split, label) in enumerate(pairs)
    ]
    with pytest.raises(DatasetError, match=r"are 1\.\.3 in train and 0\.\.2 in test"):
        load(write(tmp_path, "csv", rows))
    rows[-1]["label"] = 1  # 0 and 1, while the training rows have 1..3
    with pytest.raises(DatasetError, match=r"are 1\.\.3 in train and 0\.\.1 in test"):
        load(write(tmp_path, "csv", rows))
    rows[-3]["label"] = 2  # the test split may lack any class
    assert load(write(tmp_path, "csv", rows)).class_names == ("1", "2", "3")


def test_a_number_without_a_name_shifts_no_other_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for nameless in range(4):
        rows = [
            {"path": f"{n}.png", "label": n, "class_name": None if n == nameless else f"class {n}"}
            for n in range(4)
        ]
        source = load(write(tmp_path, "parquet", rows))
        assert source.class_names == ("0", "1", "2", "3")
        assert [each.label for each in source.candidates] == [0, 1, 2, 3]
        assert (
            f"class_name are not used, because these labels have none: {nameless}" in capsys.readouterr().err
        )


def test_blank_names_are_none_and_name_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,label,class_name\na.png,0,cat\nb.png,1,dog\nc.png,0,\nd.png,1, \n")
    source = load(tmp_path / "x.csv")
    assert source.class_names == ("cat", "dog")
    assert [each.label for each in source.candidates] == [0, 1, 0, 1]


def test_numbers_of_pandas_beside_missing_ones_get_their_names(tmp_path: Path) -> None:
    pairs = [(0.0, "cat"), (1.0, "ape"), (float("nan"), "ape"), (1.0, None)]
    rows = [{"path": f"{row}.png", "label": a, "class_name": b} for row, (a, b) in enumerate(pairs)]
    source = load(write(tmp_path, "parquet", rows))
    assert source.class_names == ("cat", "ape")
    assert [each.label for each in source.candidates] == [0, 1, None, 1]


@pytest.mark.parametrize("first_label", [None, 0, 1])
def test_names_in_a_column_are_those_of_their_own_numbers(tmp_path: Path, first_label: int | None) -> None:
    pairs = [(1, "cat"), (2, "ape"), (3, "dog"), (-1, None)]
    rows = [{"path": f"{row}.png", "label": a, "class_name": b} for row, (a, b) in enumerate(pairs)]
    source = load(write(tmp_path, "parquet", rows), TableColumns(first_label=first_label))
    assert source.class_names == ("cat", "ape", "dog")
    assert [each.label for each in source.candidates] == [0, 1, 2, None]


def test_labels_of_one_name_are_classes_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(0, "crane"), (1, "dog"), (2, "crane ")]
    rows = [{"path": f"{row}.png", "label": a, "class_name": b} for row, (a, b) in enumerate(pairs)]
    table = write(tmp_path, "parquet", rows)
    source = load(table)
    assert source.class_names == ("crane (0)", "dog", "crane (2)")
    assert [each.label for each in source.candidates] == [0, 1, 2]
    assert "classes of their own: crane (0), crane (2)" in capsys.readouterr().err
    assert load(table, class_names=["bird", "dog", "machine"]).class_names == ("bird", "dog", "machine")
    assert load(table, TableColumns(label="label")).class_names == ("crane (0)", "dog", "crane (2)")


def test_texts_are_labels_of_their_own_beside_names_that_several_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("n02", "dog"), ("n01", "crane"), ("n03", "crane")]
    rows = [{"path": f"{row}.png", "label": a, "class_name": b} for row, (a, b) in enumerate(pairs)]
    source = load(write(tmp_path, "csv", rows))
    assert source.class_names == ("n01", "n02", "n03")
    assert [each.label for each in source.candidates] == [1, 0, 2]
    assert [each.metadata["class_name"] for each in source.candidates] == ["dog", "crane", "crane"]
    assert "class_name are not used, because the labels are no numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            [("cat", "animal"), ("dog", "animal"), ("oak", "plant")],
            "rows whose category is 'animal' have the label 'cat' or 'dog'",
        ),
        ([(0, "cat"), (1, "dog"), (0, "dog")], "rows whose label is 0 have the category 'cat' or 'dog'"),
    ],
)
def test_two_columns_of_labels_that_disagree_are_refused_until_one_is_named(
    tmp_path: Path, pairs: list[tuple[object, str]], message: str
) -> None:
    rows = [{"path": f"{row}.png", "label": a, "category": b} for row, (a, b) in enumerate(pairs)]
    table = write(tmp_path, "parquet", rows)
    with pytest.raises(DatasetError, match=f"{message}.*--label-column label or --label-column category"):
        load(table)
    found = load(table, TableColumns(label="category")).class_names
    assert found == tuple(sorted({category for _, category in pairs}))


def test_two_columns_of_labels_that_agree_are_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    triples = [("cat", 7, 0.5), ("dog", 3, 0.25), ("cat", 7, 0.5), ("dog", None, 1.5)]
    rows = [
        {"path": f"{row}.png", "label": a, "category": b, "target": c, "class": "animal"}
        for row, (a, b, c) in enumerate(triples)
    ]
    source = load(write(tmp_path, "parquet", rows))
    assert source.class_names == ("cat", "dog")
    assert source.metadata == {"category": "int64", "class": "string", "target": "float64"}
    assert "the labels are those of label; category puts the same rows together" in capsys.readouterr().err


def test_labels_of_decimals_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    labels = pa.array([10, 9, 1], pa.decimal128(5, 2))
    pq.write_table(pa.table({"path": ["a.png", "b.png", "c.png"], "label": labels}), tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet").class_names == ("1", "9", "10")


def test_splits_have_their_usual_names_and_never_a_path(tmp_path: Path) -> None:
    given = ["Training", "VALID", "test", "fold2", "../../etc", None]
    rows = [{"path": f"{row}.png", "label": 1, "split": split} for row, split in enumerate(given)]
    candidates = load(write(tmp_path, "jsonl", rows)).candidates
    assert [each.split for each in candidates] == ["train", "val", "test", "fold2", None, None]
    assert [bool(each.problem) for each in candidates] == [False] * 4 + [True] * 2


def test_columns_with_another_meaning_here_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": 7, "path": "a.png", "label": "cat", "brightness": 1}]
    assert load(write(tmp_path, "csv", rows)).metadata == {}
    assert "their names have a meaning here: id, brightness" in capsys.readouterr().err


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"where": "a.png", "what": "cat", "label": "x", "part": "test"}]
    columns = TableColumns(path="where", label="what", split="part")
    [candidate] = load(write(tmp_path, "csv", rows), columns).candidates
    assert (candidate.key, candidate.split, dict(candidate.metadata)) == ("a.png", "test", {})


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (
            [{"a": 1, "label": 1}],
            TableColumns(),
            "No column of the table is called path, file.*--path-column",
        ),
        ([{"path": "x", "b": 1}], TableColumns(), "It has path, b. Give --label-column"),
        ([{"path": "x", "label": 1}], TableColumns(split="fold"), "has no column 'fold'. It has path, label"),
    ],
)
def test_missing_columns_are_named(
    tmp_path: Path, rows: list[dict[str, Any]], columns: TableColumns, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write(tmp_path, "csv", rows), columns)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load(tmp_path / "none.csv")
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"x\.xlsx is not a table\. Expected a file that ends in \.csv"):
        load(tmp_path / "x.xlsx")
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(DatasetError, match="cannot be read as parquet"):
        load(tmp_path / "x.parquet")
    for line, text in ((2, "path,label\na.png,caf\xe9\n"), (1, "path,label,gr\xf6\xdfe\na.png,cat,1\n")):
        (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(
            DatasetError, match=rf"is no text in UTF-8\..* The first fault is in line {line}\."
        ):
            load(tmp_path / "x.csv")
    (tmp_path / "x.jsonl").write_bytes(b'{"path":"a.png","label":"caf\xe9"}')
    with pytest.raises(DatasetError, match=r"is no text in UTF-8\..* The first fault is in line 1\."):
        load(tmp_path / "x.jsonl")
    pq.write_table(pa.table({"path": ["a.png"], "label": [b"cat"]}), tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match=r"The column 'label' of .* holds bytes"):
        load(tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("path,label,label\na.png,x,y\n")
    with pytest.raises(DatasetError, match="has two columns called 'label'"):
        load(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("path,label\n")
    with pytest.raises(DatasetError, match="has no rows"):
        load(tmp_path / "x.csv")
    with pytest.raises(ConfigError, match=r"The column 'split' of .* states the splits\. Leave out --splits"):
        load(write(tmp_path, "csv", ROWS), splits=["train=1"])


def test_texts_that_are_no_table_are_refused_with_what_to_save(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,label\na.png,cat\n", encoding="utf-16")
    with pytest.raises(DatasetError, match=r"is no text in UTF-8\. Save the table as UTF-8"):
        load(tmp_path / "x.csv")
    (tmp_path / "x.json").write_text(json.dumps(ROWS))
    with pytest.raises(DatasetError, match=r"is one JSON list\. Expected JSON lines: one object per image"):
        load(tmp_path / "x.json")


def test_spaces_around_the_name_of_a_column_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path, label, split\na.png, cat, train\nb.png, dog, test\n")
    source = load(tmp_path / "x.csv")
    assert source.class_names == ("cat", "dog")
    assert [each.split for each in source.candidates] == ["train", "test"]


def test_lists_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"are of the type list.*Expected one name or number for every"):
        load(write(tmp_path, "jsonl", [{"path": "a.png", "label": ["cat"]}]))


def test_odd_names_of_classes_are_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["cat", "Cat", "None", "nan"]
    load(
        write(tmp_path, "csv", [{"path": f"{index}.png", "label": each} for index, each in enumerate(labels)])
    )
    shown = capsys.readouterr().err
    assert "classes of their own that differ only in case: Cat, cat" in shown
    assert "classes like all others, not missing labels: None, nan" in shown


def test_backslashes_are_understood_outside_the_folder_of_the_table_too(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "x.csv").write_text("label,path\ncat,..\\img\\a.png\ndog,sub\\b.png\n")
    keys = [each.key for each in load(tmp_path / "tables" / "x.csv").candidates]
    assert keys == [str(tmp_path / "img" / "a.png"), "sub/b.png"]
