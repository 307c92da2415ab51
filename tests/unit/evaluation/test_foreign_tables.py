"""A file of predictions is read as it was meant, or refused: never with its classes in another order."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cnnlib.dataset.streamed import row_id
from cnnlib.errors import DatasetError, NotFoundError
from cnnlib.evaluation.foreign.parts import CLASS_NAMES, digest_predictions, read_table
from cnnlib.evaluation.foreign.table import ForeignPredictions, load_predictions
from cnnlib.storage import publish
from jobs.evaluate import main
from tests.datasets import write_dataset_without_ray

NAMES = ("cat", "dog", "owl")
P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
IDS = [7, 3, 9, 1]
ORDER = [3, 1, 0, 2]  # of the rows, by id


def write(folder: Path, columns: dict[str, Any], ending: str = "parquet") -> str:
    path = folder / f"p.{ending}"
    frame = pd.DataFrame(columns)
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    return str(path)


def load(
    folder: Path, columns: dict[str, Any], ending: str = "parquet", **options: Any
) -> ForeignPredictions:
    return load_predictions(write(folder, columns, ending), options.pop("names", NAMES), **options)


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv"])
@pytest.mark.parametrize("prefix", ["", "p_", "prob_", "probability_"])
@pytest.mark.parametrize("by", ["name", "index"])
def test_columns_of_all_classes_are_found_by_name_and_by_index(
    tmp_path: Path, ending: str, prefix: str, by: str
) -> None:
    columns = {f"{prefix}{NAMES[index] if by == 'name' else index}": P[:, index] for index in (2, 0, 1)}
    found = load(tmp_path, {"id": IDS, **columns}, ending)
    assert found.ids.tolist() == sorted(IDS)
    np.testing.assert_allclose(found.probabilities, P[ORDER], atol=1e-6)
    assert found.has_probabilities
    assert found.labels is None


def test_a_list_is_read_in_the_order_of_the_data_unless_the_file_states_its_own(tmp_path: Path) -> None:
    lists = {"id": IDS, "probabilities": list(P)}
    np.testing.assert_array_equal(load(tmp_path, lists).probabilities.argmax(axis=1), [2, 1, 0, 2])
    table = pq.read_table(tmp_path / "p.parquet")
    own = json.dumps(["owl", "cat", "dog"]).encode()
    pq.write_table(table.replace_schema_metadata({CLASS_NAMES: own}), tmp_path / "own.parquet")
    found = load_predictions(str(tmp_path / "own.parquet"), NAMES)
    np.testing.assert_allclose(found.probabilities, P[ORDER][:, [1, 2, 0]], atol=1e-6)
    with pytest.raises(DatasetError, match="other classes than the data: only one of both has bat, cat"):
        load_predictions(str(tmp_path / "own.parquet"), ("bat", "dog", "owl"))


@pytest.mark.parametrize("stated", [["cat", "dog", "owl", "owl"], [0, 1, 2, 2], [0.0, 1.0, 2.0, 2.0]])
def test_a_stated_class_must_be_the_most_probable_one(tmp_path: Path, stated: list[Any]) -> None:
    columns = {"id": IDS, "probabilities": list(P), "prediction": stated}
    np.testing.assert_allclose(load(tmp_path, columns).probabilities, P[ORDER], atol=1e-6)
    with pytest.raises(DatasetError, match="4 rows state another class than the one with the highest value"):
        load(tmp_path, {**columns, "probabilities": list(P[:, [1, 2, 0]])})
    with pytest.raises(DatasetError, match="another order than the classes of the data"):
        load(
            tmp_path,
            {
                "id": IDS,
                **{f"p_{i}": np.log(P[:, (i + 1) % 3] + 1e-9) for i in range(3)},
                "prediction": stated,
            },
        )


@pytest.mark.parametrize(("kind", "decimals"), [("probabilities", 2), ("probabilities", 3), ("logits", 2)])
def test_of_values_that_are_equal_after_rounding_the_stated_class_counts(
    tmp_path: Path, kind: str, decimals: int
) -> None:
    exact = np.random.default_rng(decimals).dirichlet(np.ones(3), 5_000)
    stated = exact.argmax(axis=1)
    values = np.round(exact if kind == "probabilities" else np.log(exact) * 3, decimals)
    columns = {"id": np.arange(5_000), "probabilities": list(values)}
    assert (values.argmax(axis=1) != stated).any()
    found = load(tmp_path, {**columns, "prediction": stated}).probabilities
    np.testing.assert_array_equal(found.argmax(axis=1), stated)
    plain = load(tmp_path, columns).probabilities
    np.testing.assert_array_equal(plain.argmax(axis=1), values.argmax(axis=1))
    np.testing.assert_allclose(found, plain, rtol=0, atol=2**-23)
    assert found.max() <= 1


def test_of_values_that_a_float32_cannot_tell_apart_the_highest_counts(tmp_path: Path) -> None:
    values = [[0.5 - 1e-12, 0.5 + 1e-12, 0.0], [1e-13, 0.3, 0.7 - 1e-13]]
    found = load(tmp_path, {"id": [0, 1], "probabilities": values}).probabilities
    assert found.argmax(axis=1).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("names", "stated", "ending", "expected"),
    [
        (NAMES, ["owl", "cat", "dog", "cat"], "csv", [2, 0, 1, 0]),
        (NAMES, [2, 0, 1, 0], "csv", [2, 0, 1, 0]),
        (NAMES, [2.0, 0.0, 1.0, 0.0], "parquet", [2, 0, 1, 0]),
        (("1", "2", "3"), [3, 1, 2, 1], "csv", [2, 0, 1, 0]),
        (("00014", "00015", "7"), ["7", "00014", "00015", "00014"], "csv", [2, 0, 1, 0]),
        (("1", "cat", "NA"), ["NA", "1", "cat", "1"], "csv", [2, 0, 1, 0]),
    ],
)
def test_a_predicted_class_is_a_name_or_else_an_index(
    tmp_path: Path, names: tuple[str, ...], stated: list[Any], ending: str, expected: list[int]
) -> None:
    found = load(tmp_path, {"path": list("abcd"), "prediction": stated}, ending, names=names)
    order = np.argsort([row_id(each) for each in "abcd"])
    assert found.probabilities.argmax(axis=1).tolist() == np.array(expected)[order].tolist()
    assert found.probabilities.sum() == 4
    assert not found.has_probabilities


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("names", "confused"),
    [
        (("2", "0", "1"), "2 is the name of class 0 and the index of class '1'"),
        (("1", "2", "3"), "2 is the name of class 1 and the index of class '3'"),
    ],
)
def test_predictions_that_may_be_names_or_indexes_must_say_which(
    tmp_path: Path, names: tuple[str, ...], confused: str, ending: str
) -> None:
    """Without it, all of them might be of the wrong class: folders called 0 to 11 are in the order 0, 1, 10, 11, 2."""
    stated = [2, 1, 1, 2]
    with pytest.raises(
        DatasetError, match=f"'prediction' of .* may hold names or indexes: .*{confused}.*predicted_name"
    ):
        load(tmp_path, {"id": IDS, "prediction": stated}, ending, names=names)
    by_name = [names.index(str(each)) for each in stated]
    for column, expected in (("predicted_name", by_name), ("predicted_index", stated)):
        found = load(tmp_path, {"id": IDS, column: stated, "prediction": stated}, ending, names=names)
        assert found.probabilities.argmax(axis=1).tolist() == np.array(expected)[ORDER].tolist()
    clear = load(
        tmp_path,
        {"id": IDS, "prediction": ["1", "x", "1", "2"], "predicted_index": stated},
        ending,
        names=("1", "x", "2"),
    )
    assert clear.probabilities.argmax(axis=1).tolist() == np.array([0, 1, 0, 2])[ORDER].tolist(), (
        "names are clear"
    )
    with pytest.raises(DatasetError, match=r"columns p_0, p_1, … of .* may be called after names or indexes"):
        load(tmp_path, {"id": IDS, **{f"p_{i}": P[:, i] for i in range(3)}}, ending, names=("2", "0", "1"))
    if ending == "parquet":  # what jobs.predict wrote says which names its classes have
        table = pa.table(
            {"id": IDS, "probabilities": list(P), "prediction": [names[i] for i in P.argmax(axis=1)]}
        )
        own = table.replace_schema_metadata({CLASS_NAMES: json.dumps(names).encode()})
        pq.write_table(own, tmp_path / "own.parquet")
        found = load_predictions(str(tmp_path / "own.parquet"), names)
        np.testing.assert_allclose(found.probabilities, P[ORDER], atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.rint(P * 255),
            "add up to 255. Expected probabilities, which add up to 1: divide them by 255, or give",
        ),
        (P * 2, "add up to 2. Expected .*: divide them by 2, or give --outputs logits"),
        (np.array([[61, 30, 9], [20, 20, 60], [100, 0, 0], [1, 2, 97]]), "add up to 100, as percentages"),
    ],
)
def test_multiples_of_probabilities_are_no_logits(
    tmp_path: Path, values: npt.NDArray[Any], message: str
) -> None:
    columns = {"id": IDS, "probabilities": list(values)}
    with pytest.raises(DatasetError, match=message):
        load(tmp_path, columns)
    assert load(tmp_path, columns, outputs="logits").has_probabilities
    relu = np.maximum(0, np.random.default_rng(0).normal(0, 3, (4, 3)))
    assert load(tmp_path, {"id": IDS, "probabilities": list(relu)}).has_probabilities
    assert load(tmp_path, {"id": IDS[:1], "probabilities": list(relu[:1])}).has_probabilities, (
        "of one row, any number"
    )


def test_rounded_probabilities_are_scaled_to_add_up_to_1(tmp_path: Path) -> None:
    rounded = np.array([[0.33, 0.33, 0.33], [0.67, 0.17, 0.17]])
    found = load(tmp_path, {"id": [0, 1], "probabilities": list(rounded)})
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.probabilities[1], rounded[1] / 1.01, atol=1e-6)


@pytest.mark.parametrize("outputs", ["auto", "logits"])
def test_logits_get_a_softmax(tmp_path: Path, outputs: Any) -> None:
    logits = np.log(P + 1e-12) + 3
    found = load(tmp_path, {"id": IDS, "probabilities": list(logits)}, outputs=outputs)
    np.testing.assert_allclose(found.probabilities, P[ORDER], atol=1e-5)


GOOD = {"id": IDS, "probabilities": list(P)}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({**GOOD, "id": [7, 3, 7, 1]}, "1 rows too many: several predictions of one row. First ids: 7"),
        ({**GOOD, "id": [7.0, 3.0, 9.0, 1.0]}, "'id' of .* is double with 0 nulls. Expected whole numbers"),
        ({**GOOD, "id": list("abcd")}, "Expected whole numbers"),
        ({"number": IDS, "prediction": [0] * 4}, "does not say whose predictions it has"),
        ({"path": ["a", None, "b", "c"], "prediction": [0] * 4}, "'path' of .* has 1 nulls"),
        ({"id": IDS, "label": [0] * 4}, "has no predictions: its columns are id, label"),
        ({**GOOD, "label": [77] * 4}, "has 77 in row 1. Expected one of the 3 classes"),
        ({**GOOD, "label": ["cat", "cow", "owl", "owl"]}, "has 'cow' in row 2"),
        (
            {"id": IDS, "prediction": ["cat", None, "owl", "owl"]},
            "has no value in row 2. Expected a class in every row",
        ),
        ({"id": IDS, "prediction": [0.5, 1, 2, 0]}, "has 0.5 in row 1"),
        ({"id": IDS, "prediction": [-1, 1, 2, 0]}, "has -1 in row 1"),
        (
            {**GOOD, "probabilities": [each[:2] for each in P]},
            "have 2 values. Expected one for each of the 3",
        ),
        ({**GOOD, "probabilities": [*list(P[:3]), None]}, "have 3, no values"),
        (
            {**GOOD, "probabilities": list(P * 0.5)},
            r"add up to 0\.5\. Expected probabilities, which add up to 1 \(th",
        ),
        ({**GOOD, "probabilities": list(P * 100)}, "add up to 100, as percentages"),
        ({**GOOD, "probabilities": list(P * np.nan)}, "4 rows have values that are not finite"),
        ({**GOOD, "probabilities": [{"cat": 1.0}] * 4}, "is struct<.*Expected lists of numbers"),
        ({**GOOD, "probabilities": ["[0.1, 0.9]"] * 4}, "is (large_)?string. Expected lists of numbers"),
        ({**GOOD, "probabilities": [["a", "b", "c"]] * 4}, "are (large_)?string. Expected numbers"),
        (
            {"id": IDS, "p_cat": ["high"] * 4, "p_dog": P[:, 1], "p_owl": P[:, 2]},
            "'p_cat' .* are .*string. Expected",
        ),
        ({"id": IDS, "cat": P[:, 0], "dog": P[:, 1]}, "has no column for the classes owl"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load(tmp_path, columns)


def test_names_in_a_csv_file_are_as_they_were_written(tmp_path: Path) -> None:
    names = ("007", "NA", "true")
    (tmp_path / "p.csv").write_text("path,prediction,label\n1.50,007,NA\n01,NA,\n2026-01-01,true,true\n")
    table, _ = read_table(str(tmp_path / "p.csv"))
    assert table.to_pydict() == {
        "path": ["1.50", "01", "2026-01-01"],
        "prediction": ["007", "NA", "true"],
        "label": ["NA", None, "true"],
    }
    (tmp_path / "p.csv").write_text("path,prediction\n1.50,007\n01,NA\n2026-01-01,true\n")
    found = load_predictions(str(tmp_path / "p.csv"), names)
    order = np.argsort([row_id(each) for each in ("1.50", "01", "2026-01-01")])
    assert found.probabilities.argmax(axis=1).tolist() == order.tolist()


def test_text_among_numbers_of_a_csv_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,cat,dog,owl\n1,0.5,n/a,0.5\n")
    with pytest.raises(DatasetError, match=r"'dog' in .* are string\. Expected numbers"):
        load_predictions(str(tmp_path / "p.csv"), NAMES)


def test_a_file_that_is_no_table_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"p\.parquet cannot be read as a table"):
        load_predictions(str(tmp_path / "p.parquet"), NAMES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"Expected a \.parquet or \.csv file"):
        digest_predictions(str(tmp_path / "empty"))


def write_output(folder: Path, *, names: list[str], manifest: str = "_manifest.json") -> list[Path]:
    """Writes two parts and the manifest that names them, as `jobs.predict` does."""
    paths = []
    for index, rows in enumerate((slice(0, 2), slice(2, 4))):
        table = pa.table({"id": IDS[rows], "probabilities": [each.tolist() for each in P[rows]]})
        paths.append(folder / f"part-{index:05d}-0123456789abcdef.parquet")
        pq.write_table(table.replace_schema_metadata({CLASS_NAMES: json.dumps(names).encode()}), paths[-1])
    parts = [{"name": path.name, "sha256": publish.sha256_hex(path.read_bytes())} for path in paths]
    publish.write_manifest(str(folder / manifest), {"predictions_version": 1, "parts": parts})
    return paths


@pytest.mark.parametrize("manifest", ["_manifest.json", "manifest.json"], ids=["now", "earlier"])
def test_of_an_output_folder_the_parts_of_its_manifest_count(tmp_path: Path, manifest: str) -> None:
    paths = write_output(tmp_path, names=["owl", "cat", "dog"], manifest=manifest)
    digest = digest_predictions(str(tmp_path))
    (tmp_path / "part-00000-fedcba9876543210.parquet").write_bytes(paths[0].read_bytes())
    found = load_predictions(str(tmp_path), NAMES)
    np.testing.assert_allclose(found.probabilities, P[ORDER][:, [1, 2, 0]], atol=1e-6)
    assert digest_predictions(str(tmp_path)) == digest
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(DatasetError, match="is damaged: its bytes are not those of the manifest"):
        load_predictions(str(tmp_path), NAMES)


def test_files_of_several_orders_are_refused(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "probabilities": [[1.0, 0.0, 0.0]]})
    for index, names in enumerate((["cat", "dog", "owl"], ["owl", "cat", "dog"])):
        own = {CLASS_NAMES: json.dumps(names).encode()}
        pq.write_table(table.replace_schema_metadata(own), tmp_path / f"{index}.parquet")
    with pytest.raises(DatasetError, match="have their values in several orders"):
        load_predictions(str(tmp_path), NAMES)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [pa.array([1]), pa.array([0]), pa.array([1])], ["id", "prediction", "prediction"]
    )
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(DatasetError, match=r"cannot be read as a table: .*duplicate field names\.$"):
        load_predictions(str(tmp_path / "p.parquet"), NAMES)


def test_paths_below_another_folder_are_shown_beside_what_is_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset_without_ray(str(tmp_path / "data"))
    command = ["--data", str(tmp_path / "data"), "--reports", str(tmp_path / "reports"), "--predictions"]
    named = write(tmp_path, {"path": ["Bag/1.png"], "prediction": [0]}, "csv")
    assert main([*command, named]) == 2
    expected = r"Its first row is 'Bag/1\.png'\. Expected paths below the folder that was prepared"
    assert re.search(expected, capsys.readouterr().err)
    assert main([*command, write(tmp_path, {"id": [1 << 60], "prediction": [0]}, "csv")]) == 2
    printed = capsys.readouterr().err
    assert "has no prediction of some of the 23 rows of the split" in printed
    assert "Expected paths" not in printed


@pytest.mark.parametrize(
    "paths",
    [["./a/7", "a//3", "a/b/../9", "1"], [r"a\7", r".\a\3", r"a\9", "1"], ["a/7", "a/3", "a/9", "./1"]],
)
def test_a_path_may_be_spelled_as_in_the_table_that_was_prepared(tmp_path: Path, paths: list[str]) -> None:
    found = load(tmp_path, {"path": paths, "prediction": ["cat", "dog", "owl", "owl"]})
    assert found.ids.tolist() == sorted(map(row_id, ("a/7", "a/3", "a/9", "1")))


def test_a_class_name_is_found_whatever_its_unicode_form_and_the_spaces_around_it(tmp_path: Path) -> None:
    names = ("gr\u00fcn", "ends ", "owl")
    found = load(tmp_path, {"id": IDS, "prediction": ["gru\u0308n", "ends ", "ends", "owl"]}, names=names)
    assert found.probabilities.argmax(axis=1).tolist() == [2, 1, 0, 1]  # by id
    with pytest.raises(DatasetError, match="Several classes of the data are called 'ends', but for spaces"):
        load(tmp_path, {"id": IDS, "prediction": ["ends"] * 4}, names=("ends", "ends ", "owl"))


def test_a_row_without_a_class_is_named_where_the_others_are_indexes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no value in row 3\. Expected a class in every row"):
        load(tmp_path, {"id": IDS, "prediction": pd.array([0, 1, None, 2], dtype="Int64")})
