"""How often gates fail a model that is as good as the one before: 400 reports, written and judged as in a run."""

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
    """Both models of a pair are as often right, some rows being harder for both; floors are their true accuracy."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 2)  # of figures that no gate looks at
    generator = np.random.default_rng(20261122)
    gates = GateConfig(
        min_accuracy=Limits(overall=0.8, every_class=0.8), max_drop=Limits(overall=0.0, every_class=0.0)
    )
    labels = np.repeat([0, 1, 2], 100)
    found = []
    for pair in range(200):
        chance = generator.beta(4, 1, size=300)  # of a row to be right, 0.8 in the mean
        for epoch in (1, 2):
            wrong = np.flatnonzero(generator.random(300) > chance)
            report_id = write_rows(tmp_path / str(pair), labels, with_mistakes(labels, wrong), epoch=epoch)
        found.append(apply_gates(str(tmp_path / str(pair)), report_id, gates).verdict)
    assert found.count("fail") <= 0.05 * 200
    assert found.count("fail") + found.count("inconclusive") > 100, (
        "noise must be seen, and told from a failure"
    )
