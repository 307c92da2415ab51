"""`jobs.train` builds its config from flags, and lists the models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tyro import MISSING

from cnnlib.config import TrainConfig
from cnnlib.model_options import ModelOptions
from cnnlib.models.zoo.entries import ZOO
from cnnlib.recipes import RECIPES, find_recipe
from jobs import train
from jobs.flags import TrainFlags, parse_args
from tests.checkpoints import write_run_record
from tests.datasets import write_dataset_without_ray


def parse(recipe: str, *flags: str) -> TrainConfig:
    default = train.Args(data=MISSING, name=recipe, config=TrainFlags.of(find_recipe(recipe).config))
    args = parse_args(train.Args, ["--data", "d", *flags], prog="train", description=None, default=default)
    return args.config.to_config()


@pytest.mark.parametrize("recipe", RECIPES)
def test_config_without_flags_is_that_of_the_recipe(recipe: str) -> None:
    assert parse(recipe) == find_recipe(recipe).config


def test_name_and_options_of_the_model_are_flags_side_by_side() -> None:
    config = parse("seed", "--model", "resnet", "--model.depth", "56", "--model.width=32")
    assert type(config) is TrainConfig
    assert (config.model, config.model_options) == ("resnet", ModelOptions(depth=56, width=32))
    assert config.model_label == "resnet width=32 depth=56"
    assert config.optimizer == find_recipe("seed").config.optimizer


def test_options_of_several_numbers_are_several_words() -> None:
    config = parse("seed", "--model.filters", "8", "4", "--model.batch-norm", "True", "--model.units", "16")
    assert config.model_options == ModelOptions(filters=(8, 4), units=(16,), batch_norm=True)


def test_option_that_cannot_work_ends_the_job_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("seed", "--model.dropout", "1.5")
    assert stopped.value.code == 2
    assert "error: model.dropout must lie in 0..1. Received 1.5." in capsys.readouterr().err


def test_models_are_listed_with_costs_options_and_accuracies_that_were_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert train.main(["--list-models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.split()[:1] and line.split()[0] in ZOO}
    assert set(rows) == set(ZOO)
    costs = {
        line.split()[0]: line.split()[1:]
        for line in lines
        if len(line.split()) == 5 and line.split()[0] in ZOO
    }
    assert costs["seed-cnn"] == ["28x28x1", "47,090", "35.6", "91.65%"]
    assert costs["resnet"] == ["28x28x1", "273,754", "62.0", "-"]
    assert costs["convnext-tiny"] == ["224x224x3", "27,827,818", "8,909.5", "-"]
    text = " ".join(" ".join(lines).split())
    assert "--model.depth 100 --model.growth 12 --model.compression 0.5 --model.dropout 0.0" in text
    assert "seed-cnn: recipe seed on fashion-mnist, see docs/benchmarks/ladder_epyc-2core_202611.md." in text
    assert all(len(line) <= 80 for line in lines)


def test_list_of_models_as_json_has_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--list-models", "--json"]) == 0
    models = {each["model"]: each for each in json.loads(capsys.readouterr().out)["models"]}
    assert list(models) == list(ZOO)
    assert models["wide-resnet"]["options"] == {"depth": 28, "widen_factor": 10, "dropout": 0.0}
    assert models["wide-resnet"]["flops_per_image"] == 8_028_398_592
    assert (models["resnet"]["accuracy"], models["resnet"]["recipe"]) == (None, None)
    assert (models["small-cnn"]["accuracy"], models["small-cnn"]["recipe"]) == (0.8976, "demo")


def test_accuracies_of_the_list_are_those_that_the_documents_state() -> None:
    root = Path(__file__).parents[3]
    reached = [model.reached for model in ZOO.values() if model.reached is not None]
    assert len(reached) == 3
    for each in reached:
        assert each.recipe in RECIPES
        texts = (f"{each.accuracy:.2%}", f"{100 * each.accuracy:.2f} %")
        assert any(text in (root / each.source).read_text() for text in texts)


def test_all_seeds_are_checked_before_the_first_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset_without_ray(str(tmp_path / "data"))
    command = ["seed", "--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs"), "--name", "a"]
    command += ["--batch-size", "2", "--dry-run", "--json", "--seeds", "0"]
    assert train.main([*command, "-1"]) == 2
    printed = capsys.readouterr()
    assert "error: seed must be at least 0. Received -1." in printed.err
    assert "all checks passed" not in printed.err, "seed 0 would have been trained"
    write_run_record(str(tmp_path / "runs/a-seed-5"), TrainConfig(batch_size=4), "da7a")
    assert train.main([*command, "5"]) == 2
    printed = capsys.readouterr()
    assert "a-seed-5 exists with another config" in printed.err
    assert "all checks passed" not in printed.err
