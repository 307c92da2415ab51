"""Tests the stages: their programs exist, their targets are the published ones, and peers use nothing of ours."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path

import pytest

from cnnlib.bench import machine
from cnnlib.bench.flops import SEED_CNN, training_flops
from cnnlib.bench.harness import Comparison
from cnnlib.bench.programs import REPOSITORY, Finished, Line, Program, reported
from cnnlib.bench.record import read_record
from cnnlib.bench.stages import data, step
from cnnlib.bench.stages.registry import STAGES, build_stage
from cnnlib.bench.stages.setting import Setting
from cnnlib.dataset import writer
from cnnlib.errors import ConfigError
from jobs import bench

SETTING = Setting(threads=2, batch_sizes=(32, 64), rows=None)
PEERS_FOLDER = REPOSITORY / "cnnlib" / "bench" / "peers"
PEERS = sorted(PEERS_FOLDER.rglob("*.py"))


@pytest.fixture(autouse=True)
def cpu_with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "cpu_has_bfloat16", lambda: True)


def targets(stage: str) -> dict[str, set[tuple[str, float | None]]]:
    found: dict[str, set[tuple[str, float | None]]] = {}
    for each in build_stage(stage, SETTING):
        found.setdefault(each.peer.name.partition(",")[0], set()).add((each.goal, each.target))
    return found


def test_targets_are_the_published_ones() -> None:
    assert targets("step") == {
        "Keras 3 fit": {("at least", 1.4), ("at least", 2.6)},
        "PyTorch eager": {("at least", 1.7)},
        "float32 peak": {("at least", None)},
        "bfloat16 peak": {("at least", None)},
    }
    assert targets("train") == {
        "Ray's docs: TensorflowTrainer": {("at least", 5.0)},
        "ours": {("at least", 0.95)},
    }
    assert targets("train-images") == {"ours": {("at least", None)}}
    assert targets("job") == {
        "Ray's docs: TensorflowTrainer": {("at least", 3.5)},
        "plain Keras 3 script": {("at least", 1.5)},
    }
    assert targets("start") == {"import tensorflow": {("at most", 3.0)}}
    assert targets("ingest") == {
        "Ray Data to_tf": {("at least", 10.0)},
        "Ray Data iter_tf_batches": {("at least", 10.0)},
        "tf.data": {("at least", 1.0)},
    }
    assert targets("gpu") == {
        "Keras 3 fit": {("at least", 1.5), ("at least", None)},
        "PyTorch eager": {("at least", None)},
        "tf.data": {("at least", 1.0)},
    }
    assert targets("evaluate") == {
        "Keras 3 evaluate": {("at least", 3.0)},
        "import tensorflow": {("at most", 2.2)},
    }
    assert targets("prepare") == {"a straight loop with pyarrow": {("at least", 1.0)}}
    assert targets("prepare-images") == {
        "a straight loop with Pillow": {("at least", 3.0)},
        "Ray Data read_images": {("at least", 2.0)},
    }


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_names_programs_that_exist(stage: str) -> None:
    for each in build_stage(stage, SETTING):
        for program in (each.ours, each.peer):
            flag, module = program.arguments[:2]
            assert flag == "-c" or (REPOSITORY / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_no_two_rows_of_a_stage_are_the_same(stage: str) -> None:
    rows = [(each.case, each.peer.name) for each in build_stage(stage, SETTING)]
    assert len(set(rows)) == len(rows)


def test_both_programs_of_a_row_read_the_same_number_of_rows() -> None:
    for stage in STAGES:
        for each in build_stage(stage, Setting(threads=2, batch_sizes=(32,), rows=960)):
            assert _input_rows(each) <= {"960"}


def _input_rows(each: Comparison) -> set[str]:
    words = " ".join((*each.ours.arguments, *each.peer.arguments))
    return set(re.findall(r"\{\w+:(\d+)\}", words))


def test_what_needs_bfloat16_is_not_run_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(machine, "why_no_torch", lambda: None)
    rows = build_stage("step", SETTING)
    assert not [each.peer.name for each in rows if "bfloat16 peak" in each.peer.name]
    for each in rows:
        needs = "ours mixed_bfloat16" in each.case or "bfloat16" in each.peer.name
        assert ("no bfloat16" in str(each.not_run)) is needs


def test_without_pytorch_its_rows_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "PEERS_PYTHON", tmp_path / "python")
    for each in build_stage("step", SETTING):
        missing = each.not_run == "PyTorch is not installed; see make bench-peers"
        assert missing is ("PyTorch" in each.peer.name)


def test_the_pyarrow_loop_writes_as_many_shards_as_we_do() -> None:
    for rows in (600, 10_000, 60_000):
        ours = writer.rows_per_shard(rows, 28 * 28, None)
        assert data._num_shards(rows) == math.ceil(rows / ours)


@pytest.mark.parametrize("path", PEERS, ids=lambda path: str(path.relative_to(PEERS_FOLDER)))
def test_peers_use_nothing_of_ours_but_the_model(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            imported.add(str(node.module))
    ours = {name for name in imported if name.split(".")[0] in ("cnnlib", "jobs")}
    assert ours <= {"cnnlib.models.cnn", "cnnlib.bench.peers.idx"}


def test_the_flops_match_the_model() -> None:
    assert SEED_CNN.parameters == 47_090
    assert training_flops(SEED_CNN) == 106_749_696


def test_an_unknown_stage_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'step'"):
        build_stage("stepp", SETTING)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["stepp"], "Did you mean 'step'"),
        (["--pairs", "0"], "pairs must be at least 1"),
        (["--rows", "60001"], "rows must be at most 60000"),
        (["--batch-sizes", "33"], "batch_sizes must be even"),
    ],
)
def test_an_invalid_flag_exits_with_code_two(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    try:
        code = bench.main([*flags, "--output", str(tmp_path / "record")])
    except SystemExit as stopped:  # raised by the parser
        code = stopped.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "record").exists()


def test_the_job_prints_and_records_its_rows_and_fails_if_a_program_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def program(name: str, code: str) -> Program:
        return Program(name=name, arguments=("-I", "-S", "-c", code), measurement=reported("images_per_s"))

    fast, slow = (
        program(name, f"print('{{\"images_per_s\": {rate}}}')") for name, rate in (("a", 3), ("b", 2))
    )
    broken = program("c", "raise SystemExit(3)")

    def build(setting: Setting) -> list[Comparison]:
        return [
            Comparison(stage="step", case="tiny", ours=fast, peer=peer, unit="images/s", target=1.4)
            for peer in (slow, broken)
        ]

    monkeypatch.setitem(STAGES, "step", build)
    flags = ["step", "--pairs", "2", "--json", "--output", str(tmp_path)]
    assert bench.main(flags) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [(row["peer"], row["ratio_median"], row["n"], row["met"]) for row in rows] == [
        ("b", 1.5, 2, True),
        ("c", None, 0, None),
    ]
    (page,) = tmp_path.glob("engine_*.md")
    assert "**1.50**" in page.read_text()
    assert "failed: c failed with exit code 3" in page.read_text()
    assert [entry.row.peer for entry in read_record(str(page.with_suffix(".parquet")))] == ["b", "c"]


def test_only_programs_of_the_gpu_stage_can_see_a_gpu() -> None:
    for stage in STAGES:
        for each in build_stage(stage, SETTING):
            assert {each.ours.gpu, each.peer.gpu} == ({"0"} if stage == "gpu" else {""})


def test_without_a_gpu_its_rows_say_so_and_with_one_they_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "why_no_torch", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all("no NVIDIA GPU" in str(each.not_run) for each in build_stage("gpu", SETTING))
    listing = tmp_path / "nvidia-smi"
    listing.write_text("#!/bin/sh\necho 'GPU 0: some (UUID: 1)'\n")
    listing.chmod(0o755)
    rows = build_stage("gpu", SETTING)
    assert [each.not_run for each in rows] == [None] * len(rows)
    assert sum(each.fraction is not None for each in rows) == 2


def test_scoring_is_taken_off_the_command_of_an_evaluation() -> None:
    (command,) = (each for each in build_stage("evaluate", SETTING) if each.goal == "at most")
    result = Line(text='{"reports": [{"seconds": 2.5}]}', at_s=11.0, is_result=True)
    assert command.ours.measurement(Finished(lines=(result,), seconds=12.0)) == 9.5
