"""Slices are scored in the same pass as the split: they add up to it, and the model sees the corrupted images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cnnlib.dataset.record import Rows
from cnnlib.errors import DatasetError
from cnnlib.evaluation.partial_scores import (
    PARTIAL_SCORES,
    SECONDS,
    CollectedScores,
    PartialScores,
    encode_outcome,
)
from cnnlib.evaluation.predictor import Predictor
from cnnlib.evaluation.target import find_target
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from cnnlib.slices.duplicates import NearDuplicates, hash_images
from cnnlib.slices.plan import quantile_edges
from cnnlib.slices.properties import measure
from cnnlib.slices.slicer import Slicer
from tests.datasets import add_metadata, make_source
from tests.models import build_linear
from tests.scores import make_sums
from tests.unit.evaluation.test_predictor import (
    CLASSES,
    SHAPE,
    as_table,
    build_task,
    decode,
    nearest_pattern,
    save,
    score,
)

pytestmark = pytest.mark.usefixtures("strategy")

SOURCE = add_metadata(make_source(train_rows=300, test_rows=230), {"source": ["web", "camera", None]})
ROWS = SOURCE.splits["test"].read(0, 230)
SLICER = Slicer(
    groups=(("source",), ("brightness",), ("source", "brightness"), ("near-duplicate",)),
    edges={"brightness": quantile_edges(measure("brightness", ROWS.images), 3)},
    train=NearDuplicates(hash_images(ROWS.images[:40])),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, strategy: object) -> list[PartialScores]:
    """Returns the partial scores of a good model and of a random one for the same rows, with slices and corruptions."""
    import keras

    # Of a hundred random models, a few give values in 0..1 for all rows: nothing tells what those are.
    keras.utils.set_random_seed(1)
    directory = tmp_path_factory.mktemp("models")
    paths = [
        save(nearest_pattern(), directory, "good.keras"),
        save(build_linear(SHAPE, CLASSES), directory, "random.keras"),
    ]
    targets = [find_target(str(path), None) for path in paths]
    task = dataclasses.replace(build_task(*targets, corruptions=True), slicer=SLICER)
    return decode(Predictor(task)(as_table(ROWS)))


@pytest.mark.parametrize(
    ("prefix", "crossed", "count"),
    [("source=", False, 3), ("brightness=", False, 3), ("source=", True, 9), ("near-duplicate=", False, 2)],
)
def test_the_slices_of_a_dimension_add_up_to_the_whole(
    parts: list[PartialScores], prefix: str, crossed: bool, count: int
) -> None:
    for part in parts:
        own = [
            each for name, each in part.slices.items() if name.startswith(prefix) and ("+" in name) == crossed
        ]
        assert len(own) == count
        assert MetricSums.merge_all(own) == part.sums
    assert parts[0].sums != parts[1].sums


def test_a_slice_is_scored_as_its_rows_alone_would_be(parts: list[PartialScores], tmp_path: Path) -> None:
    web = ROWS.take(np.flatnonzero([value == "web" for value in ROWS.metadata["source"].to_pylist()]))
    alone = score(save(nearest_pattern(), tmp_path), rows=web)
    assert parts[0].slices["source=web"].confusion == alone.confusion
    assert parts[0].slices["source=web"].loss_sum == pytest.approx(alone.loss_sum, rel=1e-5)


def test_every_corruption_is_scored_on_every_row_as_the_model_sees_it(
    parts: list[PartialScores], tmp_path: Path
) -> None:
    names = [name for name in parts[0].slices if name.startswith("corruption=")]
    assert len(names) == len(CORRUPTIONS) * len(STRENGTHS) == 30
    assert {part.slices[name].rows for part in parts for name in names} == {230}
    path = save(nearest_pattern(), tmp_path)
    for kind in CORRUPTIONS:
        seen = Rows(ids=ROWS.ids, images=corrupt(ROWS.images, ROWS.ids, kind, 3), labels=ROWS.labels)
        assert parts[0].slices[f"corruption={kind}/3"].confusion == score(path, rows=seen).confusion
    assert parts[0].slices["corruption=contrast/5"] != parts[0].sums


def test_without_being_asked_for_there_are_no_slices(tmp_path: Path) -> None:
    path = save(nearest_pattern(), tmp_path)
    (part,) = decode(Predictor(build_task(find_target(str(path), None)))(as_table(ROWS)))
    assert part.slices == {}


def test_a_shard_without_the_column_is_refused(tmp_path: Path) -> None:
    path = save(nearest_pattern(), tmp_path)
    task = dataclasses.replace(build_task(find_target(str(path), None)), slicer=SLICER)
    plain = Rows(ids=ROWS.ids, images=ROWS.images, labels=ROWS.labels)
    with pytest.raises(DatasetError, match="lacks the column 'source'"):
        decode(Predictor(task)(as_table(plain)))


def test_slices_of_shards_merge_by_name_and_come_in_the_order_of_their_numbers() -> None:
    first, second, both = (
        make_sums([[3, 1], [0, 2]]),
        make_sums([[1, 0], [1, 1]]),
        make_sums([[4, 1], [1, 3]]),
    )
    collected = CollectedScores()
    for slices in ({"size=q10": first, "size=q2": first}, {"size=q2": second, "age=-3": second}):
        part = PartialScores(sums=first, rows=None, predictions=None, busy_s=0.1, slices=slices)
        collected.add({PARTIAL_SCORES: encode_outcome(part), SECONDS: 1.0}, now=5.0)
    assert collected.num_slices == 3
    assert list(collected.slices()) == ["age=-3", "size=q2", "size=q10"]
    assert collected.slices()["size=q2"].confusion == both.confusion
    assert collected.slices()["size=q10"] == first


def test_the_time_that_corrupted_images_take_is_counted_apart(parts: list[PartialScores]) -> None:
    collected = CollectedScores()
    for part in parts:
        collected.add({PARTIAL_SCORES: encode_outcome(part), SECONDS: 1.0}, now=5.0)
    # 30 predictions take longer than one on every machine; how much longer depends on the machine.
    assert collected.corrupted_s > collected.busy_s > 0
    assert collected.corrupted_s == pytest.approx(sum(part.corrupted_s for part in parts))
