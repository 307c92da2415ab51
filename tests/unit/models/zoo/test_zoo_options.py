"""A model takes the options that it has, says which those are, and refuses what cannot be built before it is built."""

from __future__ import annotations

import dataclasses
import doctest
import subprocess
import sys
import typing

import pytest

from cnnlib import model_options
from cnnlib.errors import ModelError
from cnnlib.model_options import ModelOptions
from cnnlib.models.registry import check_model, is_row_by_row, model_names
from cnnlib.models.zoo.entries import ZOO, resolve_options
from cnnlib.models.zoo.options import ResNetOptions


def test_examples_of_the_options_hold() -> None:
    assert doctest.testmod(model_options).failed == 0
    assert doctest.testmod(model_options).attempted == 3


@pytest.mark.parametrize("name", ZOO)
def test_every_option_of_a_model_has_a_flag_of_the_same_type(name: str) -> None:
    flags, options = typing.get_type_hints(ModelOptions), typing.get_type_hints(ZOO[name].options)
    fields = [field.name for field in dataclasses.fields(ZOO[name].options)]
    assert fields == list(ZOO[name].defaults())
    for field in fields:
        assert flags[field] == (options[field] | None)


def test_every_flag_is_an_option_of_some_model() -> None:
    of_models = {option for model in ZOO.values() for option in model.defaults()}
    assert of_models == {field.name for field in dataclasses.fields(ModelOptions)}


def test_every_default_can_be_given_as_a_flag() -> None:
    for name, model in ZOO.items():
        given = ModelOptions(**model.defaults())  # type: ignore[arg-type]
        assert resolve_options(name, given) == model.options()


def test_option_that_is_not_given_keeps_the_default_of_the_model() -> None:
    assert resolve_options("resnet", ModelOptions(width=8)) == ResNetOptions(depth=20, width=8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "seed-cnn",
            ModelOptions(depth=20, widen_factor=2, kernel=5),
            "seed-cnn has no such option. Received --model.depth 20 --model.widen-factor 2, expected one of: "
            "--model.filters, --model.kernel, --model.stride, --model.padding, --model.pooling, --model.activation, "
            "--model.batch-norm, --model.units, --model.dropout.",
        ),
        (
            "resnet",
            ModelOptions(filters=(8, 4)),
            "resnet has no such option. Received --model.filters 8 4, expected one of: --model.depth, --model.width.",
        ),
        ("resnet", ModelOptions(depth=18), "depth must be 6n+2 for resnet. Received 18. Try 14 or 20."),
        ("resnet", ModelOptions(depth=2), "depth must be 6n+2 for resnet. Received 2. Try 8 or 14."),
        (
            "wide-resnet",
            ModelOptions(depth=20),
            "depth must be 6n+4 for wide-resnet. Received 20. Try 16 or 22.",
        ),
        (
            "densenet-bc",
            ModelOptions(depth=99),
            "depth must be 6n+4 for densenet-bc. Received 99. Try 94 or 100.",
        ),
    ],
)
def test_option_that_a_model_cannot_have_is_refused(name: str, options: ModelOptions, message: str) -> None:
    with pytest.raises(ModelError) as raised:
        check_model(name, options)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "options", "shape", "message"),
    [
        (
            "seed-cnn",
            ModelOptions(),
            (28, 7, 1),
            "Images of 7x28 pixels are too small for seed-cnn: nothing is left of them after convolution 6 of 6.",
        ),
        (
            "seed-cnn",
            ModelOptions(padding="valid"),
            (28, 28, 1),
            "nothing is left of them after convolution 6 of 6.",
        ),
        ("seed-cnn", ModelOptions(kernel=9, padding="valid"), (8, 9, 1), "after convolution 1 of 6."),
        (
            "resnet",
            ModelOptions(),
            (7, 9, 1),
            "Images of 9x7 pixels are too small for resnet. Expected at least 8x8.",
        ),
        ("convnext-tiny", ModelOptions(), (28, 28, 1), "Expected at least 32x32."),
        (
            "resnet-50",
            ModelOptions(),
            (64, 64, 4),
            "resnet-50 takes images of 1 or 3 channels. Received images of 4.",
        ),
    ],
)
def test_images_that_a_model_cannot_take_are_refused(
    name: str, options: ModelOptions, shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ModelError) as raised:
        check_model(name, options, shape)
    assert message in str(raised.value)


def test_options_of_a_users_function_are_not_known_before_it_is_imported() -> None:
    check_model("no_such.module:build", ModelOptions(depth=3), (2, 2, 1))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("seed-cnn", ModelOptions(filters=(8, 8)), True),
        ("seed-cnn", ModelOptions(batch_norm=True), False),
        ("seed-cnn", ModelOptions(dropout=0.5), False),
        ("dnn", ModelOptions(dropout=0.5), False),
        ("dnn", ModelOptions(batch_norm=True), False),
        ("resnet", ModelOptions(), False),
        ("convnext-tiny", ModelOptions(), True),
        ("convnext-tiny", ModelOptions(dropout=0.1), False),
        ("efficientnet-v2-s", ModelOptions(dropout=0.0), False),
        ("tests.models:build_linear", ModelOptions(), False),
    ],
)
def test_rows_are_independent_without_normalisation_of_the_batch_and_random_layers(
    name: str, options: ModelOptions, expected: bool
) -> None:
    assert is_row_by_row(name, options) is expected


def test_label_of_a_model_has_the_options_that_were_given() -> None:
    assert ModelOptions().label("dnn") == "dnn"
    assert ModelOptions(units=(64, 32), batch_norm=False).label("dnn") == "dnn units=64,32 batch_norm=False"


def test_list_of_models_loads_no_tensorflow() -> None:
    code = (
        "import sys; from cnnlib.views.view import view_models; view_models();"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_of_the_registry_are_those_of_the_zoo() -> None:
    assert model_names() == sorted(ZOO)
