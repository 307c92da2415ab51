"""Configs refuse values that cannot work, with a message, when they are created."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import math
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib import (
    config,
    config_checks,
    evaluate_config,
    export_config,
    largest_batch_config,
    model_options,
    range_test_config,
)
from cnnlib.config import (
    AugmentConfig,
    CheckpointConfig,
    ClusterConfig,
    EarlyStoppingConfig,
    LoopConfig,
    LossConfig,
    OptimizerConfig,
    TrainConfig,
    to_dict,
)
from cnnlib.errors import ConfigError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.export_config import ExportConfig
from cnnlib.largest_batch_config import LargestBatchConfig
from cnnlib.model_options import ModelOptions
from cnnlib.range_test_config import RangeTestConfig

CONFIGS = [
    ModelOptions,
    AugmentConfig,
    CheckpointConfig,
    TrainConfig,
    EvaluateConfig,
    ExportConfig,
    RangeTestConfig,
    LargestBatchConfig,
    OptimizerConfig,
    LossConfig,
    EarlyStoppingConfig,
    LoopConfig,
    ClusterConfig,
]


@pytest.mark.parametrize("cls", CONFIGS)
def test_defaults_are_a_config_that_works(cls: type) -> None:
    assert dataclasses.is_dataclass(cls())


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (TrainConfig, {"epochs": 0}, "epochs must be at least 1. Received 0."),
        (TrainConfig, {"steps_per_epoch": 0}, "steps_per_epoch must be at least 1. Received 0."),
        (TrainConfig, {"batch_size": 0}, "batch_size must be at least 1. Received 0."),
        (TrainConfig, {"workers": 0}, "workers must be at least 1. Received 0."),
        (
            TrainConfig,
            {"min_workers": 0},
            "min_workers must lie in 1..workers. Received min_workers=0, workers=1.",
        ),
        (
            TrainConfig,
            {"min_workers": 3, "workers": 2},
            "min_workers must lie in 1..workers. Received min_workers=3, workers=2.",
        ),
        (
            TrainConfig,
            {"sync_batch_norm": True, "loop": LoopConfig(jit_compile=True)},
            "sync_batch_norm all-reduces inside the model, which neither XLA nor micro-batches can do. Received "
            "loop.jit_compile=True, loop.micro_batches=1.",
        ),
        (
            OptimizerConfig,
            {"schedule": "one-cycle", "warmup_epochs": 1.0},
            "The schedule one-cycle has a warm-up of its own. Received optimizer.warmup_epochs=1.0.",
        ),
        (AugmentConfig, {"shift": -1}, "augment.shift must be at least 0. Received -1."),
        (AugmentConfig, {"erase": 1.1}, "augment.erase must lie in 0..1. Received 1.1."),
        (AugmentConfig, {"rotate": math.nan}, "augment.rotate must lie in 0..180."),
        (AugmentConfig, {"rand_operations": 5}, "augment.rand_operations must lie in 0..4. Received 5."),
        (AugmentConfig, {"mixup": -0.1}, "augment.mixup must lie in 0..10. Received -0.1."),
        (
            TrainConfig,
            {"augment": AugmentConfig(cutmix=1.0), "batch_size": 6, "workers": 2},
            "augment.mixup and augment.cutmix mix pairs of rows, so each worker's batch must be even. Received "
            "batch_size=6, workers=2.",
        ),
        (ModelOptions, {"width": 0}, "model.width must be at least 1. Received 0."),
        (ModelOptions, {"filters": (8, 0)}, "model.filters must be at least 1. Received 0."),
        (ModelOptions, {"dropout": -0.1}, "model.dropout must lie in 0..1. Received -0.1."),
        (ModelOptions, {"dropout": 1.0}, "model.dropout must be below 1. Received 1.0."),
        (
            ModelOptions,
            {"compression": 0.0},
            "model.compression must be above 0 and at most 1. Received 0.0.",
        ),
        (CheckpointConfig, {"keep": -1}, "checkpoint.keep must be at least 0. Received -1."),
        (
            CheckpointConfig,
            {"reports": "r"},
            "checkpoint.reports needs checkpoint.keep. Received reports=r, keep=0",
        ),
        (TrainConfig, {"seed": -1}, "seed must be at least 0. Received -1."),
        (TrainConfig, {"learning_rate": 0.0}, "learning_rate must be above 0. Received 0.0."),
        (TrainConfig, {"learning_rate": -1e-3}, "learning_rate must be above 0. Received -0.001."),
        (TrainConfig, {"learning_rate": math.nan}, "learning_rate must be above 0. Received nan."),
        (TrainConfig, {"learning_rate": math.inf}, "learning_rate must be above 0. Received inf."),
        (TrainConfig, {"scale_learning_rate_from": 0}, "scale_learning_rate_from must be at least 1."),
        (TrainConfig, {"gpus_per_worker": 2}, "gpus_per_worker must be 0 or 1. Received 2."),
        (TrainConfig, {"validation_fraction": 0.6}, "validation_fraction must lie in 0..0.5. Received 0.6."),
        (
            TrainConfig,
            {"validation_fraction": -0.1},
            "validation_fraction must lie in 0..0.5. Received -0.1.",
        ),
        (TrainConfig, {"validation_fraction": math.nan}, "validation_fraction must lie in 0..0.5."),
        (
            OptimizerConfig,
            {"momentum": 1.0},
            "optimizer.momentum must be at least 0 and below 1. Received 1.0.",
        ),
        (OptimizerConfig, {"weight_decay": -1.0}, "optimizer.weight_decay must lie in 0..1. Received -1.0."),
        (OptimizerConfig, {"step_every_epochs": 0}, "optimizer.step_every_epochs must be at least 1."),
        (OptimizerConfig, {"step_factor": -0.1}, "optimizer.step_factor must lie in 0..1. Received -0.1."),
        (OptimizerConfig, {"clip_norm": 0.0}, "optimizer.clip_norm must be above 0. Received 0.0."),
        (OptimizerConfig, {"clip_norm": math.nan}, "optimizer.clip_norm must be above 0. Received nan."),
        (OptimizerConfig, {"layer_decay": 0.0}, "optimizer.layer_decay must be above 0. Received 0.0."),
        (OptimizerConfig, {"layer_decay": 1.5}, "optimizer.layer_decay must lie in 0..1. Received 1.5."),
        (OptimizerConfig, {"ema_momentum": 1.0}, "optimizer.ema_momentum must be above 0 and below 1."),
        (OptimizerConfig, {"ema_momentum": 0.0}, "optimizer.ema_momentum must be above 0 and below 1."),
        (
            TrainConfig,
            {"epochs": 2, "optimizer": OptimizerConfig(warmup_epochs=2.0)},
            "optimizer.warmup_epochs must be at least 0 and below epochs. Received warmup_epochs=2.0, epochs=2.",
        ),
        (
            TrainConfig,
            {"optimizer": OptimizerConfig(warmup_epochs=-0.5)},
            "optimizer.warmup_epochs must be at least 0 and below epochs.",
        ),
        (
            LossConfig,
            {"label_smoothing": 1.0},
            "loss.label_smoothing must be at least 0 and below 1. Received 1.0.",
        ),
        (LossConfig, {"class_weights": (1.0, -1.0)}, "loss.class_weights must lie in 0.."),
        (LossConfig, {"class_weights": (math.inf,)}, "loss.class_weights must lie in 0.."),
        (LossConfig, {"class_weights": (0.0, 0.0)}, "loss.class_weights must not all be 0"),
        (EarlyStoppingConfig, {"patience": -1}, "early_stopping.patience must be at least 0. Received -1."),
        (
            EarlyStoppingConfig,
            {"min_delta": -0.1},
            "early_stopping.min_delta must be at least 0 and below 1. Received -0.1.",
        ),
        (
            EarlyStoppingConfig,
            {"min_delta": 1.0},  # 1 % is meant
            "early_stopping.min_delta must be at least 0 and below 1. Received 1.0.",
        ),
        (TrainConfig, {"min_crop_area": 0.0}, "min_crop_area must be above 0. Received 0.0."),
        (TrainConfig, {"min_crop_area": 1.1}, "min_crop_area must lie in 0..1. Received 1.1."),
        (
            TrainConfig,
            {"min_crop_area": 0.5, "cache": "memory"},
            "Cropped rows are streamed. Received min_crop_area=0.5, cache=memory.",
        ),
        (
            EvaluateConfig,
            {"preprocess": "imagenet", "pixel_range": "0-1"},
            "Give pixel_range or preprocess. Received 0-1 and imagenet.",
        ),
        (
            ExportConfig,
            {"preprocess": "imagenet", "pixel_range": "0-1"},
            "Give pixel_range or preprocess. Received 0-1 and imagenet.",
        ),
        (ExportConfig, {"format": "onnx"}, "onnx cannot be exported: its converter, tf2onnx, looks for a"),
        (LargestBatchConfig, {"memory_gib": 0.0}, "memory_gib must be above 0. Received 0.0."),
        (LargestBatchConfig, {"highest": 0}, "highest must be at least 1. Received 0."),
        (LargestBatchConfig, {"steps": 0}, "steps must be at least 1. Received 0."),
        (RangeTestConfig, {"lowest": 0.0}, "test.lowest must be above 0. Received 0.0."),
        (RangeTestConfig, {"highest": math.inf}, "test.highest must be above 0. Received inf."),
        (RangeTestConfig, {"steps": 19}, "test.steps must be at least 20. Received 19."),
        (
            RangeTestConfig,
            {"lowest": 0.1, "highest": 0.1},
            "test.lowest must be less than test.highest. Received 0.1 and 0.1.",
        ),
        (ExportConfig, {"images": 0}, "images must be at least 1. Received 0."),
        (ExportConfig, {"tolerance": 0.0}, "tolerance must be above 0. Received 0.0."),
        (ExportConfig, {"cpus": 0}, "cpus must be at least 1. Received 0."),
        (LoopConfig, {"steps_per_call": 0}, "loop.steps_per_call must be at least 1. Received 0."),
        (LoopConfig, {"log_every_steps": 0}, "loop.log_every_steps must be at least 1. Received 0."),
        (LoopConfig, {"profile_steps": -1}, "loop.profile_steps must be at least 0. Received -1."),
        (LoopConfig, {"micro_batches": 0}, "loop.micro_batches must be at least 1. Received 0."),
        (
            TrainConfig,
            {"batch_size": 32, "workers": 2, "loop": LoopConfig(micro_batches=3)},
            "loop.micro_batches must divide the batch of a worker. Received micro_batches=3, expected a divisor of "
            "batch_size / workers = 16.",
        ),
        (ClusterConfig, {"cpus_per_worker": 0}, "cluster.cpus_per_worker must be at least 1. Received 0."),
        (ClusterConfig, {"max_failures": -1}, "cluster.max_failures must be at least 0. Received -1."),
        (ClusterConfig, {"hang_timeout_s": -1.0}, "cluster.hang_timeout_s must lie in 0..inf."),
        (CheckpointConfig, {"every_steps": -1}, "checkpoint.every_steps must be at least 0. Received -1."),
        (ClusterConfig, {"wait_for_resources_s": -1.0}, "cluster.wait_for_resources_s must lie in 0..inf."),
        (EvaluateConfig, {"top_k": 0}, "top_k must be at least 1. Received 0."),
        (EvaluateConfig, {"batch_size": 0}, "batch_size must be at least 1. Received 0."),
        (EvaluateConfig, {"actors": 0}, "actors must be at least 1. Received 0."),
        (EvaluateConfig, {"cpus_per_actor": 0}, "cpus_per_actor must be at least 1. Received 0."),
        (EvaluateConfig, {"gpus_per_actor": 2}, "gpus_per_actor must be 0 or 1. Received 2."),
    ],
)
def test_value_that_cannot_work_is_refused_by_name(cls: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        cls(**values)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("batch_size", "workers", "tries"),
    [(100, 3, "Try 99 or 102."), (2, 3, "Try 3."), (33, 2, "Try 32 or 34.")],
)
def test_batch_that_workers_cannot_share_names_the_nearest_that_they_can(
    batch_size: int, workers: int, tries: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        TrainConfig(batch_size=batch_size, workers=workers)
    assert str(raised.value) == (
        f"batch_size must divide by workers. Received batch_size={batch_size}, workers={workers}. {tries}"
    )


@given(batch_size=st.integers(1, 500), workers=st.integers(1, 32))
def test_every_batch_that_is_accepted_or_proposed_divides(batch_size: int, workers: int) -> None:
    try:
        TrainConfig(batch_size=batch_size, workers=workers)
        proposed = [batch_size]
    except ConfigError as err:
        proposed = [int(word) for word in str(err).split("Try ")[1].rstrip(".").split(" or ")]
        assert batch_size not in proposed
    assert proposed
    assert all(size > 0 and size % workers == 0 for size in proposed)


def test_learning_rate_grows_with_the_batch_from_the_one_it_is_meant_for() -> None:
    scaled = TrainConfig(learning_rate=0.1, batch_size=1024, scale_learning_rate_from=256)
    assert scaled.scaled_learning_rate == pytest.approx(0.4)
    assert TrainConfig(learning_rate=0.1, batch_size=1024).scaled_learning_rate == 0.1


def test_advice_for_several_gpus_is_several_workers() -> None:
    with pytest.raises(ConfigError, match="--workers 8 --gpus-per-worker 1"):
        TrainConfig(gpus_per_worker=8)


@pytest.mark.parametrize("values", [{"validation_fraction": 0.5}, {"batch_size": 1}, {"steps_per_epoch": 1}])
def test_values_at_a_limit_are_accepted(values: dict[str, Any]) -> None:
    assert dataclasses.asdict(TrainConfig(**values)).items() >= values.items()


@pytest.mark.parametrize("cls", CONFIGS)
def test_configs_are_immutable_and_take_keywords_only(cls: type) -> None:
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), name, None)
    with pytest.raises(TypeError):
        cls("seed-cnn")


def test_config_survives_json() -> None:
    train = TrainConfig(
        model="dnn",
        model_options=ModelOptions(units=(64, 32), dropout=0.5),
        optimizer=OptimizerConfig(name="sgd", momentum=0.9),
    )
    document = json.loads(json.dumps(to_dict(train)))
    assert document["optimizer"]["name"] == "sgd"
    assert document["optimizer"]["momentum"] == 0.9
    rebuilt = TrainConfig(
        **{
            **document,
            "model_options": ModelOptions.from_document(document["model_options"]),
            "optimizer": OptimizerConfig(**document["optimizer"]),
            "augment": AugmentConfig(**document["augment"]),
            "loss": LossConfig(**document["loss"]),
            "early_stopping": EarlyStoppingConfig(**document["early_stopping"]),
            "loop": LoopConfig(**document["loop"]),
            "checkpoint": CheckpointConfig(**document["checkpoint"]),
            "cluster": ClusterConfig(**document["cluster"]),
        }
    )
    assert rebuilt == train
    evaluate = EvaluateConfig(top_k=5, slice_by=("source", "brightness"))
    document = json.loads(json.dumps(dataclasses.asdict(evaluate)))
    tuples = {name: tuple(document[name]) for name in ("slice_by", "class_map")}
    assert EvaluateConfig(**{**document, **tuples}) == evaluate


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_setting_explains_itself_in_help(cls: type) -> None:
    (body,) = (node.body for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef))
    explained = [
        field.target.id
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
    ]
    groups = (
        {"model_options", "optimizer", "augment", "loss", "early_stopping", "loop", "checkpoint", "cluster"}
        if cls is TrainConfig
        else set()
    )
    assert set(explained) == {field.name for field in dataclasses.fields(cls)} - groups


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (
            config,
            {
                "__future__",
                "cnnlib.config_checks",
                "cnnlib.errors",
                "cnnlib.model_options",
                "cnnlib.redact",
                "dataclasses",
                "math",
                "sys",
                "typing",
            },
        ),
        (
            evaluate_config,
            {"__future__", "cnnlib.config_checks", "cnnlib.errors", "dataclasses", "math", "typing"},
        ),
        (
            export_config,
            {
                "__future__",
                "cnnlib.config_checks",
                "cnnlib.errors",
                "cnnlib.evaluate_config",
                "dataclasses",
                "typing",
            },
        ),
        (largest_batch_config, {"__future__", "cnnlib.config_checks", "dataclasses"}),
        (range_test_config, {"__future__", "cnnlib.config_checks", "cnnlib.errors", "dataclasses"}),
        (config_checks, {"__future__", "cnnlib.errors", "math"}),
        (
            model_options,
            {
                "__future__",
                "cnnlib.config_checks",
                "cnnlib.errors",
                "collections.abc",
                "dataclasses",
                "typing",
            },
        ),
    ],
)
def test_module_needs_nothing_but_the_standard_library(module: ModuleType, expected: set[str]) -> None:
    imported = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == expected
