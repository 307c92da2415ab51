"""The arithmetic and the order of a benchmark; what it measures is measured by running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlib.bench import harness
from cnnlib.bench.stages import STAGES, build_stage
from cnnlib.errors import CnnlibError, ConfigError

COMPARISON = harness.Comparison(
    stage="step", case="case", ours=("ours",), peer=harness.Peer(name="peer", command=("theirs",)), target=1.4
)


def test_the_ratio_is_taken_pair_by_pair() -> None:
    # A machine that halves its speed between the pairs changes no ratio.
    ratio = harness.summarize(COMPARISON, [300.0, 150.0, 150.0], [200.0, 100.0, 50.0])
    assert (ratio.ratio_median, ratio.ratio_min, ratio.ratio_max, ratio.n) == (1.5, 1.5, 3.0, 3)
    assert ratio.met


def test_a_median_below_the_target_is_not_met() -> None:
    assert not harness.summarize(COMPARISON, [139.0], [100.0]).met


def test_programs_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(harness, "run_program", lambda command: order.append(command[0]) or 1.0)
    assert harness.compare(COMPARISON, pairs=3).n == 3
    assert order == ["ours", "theirs"] * 3


def test_a_program_reports_on_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fast.py").write_text("print('noise'); print('{\"images_per_s\": 12.5}')")
    (tmp_path / "broken.py").write_text("raise SystemExit('out of luck')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert harness.run_program(["fast"]) == 12.5
    with pytest.raises(CnnlibError, match="out of luck"):
        harness.run_program(["broken"])


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_names_programs_that_exist(stage: str) -> None:
    for comparison in build_stage(stage, threads=2):
        for module in (comparison.ours[0], comparison.peer.command[0]):
            assert (Path(harness.__file__).parents[2] / f"{module.replace('.', '/')}.py").is_file()
        assert comparison.target > 0


def test_an_unknown_stage_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'step'"):
        build_stage("stepp", threads=2)
