"""A predictor in this process counts as plain Keras does, and refuses models that do not fit the data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from keras import layers

from cnnlib.dataset.record import SHARD_ERROR, SHARD_INDEX, Rows, rows_to_table
from cnnlib.errors import CheckpointError, CnnlibError, ConfigError, DatasetError, ModelError
from cnnlib.evaluate_config import EvaluateConfig, PixelRange
from cnnlib.evaluation import predictor
from cnnlib.evaluation.loaded_model import compile_predict
from cnnlib.evaluation.partial_scores import (
    NO_TARGET,
    PARTIAL_SCORES,
    SECONDS,
    TARGET_INDEX,
    CollectedScores,
    PartialScores,
    decode_outcome,
    encode_outcome,
)
from cnnlib.evaluation.predictor import Predictor, PredictorTask
from cnnlib.evaluation.target import Target, find_target
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.models.cost import ModelCost
from cnnlib.training.step import build_score_call, build_train_call
from tests.datasets import make_source
from tests.models import build_two_inputs, build_two_outputs
from tests.unit.conftest import THREADS

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE, CLASSES = (8, 8, 1), 3
ROWS = make_source(train_rows=300, test_rows=230).splits["test"].read(0, 230)
SHARD = 4  # the index of the shard that the rows pretend to come from


def as_table(rows: Rows = ROWS, shard: int = SHARD) -> pa.Table:
    """Returns rows as Ray Data passes them to a predictor."""
    return rows_to_table(rows).append_column(SHARD_INDEX, pa.array([shard] * len(rows), pa.int32()))


def nearest_pattern(
    input_shape: tuple[int, ...] = SHAPE, *, activation: str | None = "softmax", scale: float = 1.0
) -> keras.Model:
    """Builds a model of one dense layer that is right about most rows: it predicts the class of the nearest mean image.

    For an image x and mean images m, the largest x·m - |m|²/2 has the smallest |x - m|². The model takes pixels of 0..1
    times `scale`.
    """
    rows = make_source(train_rows=300, test_rows=230).splits["train"].read(0, 300)
    pixels = rows.images.reshape(300, -1) / 255.0
    means = np.stack([pixels[rows.labels == label].mean(axis=0) for label in range(CLASSES)])
    model = keras.Sequential(
        [keras.Input(input_shape), layers.Flatten(), layers.Dense(CLASSES, activation=activation)]
    )
    model.layers[-1].set_weights([means.T / scale, -(means**2).sum(axis=1) / 2])
    return model


def save(model: keras.Model, directory: Path, name: str = "mine.keras") -> Path:
    model.save(directory / name)
    return directory / name


def build_task(
    *targets: Target,
    reports: str = "",
    report_ids: tuple[str, ...] | None = None,
    keep_rows: bool = True,
    **config: Any,
) -> PredictorTask:
    return PredictorTask(
        targets=targets,
        config=EvaluateConfig(**{"batch_size": 64, "top_k": 2, **config}),
        image_shape=SHAPE,
        num_classes=CLASSES,
        cpus=THREADS,
        reports_uri=reports,
        report_ids=report_ids,
        keep_rows=keep_rows,
    )


def decode(columns: dict[str, Any]) -> list[PartialScores]:
    """Returns the partial scores of every target; raises the first error among them."""
    scores = []
    for data in columns[PARTIAL_SCORES]:
        outcome = decode_outcome(data)
        if isinstance(outcome, CnnlibError):
            raise outcome
        scores.append(outcome)
    return scores


def score(path: Path, pixel_range: PixelRange | None = None, rows: Rows = ROWS, **config: Any) -> MetricSums:
    predictor = Predictor(build_task(find_target(str(path), pixel_range), **config))
    return decode(predictor(as_table(rows)))[0].sums


def plain_keras(path: Path, input_shape: tuple[int, ...] = SHAPE, scale: float = 1.0) -> tuple[float, int]:
    """Returns the loss and the correct rows as a user of Keras gets them."""
    model = keras.models.load_model(path, compile=False)
    logits = model.layers[-1].activation is not keras.activations.softmax
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=logits),
        metrics=["accuracy"],
        run_eagerly=True,  # nothing to compile: it is quicker for so few rows
    )
    images = ROWS.images.reshape(-1, *input_shape) / 255.0 * scale
    loss, accuracy = model.evaluate(images, ROWS.labels, batch_size=len(ROWS), verbose=0)
    return loss, round(accuracy * len(ROWS))


def assert_same(sums: MetricSums, expected: tuple[float, int]) -> None:
    loss, correct = expected
    assert sums.rows == len(ROWS) == 230
    assert sums.confusion.correct == correct
    assert sums.loss_sum / sums.rows == pytest.approx(loss, rel=1e-5)
    # If every row or none were right, the counts would say little.
    assert 130 < correct < 220
    assert correct < sums.top_k_correct <= 230


@pytest.mark.parametrize(
    ("name", "input_shape"),
    [("mine.keras", (8, 8, 1)), ("mine.keras", (8, 8)), ("mine.h5", (64,)), ("mine.h5", (8, 8, 1))],
    ids=str,
)
def test_counts_are_those_of_plain_keras(tmp_path: Path, name: str, input_shape: tuple[int, ...]) -> None:
    path = save(nearest_pattern(input_shape), tmp_path, name)
    assert_same(score(path), plain_keras(path, input_shape))


def test_model_that_gives_logits_is_given_a_softmax(tmp_path: Path) -> None:
    path = save(nearest_pattern(activation=None), tmp_path)
    expected = plain_keras(path)
    assert_same(score(path), expected)
    assert_same(score(path, outputs="logits"), expected)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_output_for_two_classes_is_that_of_the_second(tmp_path: Path, activation: str | None) -> None:
    """The difference of two logits in a sigmoid is their softmax, so both models are the same."""
    two = nearest_pattern()
    kernel, bias = (weights[..., :2] for weights in two.layers[-1].get_weights())
    two = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(2, activation="softmax")])
    two.layers[-1].set_weights([kernel, bias])
    one = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(1, activation=activation)])
    one.layers[-1].set_weights([kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]])
    kept = ROWS.labels < 2
    rows = Rows(ids=ROWS.ids[kept], images=ROWS.images[kept], labels=ROWS.labels[kept])

    def sums(model: keras.Model, name: str) -> MetricSums:
        target = find_target(str(save(model, tmp_path, name)), None)
        task = replace(build_task(target), num_classes=2)
        return decode(Predictor(task)(as_table(rows)))[0].sums

    ours, expected = sums(one, "one.keras"), sums(two, "two.keras")
    assert ours.confusion == expected.confusion
    assert ours.loss_sum == pytest.approx(expected.loss_sum, rel=1e-4)
    assert 0.6 * len(rows) < ours.confusion.correct < len(rows)


def test_outputs_are_taken_as_they_were_declared(tmp_path: Path) -> None:
    path = save(nearest_pattern(), tmp_path)
    assert_same(score(path, outputs="probabilities"), plain_keras(path))
    # A softmax of probabilities keeps their order, but changes the loss.
    twice, once = score(path, outputs="logits"), score(path)
    assert twice.confusion == once.confusion
    assert twice.loss_sum > once.loss_sum


def test_probabilities_behind_a_cast_are_not_taken_for_logits(tmp_path: Path) -> None:
    inner = nearest_pattern()
    outer = keras.Sequential([keras.Input(SHAPE), inner, layers.Activation("linear", dtype="float32")])
    assert_same(score(save(outer, tmp_path)), plain_keras(save(inner, tmp_path, "inner.keras")))


def test_a_model_that_scales_the_pixels_itself_gets_them_unscaled(tmp_path: Path) -> None:
    inner = nearest_pattern()
    outer = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), inner])
    assert_same(score(save(outer, tmp_path)), plain_keras(save(inner, tmp_path, "inner.keras")))


def test_outputs_are_those_of_the_classes_of_the_data(tmp_path: Path) -> None:
    path = save(nearest_pattern(), tmp_path)
    target = replace(find_target(str(path), None), class_names=("a", "b", "c"), columns=(1, 0, 2))
    swapped = Rows(ids=ROWS.ids, images=ROWS.images, labels=np.array([1, 0, 2], np.int32)[ROWS.labels])
    [part] = decode(Predictor(build_task(target))(as_table(swapped)))
    assert_same(part.sums, plain_keras(path))


def test_logits_declared_to_be_probabilities_are_refused(tmp_path: Path) -> None:
    path = save(nearest_pattern(activation=None), tmp_path)
    with pytest.raises(ModelError, match=r"mine\.keras gives no probabilities.*--outputs logits"):
        score(path, outputs="probabilities")


@pytest.mark.parametrize(("pixel_range", "scale"), [("0-1", 1.0), ("0-255", 255.0)])
def test_pixel_range_is_what_the_model_takes(tmp_path: Path, pixel_range: PixelRange, scale: float) -> None:
    path = save(nearest_pattern(scale=scale), tmp_path)
    assert_same(score(path, pixel_range), plain_keras(path, scale=scale))


def test_wrong_pixel_range_gives_other_counts(tmp_path: Path) -> None:
    path = save(nearest_pattern(), tmp_path)
    assert score(path, "0-255").confusion != score(path, "0-1").confusion


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_batch_size_changes_no_count(tmp_path: Path, batch_size: int) -> None:
    path = save(nearest_pattern(), tmp_path)
    few = Rows(ids=ROWS.ids[:23], images=ROWS.images[:23], labels=ROWS.labels[:23])
    sums, expected = score(path, rows=few, batch_size=batch_size), score(path, rows=few, batch_size=23)
    assert sums.confusion == expected.confusion
    assert sums.top_k_correct == expected.top_k_correct
    assert sums.loss_sum == pytest.approx(expected.loss_sum, rel=1e-6)


def test_parts_of_a_shard_add_up_to_the_whole(tmp_path: Path) -> None:
    predictor = Predictor(build_task(find_target(str(save(nearest_pattern(), tmp_path)), None)))
    table = as_table()
    [whole] = decode(predictor(table))
    parts = [decode(predictor(table.slice(first, 100)))[0] for first in (0, 100, 200)]
    assert sum(part.sums.rows for part in parts) == 230
    assert MetricSums.merge_all(part.sums for part in parts).confusion == whole.sums.confusion
    # Every part has its rows. Merged, they are sorted by id, in whichever order the parts arrive.
    rows = ScoredRows.merge_all(part.rows for part in reversed(parts) if part.rows)
    assert rows.ids.tolist() == ROWS.ids.tolist()
    assert rows.labels.tolist() == ROWS.labels.tolist()
    assert whole.rows is not None
    np.testing.assert_allclose(rows.probabilities, whole.rows.probabilities, atol=1e-6)


@pytest.mark.parametrize("tta", ["flips", "crops"])
def test_views_of_an_image_are_averaged_as_probabilities(tmp_path: Path, tta: str) -> None:
    path = save(nearest_pattern(activation=None), tmp_path)
    target = replace(find_target(str(path), "0-1"), outputs="logits")
    [scored] = decode(Predictor(build_task(target, tta=tta))(as_table()))
    images = ROWS.images
    views = [images, images[:, :, ::-1]]
    if tta == "crops":
        padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
        views = [images, *(padded[:, y : y + 8, x : x + 8] for y in (0, 2) for x in (0, 2))]
    model = keras.models.load_model(path, compile=False)
    outputs = [keras.ops.softmax(model(view.astype(np.float32) / 255)).numpy() for view in views]
    expected = np.mean(outputs, axis=0)
    assert scored.rows is not None
    np.testing.assert_allclose(scored.rows.probabilities, expected, atol=1e-5)
    assert np.abs(expected - outputs[0]).max() > 0.01, "the views differ"


def test_split_of_too_many_rows_gives_a_histogram_instead(tmp_path: Path) -> None:
    target = find_target(str(save(nearest_pattern(), tmp_path)), None)
    [part] = decode(Predictor(build_task(target, keep_rows=False))(as_table()))
    assert part.rows is None
    assert part.sums.histogram is not None
    assert part.sums.histogram.positives.sum() == 230


def test_one_pass_scores_every_model_under_its_own_index(tmp_path: Path) -> None:
    good, flat = save(nearest_pattern(), tmp_path), save(nearest_pattern((64,)), tmp_path, "flat.h5")
    always_zero = nearest_pattern()
    always_zero.layers[-1].set_weights([np.zeros((64, CLASSES)), np.array([9.0, 0, 0])])
    bad = save(always_zero, tmp_path, "bad.keras")
    targets = [find_target(str(path), None) for path in (good, bad, flat)]
    columns = Predictor(build_task(*targets))(as_table())
    assert columns[TARGET_INDEX].tolist() == [0, 1, 2]
    assert (columns[SECONDS] > 0).all()
    by_target = [part.sums for part in decode(columns)]
    assert [sums.rows for sums in by_target] == [230] * 3
    assert by_target[0].confusion == by_target[2].confusion
    assert by_target[1].confusion.correct == (ROWS.labels == 0).sum()


def test_predictions_are_stored_row_by_row_and_only_when_asked_for(tmp_path: Path) -> None:
    path, reports = save(nearest_pattern(), tmp_path), tmp_path / "reports"
    target = find_target(str(path), None)
    [unstored] = decode(Predictor(build_task(target, reports=str(reports)))(as_table()))
    assert not reports.exists()
    assert unstored.predictions is None
    columns = Predictor(build_task(target, reports=str(reports), report_ids=("abc",)))(as_table())
    stored = pd.read_parquet(reports / "predictions" / "report_id=abc")
    assert stored["id"].tolist() == list(range(230))
    assert stored["label"].tolist() == ROWS.labels.tolist()
    correct = int((stored["label"] == stored["prediction"]).sum())
    [part] = decode(columns)
    assert correct == part.sums.confusion.correct
    assert part.predictions is not None
    [written] = part.predictions
    assert (written.rows, written.name.split("/")[:2]) == (
        230,
        ["predictions", "report_id=abc"],
    )
    assert (np.stack(stored["top_classes"])[:, 0] == stored["prediction"]).all()
    assert stored["probability"].between(1 / CLASSES, 1).all()
    assert [path.name for path in (reports / "predictions" / "report_id=abc").iterdir()] == [
        f"part-{SHARD:05d}-000000000000-{written.sha256[:16]}.parquet"
    ]


def test_first_shard_brings_what_every_model_costs_and_makes_of_the_first_image(tmp_path: Path) -> None:
    conv = keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Reshape(SHAPE),
            layers.Conv2D(4, 3),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    targets = [find_target(str(save(nearest_pattern(), tmp_path)), None)]
    targets.append(find_target(str(save(conv, tmp_path, "conv.keras")), None))
    dense, cnn = (part.profile for part in decode(Predictor(build_task(*targets))(as_table(shard=0))))
    assert dense is not None
    assert dense.cost == ModelCost(parameters=64 * 3 + 3, flops_per_image=2 * 64 * 3)
    assert [each.kind for each in dense.layers] == ["image"]
    assert cnn is not None
    assert (cnn.pixel_range, cnn.outputs) == ("0-1", "logits"), "as they were found out"
    assert cnn.cost == ModelCost(
        parameters=9 * 4 + 4 + 144 * 3 + 3, flops_per_image=2 * (36 * 9 * 4 + 144 * 3)
    )
    assert [(each.kind, each.maps.shape) for each in cnn.layers] == [
        ("image", (1, 8, 8, 1)),
        ("kernel", (4, 3, 3, 1)),
        ("activation", (4, 6, 6, 1)),
    ]
    assert cnn.example_id == ROWS.ids[0]
    np.testing.assert_array_equal(cnn.layers[0].maps[0], ROWS.images[0])
    # Scaled as for a prediction: the model takes 0..1.
    pixels = ROWS.images[:1].reshape(1, 8, 8).astype(np.float32) / 255
    expected = keras.Model(conv.inputs, conv.layers[1].output)(pixels)
    np.testing.assert_allclose(
        cnn.layers[2].maps[..., 0], np.asarray(expected)[0].transpose(2, 0, 1), atol=1e-6
    )


def test_every_model_says_how_long_it_took_itself(tmp_path: Path) -> None:
    wide = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), *(layers.Dense(3000) for _ in range(3))])
    wide.add(layers.Dense(CLASSES, activation="softmax"))
    paths = save(nearest_pattern(), tmp_path), save(wide, tmp_path, "wide.keras")
    predictor = Predictor(build_task(*(find_target(str(path), None) for path in paths)))
    predictor(as_table())  # compiles
    columns = predictor(as_table())
    light, heavy = (part.busy_s for part in decode(columns))
    assert 0 < light < heavy  # some 18 million multiplications a row against 192
    assert light + heavy <= float(columns[SECONDS][0]) + 0.01


def test_other_shards_bring_no_profile(tmp_path: Path) -> None:
    target = find_target(str(save(nearest_pattern(), tmp_path)), None)
    [part] = decode(Predictor(build_task(target))(as_table()))
    assert part.profile is None


def test_first_row_is_the_example_however_its_shard_was_cut(tmp_path: Path) -> None:
    predictor = Predictor(build_task(find_target(str(save(nearest_pattern(), tmp_path)), None)))
    table, collected = as_table(shard=0), CollectedScores()
    for first in (200, 0, 100):
        columns = predictor(table.slice(first, 100))
        collected.add({name: values[0] for name, values in columns.items()}, now=9.0)
    assert collected.profile is not None
    assert collected.profile.example_id == ROWS.ids[0]


# Models that are refused. Neither the constructor nor a call raises: the driver would see an error without its cause.


def assert_refused(path: Path, error: type[Exception], message: str) -> None:
    predictor = Predictor(build_task(find_target(str(path), None)))
    for _ in range(2):
        with pytest.raises(error, match=message):
            decode(predictor(as_table()))


def _unbuilt() -> keras.Model:
    return keras.Sequential([layers.Flatten(), layers.Dense(CLASSES)])


def _dense(input_shape: tuple[int, ...] = SHAPE, classes: int = CLASSES) -> keras.Model:
    return keras.Sequential([keras.Input(input_shape), layers.Flatten(), layers.Dense(classes)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: _dense(classes=10),
            r"fit the number of classes\. Received a model with output \(None, 10\), .*\(None, 3\)",
        ),
        (lambda: _dense(classes=2), "does not fit the number of classes"),
        (lambda: _dense((8, 8, 3)), "does not take this dataset's images"),
        (lambda: _dense((65,)), r"Received a model with input \(None, 65\), expected \(None, 8, 8, 1\)"),
        (
            lambda: build_two_inputs(SHAPE, CLASSES),
            r"has 2 inputs\. Received \(None, 8, 8, 1\), \(None, 8, 8, 1\), expected \(None, 8, 8, 1\)",
        ),
        (
            lambda: build_two_outputs(SHAPE, CLASSES),
            r"has 2 outputs\. Received \(None, 3\), \(None, 1\), expected \(None, 3\): one value per class",
        ),
        (lambda: _dense(classes=1), "does not fit the number of classes"),  # a sigmoid is for two classes
        (_unbuilt, r"has no output shape, expected \(None, 3\).* Begin the model with keras\.Input"),
    ],
)
def test_model_that_does_not_fit_the_data_is_refused_at_the_first_rows(
    tmp_path: Path, build: Callable[[], keras.Model], message: str
) -> None:
    assert_refused(save(build(), tmp_path), ModelError, message)


@pytest.mark.parametrize("name", ["mine.keras", "mine.h5"])
def test_file_that_is_no_model_is_refused_at_the_first_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no model at all")
    assert_refused(tmp_path / name, ModelError, f"Keras cannot open .*{name}")


def test_file_that_changed_since_it_was_found_is_refused(tmp_path: Path) -> None:
    path = save(nearest_pattern(), tmp_path)
    target = find_target(str(path), None)
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(
        CheckpointError, match=r"does not match its manifest\. Received .* Its bytes have changed"
    ):
        decode(Predictor(build_task(target))(as_table()))


def test_one_bad_model_of_a_pass_keeps_no_other_from_its_scores(tmp_path: Path) -> None:
    good, classes = save(nearest_pattern(), tmp_path), save(_dense(classes=2), tmp_path, "classes.keras")
    diverged = nearest_pattern()
    diverged.layers[-1].set_weights([np.full((64, CLASSES), np.nan), np.zeros(CLASSES)])
    paths = (classes, good, save(diverged, tmp_path, "diverged.keras"))
    predictor = Predictor(build_task(*(find_target(str(path), None) for path in paths), corruptions=True))
    for shard in (0, 1):
        columns = predictor(as_table(shard=shard))
        assert columns[TARGET_INDEX].tolist() == [0, 1, 2]
        first, second, third = (decode_outcome(data) for data in columns[PARTIAL_SCORES])
        assert isinstance(first, ModelError)
        assert "classes.keras does not fit the number of classes" in str(first)
        assert isinstance(second, PartialScores)
        assert (second.sums.confusion.correct, len(second.slices)) == (plain_keras(good)[1], 30)
        assert isinstance(third, ModelError)
        assert "diverged.keras are not numbers: 192 of 192 values" in str(third)


def test_an_error_of_the_models_own_code_is_one_line_that_names_the_model(tmp_path: Path) -> None:
    target = find_target(str(save(nearest_pattern(), tmp_path)), None)
    predictor = Predictor(build_task(target))

    class Failing:
        def predict(self, images: Any) -> Any:
            raise ValueError(f"{len(images)} images\nare not mine")

    predictor._models = [Failing()]  # type: ignore[list-item]
    with pytest.raises(ModelError, match=r"mine\.keras could not be scored: ValueError: 230 images\.$"):
        decode(predictor(as_table()))


def test_a_shard_that_cannot_be_read_is_an_error_for_all_targets(tmp_path: Path) -> None:
    target = find_target(str(save(nearest_pattern(), tmp_path)), None)
    error = DatasetError("the shard is damaged")
    columns = Predictor(build_task(target, target))(pa.table({SHARD_ERROR: [encode_outcome(error)]}))
    assert columns[TARGET_INDEX].tolist() == [NO_TARGET]
    with pytest.raises(DatasetError, match="the shard is damaged"):
        decode(columns)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_time_of_scoring_is_by_one_clock_and_never_negative(tmp_path: Path, order: Sequence[int]) -> None:
    collected = CollectedScores()
    sums = MetricSums.zero(CLASSES, top_k=2)
    row = encode_outcome(PartialScores(sums=sums, rows=None, predictions=None, busy_s=0.0))
    arrivals = [(7.0, 4.0), (9.0, 3.0)]  # scored from 3 to 7, and from 6 to 9
    for index in order:
        now, seconds = arrivals[index]
        collected.add({PARTIAL_SCORES: row, SECONDS: seconds}, now)
    assert collected.seconds == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            math.nan,
            r"weights of .* are not numbers: 1 of 192 values of .*kernel are NaN\. Its training diverged",
        ),
        (math.inf, "gives values that are not finite: its training diverged"),
    ],
)
@pytest.mark.parametrize("activation", ["softmax", None])
def test_model_whose_training_diverged_is_refused(
    tmp_path: Path, value: float, message: str, activation: str | None
) -> None:
    model = nearest_pattern(activation=activation)
    kernel, bias = model.layers[-1].get_weights()
    kernel[3, 1] = value
    model.layers[-1].set_weights([kernel, bias])
    assert_refused(save(model, tmp_path), ModelError, message)


# Two images of 8x8 with every pixel value from 0 to 127: the inputs of a model for them must never change.
GOLDEN = np.arange(128, dtype=np.uint8).reshape(2, *SHAPE)


def test_training_and_evaluation_give_a_model_the_same_pixels(strategy: Any, tmp_path: Path) -> None:
    """The logits are 0 and a thousandth of the sum of the first 16 pixels, so the loss shows the model's inputs."""
    kernel = np.zeros((64, 2), np.float32)
    kernel[:16, 1] = 1e-3
    with strategy.scope():
        model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(2)])
    model.layers[-1].set_weights([kernel, np.zeros(2)])
    sums = [int(image.ravel()[:16].sum()) for image in GOLDEN]
    assert sums == [120, 1144]
    expected = sum(math.log1p(math.exp(-total / 1000)) for total in sums)

    score_call = build_score_call(model=model, strategy=strategy, rows=2, image_shape=SHAPE, from_logits=True)
    trained_on = score_call(GOLDEN, np.ones(2, np.int32), np.ones(2, np.float32)).numpy()[0]
    predict = compile_predict(
        model, input_shape=SHAPE, image_shape=SHAPE, batch_size=2, pixel_range="0-255", logits=True, chunks=1
    )
    evaluated = -np.log(predict(GOLDEN)[:, 1]).sum()
    train_call = build_train_call(
        model=model, optimizer=_frozen(model, strategy), strategy=strategy, batch_size=2, image_shape=SHAPE,
        from_logits=True, jit_compile=False, seed=0,
    )  # fmt: skip
    trained = train_call(GOLDEN[None], np.ones((1, 2), np.int32)).numpy()[0]
    for loss in (trained_on, evaluated, trained):
        assert loss == pytest.approx(expected, rel=1e-5)


def _frozen(model: keras.Model, strategy: Any) -> keras.optimizers.Optimizer:
    with strategy.scope():
        optimizer = keras.optimizers.SGD(0.0)
        optimizer.build(model.trainable_variables)
    return optimizer


@pytest.mark.parametrize(("gpus_per_actor", "visible"), [(0, "-1"), (1, "3")])
def test_predictor_sees_a_gpu_only_if_it_asked_for_one(
    strategy: object, monkeypatch: pytest.MonkeyPatch, gpus_per_actor: int, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    Predictor(build_task(gpus_per_actor=gpus_per_actor, batch_size=1))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_an_error_of_the_environment_is_a_value_for_all_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised in the start of an actor, Ray would start the actor again and again."""

    def load(*_: Any, **__: Any) -> None:
        raise ConfigError("keras.json is invalid.")

    monkeypatch.setattr(predictor, "load_tensorflow", load)
    block = Predictor(build_task())(as_table(shard=0))
    assert list(block[TARGET_INDEX]) == [NO_TARGET]
    error = decode_outcome(block[PARTIAL_SCORES][0])
    assert isinstance(error, ConfigError)
    assert str(error) == "keras.json is invalid."
