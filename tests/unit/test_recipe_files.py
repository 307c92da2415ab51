"""Recipe files say the same as flags, and are refused with the field that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cnnlib.config import AugmentConfig, LossConfig, OptimizerConfig, TrainConfig
from cnnlib.config_fields import changed_fields, replace_fields
from cnnlib.errors import ConfigError
from cnnlib.model_options import ModelOptions
from cnnlib.recipe_files import format_recipe, parse_recipe
from cnnlib.recipes import RECIPES
from jobs.flags import pick_recipe

CONFIGS = [
    TrainConfig(),
    *(recipe.config for recipe in RECIPES.values()),
    TrainConfig(
        model="seed-cnn",
        model_options=ModelOptions(filters=(8, 4), pooling="none", batch_norm=False, dropout=0.5),
    ),
    TrainConfig(
        model='my.models:build "x"',
        optimizer=OptimizerConfig(
            name="adamw", weight_decay=1e-4, ema_momentum=0.999, decay_kernels_only=True
        ),
        augment=AugmentConfig(flip="both", mixup=0.2),
        loss=LossConfig(class_weights=(1.0, 2.5)),
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_is_the_same_after_writing_and_reading_it(config: TrainConfig) -> None:
    assert parse_recipe(format_recipe(config, ["Made up."], "Ä recipe."), "r.toml").config == config
    assert replace_fields(TrainConfig(), changed_fields(config, TrainConfig())) == config


def test_a_base_and_a_group_of_fields() -> None:
    text = 'base = "demo"\nsummary = "Short."\nepochs = 1\n[optimizer]\nweight-decay = 0.01\n[augment]\nshift = 2\n'
    found = parse_recipe(text, "r.toml")
    demo = RECIPES["demo"].config
    assert found.summary == "Short."
    assert found.gates is None
    assert found.config == replace(
        demo,
        epochs=1,
        optimizer=replace(demo.optimizer, weight_decay=0.01),
        augment=AugmentConfig(shift=2),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "r.toml is not TOML"),
        ("epoch = 3", "r.toml: There is no field epoch. Did you mean 'epochs'"),
        ("[optimizer]\nnane = 'sgd'", "There is no field optimizer.nane"),
        ("[optimiser]\nname = 'sgd'", "There is no field optimiser.name"),
        ("optimizer = 'sgd'", "optimizer is a group of fields"),
        ("[epochs]\nmost = 3", "epochs is no group of fields. Received epochs.most"),
        ("epochs = '3x'", "epochs must be int. Received '3x'"),
        ("epochs = 2.5", "epochs must be int. Received 2.5"),
        ("epochs = true", "epochs must be int. Received True"),
        ("epochs = 0", "r.toml: epochs must be at least 1"),
        ("learning_rate = [1]", "learning_rate must be float"),
        ("[augment]\nflip = 'sideways'", "one of none, horizontal, vertical, both. Received 'sideways'"),
        ("base = 'sede'", "Unknown recipe 'sede'. Did you mean 'seed'"),
        ("base = 3", r"r.toml: base must be the name of a recipe\. Received 3\."),
        ("base = ['seed']", "base must be the name of a recipe. Received"),
        ("batch-size = 8\nbatch_size = 9", "batch-size and batch_size are one field"),
        (
            "[optimizer]\nweight-decay = 0.1\nweight_decay = 0.2",
            "optimizer.weight-decay and optimizer.weight_decay are one field",
        ),
        # An option is named as the file names it.
        ("[model_options]\nkernel = 0", r"r\.toml: model_options\.kernel must be at least 1"),
        ("[model_options]\ndropout = 1.0", r"r\.toml: model_options\.dropout must be below 1"),
        ("[model_options]\nkernel = 'x'", r"r\.toml: model_options\.kernel must be int or none"),
        ("[model_options]\nkernl = 3", r"There is no field model_options\.kernl\. Did you mean 'kernel'"),
        ("base = 'seed'\n[model]\nkernel = 0", r"r\.toml: model\.kernel must be at least 1"),
        ("base = 'seed'\n[model]\nkernel = 'x'", r"r\.toml: model\.kernel must be int or none"),
        ("weights = 'model.keras'\n[model_options]\nkernl = 3", r"no field model_options\.kernl"),
        ("model = 'resnet'\n[model]\ndepth = 56", r"not TOML: .* are in the table \[model_options\]"),
        ("model = 'resnet'\nmodel.depth = 56", r"not TOML: .* are in the table \[model_options\]"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe(text, "r.toml")


def test_a_job_takes_a_recipe_file_in_place_of_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "dnn"\nepochs = 2\n')
    name, recipe, flags = pick_recipe([str(path), "--seed", "3"], "python -m jobs.train", "Trains.")
    assert (name, recipe.config.model, recipe.config.epochs, flags) == (
        "mine.toml",
        "dnn",
        2,
        ["--seed", "3"],
    )
    for words, message in (
        ([str(tmp_path / "no.toml")], "There is nothing at"),
        ([str(path)], "no text in UTF-8"),
    ):
        path.write_bytes(b"\xff")
        with pytest.raises(SystemExit) as ended:
            pick_recipe(words, "python -m jobs.train", "Trains.")
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_a_text_may_begin_with_the_mark_of_an_editor() -> None:
    assert parse_recipe("\ufeffepochs = 2\n", "mine.toml").config.epochs == 2
