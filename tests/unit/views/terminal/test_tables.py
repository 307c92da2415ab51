"""Tests the tables on a terminal of 80 columns, or in a log."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from cnnlib.reports.read import Report, list_reports, read_report
from cnnlib.views.terminal.tables import render_list, render_report


@pytest.fixture
def load(tmp_path: Path, write: Any) -> Any:
    """Writes the report of a result and reads it back."""
    return lambda result: read_report(str(tmp_path), write(result).report_id)


def draw(renderable: RenderableType, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(renderable)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    assert "\x1b" not in out.getvalue(), "colour codes without a terminal"
    return lines


def test_report_shows_every_class_and_all_together(make_result: Any, load: Any) -> None:
    report: Report = load(make_result())
    assert draw(render_report(report)) == [
        f"report {report.record.report_id}  demo@2 on fashion-mnist/test, 2026-11-22 06:00 UTC",
        "",
        "class       support  correct  accuracy  95 % range  prec.    F1  confused with",
        "──────────────────────────────────────────────────────────────────────────────",
        "Coat             11        8      72.7   43.4-90.3   88.9  80.0  Ankle boot 2",
        "Bag              10        9      90.0   59.6-98.2   90.0  90.0  Coat 1",
        "Ankle boot        0        0         -           -    0.0   0.0  -",
        "──────────────────────────────────────────────────────────────────────────────",
        "all              21       17      81.0   60.0-92.3",
        "accuracy 80.95%, top-2 100.00%, loss 0.5364; 21 rows in 2.0 s (10 images/s)",
        "",
        "metric                    value     95 % range",
        "──────────────────────────────────────────────",
        "macro accuracy %           81.4      63.5-96.4",
        "macro precision %          59.6      49.2-96.2",
        "macro F1 %                 56.7      45.2-95.2",
        "weighted precision %       89.4     73.9-100.0",
        "weighted F1 %              84.8      68.1-97.5",
        "macro ROC AUC            0.9818  0.9259-1.0000",
        "weighted ROC AUC         0.9814  0.9176-1.0000",
        "macro average precision  0.9841  0.9341-1.0000",
        "loss                     0.5364  0.3865-0.7364",
        "Brier score              0.2836  0.1627-0.4448",
        "calibration error        0.3503  0.3019-0.4150",
    ]


def test_slices_have_a_table_of_their_own(make_result: Any, load: Any) -> None:
    slices = {
        "source=web+brightness=q1": [[8, 0, 0], [1, 0, 0], [0, 0, 0]],
        "corruption=noise/5": [[0] * 3] * 3,
    }
    assert draw(render_report(load(make_result(slices=slices))))[-5:] == [
        "",
        "slice                     rows  correct  accuracy  95 % range  macro F1    loss",
        "───────────────────────────────────────────────────────────────────────────────",
        "source=web+brightness=q1     9        8      88.9   56.5-98.0      47.1  0.4531",
        "corruption=noise/5           0        0         -           -         -       -",
    ]


def test_list_shows_runs_by_epoch_and_files_by_name(tmp_path: Path, make_result: Any, write: Any) -> None:
    first = write(make_result()).report_id[:8]
    foreign = {"run": None, "model": "some.keras", "checkpoint_epoch": None}
    second = write(make_result(checkpoint_digest="beef", minute=9, **foreign)).report_id[:8]
    assert draw(render_list(list_reports(str(tmp_path)))) == [
        "report    evaluated (UTC)   model       data                accuracy  95 % range",
        "────────────────────────────────────────────────────────────────────────────────",
        f"{second}  2026-11-22 06:09  some.keras  fashion-mnist/test      81.0   60.0-92.3",
        f"{first}  2026-11-22 06:00  demo@2      fashion-mnist/test      81.0   60.0-92.3",
    ]


def test_long_class_names_are_folded_and_not_cut(make_result: Any, load: Any) -> None:
    names = ("a coat made of wool", "a coat made of wool [or so]", "x" * 30)
    text = "".join(line[:14].strip() for line in draw(render_report(load(make_result(class_names=names)))))
    assert text.count("woo") >= 2
    assert "[or" in text.replace(" ", "")
