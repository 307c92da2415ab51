"""Ranges of a search: what they may be of, how their values are drawn, and what is refused before any training."""

from __future__ import annotations

import pytest

from cnnlib.config import OptimizerConfig, TrainConfig
from cnnlib.errors import ConfigError
from cnnlib.model_options import ModelOptions
from cnnlib.tuning.ranges import Range, apply_values, own_values, parse_ranges

CONFIG = TrainConfig(epochs=5, learning_rate=0.01, optimizer=OptimizerConfig(name="sgd", momentum=0.9))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning-rate=1e-4..1e-1", Range(name="learning_rate", kind="log", values=(1e-4, 1e-1))),
        (
            "optimizer.momentum=0.8..0.99",
            Range(name="optimizer.momentum", kind="uniform", values=(0.8, 0.99)),
        ),
        ("augment.cutmix=0..1", Range(name="augment.cutmix", kind="uniform", values=(0.0, 1.0))),
        ("augment.shift=0..4", Range(name="augment.shift", kind="whole", values=(0, 4))),
        ("batch_size=32,64", Range(name="batch_size", kind="choice", values=(32, 64))),
        (
            "augment.flip = none, horizontal",
            Range(name="augment.flip", kind="choice", values=("none", "horizontal")),
        ),
        (
            "optimizer.ema-momentum=none,0.99",
            Range(name="optimizer.ema_momentum", kind="choice", values=(None, 0.99)),
        ),
        ("optimizer.clip-norm=0.5..1", Range(name="optimizer.clip_norm", kind="uniform", values=(0.5, 1.0))),
        ("model.depth=20,56", Range(name="model.depth", kind="choice", values=(20, 56))),
        (
            "model.filters=16 8,32 16",
            Range(name="model.filters", kind="choice", values=((16, 8), (32, 16))),
        ),
        ("sync-batch-norm=true,false", Range(name="sync_batch_norm", kind="choice", values=(True, False))),
        # As the flags spell it.
        (
            "model.batch-norm=True,False",
            Range(name="model.batch_norm", kind="choice", values=(True, False)),
        ),
    ],
)
def test_a_range_is_of_the_kind_of_its_field(text: str, expected: Range) -> None:
    assert parse_ranges([text], CONFIG) == (expected,)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "There is nothing to search"),
        (["learning-rate"], "is no range. Expected NAME=FROM..TO or NAME=A,B"),
        (["learning-rate="], "is no range"),
        (["learning-rate=1e-4...1e-1"], r"three dots. Expected two: learning_rate=FROM\.\.TO"),
        (["model.dept=20,56"], r"There is no field model\.dept\. Did you mean 'depth'"),
        (["model.depth=20..x"], r"^model\.depth must be int"),
        (["model.kernel=0..4"], r"^model\.kernel must be at least 1"),
        (["model.kernel=3,5x"], r"^model\.kernel must be int"),
        (["model.widen-factor=2..4", "model.widen_factor=2..6"], r"Two ranges for model\.widen_factor"),
        (["model.padding=same..valid"], r"^model\.padding is no number"),
        (["optimizer.nane=a,b"], r"There is no field optimizer\.nane"),
        (["learning-rat=1..2"], "There is no field learning_rat. Did you mean 'learning_rate'"),
        (["optimizer=adam,sgd"], "optimizer must be OptimizerConfig|group of fields"),
        (["learning-rate=1e-1..1e-4"], "Expected two finite numbers, the smaller one first"),
        (["learning-rate=0..1"], "learning_rate must be above 0"),
        (["learning-rate=1e-3..inf"], "Expected two finite numbers"),
        (["augment.shift=0..1.5"], "augment.shift must be int. Received '1.5'"),
        (["optimizer.name=adam..sgd"], "optimizer.name is no number. Expected values"),
        (["optimizer.name=adam,adan"], "must be one of adam, adamw, sgd, rmsprop. Received 'adan'"),
        (["optimizer.name=adam,adam"], "has a value twice"),
        (["batch-size=32,64", "batch_size=16,32"], "Two ranges for batch_size"),
        (["epochs=3..9"], "epochs cannot be searched"),
        (["workers=1,2"], "workers cannot be searched"),
        (["loop.steps-per-call=1..9"], "cannot be searched"),
    ],
)
def test_what_cannot_be_searched_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_ranges(texts, CONFIG)


def test_an_option_of_the_model_has_the_name_of_its_flag_in_values_and_messages() -> None:
    (found,) = parse_ranges(["model.dropout=0.1..0.5"], CONFIG)
    own = TrainConfig(model_options=ModelOptions(dropout=0.2))
    assert own_values([found], own) == {"model.dropout": 0.2}
    assert apply_values(CONFIG, {"model.dropout": 0.3}).model_options.dropout == 0.3
    with pytest.raises(ConfigError, match=r"^model\.dropout must be float or none"):
        apply_values(CONFIG, {"model.dropout": "x"})
    # What a search of an earlier version has stored.
    assert apply_values(CONFIG, {"model_options.dropout": 0.3}).model_options.dropout == 0.3
    assert parse_ranges(["model_options.dropout=0.1..0.5"], CONFIG) == (found,)


def test_the_first_trial_has_the_values_of_the_recipe_if_they_lie_in_the_ranges() -> None:
    inside = parse_ranges(["learning-rate=1e-3..1e-1", "optimizer.name=sgd,rmsprop"], CONFIG)
    assert own_values(inside, CONFIG) == {"learning_rate": 0.01, "optimizer.name": "sgd"}
    assert own_values(parse_ranges(["learning-rate=0.1..1"], CONFIG), CONFIG) is None
    assert own_values(parse_ranges(["optimizer.clip-norm=0.5..1"], CONFIG), CONFIG) is None  # it has none
    assert own_values(parse_ranges(["model.dropout=0.1..0.5"], CONFIG), CONFIG) is None
    assert own_values(parse_ranges(["optimizer.name=rmsprop,adamw"], TrainConfig()), CONFIG) is None


def test_a_value_that_cannot_work_with_the_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"momentum is for sgd and rmsprop\. Received 0\.9 with adamw"):
        parse_ranges(["optimizer.name=sgd,adamw"], CONFIG)


def test_values_are_applied_together() -> None:
    # One after the other, adam with a momentum would be refused.
    found = apply_values(CONFIG, {"optimizer.name": "adam", "optimizer.momentum": 0.0, "learning_rate": 0.5})
    assert (found.optimizer.name, found.optimizer.momentum, found.learning_rate) == ("adam", 0.0, 0.5)
    assert found.epochs == CONFIG.epochs
    with pytest.raises(ConfigError, match=r"momentum is for sgd and rmsprop"):
        apply_values(CONFIG, {"optimizer.name": "adam"})
