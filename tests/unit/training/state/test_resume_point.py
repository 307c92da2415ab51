"""A resume point gives back, bit for bit, what went in, and to each worker its own moving statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cnnlib.errors import CheckpointError, DigestError
from cnnlib.runs.resume_points import EpochPart, ResumePoint, choose_resume_point
from cnnlib.storage import layout
from cnnlib.training.state.background import BackgroundWriter
from cnnlib.training.state.resume_point import ResumePointWriter, copy_resume_state, restore_resume_point
from cnnlib.training.strategy import build_gather_call

PART = EpochPart(1, 30, 2.5, 11.0, 4.0)


def build(strategy: Any, width: int = 3) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(width),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(2),
            ]
        )
        optimizer = keras.optimizers.Adam(0.01, use_ema=True)
        optimizer.build(model.trainable_variables)
    return model, optimizer


def randomise(model: keras.Model, optimizer: keras.optimizers.Optimizer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for variable in [*model.variables, *optimizer.variables]:
        if np.dtype(variable.dtype).kind == "f":
            variable.assign(rng.uniform(0.1, 1.0, variable.shape))
        else:
            variable.assign(rng.integers(1, 99, variable.shape))


def values(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[np.ndarray]:
    return [np.asarray(each.numpy()) for each in [*model.variables, *optimizer.variables]]


def write(run: Path, state: dict[str, Any]) -> ResumePoint:
    writer = ResumePointWriter(str(run), background := BackgroundWriter())
    writer.write(state, 30, PART, 0.0)
    background.wait()
    point = choose_resume_point(str(run), [])
    assert point is not None
    assert point.part == PART
    return point


def test_a_restored_state_is_the_saved_one_bit_for_bit(strategy: Any, tmp_path: Path) -> None:
    saved, fresh = build(strategy), build(strategy)
    randomise(*saved, seed=1)
    randomise(*fresh, seed=2)
    point = write(tmp_path / "run", copy_resume_state(*saved, build_gather_call(strategy, saved[0])()))
    restore_resume_point(point, *fresh, rank=0, workers=1)
    for found, expected in zip(values(*fresh), values(*saved), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("rank", "workers", "expected"), [(0, 2, 1.0), (1, 2, 3.0), (0, 1, 2.0), (2, 4, 2.0)]
)
def test_each_worker_goes_on_with_its_own_statistics_or_all_with_the_mean(
    strategy: Any, tmp_path: Path, rank: int, workers: int, expected: float
) -> None:
    model, optimizer = build(strategy)
    of_two = np.stack([np.full(3, 1.0, np.float32), np.full(3, 3.0, np.float32)])
    point = write(tmp_path / "run", copy_resume_state(model, optimizer, [of_two, of_two]))
    restore_resume_point(point, model, optimizer, rank=rank, workers=workers)
    normalisation = model.layers[1]
    for found in (normalisation.moving_mean, normalisation.moving_variance):
        np.testing.assert_array_equal(found.numpy(), np.full(3, expected, np.float32))


def test_another_model_and_other_bytes_are_refused(strategy: Any, tmp_path: Path) -> None:
    saved, other = build(strategy), build(strategy, width=5)
    point = write(tmp_path / "run", copy_resume_state(*saved, build_gather_call(strategy, saved[0])()))
    before = values(*other)
    with pytest.raises(CheckpointError, match="differ from this run's"):
        restore_resume_point(point, *other, rank=0, workers=1)
    for found, expected in zip(values(*other), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    without = write(tmp_path / "without", copy_resume_state(*saved, []))
    with pytest.raises(CheckpointError, match="belongs to another model"):
        restore_resume_point(without, *saved, rank=0, workers=1)
    Path(point.state_uri).write_bytes(b"other")
    with pytest.raises(DigestError):
        restore_resume_point(point, *saved, rank=0, workers=1)


def test_a_state_that_is_not_finite_is_not_saved_and_a_failure_ends_nothing(
    strategy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = copy_resume_state(*build(strategy), [])
    writer = ResumePointWriter(str(tmp_path / "run"), background := BackgroundWriter())
    writer.write({**state, "weights/0000": np.array([np.nan])}, 30, PART, 0.0)
    background.wait()
    assert choose_resume_point(str(tmp_path / "run"), []) is None
    (tmp_path / "file").write_text("")
    broken = ResumePointWriter(str(tmp_path / "file" / "run"), background)
    broken.write(state, 30, PART, 0.0)
    background.wait()
    assert "failed, and the training goes on" in capsys.readouterr().err


def test_the_one_before_stays_until_the_epoch_has_its_checkpoint(strategy: Any, tmp_path: Path) -> None:
    state = copy_resume_state(*build(strategy), [])
    writer = ResumePointWriter(str(tmp_path), background := BackgroundWriter())
    for step in (10, 20, 30):
        writer.write(state, step, EpochPart(1, step), 0.0)
        background.wait()
    folder = Path(layout.run_resume_points(str(tmp_path)))
    assert sorted(layout.find_step(each.name) or 0 for each in folder.glob("*")) == [20, 20, 30, 30]
    writer.clear()
    assert list(folder.glob("*")) == []


def test_the_one_that_a_run_goes_on_from_is_deleted_with_the_epoch_too(strategy: Any, tmp_path: Path) -> None:
    point = write(tmp_path, copy_resume_state(*build(strategy), []))
    writer = ResumePointWriter(str(tmp_path), BackgroundWriter())
    writer.adopt(point.uri)
    writer.clear()
    assert list(Path(layout.run_resume_points(str(tmp_path))).glob("*")) == []
