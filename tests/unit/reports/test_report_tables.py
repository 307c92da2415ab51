"""What a person sees on a terminal of 80 columns, or in a log."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from cnnlib.metrics.per_class import Proportion, proportion
from cnnlib.reports.compare import compare_accuracies
from cnnlib.reports.read import Report, list_reports, read_report
from cnnlib.reports.tables import render_comparison, render_list, render_report


@pytest.fixture
def load(tmp_path: Path, write: Any) -> Any:
    """Publishes facts and reads the report back."""
    return lambda facts: read_report(str(tmp_path), write(facts).report_id)


def draw(renderable: RenderableType, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(renderable)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    assert "\x1b" not in out.getvalue(), "colour codes in what is no terminal"
    return lines


def test_report_shows_every_class_and_all_together(make_facts: Any, load: Any) -> None:
    report: Report = load(make_facts())
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
        "figure                    value     95 % range",
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


def test_slices_have_a_table_of_their_own(make_facts: Any, load: Any) -> None:
    slices = {
        "source=web+brightness=q1": [[8, 0, 0], [1, 0, 0], [0, 0, 0]],
        "corruption=noise/5": [[0] * 3] * 3,
    }
    assert draw(render_report(load(make_facts(slices=slices))))[-5:] == [
        "",
        "slice                     rows  correct  accuracy  95 % range  macro F1    loss",
        "───────────────────────────────────────────────────────────────────────────────",
        "source=web+brightness=q1     9        8      88.9   56.5-98.0      47.1  0.4531",
        "corruption=noise/5           0        0         -           -         -       -",
    ]


def test_comparison_shows_points_and_marks_ranges_that_do_not_overlap(make_facts: Any, load: Any) -> None:
    worse = load(make_facts(counts=[[100, 900, 0], [100, 900, 0], [0, 0, 0]], checkpoint_digest="d1"))
    better = load(make_facts(counts=[[900, 100, 0], [90, 910, 0], [0, 0, 0]], checkpoint_digest="d2"))
    lines = draw(render_comparison(worse, better))
    assert lines[3:] == [
        "class          A  95 % range of A     B  95 % range of B  B - A",
        "──────────────────────────────────────────────────────────────────",
        "Coat        10.0         8.3-12.0  90.0        88.0-91.7  +80.0  *",
        "Bag         90.0        88.0-91.7  91.0        89.1-92.6   +1.0",
        "Ankle boot     -                -     -                -      -",
        "──────────────────────────────────────────────────────────────────",
        "all         50.0        47.8-52.2  90.5        89.1-91.7  +40.5  *",
        "B - A in points; * where the 95 % ranges do not overlap (a hint, not a test).",
    ]


def test_comparison_on_different_data_says_so(make_facts: Any, load: Any) -> None:
    a, b = load(make_facts()), load(make_facts(dataset_fingerprint="other"))
    assert draw(render_comparison(a, b))[-1].startswith("A and B were scored on different rows")


def test_comparison_of_different_classes_leaves_gaps(make_facts: Any, load: Any) -> None:
    a = load(make_facts())
    b = load(make_facts(class_names=("Coat", "Hat", "Ankle boot"), dataset_fingerprint="other"))
    names = [line.split()[0] for line in draw(render_comparison(a, b))[5:9]]
    assert names == ["Coat", "Bag", "Ankle", "Hat"]


def test_list_shows_runs_by_epoch_and_files_by_name(tmp_path: Path, make_facts: Any, write: Any) -> None:
    first = write(make_facts()).report_id[:8]
    foreign = {"run": None, "model": "some.keras", "checkpoint_epoch": None}
    second = write(make_facts(checkpoint_digest="beef", minute=9, **foreign)).report_id[:8]
    assert draw(render_list(list_reports(str(tmp_path)))) == [
        "report    evaluated (UTC)   model       data                accuracy  95 % range",
        "────────────────────────────────────────────────────────────────────────────────",
        f"{second}  2026-11-22 06:09  some.keras  fashion-mnist/test      81.0   60.0-92.3",
        f"{first}  2026-11-22 06:00  demo@2      fashion-mnist/test      81.0   60.0-92.3",
    ]


def test_long_class_names_are_folded_and_not_cut(make_facts: Any, load: Any) -> None:
    names = ("a coat made of wool", "a coat made of wool [or so]", "x" * 30)
    text = "".join(line[:14].strip() for line in draw(render_report(load(make_facts(class_names=names)))))
    assert text.count("woo") >= 2
    assert "[or" in text.replace(" ", "")


def test_intervals_that_touch_overlap() -> None:
    assert compare_accuracies("x", Proportion(0.5, 0.4, 0.6), Proportion(0.7, 0.6, 0.8)).intervals_overlap
    assert not compare_accuracies(
        "x", Proportion(0.7, 0.61, 0.8), Proportion(0.5, 0.4, 0.6)
    ).intervals_overlap


def test_difference_to_no_rows_is_none() -> None:
    difference = compare_accuracies("x", proportion(1, 2), proportion(0, 0))
    assert (difference.points, difference.intervals_overlap) == (None, True)
