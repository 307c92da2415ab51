"""Tests which mistakes a page shows, and their pictures."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cnnlib.dataset.source import Source, SourceSplit
from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.reports.predictions import predictions_table
from cnnlib.views.page import images
from cnnlib.views.page.images import build_sheet, is_photo, picture_uri, read_images, shrink
from cnnlib.views.page.publish import draw_page
from cnnlib.views.page.sections import mistakes
from cnnlib.views.page.sections.confusion import HEAT_LEVELS, build_confusion, mistakes_json
from cnnlib.views.page.sections.mistakes import Mistake, choose_mistakes
from tests.datasets import make_source, write_dataset_without_ray
from tests.page_html import Page
from tests.pages import write_scored, write_small_reports


def make_predictions(rows: int = 3000, classes: int = 4, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), rows).astype(np.float32)
    return predictions_table(np.arange(rows), rng.integers(classes, size=rows), probabilities)


def wrong_rows(table: pa.Table) -> list[dict[str, float]]:
    return [row for row in table.to_pylist() if row["label"] != row["prediction"]]


def test_gallery_has_the_most_confident_of_all_mistakes() -> None:
    table = make_predictions()
    expected = sorted(wrong_rows(table), key=lambda row: (-row["probability"], row["id"]))
    chosen = choose_mistakes(table).most_confident
    assert [each.id for each in chosen] == [row["id"] for row in expected[: mistakes.GALLERY_SIZE]]


def test_every_pair_has_its_most_confident_mistakes_up_to_the_limit() -> None:
    table = make_predictions()
    chosen = choose_mistakes(table).by_pair
    happened = Counter((row["label"], row["prediction"]) for row in wrong_rows(table))
    assert Counter(each.pair for each in chosen) == {
        pair: min(count, mistakes.MAX_PER_PAIR) for pair, count in happened.items()
    }
    for pair in happened:
        own = sorted(
            (row["probability"] for row in wrong_rows(table) if (row["label"], row["prediction"]) == pair),
            reverse=True,
        )
        shown = [each.probability for each in chosen if each.pair == pair]
        assert shown == own[: mistakes.MAX_PER_PAIR]


def test_limit_on_all_leaves_no_pair_without_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "MAX_OF_PAIRS", 15)
    chosen = choose_mistakes(make_predictions()).by_pair
    counts = Counter(each.pair for each in chosen)
    assert (len(chosen), len(counts)) == (15, 12)
    assert set(counts.values()) == {1, 2}


def test_only_the_pairs_that_the_page_can_open_are_kept() -> None:
    chosen = choose_mistakes(make_predictions(), pairs={(0, 1), (2, 3)})
    assert {each.pair for each in chosen.by_pair} == {(0, 1), (2, 3)}
    assert len({each.pair for each in chosen.most_confident}) > 2


def test_no_mistake_at_all_is_no_error() -> None:
    table = predictions_table([1, 2], [0, 1], np.eye(2, dtype=np.float32))
    assert choose_mistakes(table) == mistakes.ShownMistakes()


def test_probability_of_the_true_class_is_shown_if_it_is_stored() -> None:
    probabilities = np.array([[0.75, 0.25, 0.0]], np.float32)
    assert (
        choose_mistakes(predictions_table([9], [1], probabilities)).most_confident[0].true_probability == 0.25
    )
    many = np.zeros((1, 12), np.float32)
    many[0, :11] = np.linspace(0.2, 0.05, 11)
    assert choose_mistakes(predictions_table([9], [11], many)).most_confident[0].true_probability is None


def decode(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("channels", [1, 3])
def test_sheet_holds_every_image_at_its_place(channels: int) -> None:
    rng = np.random.default_rng(0)
    pixels = {row_id: rng.integers(0, 256, (5, 7, channels), np.uint8) for row_id in (30, 4, 17, 99, 2)}
    sheet = build_sheet(pixels)
    picture = decode(sheet.uri).reshape(-1, sheet.columns * 7, channels)
    for row_id, expected in pixels.items():
        top, left = sheet.places[row_id] // sheet.columns * 5, sheet.places[row_id] % sheet.columns * 7
        assert np.array_equal(picture[top : top + 5, left : left + 7], expected)


def test_sheet_of_big_noisy_images_stays_below_its_limit() -> None:
    rng = np.random.default_rng(0)
    pixels = {row_id: rng.integers(0, 256, (64, 64, 3), np.uint8) for row_id in range(200)}
    sheet = build_sheet(pixels)
    assert list(sheet.places) == list(range(images.MAX_SHEET_BYTES // (64 * 64 * 3)))
    assert len(sheet.uri) < 2_000_000


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28, 1), (28, 28, 1)),
        ((28, 28, 2), (28, 28, 1)),
        ((64, 64, 3), (64, 64, 3)),
        ((100, 100, 1), (100, 100, 1)),
        ((224, 112, 3), (128, 64, 3)),
        ((100, 300, 4), (43, 128, 3)),
        ((256, 256, 1), (128, 128, 1)),
        ((2160, 4096, 3), (68, 128, 3)),
    ],
)
def test_images_are_shrunk_to_what_a_page_shows(
    shape: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    pixels = np.full(shape, 200, np.uint8)
    small = shrink(pixels)
    assert small.shape == expected
    assert (small == 200).all()


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[str, str]:
    """Writes a dataset with 23 test rows in shards of 10; returns its URI and fingerprint."""
    uri = str(tmp_path / "data")
    return uri, write_dataset_without_ray(uri).fingerprint


def test_images_are_those_of_the_rows(dataset: tuple[str, str]) -> None:
    expected = make_source().splits["test"].images
    read = read_images(*dataset, "test", {0: 0, 11: 1, 22: 2})
    assert (set(read.by_id), read.missing) == ({0, 11, 22}, "")
    assert all(np.array_equal(pixels, expected[row_id]) for row_id, pixels in read.by_id.items())


def test_only_shards_that_hold_wanted_rows_are_read(dataset: tuple[str, str]) -> None:
    for index in (0, 2):
        (Path(dataset[0]) / "test" / f"part-{index:05d}.parquet").unlink()
    assert set(read_images(*dataset, "test", {19: 1, 15: 1, 10: 1}).by_id) == {10, 15, 19}


def test_shards_beyond_the_limit_are_not_read_and_the_page_says_so(
    dataset: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_READ_BYTES", 1)
    read = read_images(*dataset, "test", {10: 1, 0: 0, 11: 1, 12: 1})
    assert set(read.by_id) == {10, 11, 12}
    assert read.missing.startswith("1 image")


@pytest.mark.parametrize("damage", ["gone", "changed", "shard"])
def test_data_that_is_gone_or_changed_gives_a_reason_and_no_images(
    dataset: tuple[str, str], damage: str
) -> None:
    uri, fingerprint = dataset
    if damage == "gone":
        (Path(uri) / "manifest.json").unlink()
    elif damage == "changed":
        fingerprint = "another"
    else:
        (Path(uri) / "test" / "part-00000.parquet").write_bytes(b"rot")
    read = read_images(uri, fingerprint, "test", {0: 0})
    assert not read.by_id
    assert {"gone": "No dataset", "changed": "has changed", "shard": "does not match"}[damage] in read.missing


def test_heat_grows_with_the_fraction_and_marks_neither_zeros_nor_the_diagonal() -> None:
    counts = np.array([[50, 40, 10, 0], [0, 99, 1, 0], [0, 0, 100, 0], [0, 0, 0, 0]])
    matrix = build_confusion(ConfusionCounts.from_matrix(counts), ()).matrix
    heat = [[cell.heat for cell in row] for row in matrix]
    assert heat == [[0, HEAT_LEVELS, 4, 0], [0, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert matrix[0][1].fraction == 0.4


def test_many_classes_give_the_worst_pairs_and_no_matrix() -> None:
    counts = np.zeros((31, 31), np.int64)
    counts[3, 4], counts[5, 6] = 7, 9
    confusion = build_confusion(ConfusionCounts.from_matrix(counts), ())
    assert not confusion.matrix
    assert [(cell.true, cell.predicted, cell.count) for cell in confusion.pairs] == [(5, 6, 9), (3, 4, 7)]


def test_json_of_the_page_keeps_only_mistakes_with_a_place_on_the_sheet() -> None:
    shown = [
        Mistake(id=row_id, label=0, prediction=1, probability=0.91239, true_probability=0.05)
        for row_id in (5, 6, 7)
    ]
    counts = ConfusionCounts.from_matrix([[0, 3], [0, 0]])
    sheet = build_sheet({6: np.zeros((2, 2, 1), np.uint8)})
    document = mistakes_json(shown, counts, ["a", "b"], sheet)
    assert document["pairs"] == {"0-1": {"count": 3, "rows": [[0, "6", 0.9124, 0.05]]}}
    without = mistakes_json(shown, counts, ["a", "b"], None)
    assert [row[:2] for row in without["pairs"]["0-1"]["rows"]] == [[None, "5"], [None, "6"], [None, "7"]]


def test_ids_of_63_bits_reach_the_script_whole() -> None:
    """JSON.parse reads a number as a double: it would make 1282317340738109000 of this one."""
    number = 1282317340738109030
    mistake = Mistake(id=number, label=0, prediction=1, probability=0.5, true_probability=0.5)
    document = mistakes_json([mistake], ConfusionCounts.from_matrix([[0, 1], [0, 0]]), ["a", "b"], None)
    assert json.loads(json.dumps(document), parse_int=float)["pairs"]["0-1"]["rows"][0][1] == str(number)


def make_photo(height: int, width: int) -> np.ndarray:
    """Makes a colour image whose left half is red and whose right half fades to blue downwards."""
    photo = np.zeros((height, width, 3), np.uint8)
    photo[:, : width // 2, 0] = 255
    photo[:, width // 2 :, 2] = np.linspace(0, 255, height).astype(np.uint8)[:, np.newaxis]
    return photo


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Writes a dataset of four frames of 4096 x 2160, one in a shard; returns its URI and fingerprint."""
    uri = str(tmp_path_factory.mktemp("photos") / "data")
    images_4k = np.stack([make_photo(2160, 4096)] * 4)
    split = SourceSplit(images=images_4k, labels=np.arange(4, dtype=np.int32) % 2)
    source = Source(
        class_names=("a", "b"), image_shape=(2160, 4096, 3), splits={"test": split}, description="4K"
    )
    return uri, write_dataset_without_ray(uri, source, shard_rows=1).fingerprint


def test_4k_frames_become_small_colour_pictures_in_their_shape(photographs: tuple[str, str]) -> None:
    read = read_images(*photographs, "test", {3: 3, 1: 1})
    assert (list(read.by_id), read.missing) == ([3, 1], "")
    small = read.by_id[3]
    assert (small.shape, is_photo(small)) == ((68, 128, 3), True)
    assert small[:, :60].reshape(-1, 3).tolist() == [[255, 0, 0]] * (68 * 60)
    assert small[0, 100, 2] < 5
    assert small[67, 100, 2] > 250
    uri = picture_uri(small, images.PHOTO_QUALITY)
    kind, _, data = uri.partition(",")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert (kind, shown.shape) == ("data:image/webp;base64", (68, 128, 3))
    assert np.abs(shown.astype(int) - small).mean() < 4
    assert len(uri) < 8000


def test_limit_on_what_is_read_keeps_the_most_important_rows(
    photographs: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_READ_BYTES", 1)
    read = read_images(*photographs, "test", {2: 2, 0: 0, 3: 3})
    assert list(read.by_id) == [2]
    assert read.missing.startswith("2 images")


def test_sheet_of_noisy_photographs_stays_below_its_limit() -> None:
    rng = np.random.default_rng(0)
    pixels = {row_id: rng.integers(0, 256, (68, 128, 3), np.uint8) for row_id in range(600)}
    sheet = build_sheet(pixels, max_bytes=400_000)
    assert len(sheet.uri) < 400_000 * 4 / 3 + 100
    assert 20 < len(sheet.places) < 600
    assert list(sheet.places) == list(range(len(sheet.places)))
    assert sheet.is_photo
    _, _, data = sheet.uri.partition(",")
    assert Image.open(io.BytesIO(base64.b64decode(data))).width == 128 * sheet.columns


def test_equal_pictures_of_one_mistake_are_shown_once_in_the_gallery(tmp_path: Path) -> None:
    source = make_source(test_rows=8)
    whole = source.splits["test"]
    copies = SourceSplit(
        images=whole.images[[0, 0, 0, 1, 1, 0]], labels=np.array([0, 0, 0, 0, 0, 1], np.int32)
    )
    source = dataclasses.replace(source, splits={**source.splits, "test": copies})
    manifest = write_dataset_without_ray(str(tmp_path / "data"), source)
    report = write_scored(
        str(tmp_path / "reports"),
        str(tmp_path / "data"),
        manifest,
        copies,
        np.tile([0.1, 0.2, 0.7], (6, 1)),
        checkpoint_uri="/models/1.keras",
        run=None,
        epoch=None,
        evaluated_at=datetime(2026, 11, 20, tzinfo=UTC),
    )
    page = Page(draw_page(str(tmp_path / "reports"), "/elsewhere/page.html", report))
    shown = [each["alt"] for each in page.all("img") if each.get("alt")]
    assert shown == ["Coat predicted as Sandal", "Coat predicted as Sandal", "Bag predicted as Sandal"]
    assert [f"id {row}" in page.text for row in range(6)] == [True, False, False, True, False, True]


def test_page_of_photographs_is_smaller_than_3_mb(tmp_path: Path) -> None:
    many = write_small_reports(
        tmp_path,
        class_names=[f"class {index}" for index in range(12)],
        image_shape=(96, 160, 3),
        rows=900,
        reports=1,
    )
    html = draw_page(many.uri, "/elsewhere/page.html", many.ids[0])
    assert len(html) < 3_000_000
    page = Page(html)
    assert {each["class"] for each in page.all("img") if each.get("alt")} == {"photo"}
    assert page.mistakes["sheet"] == {
        "columns": page.mistakes["sheet"]["columns"],
        "width": 128,
        "height": 77,
        "photo": True,
    }
