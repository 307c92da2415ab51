"""The stages: programs that exist, targets that were promised, peers that use nothing of ours."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest

from cnnlib.bench import machine, stages
from cnnlib.bench.flops import SEED_CNN, training_flops
from cnnlib.bench.harness import Comparison
from cnnlib.bench.programs import REPOSITORY
from cnnlib.bench.stages import STAGES, Setting, build_stage
from cnnlib.data import shards
from cnnlib.errors import ConfigError

SETTING = Setting(threads=2, batch_sizes=(32, 64), rows=None)
PEERS = sorted((REPOSITORY / "cnnlib" / "bench" / "peers").glob("*.py"))


@pytest.fixture(autouse=True)
def cpu_with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda: True)


def targets(stage: str) -> dict[str, set[tuple[str, float | None]]]:
    found: dict[str, set[tuple[str, float | None]]] = {}
    for each in build_stage(stage, SETTING):
        found.setdefault(each.peer.name.partition(",")[0], set()).add((each.goal, each.target))
    return found


def test_targets_are_those_that_were_promised() -> None:
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
    assert targets("evaluate") == {"Keras 3 evaluate": {("at least", 3.0)}}
    assert targets("prepare") == {"a straight loop with pyarrow": {("at least", 1.0)}}


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


def test_both_of_a_row_read_the_same_number_of_rows() -> None:
    for stage in STAGES:
        for each in build_stage(stage, Setting(threads=2, batch_sizes=(32,), rows=960)):
            assert _input_rows(each) <= {"960"}


def _input_rows(each: Comparison) -> set[str]:
    words = " ".join((*each.ours.arguments, *each.peer.arguments))
    return set(re.findall(r"\{\w+:(\d+)\}", words))


def test_what_needs_bfloat16_is_not_run_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda: False)
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


def test_the_straight_loop_writes_as_many_shards_as_we_do() -> None:
    for rows in (600, 10_000, 60_000):
        ours = shards._rows_per_shard(rows, 28 * 28, None)
        assert stages._num_shards(rows) == math.ceil(rows / ours)


@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
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


def test_the_flops_are_those_of_the_model() -> None:
    biases = 64 + 32 + 32 + 16 + 16 + 8 + 128 + 10
    assert sum(math.prod(layer.kernel) for layer in SEED_CNN) + biases == 47_090
    assert training_flops(SEED_CNN) == 106_749_696


def test_an_unknown_stage_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'step'"):
        build_stage("stepp", SETTING)
