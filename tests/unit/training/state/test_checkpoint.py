"""A checkpoint gives back, bit for bit, what went in, opens in plain Keras, and is refused if it is damaged."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cnnlib.config import OptimizerConfig, TrainConfig
from cnnlib.dataset.manifest import Manifest, Split
from cnnlib.errors import CheckpointError, StorageError
from cnnlib.feed.index import RowIndex
from cnnlib.feed.validation import ValidationSplit
from cnnlib.runs import checkpoints as runs
from cnnlib.runs.history import EpochRecord
from cnnlib.training.plan import WorkerTask
from cnnlib.training.state.checkpoint import restore_checkpoint, stage_checkpoint
from cnnlib.training.state.ema import averaged_weights
from cnnlib.training.state.randomness import find_seed_states
from cnnlib.training.train_state import TrainState, build_train_state
from tests.full_disk import files_of_at_most
from tests.unit.training.conftest import Batches

BATCH, SHAPE, CLASSES = 6, (8, 8, 1), 3
# It has dropout, whose seed is a state besides the weights, and outputs logits.
LINEAR = "tests.models:build_linear"

pytestmark = pytest.mark.usefixtures("strategy")


def build(
    strategy: Any,
    *,
    model: str = LINEAR,
    seed: int = 0,
    classes: int = CLASSES,
    optimizer: OptimizerConfig | None = None,
) -> TrainState:
    """Builds the train state of a worker."""
    config = TrainConfig(
        model=model,
        seed=seed,
        batch_size=BATCH,
        learning_rate=0.01,
        optimizer=optimizer or OptimizerConfig(),
    )
    return build_with(strategy, config, classes)


def build_with(strategy: Any, config: TrainConfig, classes: int = CLASSES) -> TrainState:
    split = Split(rows=BATCH, rows_per_class=(BATCH,), shards=())
    manifest = Manifest(
        class_names=tuple("abcdefgh"[:classes]),
        image_shape=SHAPE,
        splits={"train": split},
        source="",
        source_digest="",
    )
    task = WorkerTask(
        config=config,
        dataset_uri="",
        manifest=manifest,
        run="",
        cpus=1,
        steps_per_epoch=1,
        cache="memory",
        index=RowIndex(validation_split=ValidationSplit.none(BATCH), pieces_per_shard=1),
        live=False,
    )
    return build_train_state(task, strategy)


def record(epoch: int, validation_accuracy: float | None = None) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        step=epoch * 10,
        loss=0.5,
        accuracy=0.75,
        validation_loss=None,
        validation_accuracy=validation_accuracy,
        learning_rate=0.01,
        images_per_s=1.0,
        data_wait=0.0,
        seconds=1.0,
        time=datetime(2026, 11, 22, tzinfo=UTC),
        rows=60,
    )


def save(run: Path, state: TrainState, epoch: int = 1, **metrics: float) -> runs.Checkpoint:
    staged = stage_checkpoint(
        str(run), state.model, state.optimizer, record(epoch, **metrics), {"model": LINEAR, "seed": 0}
    )
    assert runs.find_checkpoint(staged.uri) is None
    staged.publish()
    assert not Path(staged.folder.name).exists()
    checkpoint = runs.find_checkpoint(staged.uri)
    assert checkpoint is not None
    return checkpoint


def state(state: TrainState) -> dict[str, list[np.ndarray]]:
    groups = {
        "weights": state.model.weights,
        "optimizer": state.optimizer.variables,
        "seeds": find_seed_states(state.model),
    }
    return {name: [np.asarray(variable.numpy()) for variable in group] for name, group in groups.items()}


def assert_same(one: dict[str, list[np.ndarray]], other: dict[str, list[np.ndarray]]) -> None:
    for name, arrays in one.items():
        assert len(arrays) == len(other[name])
        for have, want in zip(arrays, other[name], strict=True):
            assert have.dtype == want.dtype
            np.testing.assert_array_equal(have, want, err_msg=name)


def randomise(state: TrainState) -> None:
    """Assigns random values to every variable, so that only a checkpoint can bring back the state of a run."""
    rng = np.random.default_rng(5)
    for variable in [*state.model.weights, *state.optimizer.variables, *find_seed_states(state.model)]:
        dtype = np.dtype(variable.dtype)
        values = (
            rng.uniform(0.1, 1.0, variable.shape)
            if dtype.kind == "f"
            else rng.integers(1, 99, variable.shape)
        )
        variable.assign(values.astype(dtype))


def train(state: TrainState, batches: Batches) -> np.ndarray:
    return np.asarray(state.train_call(*batches).numpy())


def test_a_checkpoint_holds_the_end_of_its_epoch_while_the_training_goes_on(
    strategy: Any, tmp_path: Path
) -> None:
    trained, fresh = build(strategy), build(strategy)
    randomise(trained)
    before = state(trained)
    staged = stage_checkpoint(
        str(tmp_path), trained.model, trained.optimizer, record(1), {"model": LINEAR, "seed": 0}
    )
    for variable in [*trained.model.weights, *trained.optimizer.variables]:
        variable.assign(np.zeros(variable.shape))
    staged.publish()
    checkpoint = runs.find_checkpoint(staged.uri)
    assert checkpoint is not None
    restore_checkpoint(checkpoint, fresh.model, fresh.optimizer)
    assert_same(state(fresh), before)


def test_restored_state_is_the_saved_one_bit_for_bit(
    strategy: Any, tmp_path: Path, make_batches: Any
) -> None:
    trained, fresh = build(strategy), build(strategy, seed=1)
    train(trained, make_batches(4, BATCH))
    saved = state(trained)
    assert {name: len(arrays) for name, arrays in saved.items()} == {"weights": 2, "optimizer": 6, "seeds": 1}
    checkpoint = save(tmp_path, trained)
    assert_same(state(trained), saved)
    restore_checkpoint(checkpoint, fresh.model, fresh.optimizer)
    assert_same(state(fresh), saved)


def test_training_goes_on_as_if_it_had_not_stopped(strategy: Any, tmp_path: Path, make_batches: Any) -> None:
    batches = make_batches(3, BATCH)
    unbroken, resumed = build(strategy), build(strategy)
    randomise(resumed)
    train(unbroken, batches)
    checkpoint = save(tmp_path, unbroken)
    restore_checkpoint(checkpoint, resumed.model, resumed.optimizer)
    np.testing.assert_array_equal(train(unbroken, batches), train(resumed, batches))
    assert_same(state(unbroken), state(resumed))


def test_averaged_weights_are_saved_and_training_goes_on_from_the_raw_ones(
    strategy: Any, tmp_path: Path, make_batches: Any
) -> None:
    batches, averaged = make_batches(3, BATCH), OptimizerConfig(ema_momentum=0.75)
    unbroken, resumed = (build(strategy, optimizer=averaged) for _ in range(2))
    randomise(resumed)
    train(unbroken, batches)
    raw = unbroken.model.get_weights()
    checkpoint = save(tmp_path, unbroken)
    saved = keras.models.load_model(checkpoint.model_uri).get_weights()
    with averaged_weights(unbroken.model, unbroken.optimizer):
        for have, want in zip(saved, unbroken.model.get_weights(), strict=True):
            np.testing.assert_array_equal(have, want)
    assert all((have != want).any() for have, want in zip(saved, raw, strict=True))
    restore_checkpoint(checkpoint, resumed.model, resumed.optimizer)
    assert_same(state(resumed), state(unbroken))
    np.testing.assert_array_equal(train(unbroken, batches), train(resumed, batches))
    assert_same(state(unbroken), state(resumed))


def test_layer_rates_are_those_of_the_model_and_no_state_of_a_checkpoint(
    strategy: Any, tmp_path: Path, make_batches: Any
) -> None:
    batches, model = make_batches(3, BATCH), "tests.own_models:build_wide_gain"
    config = OptimizerConfig(name="adamw", weight_decay=0.1, ema_momentum=0.75, layer_decay=0.5)
    unbroken, resumed = (build(strategy, model=model, optimizer=config) for _ in range(2))
    plain = build(strategy, model=model, optimizer=dataclasses.replace(config, layer_decay=1.0))
    assert unbroken.layer_rates is not None
    assert unbroken.layer_rates.factors == (
        0.5,
        0.5,
        0.5,
        1.0,
        1.0,
    )  # of the hidden layer, its gain, and the head
    assert plain.layer_rates is None
    assert len(plain.optimizer.variables) == len(unbroken.optimizer.variables)
    randomise(resumed)
    train(unbroken, batches)
    restore_checkpoint(save(tmp_path, unbroken), resumed.model, resumed.optimizer)
    np.testing.assert_array_equal(train(unbroken, batches), train(resumed, batches))
    assert_same(state(unbroken), state(resumed))
    train(plain, batches)
    train(plain, batches)
    assert any(
        (a != b).any() for a, b in zip(state(plain)["weights"], state(resumed)["weights"], strict=True)
    )


def test_manifest_says_what_the_checkpoint_is(strategy: Any, tmp_path: Path) -> None:
    run, state = tmp_path / "seed", build(strategy)
    by_training, by_validation = save(run, state, 1), save(run, state, 2, validation_accuracy=0.625)
    assert (by_training.run, by_training.model, by_training.epoch, by_training.step) == (
        "seed",
        LINEAR,
        1,
        10,
    )
    assert (by_training.score, by_training.scored_on) == (0.75, "accuracy")
    assert (by_validation.score, by_validation.scored_on) == (0.625, "validation_accuracy")
    assert runs.list_checkpoints(str(run)) == [by_training, by_validation]
    names = sorted(path.name for path in Path(by_training.uri).iterdir())
    assert names == ["manifest.json", "model.keras", "state.npz"]


def test_learning_rate_of_a_run_is_the_scaled_one(strategy: Any) -> None:
    config = TrainConfig(model=LINEAR, batch_size=BATCH, learning_rate=0.01, scale_learning_rate_from=2)
    state = build_with(strategy, config)
    assert float(state.optimizer.learning_rate.numpy()) == pytest.approx(0.01 * BATCH / 2)


def test_model_file_opens_compiled_in_plain_keras_and_evaluates(
    strategy: Any, tmp_path: Path, make_batches: Any
) -> None:
    trained = build(strategy)
    randomise(trained)
    path = tmp_path / "copied.keras"
    path.write_bytes(Path(save(tmp_path / "run", trained).model_uri).read_bytes())
    model = keras.models.load_model(path)
    (images,), (labels,) = make_batches(1, 20)
    loss, accuracy = model.evaluate(images.astype(np.float32), labels, verbose=0)
    outputs = np.asarray(trained.model(images.astype(np.float32)))
    losses = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)
    assert round(accuracy * 20) == (outputs.argmax(axis=1) == labels).sum()
    assert loss == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert type(model.optimizer) is keras.optimizers.Adam
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["model.keras", "state.npz"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: b""])
def test_damaged_file_is_refused_and_nothing_is_restored(
    strategy: Any, tmp_path: Path, name: str, damage: Any
) -> None:
    checkpoint, fresh = save(tmp_path, build(strategy)), build(strategy, seed=1)
    path = Path(checkpoint.uri, name)
    path.write_bytes(damage(path.read_bytes()))
    before = state(fresh)
    with pytest.raises(CheckpointError, match=f"epoch-0001/{name} does not match its manifest") as raised:
        restore_checkpoint(checkpoint, fresh.model, fresh.optimizer)
    assert "Delete that checkpoint to continue from the one before." in str(raised.value)
    assert_same(state(fresh), before)


@pytest.mark.parametrize(
    "other", [{"model": "dnn"}, {"model": "seed-cnn"}, {"classes": 4}], ids=["dnn", "seed-cnn", "4 classes"]
)
def test_checkpoint_of_another_model_is_refused(strategy: Any, tmp_path: Path, other: dict[str, Any]) -> None:
    checkpoint, state = save(tmp_path, build(strategy)), build(strategy, **other)
    with pytest.raises(CheckpointError, match="epoch-0001 belongs to another model"):
        restore_checkpoint(checkpoint, state.model, state.optimizer)


def test_state_of_another_optimizer_is_refused(strategy: Any, tmp_path: Path) -> None:
    checkpoint, state = save(tmp_path, build(strategy)), build(strategy)
    sgd = keras.optimizers.SGD(0.01)
    with strategy.scope():
        sgd.build(state.model.trainable_variables)
    with pytest.raises(
        CheckpointError, match=r"The optimizer variables in .* differ from this run's in number or shape"
    ):
        restore_checkpoint(checkpoint, state.model, sgd)


def test_attempt_that_died_before_its_manifest_is_replaced(strategy: Any, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "epoch-0001"
    folder.mkdir(parents=True)
    for name in ("model.keras", "state.npz"):
        (folder / name).write_bytes(b"half")
    assert runs.list_checkpoints(str(tmp_path)) == []
    trained, fresh = build(strategy), build(strategy, seed=1)
    restore_checkpoint(save(tmp_path, trained), fresh.model, fresh.optimizer)
    assert_same(state(fresh), state(trained))


def test_checkpoint_that_cannot_be_put_together_names_the_folder_for_temporary_files(
    strategy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    built = build(strategy)
    with (
        files_of_at_most(200),
        pytest.raises(StorageError, match=rf"cannot be put together in {tmp_path}, .* set TMPDIR"),
    ):
        save(tmp_path / "run", built)
    gc.collect()
    assert list(tmp_path.iterdir()) == [], "nothing is left there"
    assert save(tmp_path / "run", built).epoch == 1
