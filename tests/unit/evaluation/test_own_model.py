"""A checkpoint of a user's own model is scored with the user's code, and with what the training made of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cnnlib.config import OptimizerConfig, TrainConfig
from cnnlib.dataset.manifest import Manifest, Split
from cnnlib.errors import ModelCodeError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation import pending
from cnnlib.evaluation.loaded_model import load_model
from cnnlib.evaluation.target import find_target
from cnnlib.feed.index import RowIndex
from cnnlib.feed.validation import ValidationSplit
from cnnlib.model_options import ModelOptions
from cnnlib.models.registry import build_model
from cnnlib.runs.history import EpochRecord
from cnnlib.training.chief import Chief
from cnnlib.training.observe.observers import Observers
from cnnlib.training.observe.progress import LogLines
from cnnlib.training.plan import WorkerTask
from cnnlib.training.state.optimizer import build_optimizer
from tests.datasets import make_source

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE, CLASSES = (8, 8, 1), 3
IMAGES = make_source().splits["test"].read(0, 20).images


class TrainedState:
    """The part of a train state that a checkpoint is made of."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.outputs = "logits"
        self.optimizer = build_optimizer(OptimizerConfig(), 0.1, epochs=1, steps_per_epoch=1)
        self.optimizer.build(model.trainable_variables)


def write_checkpoint(
    runs: Path, function: str, *, opens_in_keras: bool, **options: Any
) -> tuple[str, keras.Model]:
    """Writes the checkpoint of an epoch as the chief does; returns its name and the model."""
    name = f"tests.own_models:{function}"
    manifest = Manifest(
        class_names=("a", "b", "c"),
        image_shape=SHAPE,
        splits={"train": Split(rows=6, rows_per_class=(2, 2, 2), shards=())},
        source="",
        source_digest="",
    )
    task = WorkerTask(
        config=TrainConfig(model=name, model_options=ModelOptions(**options)),
        dataset_uri="",
        manifest=manifest,
        run=str(runs / "run"),
        cpus=1,
        steps_per_epoch=1,
        cache="memory",
        live=False,
        index=RowIndex(validation_split=ValidationSplit.none(6), pieces_per_shard=1),
        opens_in_keras=opens_in_keras,
    )
    record = EpochRecord(
        epoch=1, step=1, loss=0.5, accuracy=0.5, validation_loss=None, validation_accuracy=None, learning_rate=0.1,
        images_per_s=1.0, data_wait=0.0, seconds=1.0, time=datetime(2026, 11, 26, tzinfo=UTC), rows=6,
    )  # fmt: skip
    model = build_model(name, SHAPE, CLASSES, ModelOptions(**options))
    state: Any = TrainedState(model)
    Chief(task, LogLines(1, 1), Observers([]))._stage(state, record).publish()
    return str(runs / "run" / "checkpoints" / "epoch-0001"), model


def predict(checkpoint: str) -> np.ndarray:
    loaded = load_model(
        find_target(checkpoint, None),
        EvaluateConfig(),
        image_shape=SHAPE,
        num_classes=CLASSES,
        batch_rows=500,
        chunks=1,
    )
    return loaded.predict(IMAGES)


@pytest.mark.parametrize("function", ["build_gain", "build_lambda", "build_own_relu"])
def test_checkpoint_is_scored_as_it_was_trained(tmp_path: Path, function: str) -> None:
    checkpoint, model = write_checkpoint(tmp_path, function, opens_in_keras=False)
    expected = keras.ops.softmax(model(IMAGES.astype(np.float32)))
    np.testing.assert_allclose(predict(checkpoint), expected, rtol=1e-4)


def test_checkpoint_of_a_model_with_options_is_built_again_with_them(tmp_path: Path) -> None:
    checkpoint, model = write_checkpoint(
        tmp_path, "build_wide_gain", opens_in_keras=False, width=7, dropout=0.5
    )
    target = find_target(checkpoint, None)
    assert target.model == "tests.own_models:build_wide_gain width=7 dropout=0.5"
    assert target.source is not None
    assert target.source.options == ModelOptions(width=7, dropout=0.5)
    expected = keras.ops.softmax(model(IMAGES.astype(np.float32)))
    np.testing.assert_allclose(predict(checkpoint), expected, rtol=1e-4)


def test_manifest_says_whether_plain_keras_opens_the_file(tmp_path: Path) -> None:
    checkpoint, _ = write_checkpoint(tmp_path / "a", "build_own_relu", opens_in_keras=False)
    manifest = json.loads(Path(checkpoint, "manifest.json").read_text())
    assert (manifest["opens_in_keras"], manifest["dtype_policy"]) == (False, "float32")
    assert np.shape(manifest["probe_outputs"]) == (4, CLASSES)
    checkpoint, _ = write_checkpoint(tmp_path / "b", "build_tf_relu", opens_in_keras=True)
    manifest = json.loads(Path(checkpoint, "manifest.json").read_text())
    assert manifest["opens_in_keras"] is True
    assert "probe_outputs" not in manifest


def test_code_that_changed_after_the_training_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, _ = write_checkpoint(tmp_path, "build_own_relu", opens_in_keras=False)
    monkeypatch.setattr("tests.own_models.relu", lambda x: 10 * x + 10)
    with pytest.raises(
        ModelCodeError, match=r"give another model than was trained: its outputs for noise differ by"
    ):
        predict(checkpoint)


def test_missing_code_is_no_property_of_the_checkpoint_that_is_remembered() -> None:
    assert not issubclass(ModelCodeError, pending._DECIDED_BY_BYTES)
