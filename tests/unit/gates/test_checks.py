"""Tests what pass, fail and inconclusive mean, and how often a model that keeps its limits fails."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cnnlib.gate_config import GateConfig, Limits
from cnnlib.gates.checks import Check, Evidence, evaluate_checks, list_checks
from cnnlib.gates.evidence import accuracy_evidence, paired_drop_evidence, unpaired_drop_evidence
from cnnlib.gates.verdicts import worst
from cnnlib.metrics import significance

MINIMUM = Check(check="min_accuracy", limit=0.9)
NO_DROP = Check(check="max_drop", limit=0.0)


def verdict(check: Check, evidence: Evidence, level: float = 0.05) -> str:
    return evaluate_checks([check], [evidence], level)[0].verdict


@pytest.mark.parametrize(
    ("correct", "expected"),
    [(1000, "pass"), (900, "pass"), (899, "inconclusive"), (880, "fail"), (0, "fail")],
)
def test_accuracy_below_its_minimum_fails_once_chance_does_not_explain_it(
    correct: int, expected: str
) -> None:
    assert verdict(MINIMUM, accuracy_evidence(correct, 1000, 0.9)) == expected


@pytest.mark.parametrize(
    ("only_before", "only_now", "expected"),
    [
        (0, 0, "pass"),
        (30, 30, "pass"),
        (30, 31, "pass"),
        (31, 30, "inconclusive"),
        (1, 0, "inconclusive"),
        (50, 30, "fail"),
    ],
)
def test_equal_predictions_pass_noise_is_inconclusive_and_a_drop_fails(
    only_before: int, only_now: int, expected: str
) -> None:
    assert verdict(NO_DROP, paired_drop_evidence(only_before, only_now, 1000, 0.0)) == expected


def test_limit_that_is_met_exactly_passes() -> None:
    one_point = Check(check="max_drop", limit=0.01)
    assert verdict(one_point, paired_drop_evidence(100, 0, 10_000, 0.01)) == "pass"
    assert verdict(one_point, unpaired_drop_evidence((9000, 10_000), (8900, 10_000), 0.01, "")) == "pass"
    assert verdict(one_point, unpaired_drop_evidence((9000, 10_000), (8899, 10_000), 0.01, "")) != "pass"


def test_without_significance_whatever_breaks_a_limit_fails() -> None:
    results = evaluate_checks(
        [MINIMUM, NO_DROP], [accuracy_evidence(899, 1000, 0.9), paired_drop_evidence(1, 0, 1000, 0.0)], 0.0
    )
    assert [(each.verdict, each.p_value) for each in results] == [("fail", None)] * 2
    assert results[0].reason == "89.90% is below 90.00%."
    assert verdict(MINIMUM, accuracy_evidence(900, 1000, 0.9), 0.0) == "pass"


def test_nothing_to_observe_is_inconclusive_unless_there_is_nothing_to_compare_with() -> None:
    assert verdict(MINIMUM, accuracy_evidence(0, 0, 0.9)) == "inconclusive"
    assert verdict(NO_DROP, paired_drop_evidence(0, 0, 0, 0.0)) == "inconclusive"
    assert verdict(NO_DROP, unpaired_drop_evidence((1, 2), (0, 0), 0.0, "")) == "inconclusive"
    assert verdict(NO_DROP, Evidence(note="no earlier report", passes_without=True)) == "pass"


def test_p_values_are_those_of_statsmodels_and_scipy_adjusted_over_all_checks() -> None:
    checks = [MINIMUM, NO_DROP, Check(check="max_drop", limit=0.0, class_name="Shirt")]
    evidence = [
        accuracy_evidence(885, 1000, 0.9),
        paired_drop_evidence(40, 22, 1000, 0.0),
        unpaired_drop_evidence((90, 100), (80, 100), 0.0, "not paired"),
    ]
    raw = [
        stats.binomtest(885, 1000, 0.9, alternative="less").pvalue,
        mcnemar([[0, 40], [22, 0]], exact=True).pvalue / 2,
        stats.fisher_exact([[90, 10], [80, 20]], alternative="greater").pvalue,
    ]
    expected = multipletests(raw, method="holm")[1]
    results = evaluate_checks(checks, evidence, 0.05)
    assert [each.p_value for each in results] == pytest.approx(expected, rel=1e-9)
    assert [each.verdict for each in results] == ["fail" if p <= 0.05 else "inconclusive" for p in expected]
    assert any(p > 0.05 for p in expected)


def test_more_checks_make_each_harder_to_fail() -> None:
    low = accuracy_evidence(882, 1000, 0.9)
    assert verdict(MINIMUM, low) == "fail"
    many = evaluate_checks([MINIMUM] * 12, [low, *[accuracy_evidence(950, 1000, 0.9)] * 11], 0.05)
    assert many[0].verdict == "inconclusive"


def test_reason_states_what_was_observed_and_the_limit() -> None:
    one_point = Check(check="max_drop", limit=0.01)
    cases = [
        (MINIMUM, accuracy_evidence(950, 1000, 0.9), "95.00% is at least 90.00%."),
        (MINIMUM, accuracy_evidence(899, 1000, 0.9), "89.90% is below 90.00%, but that may be chance (p = 0.473)."),
        (MINIMUM, accuracy_evidence(800, 1000, 0.9), "80.00% is below 90.00%, p < 0.001."),
        (NO_DROP, paired_drop_evidence(3, 3, 100, 0.0), "no drop."),
        (NO_DROP, paired_drop_evidence(3, 5, 100, 0.0), "up by 2.00 points."),
        (one_point, paired_drop_evidence(5, 3, 1000, 0.01), "down by 0.20 points, of 1.00 allowed."),
        (one_point, paired_drop_evidence(90, 3, 1000, 0.01), "down by 8.70 points, more than 1.00 allowed, p < 0.001."),
        (
            NO_DROP,
            unpaired_drop_evidence((90, 100), (91, 100), 0.0, "not paired row by row: their splits differ"),
            "up by 1.00 points; not paired row by row: their splits differ.",
        ),
    ]  # fmt: skip
    for check, evidence, reason in cases:
        assert evaluate_checks([check], [evidence], 0.05)[0].reason == reason


def test_every_class_covers_those_with_rows_and_names_come_first() -> None:
    gates = GateConfig(
        min_accuracy=Limits(overall=0.9, every_class=0.7, classes={"Shirt": 0.6}),
        max_drop=Limits(slices={"source=web": 0.01}),
    )
    checks = list_checks(gates, ["Coat", "Shirt"])
    assert [(each.check, each.scope, each.class_name, each.slice, each.limit) for each in checks] == [
        ("min_accuracy", "overall", None, None, 0.9),
        ("min_accuracy", "class", "Coat", None, 0.7),
        ("min_accuracy", "class", "Shirt", None, 0.6),
        ("max_drop", "slice", None, "source=web", 0.01),
    ]


def test_worst_verdict_counts() -> None:
    assert worst(["pass", "inconclusive", "fail", "pass"]) == "fail"
    assert worst(["inconclusive", "pass"]) == "inconclusive"
    assert worst([]) == "pass"


@pytest.mark.parametrize("limit", [0.0, 0.01])
def test_models_that_keep_all_limits_fail_no_more_often_than_the_level(limit: float) -> None:
    """Every class is exactly at its limits: its true accuracy is the minimum, and its true drop the largest allowed."""
    generator = np.random.default_rng(20261122)
    pairs, classes, rows, before = 200, 5, 200, 0.9
    now, both = before - limit, 0.86
    checks = [
        Check(check=name, limit=at, class_name=str(each))
        for name, at in (("min_accuracy", now), ("max_drop", limit))
        for each in range(classes)
    ]
    probabilities = [both, before - both, now - both, 1 - before - now + both]
    failed = 0
    for _ in range(pairs):
        right, lost, won, _ = generator.multinomial(rows, probabilities, size=classes).T
        evidence = [
            *(accuracy_evidence(int(correct), rows, now) for correct in right + won),
            *(
                # It has no interval, which would take longer than the test and has no effect on the verdict.
                Evidence(
                    observed=int(a - b) / rows,
                    p_value=significance.paired_drop_p(int(a), int(b), rows, limit),
                )
                for a, b in zip(lost, won, strict=True)
            ),
        ]
        failed += worst(each.verdict for each in evaluate_checks(checks, evidence, 0.05)) == "fail"
    assert 0 < failed <= 0.05 * pairs, "at most at the level, and not by never failing"
