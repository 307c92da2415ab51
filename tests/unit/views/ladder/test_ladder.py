"""A ladder shows what was measured, and says where a rule is broken or a target is missed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cnnlib.config import EarlyStoppingConfig, TrainConfig
from cnnlib.errors import ConfigError
from cnnlib.recipe_files import parse_recipe
from cnnlib.runs.history import EpochRecord, encode_history
from cnnlib.storage import files, layout
from cnnlib.storage.uri import join_uri
from cnnlib.views.ladder.definition import Ladder, Rung, load_ladder, parse_ladder
from cnnlib.views.ladder.rows import Row, list_rows
from jobs.report import main
from tests.checkpoints import write_run_record
from tests.report_folders import write_metrics

REPOSITORY = Path(__file__).parents[4]
FASHION_MNIST = "infra/ladder/fashion-mnist.toml"
FIRST = Rung(name="first", recipe="seed", rule="none", expected=0.8)
TEXT = """
title = "Two rungs"
[[rung]]
name = "first"
recipe = "seed"
rule = "none"
expected = 0.8
[[rung]]
name = "never"
recipe = "demo"
rule = "any"
note = "needs a GPU"
[[published]]
name = "theirs"
accuracy = 0.7
parameters = 100
source = "a book"
"""


def _write_run(
    folder: Path,
    rung: str,
    seed: int,
    *,
    correct: int,
    minutes: float = 2.0,
    epochs: int = 2,
    planned: int = 2,
    costs: tuple[int | None, int | None] = (1000, 2_000_000),
    patience: int = 0,
    validation: tuple[float | None, ...] = (None,) * 9,
) -> None:
    """Writes a run with a history, and the report of its last epoch, of 100 rows."""
    run = join_uri(str(folder), "runs", layout.seed_run(rung, seed))
    early_stopping = EarlyStoppingConfig(patience=patience)
    write_run_record(run, TrainConfig(epochs=planned, seed=seed, early_stopping=early_stopping), "ab")
    history = [
        EpochRecord(
            epoch=epoch, step=10 * epoch, loss=0.5, accuracy=0.8, validation_loss=None,
            validation_accuracy=validation[epoch - 1], learning_rate=0.1, images_per_s=100.0 * epoch, data_wait=0.0,
            seconds=60 * minutes / epochs, time=None, rows=10,
        )
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    files.write_bytes(layout.run_history(run), encode_history(history))
    write_metrics(
        str(folder / "reports"),
        correct=correct,
        overall={"parameters": costs[0], "flops_per_image": costs[1]},
        run=layout.seed_run(rung, seed),
        checkpoint_epoch=epochs,
        checkpoint_uri=layout.checkpoint_uri(run, epochs),
        checkpoint_digest=f"{rung}{seed}",
    )


def _rows(folder: Path, *rungs: Rung) -> list[Row]:
    return list_rows(str(folder / "reports"), Ladder(title="t", rungs=rungs))


def test_a_row_has_the_median_of_accuracy_time_and_speed(tmp_path: Path) -> None:
    for seed, (correct, minutes) in enumerate([(80, 2.0), (70, 3.0), (90, 7.0)]):
        _write_run(tmp_path, "first", seed, correct=correct, minutes=minutes)
    [row] = _rows(tmp_path, FIRST)
    assert row.measured is not None
    assert row.measured.group.accuracies == [0.8, 0.7, 0.9]
    assert (row.measured.group.median, row.measured.minutes, row.measured.images_per_s) == (0.8, 3.0, 150.0)
    assert (row.measured.parameters, row.measured.flops_per_image) == (1000, 2_000_000)
    assert (row.verdict, row.reached) == ("reached", True)


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ({"max_parameters": 1000, "max_mflop": 2.0, "target": 0.8}, "reached"),
        ({"target": 0.8123}, "1.23 points below"),
        ({"expected": 0.95}, "95.00% is not in the range"),
        ({"max_parameters": 999, "target": 0.8}, "more than 999 parameters"),
        ({"max_mflop": 1.5, "target": 0.8}, "more than 1.5 MFLOP"),
        ({"max_mflop": 1.5, "target": 0.85}, "more than 1.5 MFLOP; 5.00 points below"),
        ({}, "-"),
    ],
)
def test_a_verdict_names_every_broken_rule_and_what_is_missing(
    tmp_path: Path, rule: dict[str, float], verdict: str
) -> None:
    _write_run(tmp_path, "a", 0, correct=80)
    [row] = _rows(tmp_path, Rung(name="a", recipe="seed", rule="r", **rule))  # type: ignore[arg-type]
    assert row.verdict == verdict
    assert row.reached is ({"reached": True, "-": None}.get(verdict, False))


def test_a_rung_may_not_take_longer_than_the_one_it_names(tmp_path: Path) -> None:
    _write_run(tmp_path, "a", 0, correct=80, minutes=2.0)
    _write_run(tmp_path, "b", 0, correct=80, minutes=2.1)
    _write_run(tmp_path, "c", 0, correct=80, minutes=2.0)
    rungs = [
        Rung(name=name, recipe="seed", rule="r", max_minutes_of="a", target=0.5) for name in ("a", "b", "c")
    ]
    assert [row.verdict for row in _rows(tmp_path, *rungs)] == [
        "reached",
        "more than 2.0 minutes, of a",
        "reached",
    ]


def test_a_cost_that_is_not_known_keeps_no_rule(tmp_path: Path) -> None:
    _write_run(tmp_path, "a", 0, correct=80, costs=(None, None))
    [row] = _rows(tmp_path, Rung(name="a", recipe="seed", rule="r", max_parameters=5, target=0.5))
    assert (row.verdict, row.reached) == ("parameters unknown: the limit is 5", False)


def test_a_run_that_is_not_finished_reaches_nothing(tmp_path: Path) -> None:
    _write_run(tmp_path, "first", 0, correct=80, epochs=2, planned=2)
    _write_run(tmp_path, "first", 1, correct=80, epochs=1, planned=2)
    [row] = _rows(tmp_path, FIRST)
    assert (row.verdict, row.reached) == ("only 1 of 2 epochs have a report", False)


def test_a_longer_run_that_is_not_finished_is_found_beside_one_that_is(tmp_path: Path) -> None:
    _write_run(tmp_path, "first", 0, correct=80, epochs=2, planned=2)
    _write_run(tmp_path, "first", 1, correct=80, epochs=3, planned=5)
    [row] = _rows(tmp_path, FIRST)
    assert (row.verdict, row.reached) == ("only 3 of 5 epochs have a report", False)


@pytest.mark.parametrize(("epochs", "verdict"), [(3, "reached"), (2, "only 2 of 9 epochs have a report")])
def test_a_run_that_early_stopping_ended_is_finished(tmp_path: Path, epochs: int, verdict: str) -> None:
    scores = (0.7, 0.7, 0.7)
    _write_run(tmp_path, "first", 0, correct=80, epochs=epochs, planned=9, patience=2, validation=scores)
    [row] = _rows(tmp_path, FIRST)
    assert row.verdict == verdict


def test_a_run_that_is_gone_reaches_nothing_that_nobody_can_check(tmp_path: Path) -> None:
    _write_run(tmp_path, "first", 0, correct=80)
    shutil.rmtree(tmp_path / "runs")
    [row] = _rows(tmp_path, FIRST)
    assert row.measured is not None
    assert (row.measured.minutes, row.measured.epochs, row.reached) == (None, 2, False)
    assert row.verdict == (
        f"the planned epochs are unknown: {tmp_path}/runs/first-seed-0/run.json cannot be read"
    )


def test_a_history_that_is_no_parquet_leaves_the_time_unknown(tmp_path: Path) -> None:
    _write_run(tmp_path, "first", 0, correct=80)
    (tmp_path / "runs/first-seed-0/history.parquet").write_bytes(b"no Parquet")
    [row] = _rows(tmp_path, FIRST)
    assert row.measured is not None
    assert (row.measured.minutes, row.verdict) == (None, "reached")


def test_time_is_not_stated_when_a_history_is_gone(tmp_path: Path) -> None:
    _write_run(tmp_path, "first", 0, correct=80)
    _write_run(tmp_path, "first", 1, correct=80)
    (tmp_path / "runs/first-seed-1/history.parquet").unlink()
    [row] = _rows(tmp_path, FIRST)
    assert row.measured is not None
    assert (row.measured.minutes, row.measured.images_per_s) == (None, None)
    assert row.verdict == "reached"


def test_reports_about_two_datasets_are_not_mixed(tmp_path: Path) -> None:
    _write_run(tmp_path, "first", 0, correct=80)
    write_metrics(
        str(tmp_path / "reports"), run="first-seed-0", dataset_fingerprint="other", checkpoint_epoch=2
    )
    with pytest.raises(ConfigError, match="2 different datasets, models or settings"):
        _rows(tmp_path, FIRST)


def test_the_job_writes_markdown_a_picture_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, correct in enumerate((80, 70, 90)):
        _write_run(tmp_path, "first", seed, correct=correct)
    (tmp_path / "ladder.toml").write_text(TEXT)
    picture = tmp_path / "ladder.png"
    command = [str(tmp_path / "reports"), "--ladder", str(tmp_path / "ladder.toml"), "--plot", str(picture)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "# Two rungs" in lines
    [first, never] = [line for line in lines if line.startswith(("| first", "| never"))]
    assert [cell.strip() for cell in first.strip("|").split("|")] == [
        "first", "none", "**80.00%**", "3", "70.00..90.00", "71.12..86.66", "1,000", "2.0", "2", "2.0", "150",
        "holds 80.00%", "reached",
    ]  # fmt: skip
    assert never.strip("|").split("|")[-1].strip() == "not run: needs a GPU"
    assert "python -m jobs.train seed --data DATA --name first --seeds 0 1 2" in lines
    assert "| theirs | 70.00% | 100 | a book |" in lines
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--json"]) == 0
    [row, empty] = json.loads(capsys.readouterr().out.splitlines()[-1])["ladder"]
    assert (row["median_accuracy"], row["minutes"], row["reached"]) == (0.8, 2.0, True)
    assert (empty["rung"], empty["verdict"], empty["reached"]) == ("never", "not run: needs a GPU", None)


def test_names_are_shown_as_they_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_run(tmp_path, "first", 0, correct=80)
    text = TEXT.replace('"Two rungs"', '"From $5 to $x^{"').replace('"theirs"', '"A_$x^{$ | B"')
    text = text.replace('"none"', '"""two\nlines"""').replace(
        'recipe = "seed"', 'recipe = "my recipes/a.toml"'
    )
    (tmp_path / "ladder.toml").write_text(text)
    picture = tmp_path / "ladder.png"
    command = [str(tmp_path / "reports"), "--ladder", str(tmp_path / "ladder.toml"), "--plot", str(picture)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# From $5 to $x^{"
    assert next(line for line in lines if line.startswith("| first")).startswith(
        "| first | two lines | **80.00%**"
    )
    assert "| A_$x^{$ \\| B | 70.00% | 100 | a book |" in lines
    assert "python -m jobs.train 'my recipes/a.toml' --data DATA --name first --seeds 0" in lines
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 3", "title to be of type str. Received 3"),
        ("x = 1", "Unknown entry 'x'"),
        ("", r"at least one \[\[rung\]\]"),
        ("rung = 3", "Expected tables"),
        ("[[rung]]\nname = 'a'\nrule = 'r'", "'a' lacks 'recipe'"),
        ("[[rung]]\nname = 'a'\nrecipe = 'seed'\nrule = 'r'\ntarget = 93", "93. Expected a fraction"),
        ("[[rung]]\nname = 'a'\nrecipe = 'seed'\nrule = 'r'\ntarget = true", "type float. Received True"),
        ("[[rung]]\nname = 'a'\nrecipe = 'seed'\nrule = 'r'\nmax_paramters = 1", "Did you mean 'max_parameters'"),
        ("[[rung]]\nname = 'a'\nrecipe = 'seed'\nrule = 'r'\nmax_minutes_of = 'b'", "max_minutes_of of rung a is 'b'"),
        ("[[rung]]\nname = 'my rung'\nrecipe = 'seed'\nrule = 'r'", "rung 'my rung' begins .* such as 'my-rung'"),
        ("[[rung]", "is not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_ladder_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^x.toml.*{message}"):
        parse_ladder(text, "x.toml")


def test_a_text_may_begin_with_the_mark_of_an_editor() -> None:
    assert parse_ladder(f"\ufeff{TEXT.lstrip()}", "x.toml").title == "Two rungs"


def test_two_rungs_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"different names\. Received first, first"):
        Ladder(title="t", rungs=(FIRST, FIRST))


def test_the_ladder_of_this_project_has_a_recipe_for_every_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    ladder = load_ladder(FASHION_MNIST)
    assert [rung.name for rung in ladder.rungs] == [Path(rung.recipe).stem for rung in ladder.rungs]
    for rung in ladder.rungs:
        recipe = parse_recipe(Path(rung.recipe).read_text(), rung.recipe)
        assert recipe.config.validation_fraction == 0.0, "the last training uses every training row"
        assert recipe.config.early_stopping.patience == 0
