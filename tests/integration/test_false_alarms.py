"""Tests how often gates fail a model that is as good as its baseline, over 400 written reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnlib.gate_config import GateConfig, Limits
from cnnlib.gates.apply import apply_gates
from cnnlib.metrics import bootstrap
from tests.reports_of_rows import with_mistakes, write_rows


@pytest.mark.slow
def test_false_alarms_over_200_pairs_of_equal_models_stay_at_the_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both models of a pair have the same accuracy, and some rows are harder for both; the minimum is that accuracy."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 2)  # for metrics that no gate looks at
    generator = np.random.default_rng(20261122)
    gates = GateConfig(
        min_accuracy=Limits(overall=0.8, every_class=0.8), max_drop=Limits(overall=0.0, every_class=0.0)
    )
    labels = np.repeat([0, 1, 2], 100)
    verdicts = []
    for pair in range(200):
        right = generator.beta(4, 1, size=300)  # the probability that each row is right, 0.8 on average
        for epoch in (1, 2):
            wrong = np.flatnonzero(generator.random(300) > right)
            report_id = write_rows(tmp_path / str(pair), labels, with_mistakes(labels, wrong), epoch=epoch)
        verdicts.append(apply_gates(str(tmp_path / str(pair)), report_id, gates).verdict)
    assert verdicts.count("fail") <= 0.05 * 200
    assert verdicts.count("fail") + verdicts.count("inconclusive") > 100, (
        "noise must show, and be distinguished from a failure"
    )
