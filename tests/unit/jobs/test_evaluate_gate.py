"""Tests `jobs.evaluate --gate` on existing reports: its verdicts and exit codes, and that nothing is scored again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlib.config import TrainConfig
from cnnlib.dataset.manifest import Manifest
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation import run as evaluation
from cnnlib.evaluation.plan import plan_evaluation
from cnnlib.evaluation.target import find_target
from cnnlib.gates.selection import MadeSlices, select_gates
from cnnlib.recipes import RECIPES
from jobs import evaluate
from tests.checkpoints import write_checkpoint_without_model, write_run_record
from tests.datasets import write_dataset_without_ray
from tests.reports_of_rows import write_rows

GATES = "[max_drop]\noverall = 0\n"
Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A dataset of 23 test rows, a run of the seed recipe with 3 epochs, and a gate that allows no drop."""
    manifest = write_dataset_without_ray(str(tmp_path / "data"))
    run = str(tmp_path / "runs" / "seed")
    write_run_record(run, TrainConfig(), manifest.fingerprint, "seed")
    for epoch in (1, 2, 3):
        write_checkpoint_without_model(run, epoch)
    (tmp_path / "gates.toml").write_text(GATES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation.cluster, "connect", lambda *_: pytest.fail("something was scored"))
    return manifest


@pytest.fixture
def write_report(manifest: Manifest, tmp_path: Path) -> Callable[[int, int], str]:
    """Writes the report of an epoch of the run, in which the first rows are predicted wrong."""

    def write(epoch: int, wrong: int) -> str:
        target = find_target(f"{tmp_path}/runs/seed@{epoch}", None)
        subject = replace(target, recipe="seed").subject(EvaluateConfig(), str(tmp_path / "data"), manifest)
        about = {name: getattr(subject, name) for name in subject.to_document()}
        labels = np.repeat(np.arange(manifest.num_classes), manifest.split("test").rows_per_class)
        predictions = np.where(np.arange(len(labels)) < wrong, (labels + 1) % manifest.num_classes, labels)
        return write_rows(tmp_path / "reports", labels, predictions, epoch=epoch, **about)

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def main(*words: str) -> tuple[int, dict[str, Any], str]:
        code = evaluate.main(["--data", "data", "--reports", "reports", "--json", *words])
        captured = capsys.readouterr()
        return code, json.loads(captured.out or "{}"), captured.err

    return main


def checkpoint(*epochs: int) -> list[str]:
    return ["--checkpoint", *(f"runs/seed@{epoch}" for epoch in epochs)]


def test_without_gates_the_exit_code_is_0(write_report: Any, run: Run) -> None:
    write_report(1, 20)
    code, result, _ = run(*checkpoint(1))
    assert (code, result["gates"], result["reports"][0]["new"]) == (0, [], False)


@pytest.mark.parametrize(
    ("wrong", "code", "verdict"), [(1, 0, "pass"), (3, 4, "inconclusive"), (18, 3, "fail")]
)
def test_gate_of_a_report_that_exists_is_evaluated_without_scoring(
    write_report: Any, run: Run, wrong: int, code: int, verdict: str
) -> None:
    before, evaluated = write_report(1, 1), write_report(2, wrong)
    exit_code, result, err = run(*checkpoint(2), "--gate", "gates.toml")
    assert exit_code == code
    [found] = result["gates"]
    assert (found["report_id"], found["verdict"]) == (evaluated, verdict)
    assert found["checks"][0]["baseline_id"] == before
    assert f"gates {verdict}  report {evaluated}" in err, "with --json the tables go to stderr"


def test_worst_of_several_checkpoints_decides(write_report: Any, run: Run) -> None:
    for epoch, wrong in ((1, 1), (2, 18), (3, 1)):
        write_report(epoch, wrong)
    code, result, _ = run(*checkpoint(1, 2, 3), "--gate", "gates.toml")
    assert code == 3
    assert [each["verdict"] for each in result["gates"]] == ["pass", "fail", "pass"]
    assert run(*checkpoint(1, 3), "--gate", "gates.toml")[0] == 0


def test_file_may_name_other_exit_codes(write_report: Any, run: Run, tmp_path: Path) -> None:
    write_report(1, 1)
    write_report(2, 18)
    (tmp_path / "gates.toml").write_text("fail_exit_code = 42\n" + GATES)
    assert run(*checkpoint(2), "--gate", "gates.toml")[0] == 42


def test_a_report_without_a_verdict_of_this_gate_is_pending(write_report: Any, run: Run) -> None:
    """As after a crash between report and verdict, or with a gate that is new."""
    ids = [write_report(epoch, wrong) for epoch, wrong in ((1, 1), (2, 18), (3, 18))]
    code, result, _ = run("--pending", "runs", "--gate", "gates.toml")
    # Of checkpoints with equal scores the first is the best; the second is neither best nor last.
    assert [each["report_id"] for each in result["gates"]] == [ids[0], ids[2]]
    assert (code, len(result["reports"])) == (0, 3)
    code, result, _ = run("--pending", "runs", "--gate", "gates.toml")
    assert (code, result["gates"], result["reports"]) == (0, [], [])


def test_every_checkpoint_is_judged_if_asked_for(write_report: Any, run: Run) -> None:
    for epoch, wrong in ((1, 1), (2, 18), (3, 18)):
        write_report(epoch, wrong)
    assert run("--pending", "runs", "--gate", "gates.toml")[0] == 0
    code, result, _ = run("--pending", "runs", "--gate", "gates.toml", "--gate-every")
    assert (code, [each["verdict"] for each in result["gates"]]) == (3, ["pass", "fail", "pass"])


def test_a_failed_gate_stays_failed_until_a_later_run_replaces_the_model(
    write_report: Any, run: Run, tmp_path: Path, manifest: Manifest
) -> None:
    """A job that is tried again, or the next look of a schedule, does not turn it green."""
    for epoch, wrong in ((1, 1), (2, 1), (3, 18)):
        write_report(epoch, wrong)
    for _ in range(2):
        code, result, err = run("--pending", "runs", "--gate", "gates.toml")
        assert (code, [each["verdict"] for each in result["gates"]][-1]) == (3, "fail")
        assert "gates fail" in err
    later = str(tmp_path / "runs" / "seed2")
    write_run_record(later, TrainConfig(), manifest.fingerprint, "seed")
    write_checkpoint_without_model(later, 1)
    target = find_target(f"{later}@1", None)
    subject = replace(target, recipe="seed").subject(EvaluateConfig(), str(tmp_path / "data"), manifest)
    about = {name: getattr(subject, name) for name in subject.to_document()}
    labels = np.repeat(np.arange(manifest.num_classes), manifest.split("test").rows_per_class)
    write_rows(tmp_path / "reports", labels, labels, epoch=9, **about)
    assert run("--pending", "runs", "--gate", "gates.toml")[0] == 3, "said once more"
    assert run("--pending", "runs", "--gate", "gates.toml")[0] == 0


def test_nothing_is_left_to_do_for_a_checkpoint_whose_outputs_are_mapped(
    run: Run, tmp_path: Path, manifest: Manifest
) -> None:
    """Classes in another order, and renamed ones, make reports of other ids than the checkpoint's own."""
    runs, names = tmp_path / "mapped", list(manifest.class_names)
    for name, classes in (("reversed", names[::-1]), ("renamed", ["Mantel", *names[:0:-1]]), ("same", names)):
        write_run_record(str(runs / name), TrainConfig(), manifest.fingerprint, "seed")
        write_checkpoint_without_model(str(runs / name), 1, class_names=classes)
    config = EvaluateConfig(class_map=(f"Mantel={names[0]}",))
    places = (str(tmp_path / "data"), str(tmp_path / "reports"))
    plan = plan_evaluation(config, *places, pending_runs_uri=str(runs))
    assert {target.run: target.columns for target in plan.targets} == {
        "reversed": (2, 1, 0),
        "renamed": (0, 2, 1),
        "same": None,
    }
    labels = np.repeat(np.arange(manifest.num_classes), manifest.split("test").rows_per_class)
    for target in plan.targets:
        subject = plan.subject(target)
        about = {name: getattr(subject, name) for name in subject.to_document()}
        write_rows(tmp_path / "reports", labels, labels, epoch=1, **about)
    words = ["--pending", "mapped", "--class-map", *config.class_map, "--gate", "gates.toml"]
    assert len(run(*words)[1]["reports"]) == 3
    code, result, _ = run(*words)
    assert (code, result["reports"], result["gates"]) == (0, [], [])


def test_a_checkpoint_that_becomes_the_last_one_is_judged(
    write_report: Any, run: Run, tmp_path: Path
) -> None:
    ids = [write_report(epoch, wrong) for epoch, wrong in ((1, 1), (2, 18), (3, 1))]
    assert run("--pending", "runs", "--gate", "gates.toml")[0] == 0
    shutil.rmtree(tmp_path / "runs" / "seed" / "checkpoints" / "epoch-0003")
    code, result, _ = run("--pending", "runs", "--gate", "gates.toml")
    assert (code, [each["report_id"] for each in result["gates"]]) == (3, [ids[1]])


def test_flags_for_pending_are_refused_without_it(write_report: Any, run: Run) -> None:
    write_report(1, 1)
    code, _, stderr = run(*checkpoint(1), "--gate-every")
    assert (code, stderr.strip()) == (2, "error: --gate-every and --retry need --pending.")


def test_a_damaged_report_keeps_no_other_from_its_verdict(
    write_report: Any, run: Run, tmp_path: Path
) -> None:
    damaged, good = write_report(1, 1), write_report(3, 1)
    (tmp_path / "reports" / "manifests" / f"{damaged}.json").write_text("{ no JSON")
    code, result, stderr = run(*checkpoint(1, 3), "--gate", "gates.toml")
    assert code == 5
    assert [each["report_id"] for each in result["gates"]] == [good]
    [left_out] = result["left_out"]
    assert left_out["checkpoint"].endswith("runs/seed/checkpoints/epoch-0001")
    assert "epoch-0001 was left out: " in stderr
    assert "is not JSON" in stderr
    assert run(*checkpoint(1))[0] == 2
    (tmp_path / "gates.toml").write_text("fail_exit_code = 0\n[min_accuracy]\noverall = 1.0\n")
    code, result, _ = run(*checkpoint(1, 3), "--gate", "gates.toml")
    assert (code, [each["verdict"] for each in result["gates"]]) == (5, ["fail"])


def test_gates_of_the_recipe_are_those_of_the_run(write_report: Any, run: Run, tmp_path: Path) -> None:
    report_id = write_report(1, 18)
    plan = plan_evaluation(
        EvaluateConfig(), str(tmp_path / "data"), str(tmp_path / "reports"), checkpoints=["runs/seed@1"]
    )
    subjects = [plan.subject(target) for target in plan.targets]
    assert select_gates("recipe", subjects, plan.reports_uri, made=MadeSlices()) == {
        report_id: RECIPES["seed"].gates
    }
    code, result, _ = run(*checkpoint(1), "--gate", "recipe")
    assert (code, result["gates"][0]["verdict"]) == (3, "fail")
