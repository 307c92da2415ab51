"""Tests the choice of the report that another one is compared with, and that a verdict keeps its baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlib.config import TrainConfig
from cnnlib.errors import ConfigError
from cnnlib.gate_config import GateConfig, Limits
from cnnlib.gates.apply import apply_gates
from cnnlib.gates.baseline import check_baseline, find_baseline
from cnnlib.gates.verdicts import find_compared, read_gates
from cnnlib.reports.read import list_reports, read_report
from cnnlib.storage import files, layout
from tests.checkpoints import write_checkpoint_without_model, write_run_record
from tests.reports_of_rows import with_mistakes, write_rows

LABELS = np.repeat([0, 1, 2], 30)
NO_DROP = GateConfig(max_drop=Limits(overall=0.0))


def write(
    folder: Path, name: str, epoch: int, wrong: int = 0, *, minute: int | None = None, **changes: Any
) -> str:
    """Writes the report of an epoch of a run, evaluated at that minute, of a model that is wrong for some rows."""
    about = {
        "run": name,
        "checkpoint_uri": str(folder / "runs" / name / "checkpoints" / f"epoch-{epoch:04d}"),
        "checkpoint_digest": f"{name} {epoch}",
        "checkpoint_epoch": epoch,
        **changes,
    }
    at = epoch if minute is None else minute
    return write_rows(folder, LABELS, with_mistakes(LABELS, range(wrong)), epoch=at, **about)


def baseline_of(folder: Path, report_id: str, baseline: str = "previous") -> str | None:
    found = find_baseline(str(folder), read_report(str(folder), report_id).record, baseline)
    return None if found is None else found.record.report_id


def page_compares_with(folder: Path, report_id: str) -> str | None:
    record = read_report(str(folder), report_id).record
    found = find_compared(record, list_reports(str(folder)), read_gates(str(folder), report_id))
    return None if found is None else found.report_id


def test_previous_is_the_report_before_it_of_the_same_run(tmp_path: Path) -> None:
    first, second = write(tmp_path, "a", 1), write(tmp_path, "a", 2)
    write(tmp_path, "b", 2, minute=3)
    third = write(tmp_path, "a", 3, minute=4)
    write(tmp_path, "a", 4, minute=5)
    assert baseline_of(tmp_path, third) == page_compares_with(tmp_path, third) == second
    assert baseline_of(tmp_path, second) == first


@pytest.mark.parametrize("baseline", ["previous", "previous-run", "best-of-run", "best", "run:demo"])
@pytest.mark.parametrize("tta", [None, "crops"])
def test_a_report_is_compared_with_one_of_the_same_augmentation(
    tmp_path: Path, baseline: str, tta: str | None
) -> None:
    """Augmented predictions are better: a plain report against them is no drop, and they hide one."""
    run = "other" if baseline in ("previous-run", "run:demo") else "demo"
    found = {}
    for minute, (name, wrong) in enumerate({None: 10, "flips": 1, "crops": 5}.items(), 1):
        evaluation = {"top_k": 1, **({} if name is None else {"tta": name})}
        found[name] = write(tmp_path, "demo", 1, wrong, minute=minute, evaluation=evaluation)
    evaluation = {"top_k": 1, **({} if tta is None else {"tta": tta})}
    epoch = 1 if run == "other" else 2
    report = write(tmp_path, run, epoch, 8, minute=5, evaluation=evaluation)
    assert baseline_of(tmp_path, report, baseline) == found[tta]
    if baseline == "previous":
        assert page_compares_with(tmp_path, report) == found[tta]


@pytest.mark.parametrize("baseline", ["previous", "previous-run", "best", "run:monday"])
def test_a_run_whose_data_had_the_classes_in_another_order_is_compared(tmp_path: Path, baseline: str) -> None:
    monday = write(tmp_path, "monday", 1, recipe="seed")
    mapped = {"top_k": 1, "class_map": "2,1,0"}
    tuesday = write(tmp_path, "tuesday", 1, 45, minute=2, recipe="seed", evaluation=mapped)
    assert baseline_of(tmp_path, tuesday, baseline) == monday
    gate = GateConfig(max_drop=Limits(overall=0.01), baseline=baseline)
    assert apply_gates(str(tmp_path), tuesday, gate).verdict == "fail"


def test_an_epoch_that_is_scored_late_is_not_compared_with_a_later_epoch(tmp_path: Path) -> None:
    first = write(tmp_path, "a", 1)
    write(tmp_path, "a", 3, minute=2)
    second = write(tmp_path, "a", 2, minute=3)
    assert baseline_of(tmp_path, second) == first


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": "seed"},
        {"model": "seed-cnn"},
        {"dataset_fingerprint": "other"},
        {"split": "train"},
        {"evaluation": {"top_k": 1, "pixel_range": "0-1"}},
    ],
)
def test_a_run_of_another_recipe_model_or_data_is_no_baseline(tmp_path: Path, other: dict[str, Any]) -> None:
    """As a demo after a run of the tutorial's recipe: it is no regression, on the page neither."""
    write(tmp_path, "seed", 1, **{"recipe": "demo", **other})
    demo = write(tmp_path, "demo", 1, 20, minute=2, recipe="demo")
    result = apply_gates(str(tmp_path), demo, NO_DROP)
    assert (result.verdict, result.rows[0]["baseline_id"]) == ("pass", None)
    assert page_compares_with(tmp_path, demo) is None


def test_the_first_epoch_of_a_new_run_is_no_regression(tmp_path: Path) -> None:
    """It is compared with what the earlier run had reached then, if that was scored."""
    for epoch, wrong in ((1, 20), (2, 10), (3, 1)):
        write(tmp_path, "old", epoch, wrong)
    new = write(tmp_path, "new", 1, 20, minute=4)
    assert apply_gates(str(tmp_path), new, NO_DROP).verdict == "pass"
    [row] = read_gates(str(tmp_path), new)
    assert row["reason"] == "no drop."
    unscored = write(tmp_path / "other", "old", 3, 1)
    first = write(tmp_path / "other", "new", 1, 20, minute=4)
    assert baseline_of(tmp_path / "other", first) is None
    assert page_compares_with(tmp_path / "other", first) is None
    assert baseline_of(tmp_path / "other", unscored) is None


def test_the_result_of_a_run_is_compared_with_the_last_epoch_of_the_run_before(tmp_path: Path) -> None:
    """A run that stopped early, and is worse for it, does not pass because the other one trained longer."""
    last = write(tmp_path, "old", 12, 1, minute=1)
    run = str(tmp_path / "runs" / "new")
    write_run_record(run, TrainConfig(), "fingerprint", None)
    for epoch in (3, 4):
        write_checkpoint_without_model(run, epoch)
    new = write(tmp_path, "new", 4, 30, minute=2)
    files.write_bytes(layout.run_lease(run), b"{}")
    assert baseline_of(tmp_path, new) is None, "while it is trained, its last epoch is no result"
    files.delete(layout.run_lease(run))
    assert baseline_of(tmp_path, new) == last
    assert apply_gates(str(tmp_path), new, NO_DROP).verdict == "fail"
    assert page_compares_with(tmp_path, new) == last


def test_a_run_of_several_epochs_is_compared_with_the_run_before_if_asked_for(tmp_path: Path) -> None:
    """Its own first epoch is no measure for a scheduled training that went wrong."""
    for epoch, wrong in ((1, 10), (2, 1)):
        write(tmp_path, "good", epoch, wrong)
    run = str(tmp_path / "runs" / "bad")
    write_run_record(run, TrainConfig(), "fingerprint", None)
    for epoch in (1, 2):
        write_checkpoint_without_model(run, epoch)
    first = write(tmp_path, "bad", 1, 40, minute=3)
    last = write(tmp_path, "bad", 2, 39, minute=4)
    assert baseline_of(tmp_path, last) == first
    gate = GateConfig(max_drop=Limits(overall=0.01), baseline="previous-run")
    result = apply_gates(str(tmp_path), last, gate)
    assert result.verdict == "fail"
    assert read_report(str(tmp_path), result.rows[0]["baseline_id"]).record.subject.model_label == "good@2"
    alone = write(tmp_path / "alone", "good", 1)
    assert apply_gates(str(tmp_path / "alone"), alone, gate).rows[0]["reason"] == (
        "no report on the same rows of an earlier run of this recipe and model."
    )


def test_a_run_that_takes_over_a_name_is_compared_with_the_one_before(tmp_path: Path) -> None:
    before = write(tmp_path, "nightly", 1)
    after = write(tmp_path, "nightly", 1, minute=2, checkpoint_digest="trained again")
    assert baseline_of(tmp_path, after) == before


def test_a_model_file_is_compared_with_the_file_that_it_replaced(tmp_path: Path) -> None:
    about = {"run": None, "model": "prod.keras", "checkpoint_uri": "/models/prod.keras"}
    before = write(tmp_path, "-", 1, checkpoint_epoch=None, **about)
    write(tmp_path, "-", 2, checkpoint_epoch=None, **{**about, "model": "other.keras"})
    after = write(tmp_path, "-", 3, checkpoint_epoch=None, **about)
    assert baseline_of(tmp_path, after) == before


def test_other_slices_or_another_k_do_not_hide_the_earlier_report(tmp_path: Path) -> None:
    """And a second report of the same bytes is not its own baseline, which would pass everything."""
    before = write(tmp_path, "a", 1)
    write(tmp_path, "a", 2, 20)
    sliced = write(tmp_path, "a", 2, 20, minute=3, evaluation={"top_k": 3, "slice_by": "source"})
    assert baseline_of(tmp_path, sliced) == before
    assert apply_gates(str(tmp_path), sliced, NO_DROP).verdict == "fail"


def test_a_second_report_of_a_model_does_not_make_it_a_later_one(tmp_path: Path) -> None:
    """As when slices are switched on, and all models are scored again in whatever order."""
    for number, name in ((1, "first"), (2, "second")):
        run = str(tmp_path / "runs" / name)
        write_run_record(run, TrainConfig(), "fingerprint", None)
        write_checkpoint_without_model(run, 1)
        write(tmp_path, name, 1, 40 - 20 * number, minute=number)
    sliced = {"top_k": 1, "slice_by": "source"}
    second = write(tmp_path, "second", 1, 0, minute=3, evaluation=sliced)
    first = write(tmp_path, "first", 1, 20, minute=4, evaluation=sliced)
    assert baseline_of(tmp_path, first) is None
    for name in ("previous", "previous-run", "best"):
        found = baseline_of(tmp_path, second, name)
        assert found is not None
        assert read_report(str(tmp_path), found).record.subject.run == "first"


def test_models_are_in_the_order_of_their_training(tmp_path: Path) -> None:
    """As when a look finds two new runs, and scores them in the order of their names."""
    times = {"nightly-9": "2026-11-20T01:00:00+00:00", "nightly-10": "2026-11-21T01:00:00+00:00"}
    ids = {}
    for minute, (name, wrong) in enumerate((("nightly-10", 40), ("nightly-9", 10)), 1):
        run = str(tmp_path / "runs" / name)
        write_run_record(run, TrainConfig(), "fingerprint", None)
        write_checkpoint_without_model(run, 1)
        started = {"run_started_at": times[name], "trained_at": times[name]}
        ids[name] = write(tmp_path, name, 1, wrong, minute=minute, **started)
    assert baseline_of(tmp_path, ids["nightly-9"]) is None
    assert baseline_of(tmp_path, ids["nightly-10"]) == ids["nightly-9"]
    assert apply_gates(str(tmp_path), ids["nightly-10"], NO_DROP).verdict == "fail"


def test_epochs_of_two_runs_with_one_name_are_not_mixed(tmp_path: Path) -> None:
    for started, first in (("2026-11-20", 1), ("2026-11-21", 4)):
        for epoch in (1, 2, 3):
            changes = {
                "run_started_at": f"{started}T00:00:00+00:00",
                "trained_at": f"{started}T0{epoch}:00:00+00:00",
                "checkpoint_digest": f"{started} {epoch}",
            }
            if started == "2026-11-20" or epoch == 3:
                last = write(tmp_path, "nightly", epoch, minute=first + epoch, **changes)
    found = baseline_of(tmp_path, last)
    assert found is not None
    baseline = read_report(str(tmp_path), found).record.subject
    assert (baseline.run_started_at, baseline.checkpoint_epoch) == ("2026-11-20T00:00:00+00:00", 3)


def test_other_choices(tmp_path: Path) -> None:
    best_of_all = write(tmp_path, "other", 1, 0, recipe="seed")
    best, worse = write(tmp_path, "a", 1, 3, minute=2), write(tmp_path, "a", 2, 9, minute=3)
    now = write(tmp_path, "a", 3, 5, minute=4)
    last = write(tmp_path, "other", 4, 7, minute=5)
    found = {
        name: baseline_of(tmp_path, now, name) for name in ("previous", "best-of-run", "best", "run:other")
    }
    assert found == {"previous": worse, "best-of-run": best, "best": best_of_all, "run:other": last}
    assert baseline_of(tmp_path, now, best[:12]) == best


@pytest.mark.parametrize("baseline", ["previous", "best-of-run", "best", "run:b"])
def test_a_verdict_keeps_the_baseline_that_it_began_with(tmp_path: Path, baseline: str) -> None:
    before = write(tmp_path, "b" if baseline == "run:b" else "a", 1, 3)
    report_id = write(tmp_path, "a", 2, 3, minute=3)
    gate = GateConfig(max_drop=Limits(overall=0.0), baseline=baseline)
    first = apply_gates(str(tmp_path), report_id, gate)
    assert {row["baseline_id"] for row in first.rows} == {before}
    # Reports of a scheduler that was late, of a model that is better, and of one that is newer.
    write(tmp_path, "a", 1, 1, minute=2, checkpoint_digest="late")
    write(tmp_path, "b", 7, 0, minute=1)
    assert apply_gates(str(tmp_path), report_id, gate).rows == first.rows


def test_a_run_that_is_the_baseline_must_have_a_report(tmp_path: Path) -> None:
    report_id = write(tmp_path, "a", 1)
    subject = read_report(str(tmp_path), report_id).record.subject
    with pytest.raises(ConfigError, match=r"baseline: no report of a run 'production' in .*Known: a\."):
        check_baseline(str(tmp_path), "run:production", [subject])
    with pytest.raises(ConfigError, match="Evaluate that run first"):
        check_baseline(str(tmp_path / "none"), "run:production", [])
    check_baseline(str(tmp_path / "none"), "run:a", [subject])
    gate = GateConfig(max_drop=Limits(overall=0.0), baseline="run:b")
    [row] = apply_gates(str(tmp_path), report_id, gate).rows
    assert (row["verdict"], row["reason"]) == ("inconclusive", "no report of the run b on the same rows.")
