"""Tests gates in TOML files: what a file may contain, and the message if it contains something else."""

from __future__ import annotations

import re

import pytest

from cnnlib import gate_config
from cnnlib.errors import ConfigError
from cnnlib.gate_config import GateConfig, Limits, parse_gates

WHOLE = """
significance = 0.01
baseline = "best"
fail_exit_code = 10
inconclusive_exit_code = 0

[min_accuracy]
overall = 0.88
every_class = 0.7
classes = { Shirt = 0.6 }
slices = { "source=web" = 0.85 }

[max_drop]
overall = 0
"""


def test_every_key_of_a_file_arrives() -> None:
    assert parse_gates(WHOLE, "gates.toml") == GateConfig(
        min_accuracy=Limits(
            overall=0.88, every_class=0.7, classes={"Shirt": 0.6}, slices={"source=web": 0.85}
        ),
        max_drop=Limits(overall=0.0),
        baseline="best",
        significance=0.01,
        fail_exit_code=10,
        inconclusive_exit_code=0,
    )


def test_what_is_left_out_has_a_default() -> None:
    gates = parse_gates("[max_drop]\noverall = 0.01", "gates.toml")
    assert (gates.baseline, gates.significance) == ("previous", 0.05)
    assert (gates.fail_exit_code, gates.inconclusive_exit_code) == (3, 4)
    assert not gates.min_accuracy.is_limiting


def test_a_text_may_begin_with_the_mark_of_an_editor() -> None:
    assert (
        parse_gates("\ufeffsignificance = 0.01\n[max_drop]\noverall = 0.01", "gates.toml").significance
        == 0.01
    )


def test_example_in_the_documentation_is_a_file_that_works() -> None:
    text = gate_config.__doc__ or ""
    example = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    gates = parse_gates(example, "the example")
    assert gates.max_drop.classes == {"Shirt": 0.05}
    assert gates.min_accuracy.slices == {"source=web": 0.85}


def test_report_is_named_by_its_id_or_the_first_digits_of_it() -> None:
    for baseline in ("0123456789abcdef", "f2a08e"):
        assert parse_gates(f'baseline = "{baseline}"\n[max_drop]\noverall = 0', "x").baseline == baseline


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "gates.toml: The gate limits nothing."),
        ("[min_accuracy]", "gates.toml: The gate limits nothing."),
        ("min_accuracy = ", "gates.toml is not TOML: "),
        ("[min_acuracy]\noverall = 0.9", "Unknown key 'min_acuracy' in the file. Did you mean 'min_accuracy'?"),
        ("[max_drop]\noveral = 0.9", "Unknown key 'overal' in max_drop. Did you mean 'overall'?"),
        ("min_accuracy = 0.9", "min_accuracy must be a table. Received 0.9."),
        ("[min_accuracy]\noverall = '0.9'", "min_accuracy.overall must be a number. Received '0.9'."),
        ("[min_accuracy]\noverall = true", "min_accuracy.overall must be a number. Received True."),
        ("[min_accuracy]\noverall = 88", "min_accuracy.overall must be a fraction, 0..1: 0.01 is 1 %. Received 88."),
        ("[max_drop]\noverall = 1", "max_drop.overall must be below 1: 0.01 is 1 %"),
        ("[max_drop]\nevery_class = 1.0", "max_drop.every_class must be below 1: 0.01 is 1 %"),
        ("[max_drop.slices]\n'a=b' = 1", "max_drop.slices.a=b must be below 1: 0.01 is 1 %"),
        ("[max_drop]\noverall = -0.1", "max_drop.overall must be a fraction, 0..1: 0.01 is 1 %. Received -0.1."),
        ("[min_accuracy]\noverall = nan", "min_accuracy.overall must be a fraction"),
        ("[max_drop]\nclasses = 0.1", "max_drop.classes must be a table of name = number. Received 0.1."),
        ("[max_drop.classes]\nShirt = 'x'", "max_drop.classes.Shirt must be a number. Received 'x'."),
        ("[max_drop.classes]\nShirt = 3", "max_drop.classes.Shirt must be a fraction, 0..1"),
        ("significance = 1\n[max_drop]\noverall = 0", "significance must lie in 0..0.5. Received 1.0."),
        ("significance = nan\n[max_drop]\noverall = 0", "significance must lie in 0..0.5. Received nan."),
        ("baseline = 'latest'\n[max_drop]\noverall = 0", "baseline must be previous, previous-run, best-of-run, best"),
        ("baseline = 7\n[max_drop]\noverall = 0", "baseline must be a string. Received 7."),
        ("fail_exit_code = 1\n[max_drop]\noverall = 0", "fail_exit_code must be 0 or 3..125"),
        ("fail_exit_code = 130\n[max_drop]\noverall = 0", "fail_exit_code must be 0 or 3..125"),
        ("fail_exit_code = 3.5\n[max_drop]\noverall = 0", "fail_exit_code must be a whole number. Received 3.5."),
    ],
)  # fmt: skip
def test_mistake_in_a_file_says_what_came_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_gates(text, "gates.toml")
