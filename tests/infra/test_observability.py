"""Tests that rules, dashboard and drop-in use existing gauges, in formats that their readers accept."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cnnlib.views.export.prometheus import prometheus_text
from tests.processes import analyze_units
from tests.report_folders import write_gates, write_metrics

INFRA = Path(__file__).parents[2] / "infra"
FOLDER = INFRA / "observability"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [variable["query"] for variable in DASHBOARD["templating"]["list"]]


@pytest.fixture
def labels(tmp_path: Path) -> dict[str, set[str]]:
    """Returns the labels of every gauge."""
    write_gates(str(tmp_path), write_metrics(str(tmp_path)), ["pass"], minute=1)
    families = text_string_to_metric_families(prometheus_text(str(tmp_path), 1))
    return {family.name: set(family.samples[0].labels) for family in families if family.samples}


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_queries_use_gauges_that_exist(query: str, labels: dict[str, set[str]]) -> None:
    gauges = set(re.findall(r"cnnlib_\w+", query))
    assert gauges
    assert gauges <= set(labels)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_names_only_labels_that_its_gauge_has(
    rule: dict[str, Any], labels: dict[str, set[str]]
) -> None:
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    gauge = re.search(r"cnnlib_\w+", rule["expr"])
    assert gauge
    kept = re.search(r"by \(([^)]*)\)", rule["expr"])
    assert named
    assert named <= (set(kept[1].split(", ")) if kept else labels[gauge[0]])


def test_panels_lie_beside_and_below_each_other() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_systemd_accepts_the_drop_in(tmp_path: Path) -> None:
    program = tmp_path / "checkout" / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    folder = tmp_path / "cnnlib-evaluate.service.d"
    folder.mkdir()
    for source, target in (
        (INFRA / "schedule" / "cnnlib-evaluate.service", tmp_path / "cnnlib-evaluate.service"),
        (FOLDER / "cnnlib-gauges.conf", folder / "gauges.conf"),
    ):
        target.write_text(source.read_text().replace("/opt/cnnlib", str(tmp_path / "checkout")))
    ran = analyze_units("verify", str(tmp_path / "cnnlib-evaluate.service"))
    assert (ran.returncode, ran.stderr) == (0, "")
