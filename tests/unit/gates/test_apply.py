"""Tests gates on reports as an evaluation writes them: baselines, verdicts and the stored table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cnnlib.errors import ConfigError, ReportError
from cnnlib.gate_config import GateConfig, Limits
from cnnlib.gates.apply import GateResult, apply_gates
from cnnlib.gates.selection import MadeSlices, check_gates
from cnnlib.gates.verdicts import read_gates
from cnnlib.reports.schema import table_schema
from cnnlib.views.terminal.gates import render_gates
from tests.reports_of_rows import CLASSES, with_mistakes, write_rows

LABELS = np.repeat([0, 1, 2], [300, 300, 100])
COAT, SHIRT, BAG = range(300), range(300, 600), range(600, 700)
NAMES = {
    "source": ["source=web", "source=shop", 'source="a+b"', "source=null"],
    "brightness": [*(f"brightness=q{number}" for number in (1, 2, 3, 4)), "brightness=null"],
}
NO_DROP = GateConfig(max_drop=Limits(overall=0.0, every_class=0.0))


def write(folder: Path, epoch: int, *wrong: range, **changes: Any) -> str:
    rows = [each for part in wrong for each in part]
    return write_rows(folder, LABELS, with_mistakes(LABELS, rows), epoch=epoch, **changes)


def verdicts(result: GateResult) -> dict[str, str]:
    return {row["class_name"] or row["slice"] or "all": row["verdict"] for row in result.rows}


def test_model_made_worse_for_one_class_fails_for_that_class_alone(tmp_path: Path) -> None:
    write(tmp_path, 1, COAT[:15], SHIRT[:30])
    worse = write(tmp_path, 2, COAT[:15], SHIRT[:75])
    result = apply_gates(str(tmp_path), worse, GateConfig(max_drop=Limits(every_class=0.02)))
    assert (result.verdict, result.exit_code) == ("fail", 3)
    assert verdicts(result) == {"Coat": "pass", "Shirt": "fail", "Bag": "pass"}
    floor = apply_gates(str(tmp_path), worse, GateConfig(min_accuracy=Limits(every_class=0.85)))
    assert verdicts(floor) == {"Coat": "pass", "Shirt": "fail", "Bag": "pass"}


def test_difference_that_is_noise_is_inconclusive(tmp_path: Path) -> None:
    write(tmp_path, 1, COAT[:20], SHIRT[:40])
    noise = write(tmp_path, 2, COAT[10:32], SHIRT[20:62], BAG[:1])
    result = apply_gates(str(tmp_path), noise, NO_DROP)
    assert (result.verdict, result.exit_code) == ("inconclusive", 4)
    assert verdicts(result) == dict.fromkeys(("all", *CLASSES), "inconclusive")


def test_equal_predictions_and_better_ones_pass(tmp_path: Path) -> None:
    write(tmp_path, 1, SHIRT[:40])
    equal, better = write(tmp_path, 2, SHIRT[:40]), write(tmp_path, 3, SHIRT[:39])
    for report_id in (equal, better):
        result = apply_gates(str(tmp_path), report_id, NO_DROP)
        assert (result.verdict, result.exit_code) == ("pass", 0)


def test_plain_thresholds_fail_on_noise_too(tmp_path: Path) -> None:
    write(tmp_path, 1, SHIRT[:40])
    noise = write(tmp_path, 2, SHIRT[:41])
    plain = GateConfig(max_drop=Limits(overall=0.0), significance=0.0)
    result = apply_gates(str(tmp_path), noise, plain)
    assert (result.verdict, result.rows[0]["p_value"]) == ("fail", None)
    assert apply_gates(str(tmp_path), noise, NO_DROP).verdict == "inconclusive"


def test_exit_codes_are_those_of_the_gates(tmp_path: Path) -> None:
    write(tmp_path, 1, SHIRT[:40])
    codes = {"fail_exit_code": 77, "inconclusive_exit_code": 0}
    for epoch, wrong, expected in ((2, 42, 0), (3, 90, 77)):
        gates = GateConfig(max_drop=Limits(overall=0.0), **codes)
        assert apply_gates(str(tmp_path), write(tmp_path, epoch, SHIRT[:wrong]), gates).exit_code == expected


def test_first_report_passes_every_drop_and_says_why(tmp_path: Path) -> None:
    first = write(tmp_path, 1, SHIRT[:200])
    result = apply_gates(str(tmp_path), first, NO_DROP)
    assert result.verdict == "pass"
    assert {row["reason"] for row in result.rows} == {
        "no earlier report on the same rows of this run, or of this recipe and model."
    }
    assert {row["baseline_id"] for row in result.rows} == {None}


def test_unknown_baseline_is_an_error(tmp_path: Path) -> None:
    report_id = write(tmp_path, 1)
    with pytest.raises(ReportError, match="No report 'beef'"):
        apply_gates(str(tmp_path), report_id, GateConfig(max_drop=Limits(overall=0), baseline="beef"))


def test_baseline_without_predictions_is_compared_by_counts(tmp_path: Path) -> None:
    write(tmp_path, 1, SHIRT[:30], store=False)
    report_id = write(tmp_path, 2, SHIRT[:60])
    [row] = apply_gates(str(tmp_path), report_id, GateConfig(max_drop=Limits(overall=0.0))).rows
    expected = stats.fisher_exact([[670, 30], [640, 60]], alternative="greater").pvalue
    assert row["p_value"] == pytest.approx(expected)
    assert "not paired row by row" in row["reason"]


def test_accuracies_over_other_classes_are_not_compared(tmp_path: Path) -> None:
    """A class that both have is; all rows together are not, whatever the user named as the baseline."""
    other = {"dataset_fingerprint": "other", "class_names": ("Coat", "Hat", "Bag")}
    before = write(tmp_path, 1, COAT[:30], SHIRT[:60], **other)
    report_id = write(tmp_path, 2, COAT[:20])
    limits = Limits(overall=0.0, classes={"Coat": 0.0, "Shirt": 0.0})
    result = apply_gates(str(tmp_path), report_id, GateConfig(max_drop=limits, baseline=before))
    assert (result.verdict, result.exit_code) == ("inconclusive", 4)
    assert verdicts(result) == {"all": "inconclusive", "Coat": "pass", "Shirt": "inconclusive"}
    assert result.rows[0]["reason"] == (
        "the baseline has other classes: it alone has 'Hat' and the report alone has 'Shirt'."
    )
    assert [row["observed"] for row in result.rows] == [None, pytest.approx(-10 / 300), None]


def test_slices_have_gates(tmp_path: Path) -> None:
    web = np.isin(np.arange(700), [*COAT[:150], *SHIRT[:150]])
    slices = {"source=web": web, "source=shop": ~web}
    before = write(tmp_path, 1, SHIRT[:20], slices=slices)
    report_id = write(tmp_path, 2, SHIRT[:90], slices=slices)
    gates = GateConfig(
        min_accuracy=Limits(slices={"source=web": 0.8, "source=shop": 0.99, "source=wbe": 0.5}),
        max_drop=Limits(slices={"source=web": 0.05, "source=shop": 0.0}),
    )
    rows = apply_gates(str(tmp_path), report_id, gates).rows
    assert [(row["check"], row["slice"], row["verdict"], row["observed"]) for row in rows] == [
        ("min_accuracy", "source=web", "fail", 0.7),
        ("min_accuracy", "source=shop", "pass", 1.0),
        ("min_accuracy", "source=wbe", "inconclusive", None),
        ("max_drop", "source=web", "fail", pytest.approx(70 / 300)),
        ("max_drop", "source=shop", "pass", 0.0),
    ]
    assert "Did you mean 'source=web'?" in rows[2]["reason"]
    assert "not paired" not in rows[3]["reason"]
    assert rows[3]["baseline_id"] == before


def test_drops_in_a_slice_are_paired_by_the_predictions_alone(tmp_path: Path) -> None:
    """The baseline was not sliced; its predictions of the slice's rows are enough."""
    web = np.isin(np.arange(700), SHIRT[:100])
    gates = GateConfig(max_drop=Limits(slices={"source=web": 0.0}))
    before = write(tmp_path, 1, SHIRT[:30], BAG[:50])
    report_id = write(tmp_path, 2, SHIRT[20:62], slices={"source=web": web, "source=shop": ~web})
    [row] = apply_gates(str(tmp_path), report_id, gates).rows
    lost, won = 32, 20  # of the rows 330..361 and 300..319
    expected = stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue
    assert (row["baseline_id"], row["observed"]) == (before, pytest.approx(0.12))
    assert row["p_value"] == pytest.approx(expected)


def test_slice_that_neither_predictions_nor_baseline_have_is_inconclusive(tmp_path: Path) -> None:
    web = np.isin(np.arange(700), SHIRT[:100])
    write(tmp_path, 1, SHIRT[:30], store=False)
    report_id = write(tmp_path, 2, SHIRT[:30], slices={"source=web": web})
    gates = GateConfig(max_drop=Limits(slices={"source=web": 0.0}))
    [row] = apply_gates(str(tmp_path), report_id, gates).rows
    assert (row["verdict"], row["reason"]) == (
        "inconclusive",
        "the baseline has no slice 'source=web'; it has none.",
    )


@pytest.mark.parametrize("store", [True, False])
def test_quantiles_of_another_number_are_compared_row_by_row_or_not_at_all(
    tmp_path: Path, store: bool
) -> None:
    """The same mistakes in both epochs: the darkest quarter and the darkest half of the rows are not the same rows."""
    places = np.arange(700)
    quarter, half = {"brightness=q1": places < 175}, {"brightness=q1": places < 350}
    settings = {"top_k": 1, "slice_by": "brightness"}
    write(tmp_path, 1, SHIRT[:50], slices=quarter, store=store, evaluation=settings)
    other = {**settings, "slice_quantiles": 2}
    report_id = write(tmp_path, 2, SHIRT[:50], slices=half, store=store, evaluation=other)
    gates = GateConfig(max_drop=Limits(slices={"brightness=q1": 0.0}))
    [row] = apply_gates(str(tmp_path), report_id, gates).rows
    expected = (
        ("pass", "no drop.")
        if store
        else ("inconclusive", "the baseline is cut into another number of quantiles (--slice-quantiles).")
    )
    assert (row["verdict"], row["reason"]) == expected


def test_a_damaged_table_of_verdicts_is_an_error_that_names_it(tmp_path: Path) -> None:
    report_id = write(tmp_path, 1, COAT[:10])
    apply_gates(str(tmp_path), report_id, NO_DROP)
    [stored] = (tmp_path / "gates").iterdir()
    stored.write_bytes(stored.read_bytes()[:-20])
    for read in (
        lambda: apply_gates(str(tmp_path), report_id, NO_DROP),
        lambda: read_gates(str(tmp_path), report_id),
    ):
        with pytest.raises(ReportError, match=rf"gates/{stored.name} is damaged: .* Delete it, and evaluate"):
            read()


def test_p_values_are_holms_over_all_checks_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, 1, COAT[:10], SHIRT[:30])
    report_id = write(tmp_path, 2, COAT[5:22], SHIRT[10:55])
    rows = apply_gates(str(tmp_path), report_id, NO_DROP).rows
    flips = [(12 + 25, 5 + 10), (12, 5), (25, 10), (0, 0)]
    raw = [
        stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue if lost else 1.0
        for lost, won in flips
    ]
    assert [row["p_value"] for row in rows] == pytest.approx(multipletests(raw, method="holm")[1], rel=1e-9)


def test_verdicts_are_stored_once_as_the_schema_says(tmp_path: Path) -> None:
    before = write(tmp_path, 1, SHIRT[:30])
    report_id = write(tmp_path, 2, SHIRT[:90])
    first = apply_gates(str(tmp_path), report_id, NO_DROP)
    again = apply_gates(str(tmp_path), report_id, NO_DROP)
    assert again.rows == first.rows, "also the time at which they were checked"
    [stored] = (tmp_path / "gates").iterdir()
    assert stored.name.startswith(f"{report_id}-")
    table = pq.ParquetFile(stored).read()
    assert table.schema.equals(table_schema("gates"))
    row = table.to_pylist()[0]
    assert (row["check"], row["scope"], row["slice"], row["class_name"]) == (
        "max_drop",
        "overall",
        None,
        None,
    )
    assert (row["limit"], row["observed"]) == (0.0, pytest.approx(60 / 700))
    assert row["observed_low"] < row["observed"] < row["observed_high"]
    assert (row["baseline_id"], row["significance"], row["verdict"]) == (before, 0.05, "fail")


def test_newest_gates_are_read_and_all_of_them_are_one_table(tmp_path: Path) -> None:
    write(tmp_path, 1, SHIRT[:30])
    report_id = write(tmp_path, 2, SHIRT[:90])
    assert read_gates(str(tmp_path), report_id) == []
    apply_gates(str(tmp_path), report_id, NO_DROP)
    floor = GateConfig(min_accuracy=Limits(overall=0.5))
    newest = apply_gates(str(tmp_path), report_id, floor)
    assert read_gates(str(tmp_path), report_id) == list(newest.rows)
    assert read_gates(str(tmp_path), "0" * 16) == []
    in_pandas = pd.read_parquet(tmp_path / "gates")
    assert len(in_pandas) == 4 + 1
    assert in_pandas["gates_digest"].nunique() == 2


def test_gates_on_a_terminal_show_the_worst_first(tmp_path: Path) -> None:
    before = write(tmp_path, 1, SHIRT[:30])
    report_id = write(tmp_path, 2, SHIRT[:90], BAG[:1])
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(
        render_gates(apply_gates(str(tmp_path), report_id, NO_DROP))
    )
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"gates fail  report {report_id}  against {before}"
    starts = [line.split()[:3] for line in lines[4:] if line[:1].isalpha()]
    assert starts == [
        ["fail", "max_drop", "all"],
        ["fail", "max_drop", "Shirt"],
        ["inconclusive", "max_drop", "Bag"],
        ["pass", "max_drop", "Coat"],
    ]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(classes={"Shrit": 0.1}), "max_drop.classes: no class 'Shrit' in the data. Did you mean 'Shirt'?"),
        (
            Limits(slices={"color=red": 0.1}),
            "max_drop.slices: the evaluation makes no slice 'color=red'; it slices by source",
        ),
    ],
)  # fmt: skip
def test_gates_that_cannot_be_evaluated_are_found_before_anything_is_scored(
    tmp_path: Path, limits: Limits, message: str
) -> None:
    made = MadeSlices(slice_by=["source"], list_names=lambda _: NAMES)
    with pytest.raises(ConfigError, match=message):
        check_gates(GateConfig(max_drop=limits), str(tmp_path), CLASSES, made)


def test_gates_that_can_be_evaluated_are_accepted(tmp_path: Path) -> None:
    slices = {"source=web+brightness=q1": 0.1, "corruption=noise/3": 0.1, "source=web": 0.1}
    gates = GateConfig(max_drop=Limits(slices=slices, classes={"Shirt": 0.1}))
    made = MadeSlices(slice_by=["source", "source+brightness"], corruptions=True, list_names=lambda _: NAMES)
    check_gates(gates, str(tmp_path), CLASSES, made)
    unknown = MadeSlices(slice_by=["source", "source+brightness"], corruptions=True)
    check_gates(gates, str(tmp_path), CLASSES, unknown)
    with pytest.raises(ConfigError, match=r"it slices by nothing\. Give --slice-by or --corruptions"):
        check_gates(gates, str(tmp_path), CLASSES, MadeSlices())
    beef = GateConfig(max_drop=Limits(overall=0.1), baseline="beef")
    with pytest.raises(ReportError, match="No report 'beef'"):
        check_gates(beef, str(tmp_path), CLASSES, MadeSlices())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("source=wbe", "max_drop.slices: the data have no slice 'source=wbe'. Did you mean 'source=web'?"),
        ("source=web+brightness=q9", "the data have no slice 'brightness=q9'. Did you mean 'brightness=q"),
        ('source="a+c"+brightness=q1', "the data have no slice 'source=\"a+c\"'. Did you mean"),
        ("corruption=noise/9", "the data have no slice 'corruption=noise/9'. Did you mean"),
        (
            "corruption=nose/3",
            "the data have no slice 'corruption=nose/3'. Did you mean 'corruption=noise/3'?",
        ),
    ],
)
def test_misspelt_slices_are_found_before_anything_is_scored(tmp_path: Path, name: str, message: str) -> None:
    made = MadeSlices(slice_by=["source", "source+brightness"], corruptions=True, list_names=lambda _: NAMES)
    with pytest.raises(ConfigError) as err:
        check_gates(GateConfig(max_drop=Limits(slices={name: 0.1})), str(tmp_path), CLASSES, made)
    assert message in str(err.value)


def test_gate_of_a_thousand_classes_prints_the_worst_and_how_many_more_there_are() -> None:
    known = {
        "check": "min_accuracy",
        "slice": None,
        "limit": 0.5,
        "observed": 0.4,
        "reason": "r",
        "baseline_id": None,
    }
    rows = [
        {**known, "class_name": f"c{index}", "verdict": "fail" if index == 999 else "pass"}
        for index in range(1000)
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(
        render_gates(GateResult(report_id="a", verdict="fail", rows=rows, exit_code=3))
    )
    lines = out.getvalue().splitlines()
    assert "c999" in lines[4]
    assert lines[-1].startswith("900 more checks are in the table gates")
    assert len(lines) == 2 + 2 + 100 + 1
