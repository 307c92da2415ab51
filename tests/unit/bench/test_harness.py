"""Tests the arithmetic and the order of a benchmark with small real programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnlib.bench import machine, programs
from cnnlib.bench.harness import Comparison, Fraction, Pair, Row, compare, pair_ratio
from cnnlib.bench.inputs import FRESH, Inputs
from cnnlib.bench.programs import Program, reported, until_line, whole_command
from cnnlib.errors import CnnlibError, ConfigError


def program(code: str, *arguments: str, name: str = "program", **fields: object) -> Program:
    """Builds a program that starts within milliseconds, because it loads no site packages."""
    return Program(
        name=name,
        arguments=("-I", "-S", "-c", code, *arguments),
        measurement=fields.pop("measurement", reported("images_per_s")),
        **fields,
    )


def prints(value: float, name: str = "program") -> Program:
    return program(f"print('noise'); print('{{\"images_per_s\": {value}}}')", name=name)


def comparison(ours: Program, peer: Program, **fields: object) -> Comparison:
    return Comparison(
        **{"stage": "step", "case": "a case", "unit": "images/s", "target": 1.4, **fields},
        ours=ours,
        peer=peer,
    )


@pytest.mark.parametrize(
    ("unit", "goal", "expected"),
    [
        ("images/s", "at least", 2.0),
        ("GFLOP/s", "at least", 2.0),
        ("s", "at least", 0.5),
        ("s", "at most", 2.0),
        ("share", "at most", 2.0),
    ],
)
def test_a_ratio_above_one_means_that_ours_is_better_unless_the_goal_is_at_most(
    unit: str, goal: str, expected: float
) -> None:
    each = comparison(prints(0), prints(0), unit=unit, goal=goal)
    assert pair_ratio(each, 10.0, 5.0) == expected


def row(*ratios: float, goal: str = "at least", target: float | None = 1.4) -> Row:
    pairs = tuple(Pair(ratio, 1.0, ratio, machine.utc_now()) for ratio in ratios)
    return Row(stage="s", case="c", peer="p", unit="images/s", goal=goal, target=target, pairs=pairs)


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (row(1.0, 1.4, 9.0), True),
        (row(1.39), False),
        (row(3.0, goal="at most", target=3.0), True),
        (row(3.1, goal="at most", target=3.0), False),
        (row(5.0, target=None), None),
        (row(), None),
    ],
)
def test_the_median_ratio_decides(found: Row, met: bool | None) -> None:
    assert found.met is met


def test_programs_run_in_turn_each_in_a_fresh_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import os, sys; open(sys.argv[1], 'a').write(f'{sys.argv[2]} {os.getpid()}\\n');"
        "print('{\"images_per_s\": 3}')"
    )
    ours, peer = program(code, str(log), "A"), program(code, str(log), "B", name="peer")
    (found,) = compare(comparison(ours, peer), 3, Inputs(tmp_path))
    order, pids = zip(*(line.split() for line in log.read_text().splitlines()), strict=True)
    assert order == ("A", "B") * 3
    assert len(set(pids)) == 6
    assert found.to_json() == {
        "stage": "step",
        "case": "a case",
        "peer": "peer",
        "ratio_median": 1.0,
        "ratio_min": 1.0,
        "ratio_max": 1.0,
        "ours_median": 3.0,
        "peer_median": 3.0,
        "unit": "images/s",
        "n": 3,
        "target": 1.4,
        "goal": "at least",
        "met": False,
        "not_run": None,
    }


def test_a_measurement_may_be_nested_and_scaled(tmp_path: Path) -> None:
    each = program('print(\'{"metrics": {"rate": 2}}\')', measurement=reported("metrics.rate", scale=1.5))
    assert each.measurement(programs.run_program(each)) == 3.0


def test_seconds_are_those_of_the_whole_command_or_until_a_line_comes() -> None:
    code = "import sys, time; print('first-step step=1', file=sys.stderr, flush=True); time.sleep(1)"
    done = programs.run_program(program(code))
    first, whole = until_line("first-step ", "train step=")(done), whole_command(done)
    assert 0 < first < whole - 0.3  # of one second; the machine may be busy when the line arrives
    # No line contains the first mark, so the second counts.
    assert until_line("never", "step=1")(done) == first
    with pytest.raises(CnnlibError, match="no line with 'never'"):
        until_line("never")(done)


def test_a_fraction_is_a_second_row_from_the_same_runs(tmp_path: Path) -> None:
    ours = program('print(\'{"images_per_s": 3, "wait": 0.01}\')')
    fraction = Fraction(case="waiting", of="the time", measurement=reported("wait"), target=0.02)
    rate, waiting = compare(comparison(ours, prints(1.0), fraction=fraction), 2, Inputs(tmp_path))
    assert (rate.ratio, rate.met) == (3.0, True)
    assert (waiting.case, waiting.peer, waiting.unit, waiting.goal) == (
        "waiting",
        "the time",
        "share",
        "at most",
    )
    assert (waiting.ratio, waiting.met, len(waiting.pairs)) == (0.01, True, 2)


def test_a_row_that_cannot_run_says_why_and_starts_nothing(tmp_path: Path) -> None:
    missing = prints(1.0)
    (found,) = compare(comparison(missing, missing, not_run="PyTorch is missing"), 2, Inputs(tmp_path))
    assert (found.not_run, found.met, found.ratio, found.pairs) == ("PyTorch is missing", None, None, ())
    assert not found.failed


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (program("raise SystemExit('out of luck')"), "exit code 1: out of luck"),
        (program("print('no JSON')"), "printed no measurement"),
        (program("print('{}')"), "printed no measurement: KeyError"),
        (program(""), "printed no measurement"),
    ],
)
def test_a_program_that_fails_makes_a_row_with_the_reason(
    broken: Program, message: str, tmp_path: Path
) -> None:
    (found,) = compare(comparison(prints(1.0), broken), 2, Inputs(tmp_path))
    assert found.failed
    assert message in str(found.not_run)


def test_a_program_that_runs_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_TIMEOUT_S", 0.3)
    with pytest.raises(CnnlibError, match="did not end within"):
        programs.run_program(program("import time; time.sleep(60)"))


def test_every_run_has_its_own_folder_which_is_deleted_afterwards(tmp_path: Path) -> None:
    code = "import os, sys; os.mkdir(sys.argv[1]); print(sys.argv[1])"
    inputs, found = Inputs(tmp_path), []
    for _ in range(2):
        with inputs.fill(program(code, FRESH)) as filled:
            found.append(programs.run_program(filled).lines[-1].text)
    assert found[0] != found[1]
    assert not any(Path(path).exists() for path in found)


def test_inputs_are_written_once(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    folder = Path(inputs.find("{idx:30}"))
    assert len(list(folder.iterdir())) == 4
    before = folder.stat().st_mtime_ns
    assert inputs.find("{idx:30}") == str(folder)
    assert folder.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"Unknown input. Received \{cake:30\}"):
        inputs.find("{cake:30}")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
def test_programs_are_pinned_to_the_cores_of_the_harness() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert machine.pin(1) == 1
        done = programs.run_program(program("import os; print(len(os.sched_getaffinity(0)))"))
        assert done.result == 1
    finally:
        os.sched_setaffinity(0, before)
    assert machine.pin(None) == len(before)
