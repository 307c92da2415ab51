"""Tests the verdict of the gates, and the comparison with the previous report."""

from __future__ import annotations

import pytest

from cnnlib.metrics.intervals import Proportion
from cnnlib.reports.comparison import Comparison, Difference
from cnnlib.views.page.sections.comparison import class_lines, describe_comparison
from cnnlib.views.page.sections.verdict import build_verdict, lies_below


@pytest.mark.parametrize(
    ("verdicts", "shown"),
    [(["pass"] * 2, 2), (["pass"] * 12, 3), (["pass"] * 5 + ["fail"] * 4 + ["inconclusive"], 5)],
)
def test_checks_that_did_not_pass_are_visible_and_few_others(verdicts: list[str], shown: int) -> None:
    verdict = build_verdict([{"verdict": each} for each in verdicts])
    assert verdict is not None
    assert len(verdict.shown) == shown
    assert [*verdict.shown, *verdict.folded] == verdict.checks
    assert {check["verdict"] for check in verdict.folded} <= {"pass"}


def test_interval_below_the_one_before_is_worse_and_a_class_without_rows_never() -> None:
    def row(low: float | None, high: float | None) -> dict[str, float | None]:
        return {"accuracy_low": low, "accuracy_high": high}

    assert lies_below(row(0.1, 0.2), row(0.3, 0.4))
    assert not lies_below(row(0.1, 0.3), row(0.3, 0.4))
    assert not lies_below(row(None, None), row(0.3, 0.4))
    assert not lies_below(row(0.1, 0.2), row(None, None))


def test_class_that_fell_significantly_is_named_and_one_that_did_not_is_not() -> None:
    def difference(name: str, points: float, p_value: float) -> Difference:
        a, b = (
            Proportion(fraction, fraction - 0.01, fraction + 0.01) for fraction in (0.8, 0.8 + points / 100)
        )
        low, high = points - 1, points + 1
        return Difference(
            name=name, a=a, b=b, points=points, low=low, high=high, p_value=p_value, lost=None, won=None
        )

    classes = (difference("Shirt", -5, 0.001), difference("Coat", -2, 0.3), difference("Bag", 3, 0.01))
    comparison = Comparison(overall=difference("all", -2, 0.001), classes=classes, unpaired_because=None)
    assert describe_comparison(comparison, "demo@1") == (
        "The accuracy is 2.0 points lower than in the previous report (demo@1, 80.0%); "
        "95% interval: 1.0 to 3.0 points.",
        "Significantly worse: Shirt.",
        "Significantly better: Bag.",
    )
    lines = class_lines([{"class_name": each.name} for each in classes], comparison)
    assert [(line.change, line.worse) for line in lines] == [("−5.0", True), ("−2.0", False), ("+3.0", False)]
    assert "(small-cnn@1, 80.0%)" in describe_comparison(comparison, "small-cnn@1")[0]
    noise = Comparison(overall=difference("all", 0.5, 0.4), classes=(), unpaired_because="x")
    assert describe_comparison(noise, "demo@1") == (
        "The accuracy is 0.5 points higher than in the previous report (demo@1, 80.0%); this may be chance. "
        "The reports could not be compared row by row.",
    )


@pytest.mark.parametrize(
    ("failed", "shown", "folded"), [(2, 3, 50), (30, 30, 50), (400, 50, 50), (1000, 50, 0)]
)
def test_checks_of_a_thousand_classes_are_shown_in_part_and_counted(
    failed: int, shown: int, folded: int
) -> None:
    rows = [{"verdict": "fail" if index % 1000 < failed else "pass"} for index in range(1000)]
    verdict = build_verdict(rows)
    assert verdict is not None
    assert verdict.sentence == f"{failed} of 1,000 checks failed."
    assert (len(verdict.shown), len(verdict.folded), verdict.shown[0]["verdict"]) == (shown, folded, "fail")
    assert {check["verdict"] for check in verdict.folded} <= {"pass"}
    assert verdict.left_out == 1000 - shown - folded
