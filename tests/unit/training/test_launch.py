"""Tests what the plan of a run refuses before anything starts, and which runs may continue."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cnnlib.config import (
    ClusterConfig,
    EarlyStoppingConfig,
    LoopConfig,
    LossConfig,
    OptimizerConfig,
    TrainConfig,
    to_dict,
)
from cnnlib.dataset.manifest import load_manifest
from cnnlib.errors import (
    CheckpointError,
    CnnlibError,
    ConfigError,
    ConflictError,
    DatasetError,
    ModelError,
    TrainingError,
)
from cnnlib.model_options import ModelOptions
from cnnlib.runs import checkpoints as runs
from cnnlib.runs.history import EpochRecord, encode_history
from cnnlib.storage import files, layout, publish
from cnnlib.training import launch
from cnnlib.training import plan as plans
from cnnlib.training.launch import CheckedModel, check_model
from cnnlib.training.plan import RunPlan, plan_run
from tests.checkpoints import write_checkpoint_without_model, write_run_record
from tests.datasets import TRAIN_ROWS, make_source, write_dataset_without_ray
from tests.histories import make_history

CONFIG = TrainConfig(batch_size=8, epochs=2)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A dataset of 50 train and 23 test rows of 8x8x1 in three classes."""
    write_dataset_without_ray(str(tmp_path / "data"))
    return str(tmp_path / "data")


def plan(data: str, config: TrainConfig = CONFIG, name: str = "run") -> RunPlan:
    return plan_run(config, data, str(Path(data).parent / "runs"), name)


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("num_classes", [1, 2])
def test_classes_without_training_rows_are_said_and_one_class_is_refused(
    tmp_path: Path, num_classes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_source()
    train = source.splits["train"]
    few = dataclasses.replace(train, labels=train.labels % num_classes)
    splits = {**source.splits, "train": few}
    write_dataset_without_ray(str(tmp_path / "data"), dataclasses.replace(source, splits=splits))
    if num_classes == 1:
        with pytest.raises(
            ConfigError, match=r"has rows of fewer than two classes; it has none of Bag, Sandal\."
        ):
            plan(str(tmp_path / "data"))
    else:
        plan(str(tmp_path / "data"))
        assert "train has no rows of these classes: Sandal" in capsys.readouterr().err


def test_plan_knows_the_steps_and_the_remainder(data: str, tmp_path: Path) -> None:
    planned = plan(data)
    assert planned.run == str(tmp_path / "runs" / "run")
    assert (planned.steps_per_epoch, planned.remainder) == (6, 2)
    assert (planned.done_epochs, planned.finished) == (0, False)
    assert planned.manifest.split("train").rows == TRAIN_ROWS


def test_validation_rows_are_not_trained_on(data: str) -> None:
    planned = plan(data, TrainConfig(batch_size=8, validation_fraction=0.2))
    assert (planned.steps_per_epoch, planned.remainder) == (5, 0)


def add_val(dataset: str) -> None:
    """Gives a dataset a split val, of the rows of its split test."""
    manifest = load_manifest(dataset)
    splits = {**manifest.splits, "val": manifest.split("test")}
    files.delete(layout.dataset_manifest(dataset))
    publish.write_manifest(
        layout.dataset_manifest(dataset), dataclasses.replace(manifest, splits=splits).to_json()
    )


def test_validation_rows_are_the_split_val_where_there_is_one(data: str) -> None:
    stopping = EarlyStoppingConfig(patience=3)
    config = TrainConfig(batch_size=8, validation_fraction=0.2, early_stopping=stopping)
    assert plan(data, config).validation_split is None
    add_val(data)
    planned = plan(data, config)
    assert (planned.validation_split, planned.steps_per_epoch, planned.remainder) == ("val", 6, 2)
    assert plan(data, dataclasses.replace(config, validation_fraction=0.0)).validation_split == "val"
    assert plan(data, dataclasses.replace(config, validation_split="test")).validation_split == "test"
    without = plan(data, dataclasses.replace(config, validation_split="none"))
    assert (without.validation_split, without.steps_per_epoch) == (None, 5)
    assert plan(data, TrainConfig(batch_size=4, split="val")).validation_split is None


def test_a_split_of_validation_rows_that_cannot_be_is_refused(data: str) -> None:
    for name, error, message in (
        (
            "train",
            ConfigError,
            "validation_split must not be the split to train on. Received 'train' for both",
        ),
        ("vall", DatasetError, "no split 'vall'"),
    ):
        with pytest.raises(error, match=message):
            plan(data, TrainConfig(batch_size=8, validation_split=name))
    with pytest.raises(ConfigError, match=r"early_stopping needs validation rows\. Received patience=3"):
        plan(data, TrainConfig(batch_size=8, early_stopping=EarlyStoppingConfig(patience=3)))


def test_a_run_keeps_the_validation_rows_that_it_began_with(data: str) -> None:
    run = start_run(data)
    record = json.loads(files.read_bytes(layout.run_record(run)))
    add_val(data)
    record["dataset_fingerprint"] = load_manifest(data).fingerprint
    for validation_split in (None, "val"):
        record["validation_split"] = validation_split
        files.write_bytes(layout.run_record(run), json.dumps(record).encode())
        assert plan(data).validation_split == validation_split


def test_fewer_steps_leave_more_rows_out(data: str) -> None:
    planned = plan(data, TrainConfig(batch_size=8, steps_per_epoch=4))
    assert (planned.steps_per_epoch, planned.remainder) == (4, 18)


def test_another_split_may_be_trained_on(data: str) -> None:
    assert plan(data, TrainConfig(batch_size=8, split="test")).steps_per_epoch == 2


def test_planning_writes_nothing(data: str, tmp_path: Path) -> None:
    before = names_below(tmp_path)
    plan(data)
    assert names_below(tmp_path) == before


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (
            TrainConfig(batch_size=51),
            ConfigError,
            "batch_size=51 is more than the 50 training rows. Choose a smaller one.",
        ),
        (
            TrainConfig(batch_size=32, validation_fraction=0.4),
            ConfigError,
            "batch_size=32 is more than the 30 training rows.",
        ),
        (
            TrainConfig(
                batch_size=8, validation_fraction=0.001, early_stopping=EarlyStoppingConfig(patience=3)
            ),
            ConfigError,
            "validation_fraction=0.001 keeps 0 of 50 rows from training, expected at least one of each of the 3 "
            "classes. Give --validation-fraction 0.06 or more.",
        ),
        (
            TrainConfig(batch_size=8, steps_per_epoch=7),
            ConfigError,
            "steps_per_epoch=7 is more than the data gives: 50 training rows are 6 batches of 8. "
            "Give more epochs instead.",
        ),
        (
            TrainConfig(batch_size=8, loss=LossConfig(class_weights=(1.0, 2.0))),
            ConfigError,
            "loss.class_weights must be one per class. Received 2, expected 3.",
        ),
        (TrainConfig(model="small_cnn"), ModelError, "Unknown model 'small_cnn'. Did you mean 'small-cnn'?"),
        (TrainConfig(split="training"), DatasetError, "no split 'training'. Did you mean 'train'?"),
    ],
)
def test_config_that_the_data_cannot_serve_is_refused(
    data: str, config: TrainConfig, error: type[CnnlibError], message: str
) -> None:
    with pytest.raises(error) as raised:
        plan(data, config)
    assert message in str(raised.value)


def test_batch_of_all_rows_and_every_step_are_accepted(data: str) -> None:
    assert plan(data, TrainConfig(batch_size=50)).steps_per_epoch == 1
    assert plan(data, TrainConfig(batch_size=8, steps_per_epoch=6)).steps_per_epoch == 6


@pytest.mark.parametrize("name", ["", ".hidden", "-flag", "a/b", "../up", "two words", "a@best", "ü", "a\n"])
def test_name_that_is_no_folders_name_is_refused(data: str, name: str) -> None:
    with pytest.raises(
        ConfigError, match="A run's name must begin with a letter or a digit, consist of letters, digits"
    ):
        plan(data, name=name)


@pytest.mark.parametrize("name", ["seed", "2026-11-22", "A_b.c-1", "7"])
def test_ordinary_names_are_accepted(data: str, name: str) -> None:
    assert plan(data, name=name).run.endswith(f"/runs/{name}")


def test_missing_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No dataset at"):
        plan(str(tmp_path / "nothing"))


def test_damaged_shard_is_found_before_anything_starts(data: str) -> None:
    path = Path(data, "train", "part-00002.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"train/part-00002\.parquet does not match its manifest"):
        plan(data)


def test_record_of_a_run_names_its_recipe(data: str, tmp_path: Path) -> None:
    planned = plan_run(CONFIG, data, str(tmp_path / "runs"), "run", "demo")
    assert launch._build_record(planned, "memory")["recipe"] == "demo"
    assert launch._build_record(plan(data), "memory")["recipe"] is None


def start_run(data: str, config: TrainConfig = CONFIG, epochs_done: int = 1) -> str:
    """Writes what a run of this config has written after some epochs, and returns its URI."""
    planned = plan(data, config)
    write_run_record(planned.run, config, planned.manifest.fingerprint)
    for epoch in range(1, epochs_done + 1):
        write_checkpoint_without_model(planned.run, epoch)
    return planned.run


def test_run_continues_from_its_last_checkpoint(data: str) -> None:
    start_run(data, epochs_done=1)
    assert (plan(data).done_epochs, plan(data).finished) == (1, False)


@pytest.mark.parametrize("epochs_done", [2, 3])
def test_run_with_all_its_epochs_is_finished(data: str, epochs_done: int) -> None:
    start_run(data, epochs_done=epochs_done)
    assert (plan(data).done_epochs, plan(data).finished) == (epochs_done, True)


def start_stopping_run(data: str, accuracies: list[float], patience: int) -> TrainConfig:
    """Writes a run with a checkpoint for each of these validation accuracies; returns its config, of 9 epochs."""
    config = TrainConfig(
        batch_size=8,
        epochs=9,
        validation_fraction=0.2,
        early_stopping=EarlyStoppingConfig(patience=patience),
    )
    run = start_run(data, config, epochs_done=len(accuracies))
    files.write_bytes(layout.run_history(run), encode_history(make_history(accuracies)))
    return config


def test_run_that_stopped_early_is_finished_and_says_so(data: str) -> None:
    config = start_stopping_run(data, [0.5, 0.6, 0.6, 0.55], patience=2)
    planned = plan(data, config)
    assert (planned.done_epochs, planned.stopped_early, planned.finished) == (4, True, True)
    assert launch.build_result(planned)["stopped_early"] is True


def test_more_patience_continues_a_run_that_stopped_early(data: str) -> None:
    config = start_stopping_run(data, [0.5, 0.6, 0.6, 0.55], patience=2)
    patient = dataclasses.replace(config, early_stopping=EarlyStoppingConfig(patience=3))
    planned = plan(data, patient)
    assert (planned.stopped_early, planned.finished) == (False, False)


def test_history_of_an_epoch_without_a_checkpoint_does_not_stop_a_run(data: str) -> None:
    config = start_stopping_run(data, [0.5, 0.6, 0.6], patience=2)
    run = plan(data, config).run
    files.write_bytes(layout.run_history(run), encode_history(make_history([0.5, 0.6, 0.6, 0.6])))
    assert not plan(data, config).finished


def test_run_that_never_saved_begins_again(data: str) -> None:
    start_run(data, epochs_done=0)
    assert (plan(data).done_epochs, plan(data).finished) == (0, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 9},
        {"validation_fraction": 0.0, "early_stopping": EarlyStoppingConfig(min_delta=0.5)},
        {"workers": 2},
        {"gpus_per_worker": 1},
        {"loop": LoopConfig(steps_per_call=3, log_every_steps=1)},
        {"cluster": ClusterConfig(max_failures=0)},
    ],
    ids=str,
)
def test_how_far_and_how_fast_may_change(data: str, changes: dict[str, Any]) -> None:
    start_run(data)
    assert plan(data, dataclasses.replace(CONFIG, **changes)).done_epochs == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "dnn"}, "model: seed-cnn then, dnn now"),
        ({"batch_size": 4}, "batch_size: 8 then, 4 now"),
        ({"learning_rate": 0.5}, "learning_rate: 0.001 then, 0.5 now"),
        ({"scale_learning_rate_from": 4}, "scale_learning_rate_from: None then, 4 now"),
        ({"seed": 1}, "seed: 0 then, 1 now"),
        ({"steps_per_epoch": 3}, "steps_per_epoch: None then, 3 now"),
        ({"validation_fraction": 0.1}, "validation_fraction: 0.0 then, 0.1 now"),
        ({"split": "test"}, "split: train then, test now"),
        (
            {"loop": LoopConfig(precision="mixed_bfloat16")},
            "loop.precision: float32 then, mixed_bfloat16 now",
        ),
        ({"loop": LoopConfig(jit_compile=True)}, "loop.jit_compile: None then, True now"),
        ({"optimizer": OptimizerConfig(name="sgd")}, "(optimizer.name: adam then, sgd now)"),
        ({"model_options": ModelOptions(kernel=5)}, "(model.kernel: None then, 5 now)"),
        ({"freeze": "..conv2d"}, "(freeze: None then, ..conv2d now)"),
        ({"weights": "/no/such/file.keras"}, "(weights: None then, /no/such/file.keras now)"),
        ({"seed": 1, "model": "dnn"}, "model: seed-cnn then, dnn now; seed: 0 then, 1 now"),
    ],
    ids=str,
)
def test_what_is_computed_may_not_change(data: str, changes: dict[str, Any], message: str) -> None:
    start_run(data)
    with pytest.raises(ConflictError) as raised:
        plan(data, dataclasses.replace(CONFIG, **changes))
    assert message in str(raised.value)
    assert "Choose another --name, or give the same flags to continue it." in str(raised.value)


def test_length_of_a_run_may_not_change_where_its_schedule_goes_by_it(data: str) -> None:
    cosine = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(schedule="cosine"))
    start_run(data, cosine)
    assert plan(data, dataclasses.replace(cosine, workers=2)).done_epochs == 1
    with pytest.raises(ConflictError, match="epochs: 2 then, 3 now"):
        plan(data, dataclasses.replace(cosine, epochs=3))


def test_length_of_a_run_may_change_where_its_schedule_goes_by_epochs(data: str) -> None:
    step = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(schedule="step", warmup_epochs=0.5))
    start_run(data, step)
    assert plan(data, dataclasses.replace(step, epochs=3)).done_epochs == 1


def test_run_with_class_weights_continues_with_the_same(data: str) -> None:
    weighted = dataclasses.replace(CONFIG, loss=LossConfig(class_weights=(1.0, 2.0, 0.5)))
    start_run(data, weighted)
    assert plan(data, weighted).done_epochs == 1
    with pytest.raises(ConflictError, match=r"loss\.class_weights: \[1\.0, 2\.0, 0\.5\] then, none now"):
        plan(data, CONFIG)


def test_run_of_a_version_without_options_continues(data: str) -> None:
    run = start_run(data)
    record = json.loads(files.read_bytes(layout.run_record(run)))
    del record["config"]["model_options"]
    files.write_bytes(layout.run_record(run), json.dumps(record).encode())
    assert plan(data).done_epochs == 1
    with pytest.raises(ConflictError, match=r"\(model\.filters: None then, \[4, 2\] now\)"):
        plan(data, dataclasses.replace(CONFIG, model_options=ModelOptions(filters=(4, 2))))


def test_run_with_options_continues_with_the_same(data: str) -> None:
    with_options = dataclasses.replace(CONFIG, model_options=ModelOptions(filters=(4, 2), dropout=0.5))
    start_run(data, with_options)
    planned = plan(data, with_options)
    assert planned.done_epochs == 1
    assert launch.build_result(planned)["model"] == "seed-cnn filters=4,2 dropout=0.5"
    with pytest.raises(ConflictError, match=r"model\.filters: \[4, 2\] then, None now"):
        plan(data, dataclasses.replace(with_options, model_options=ModelOptions(dropout=0.5)))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            "dnn",
            ModelOptions(depth=8),
            "dnn has no such option. Received --model.depth 8, expected one of: --model.units",
        ),
        ("resnet", ModelOptions(depth=9), "model.depth must be 6n+2 for resnet. Received 9. Try 8 or 14."),
        (
            "resnet-50",
            ModelOptions(),
            "Images of 8x8 pixels are too small for resnet-50. Expected at least 32x32.",
        ),
    ],
)
def test_model_that_cannot_be_built_is_refused_without_a_worker(
    data: str, model: str, options: ModelOptions, message: str
) -> None:
    with pytest.raises(ModelError) as raised:
        plan(data, dataclasses.replace(CONFIG, model=model, model_options=options))
    assert str(raised.value).startswith(message)


def test_every_setting_is_known_to_change_the_result_or_not_to() -> None:
    free = {
        "epochs",
        "early_stopping",
        "workers",
        "min_workers",
        "gpus_per_worker",
        "on_nan",
        "checkpoint",
        "cluster",
    }
    shown = {"steps_per_call", "log_every_steps", "profile_steps", "tensorboard", "mlflow_uri"}
    bound = {
        "model", "model_options", "weights", "freeze", "batch_size", "learning_rate", "scale_learning_rate_from",
        "seed", "steps_per_epoch", "validation_fraction", "validation_split", "split", "min_crop_area",
        "sync_batch_norm", "optimizer", "augment", "loss", "cache",
    }  # fmt: skip
    assert free | {f"loop.{name}" for name in shown} == plans._MAY_CHANGE
    assert set(to_dict(CONFIG)) == free | bound | {"loop"}
    assert set(to_dict(CONFIG)["loop"]) == shown | {"precision", "jit_compile", "micro_batches"}


def test_a_field_that_a_later_version_added_does_not_refuse_an_old_run(data: str) -> None:
    run = start_run(data)
    record = json.loads(files.read_bytes(layout.run_record(run)))
    del record["config"]["loss"]["label_smoothing"], record["config"]["loop"]["micro_batches"]
    files.write_bytes(layout.run_record(run), json.dumps(record).encode())
    assert plan(data).done_epochs == 1
    with pytest.raises(ConflictError, match=r"\(loop\.micro_batches: 1 then, 2 now\)"):
        plan(data, dataclasses.replace(CONFIG, loop=LoopConfig(micro_batches=2)))


def test_a_field_that_this_version_does_not_know_is_named(data: str) -> None:
    run = start_run(data)
    record = json.loads(files.read_bytes(layout.run_record(run)))
    record["config"]["optimizer"]["lookahead"] = 5
    files.write_bytes(layout.run_record(run), json.dumps(record).encode())
    with pytest.raises(ConflictError, match=r"optimizer\.lookahead: 5 then, unknown to this version now"):
        plan(data)


def test_another_data_set_may_not_continue_a_run(data: str, tmp_path: Path) -> None:
    start_run(data)
    other = str(tmp_path / "other")
    write_dataset_without_ray(other, make_source(seed=1))
    with pytest.raises(ConflictError, match=r"another config \(the dataset differs\)"):
        plan(other)


def test_copy_of_the_data_set_elsewhere_may(data: str, tmp_path: Path) -> None:
    start_run(data)
    copy = str(tmp_path / "copy")
    write_dataset_without_ray(copy)
    assert plan(copy).done_epochs == 1


@pytest.mark.parametrize("epochs_done", [0, 1, 2])
def test_run_of_a_version_with_another_row_order_is_not_continued(data: str, epochs_done: int) -> None:
    run = start_run(data, epochs_done=epochs_done)
    record = json.loads(files.read_bytes(layout.run_record(run)))
    del record["row_order"]
    files.write_bytes(layout.run_record(run), json.dumps(record).encode())
    if epochs_done == CONFIG.epochs:
        assert plan(data).finished
        return
    with pytest.raises(ConflictError) as raised:
        plan(data)
    assert str(raised.value) == (
        f"The run {run} was started by another version, which chooses other validation rows and batches (row order "
        "1, expected 2). Choose another --name, or continue it with that version."
    )


def test_result_of_a_run_names_what_it_left(data: str) -> None:
    run = start_run(data, epochs_done=2)
    result = launch.build_result(plan(data))
    last = runs.list_checkpoints(run)[-1]
    assert result == {
        "run": run,
        "model": "seed-cnn",
        "epochs": 2,
        "stopped_early": False,
        "checkpoint": last.uri,
        "checkpoint_digest": last.digest,
        "history": f"{run}/history.parquet",
        "learning_curves": f"{run}/learning-curves.png",
        "metrics": EpochRecord.unknown(2, 200).to_document(),
    }


def test_result_of_a_run_that_left_nothing_says_so(data: str) -> None:
    result = launch.build_result(plan(data))
    assert (result["epochs"], result["checkpoint"], result["checkpoint_digest"]) == (0, None, None)


def test_unreadable_checkpoint_stops_the_plan(data: str) -> None:
    run = start_run(data)
    write_checkpoint_without_model(run, 2, checkpoint_version=99)
    with pytest.raises(CheckpointError, match="has checkpoint_version 99"):
        plan(data)


# What --dry-run does besides planning: it builds the model in this process, without a GPU.


@pytest.mark.usefixtures("strategy")
@pytest.mark.parametrize(
    ("model", "options", "parameters"),
    [
        ("seed-cnn", ModelOptions(), 37_995),
        ("tests.models:build_linear", ModelOptions(), 195),
        ("dnn", ModelOptions(units=(5,)), 64 * 5 + 5 + 5 * 3 + 3),
    ],
)
def test_model_is_tried_for_this_data(data: str, model: str, options: ModelOptions, parameters: int) -> None:
    planned = plan(data, dataclasses.replace(CONFIG, model=model, model_options=options))
    assert check_model(planned) == CheckedModel(parameters=parameters, opens_in_keras=True)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.usefixtures("strategy")
@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (
            "tests.models:build_eleven_classes",
            r"does not fit the number of classes.*\(None, 4\), expected \(None, 3\)",
        ),
        ("tests.own_models:build_sigmoids", "gives neither probabilities nor logits"),
        ("tests.own_models:build_untrained", "has nothing to train: no trainable weights"),
    ],
)
def test_model_that_cannot_be_trained_on_the_data_is_refused(data: str, model: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        check_model(plan(data, dataclasses.replace(CONFIG, model=model)))


@pytest.mark.usefixtures("strategy")
def test_model_whose_file_only_this_project_opens_is_said_to_be_one(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan(data, dataclasses.replace(CONFIG, model="tests.own_models:build_lambda"))
    assert check_model(planned) == CheckedModel(parameters=195, opens_in_keras=False)
    assert capsys.readouterr().err.startswith(
        "model-file model=tests.own_models:build_lambda opens_in_keras=False reason="
    )


@pytest.mark.usefixtures("strategy")
def test_model_that_cannot_be_saved_is_refused(data: str) -> None:
    planned = plan(data, dataclasses.replace(CONFIG, model="tests.own_models:build_not_saved"))
    with pytest.raises(ModelError, match="builds a model that cannot be saved"):
        check_model(planned)


def test_run_without_the_checkpoint_that_it_was_to_leave_is_an_error(data: str) -> None:
    planned = plan(data)
    with pytest.raises(TrainingError, match=r"the last checkpoint here is of epoch 0, not of epoch 2\."):
        launch._check_last_checkpoint(planned)
    write_checkpoint_without_model(planned.run, 1)
    with pytest.raises(TrainingError, match=r"the last checkpoint here is of epoch 1, not of epoch 2\."):
        launch._check_last_checkpoint(planned)
    write_checkpoint_without_model(planned.run, 2)
    launch._check_last_checkpoint(planned)
