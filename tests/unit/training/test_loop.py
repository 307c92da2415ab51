"""Tests when an epoch calls, reads and reports, with a train call that computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest

from cnnlib.dataset.record import Rows
from cnnlib.errors import DivergedError
from cnnlib.feed.device import MacroBatch
from cnnlib.runs.resume_points import EpochPart
from cnnlib.training.loop import SAVE, STOP, check_validation, check_weights, run_epoch, score_rows
from cnnlib.training.observe.progress import Throughput

BATCH = 10


class Story:
    """Records what the loop does. Call number k returns the sums (k, 10 * k), or another loss where one is given."""

    def __init__(self, losses: dict[int, float] | None = None) -> None:
        self._losses = losses or {}
        self.events: list[str] = []
        self.updates: list[dict[str, Any]] = []
        self._calls = 0

    def batches(self, steps: list[int], waited_s: float = 0.0) -> Iterator[MacroBatch]:
        for number, count in enumerate(steps, 1):
            self.events.append(f"batch {number}")
            yield MacroBatch(images=f"images {number}", labels=number, steps=count, waited_s=waited_s)

    def train_call(self, images: Any, labels: Any, request: float = 0.0) -> Any:
        self._calls += 1
        number = self._calls
        assert (images, labels) == (f"images {number}", number)
        self.events.append(f"call {number}")

        def read() -> np.ndarray:
            self.events.append(f"read {number}")
            return np.array([self._losses.get(number, number), 10.0 * number, request])

        return SimpleNamespace(numpy=read)

    def update(self, **metrics: Any) -> None:
        self.events.append("update")
        self.updates.append(metrics)

    def close(self) -> None:
        raise AssertionError("the run is not over after an epoch")


def run(story: Story, steps: list[int], first_step: int = 0, **options: Any) -> Any:
    return run_epoch(
        story.train_call,
        story.batches(steps, **options),
        batch_size=BATCH,
        steps_per_epoch=100_000,
        done=EpochPart(2),
        first_step=first_step,
        progress=story,
        learning_rate=lambda: 0.5,
    )


def test_results_are_read_one_call_behind() -> None:
    story = Story()
    run(story, [5, 5, 5])
    assert story.events == [
        "batch 1", "call 1",
        "batch 2", "call 2", "read 1", "update",
        "batch 3", "call 3", "read 2", "update",
        "read 3", "update",
    ]  # fmt: skip


def test_metrics_of_the_epoch_are_over_all_its_rows() -> None:
    metrics = run(Story(), [5, 5, 2])
    assert (metrics.steps, metrics.rows) == (12, 120)
    assert metrics.loss == pytest.approx((1 + 2 + 3) / 120)
    assert metrics.accuracy == pytest.approx((10 + 20 + 30) / 120)
    assert metrics.seconds > 0
    assert metrics.images_per_s > 0


def test_progress_shows_the_epoch_so_far() -> None:
    story = Story()
    run(story, [5, 5, 2], first_step=12)
    shown = [(each["epoch"], each["step"], each["loss"], each["accuracy"]) for each in story.updates]
    assert shown == [
        (2, 17, pytest.approx(1 / 50), pytest.approx(10 / 50)),
        (2, 22, pytest.approx(3 / 100), pytest.approx(30 / 100)),
        (2, 24, pytest.approx(6 / 120), pytest.approx(60 / 120)),
    ]


def test_single_call_is_read_too() -> None:
    story = Story()
    assert run(story, [3]).steps == 3
    assert story.events == ["batch 1", "call 1", "read 1", "update"]


def test_epoch_of_a_worker_without_a_display_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story()
    metrics = run_epoch(
        story.train_call,
        story.batches([5, 2]),
        batch_size=BATCH,
        steps_per_epoch=100_000,
        done=EpochPart(1),
        first_step=0,
        progress=None,
        learning_rate=lambda: 0.5,
    )
    assert (metrics.steps, story.updates) == (7, [])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_time_spent_waiting_for_data_is_counted() -> None:
    metrics = run(Story(), [1, 1], waited_s=0.5)
    assert metrics.data_wait == pytest.approx(1.0 / metrics.seconds, rel=0.5)
    assert run(Story(), [1, 1]).data_wait == 0


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_epoch_stops_at_the_first_call_whose_loss_is_not_finite(loss: float) -> None:
    story = Story({2: loss})
    with pytest.raises(DivergedError) as raised:
        run(story, [5, 5, 5, 5], first_step=100)
    assert str(raised.value) == (
        f"The training diverged: the loss is {loss} at step 110 (epoch 2, learning rate 0.5). Choose a lower "
        "--learning-rate, clip the gradients with --optimizer.clip-norm 1, or check the data. The checkpoints of "
        "earlier epochs are kept; give the changed run another --name."
    )
    assert story.events[-2:] == ["call 3", "read 2"]
    assert [each["step"] for each in story.updates] == [105]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_the_last_step_broke_are_found(
    make_model: Callable[..., keras.Model], value: float
) -> None:
    model = make_model()
    check_weights(model, epoch=1, step=7, learning_rate=0.5)
    kernel = model.layers[-1].kernel
    values = kernel.numpy()
    values[0, 0] = value
    kernel.assign(values)
    with pytest.raises(DivergedError) as raised:
        check_weights(model, epoch=1, step=7, learning_rate=0.5)
    assert f"The training diverged: the weight {kernel.path} is not finite at step 7 (epoch 1" in str(
        raised.value
    )


def test_a_validation_loss_that_is_not_finite_ends_the_training() -> None:
    check_validation(1e30, epoch=1, step=7, learning_rate=0.5)
    with pytest.raises(DivergedError, match=r"the validation loss is inf at step 7 \(epoch 1, learning rate"):
        check_validation(float("inf"), epoch=1, step=7, learning_rate=0.5)


def test_rows_that_are_only_queued_do_not_count() -> None:
    throughput = Throughput()
    throughput.add_rows(1000)
    throughput.stop()
    assert throughput.images_per_s == pytest.approx(1000 / throughput.seconds)
    story = Story()
    counted: list[float] = []

    def count(rows: int) -> None:
        # A call's rows count once its result has been read.
        assert story.events[-1].startswith("read")
        counted.append(rows)

    with mock.patch.object(Throughput, "add_rows", side_effect=count):
        run(story, [5, 5, 2])
    assert counted == [50, 50, 20]


def test_error_of_the_data_stops_the_epoch() -> None:
    def broken() -> Iterator[MacroBatch]:
        yield MacroBatch(images="images 1", labels=1, steps=1, waited_s=0.0)
        raise OSError("disk gone")

    story = Story()
    with pytest.raises(OSError, match="disk gone"):
        run_epoch(
            story.train_call,
            broken(),
            batch_size=BATCH,
            steps_per_epoch=100_000,
            done=EpochPart(1),
            first_step=0,
            progress=story,
            learning_rate=lambda: 0.5,
        )


class Points:
    """Records what the loop saves; due after the given steps, and with a request at each of the given calls."""

    def __init__(
        self, story: Story, due: set[int] | None = None, requests: dict[int, float] | None = None
    ) -> None:
        self._story, self._due, self._requests = story, due or set(), requests or {}
        self._calls = 0
        self.saved: list[tuple[int, EpochPart]] = []

    def request(self) -> float:
        self._calls += 1
        return self._requests.get(self._calls, 0.0)

    def is_due(self, step: int) -> bool:
        return step in self._due

    def save(self, step: int, part: EpochPart) -> None:
        self._story.events.append(f"save {step}")
        self.saved.append((step, part))


def run_with(points: Points, story: Story, steps: list[int]) -> Any:
    return run_epoch(
        story.train_call,
        story.batches(steps),
        batch_size=BATCH,
        steps_per_epoch=sum(steps),
        done=EpochPart(2),
        first_step=100,
        progress=None,
        learning_rate=lambda: 0.5,
        resume_points=points,
    )


def test_a_resume_point_is_saved_when_nothing_runs_and_never_at_the_end() -> None:
    story = Story()
    points = Points(story, due={105, 115})
    metrics = run_with(points, story, [5, 5, 5])
    assert story.events == [
        "batch 1", "call 1", "read 1", "save 105", "batch 2", "call 2", "batch 3", "call 3", "read 2", "read 3",
    ]  # fmt: skip
    ((step, part),) = points.saved
    assert (step, part.epoch, part.steps, part.loss_sum, part.correct) == (105, 2, 5, 1.0, 10.0)
    assert metrics.loss == pytest.approx((1 + 2 + 3) / 150)
    assert (metrics.steps, metrics.stopped) == (15, False)


def test_a_request_is_heard_a_call_later_and_is_done_once() -> None:
    story = Story()
    points = Points(story, requests={2: SAVE, 3: SAVE})
    metrics = run_with(points, story, [5, 5, 5, 5, 5])
    assert [event for event in story.events if event.startswith(("call", "save"))] == [
        "call 1", "call 2", "call 3", "save 115", "call 4", "call 5",
    ]  # fmt: skip
    assert points.saved[0][1].steps == 15
    assert (metrics.steps, metrics.stopped) == (25, False)


def test_a_request_to_stop_saves_and_ends_the_epoch_there() -> None:
    story = Story()
    points = Points(story, requests=dict.fromkeys(range(2, 9), STOP))
    metrics = run_with(points, story, [5] * 8)
    assert story.events[-2:] == ["read 3", "save 115"]
    assert (metrics.steps, metrics.stopped, metrics.rows) == (15, True, 150)


@pytest.mark.parametrize("call", [7, 8])
def test_a_request_to_stop_at_the_end_lets_the_epoch_end_and_is_heard(call: int) -> None:
    story = Story()
    points = Points(story, requests=dict.fromkeys(range(call, 9), STOP))
    metrics = run_with(points, story, [5] * 8)
    assert (metrics.steps, metrics.stopped, points.saved) == (40, True, [])
    assert story.events[-1] == "read 8"


def test_an_epoch_that_is_resumed_has_the_metrics_of_the_whole_epoch() -> None:
    story = Story()
    metrics = run_epoch(
        story.train_call,
        story.batches([5, 2]),
        batch_size=BATCH,
        steps_per_epoch=20,
        done=EpochPart(2, 13, 4.0, 50.0, 100.0),
        first_step=100,
        progress=story,
        learning_rate=lambda: 0.5,
    )
    assert (metrics.steps, metrics.rows) == (20, 200)
    assert metrics.loss == pytest.approx((4 + 1 + 2) / 200)
    assert metrics.accuracy == pytest.approx((50 + 10 + 20) / 200)
    assert metrics.seconds > 100
    assert [update["step"] for update in story.updates] == [118, 120]


def score(indexes: list[list[int]], batch_rows: int) -> tuple[np.ndarray, list[list[int]]]:
    """Scores rows 0..99 whose label is their id; returns the sums and the ids that each call counted."""
    validation_split = [
        Rows(
            ids=np.array(some),
            images=np.array(some, np.uint8).reshape(-1, 1, 1, 1),
            labels=np.array(some, np.int32),
        )
        for some in indexes
    ]
    counted: list[list[int]] = []

    def score_call(images: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Any:
        assert images.shape == (batch_rows, 1, 1, 1)
        assert (labels.shape, mask.shape, mask.dtype) == ((batch_rows,), (batch_rows,), np.float32)
        assert images.ravel().tolist() == labels.tolist()
        counted.append(labels[mask == 1].tolist())
        return SimpleNamespace(numpy=lambda: np.array([(labels * mask).sum(), mask.sum()]))

    return score_rows(score_call, validation_split, batch_rows), counted


@pytest.mark.parametrize(
    ("indexes", "batch_rows", "calls"),
    [
        ([[3, 1, 4, 15, 9, 2, 6]], 3, [[3, 1, 4], [15, 9, 2], [6]]),
        ([[3, 1, 4, 15], [9, 2, 6]], 3, [[3, 1, 4], [15], [9, 2, 6]]),
        ([[3, 1, 4]], 3, [[3, 1, 4]]),
        ([[7], []], 5, [[7]]),
        ([], 5, []),
    ],
)
def test_every_row_is_scored_once_in_batches_of_one_shape(
    indexes: list[list[int]], batch_rows: int, calls: list[list[int]]
) -> None:
    sums, counted = score(indexes, batch_rows)
    assert counted == calls
    rows = [row for some in indexes for row in some]
    assert sums.tolist() == [sum(rows), len(rows), len(rows)]
