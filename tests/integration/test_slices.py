"""Slices and corruptions on a real cluster: the report counts every row, whichever predictor scored it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cnnlib.dataset.manifest import Manifest
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS
from tests.datasets import add_metadata, make_source, write_dataset_without_ray
from tests.integration.conftest import RunJob
from tests.models import build_linear

TRAIN_ROWS, TEST_ROWS, SHARD_ROWS = 60, 90, 20
SHAPE, CLASS_NAMES = (28, 28, 1), ("Coat", "Bag", "Sandal")
SEEN = range(5)  # test rows whose image is also a training image
SLICE_BY = ["source", "brightness", "near-duplicate", "source+brightness"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Writes rows with the column `source` in several shards; some test images are training images."""
    uri = str(tmp_path_factory.mktemp("slices") / "data")
    assert _write(uri).metadata == {"source": "string"}
    return uri


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saves a model that is right about some rows and wrong about others."""
    path = tmp_path_factory.mktemp("model") / "linear.keras"
    build_linear(SHAPE, len(CLASS_NAMES)).save(path)
    return path


def test_slices_add_up_to_the_whole_and_any_number_of_predictors_gives_the_same(
    dataset: str, model: Path, tmp_path: Path, on_cluster: RunJob
) -> None:
    tables = []
    for actors in (1, 2):
        reports = tmp_path / f"by-{actors}"
        where = ["--checkpoint", model, "--data", dataset, "--reports", reports]
        on_cluster("evaluate", *where, "--slice-by", *SLICE_BY, "--corruptions", "--actors", actors)
        tables.append(pd.read_parquet(reports / "overall").set_index("slice").sort_index())
    one, two = tables
    metrics = ["rows", "correct", "accuracy", "macro_f1", "top_k_accuracy"]
    pd.testing.assert_frame_equal(one[metrics], two[metrics])

    whole = one[one.index.isna()].iloc[0]
    slices = one[one.index.notna()]
    assert whole["rows"] == TEST_ROWS
    assert 0 < whole["correct"] < TEST_ROWS
    names = slices.index.str
    for chosen, count in (
        (names.match(r"source=\w+$"), 3),
        (names.match(r"brightness=q\d$"), 4),
        (names.match(r"near-duplicate=(yes|no)$"), 2),
        (names.match(r"source=\w+\+brightness=q\d$"), 12),
    ):
        own = slices[chosen]
        assert (len(own), own["rows"].sum(), own["correct"].sum()) == (count, TEST_ROWS, whole["correct"])
    assert slices["rows"]["near-duplicate=yes"] == len(SEEN)
    assert slices["rows"]["source=web"] == TEST_ROWS // 3
    corrupted = slices[names.startswith("corruption=")]
    assert len(corrupted) == len(CORRUPTIONS) * len(STRENGTHS)
    assert set(corrupted["rows"]) == {TEST_ROWS}
    assert len(slices) == 3 + 4 + 2 + 12 + 30
    assert slices["macro_auc"].isna().all()


def test_a_slice_that_the_data_set_cannot_have_is_refused_before_any_row_is_scored(
    dataset: str, model: Path, tmp_path: Path, on_cluster: RunJob
) -> None:
    where = ["--checkpoint", model, "--data", dataset, "--reports", tmp_path / "reports"]
    done = on_cluster("evaluate", *where, "--slice-by", "sources", expect=2)
    assert "slice_by has no dimension 'sources'. Did you mean 'source'?" in done.stderr
    assert "Traceback" not in done.stderr


def _write(uri: str) -> Manifest:
    source = make_source(
        train_rows=TRAIN_ROWS, test_rows=TEST_ROWS, image_shape=SHAPE, class_names=CLASS_NAMES
    )
    images = source.splits["test"].images
    images[list(SEEN)] = source.splits["train"].images[list(SEEN)]
    with_sources = add_metadata(source, {"source": ["web", "camera", None]})
    return write_dataset_without_ray(uri, with_sources, SHARD_ROWS)
