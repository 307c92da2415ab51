"""Two reports are compared, and several ranked, from the files that an evaluation writes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cnnlib.metrics import significance
from cnnlib.metrics.intervals import paired_interval
from cnnlib.reports.comparison import LEVEL, Comparison, compare_reports, compare_rows
from cnnlib.reports.pairing import PairedRows
from cnnlib.reports.ranking import compact_letter_display, rank_reports
from cnnlib.reports.read import read_report
from cnnlib.storage import files, layout
from cnnlib.views.terminal.comparison import render_comparison, render_ranking
from tests.reports_of_rows import CLASSES, with_mistakes, write_rows

LABELS = np.repeat([0, 1, 2], [200, 200, 100])


def compare(folder: Path, a: str, b: str) -> Comparison:
    return compare_reports(str(folder), *(read_report(str(folder), each) for each in (a, b)))


def wrong_in(shirts: range, coats: range) -> Any:
    """Returns predictions that are wrong for these of the 200 shirts and of the 200 coats."""
    return with_mistakes(LABELS, [*(200 + each for each in shirts), *coats])


def draw(renderable: RenderableType) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(renderable)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    return lines


def test_paired_tests_are_those_of_statsmodels(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    wrong = [np.flatnonzero(generator.random(500) < rate) for rate in (0.1, 0.16)]
    a, b = (
        write_rows(tmp_path, LABELS, with_mistakes(LABELS, rows), epoch=i) for i, rows in enumerate(wrong)
    )
    found = compare(tmp_path, a, b)
    right = [np.isin(np.arange(500), rows, invert=True) for rows in wrong]
    raw = []
    for part in [np.ones(500, bool), *(index == LABELS for index in range(3))]:
        lost, won = (int((right[x] & ~right[1 - x] & part).sum()) for x in (0, 1))
        raw.append(mcnemar([[0, lost], [won, 0]], exact=True).pvalue)
    assert found.unpaired_because is None
    assert found.overall.p_value == pytest.approx(raw[0], rel=1e-9)
    assert [each.p_value for each in found.classes] == pytest.approx(
        multipletests(raw[1:], method="holm")[1], rel=1e-9
    )


def test_words_p_value_and_interval_are_of_one_test(tmp_path: Path) -> None:
    """5 of 1,000 rows are lost and none won: p is 6 %, but Tango's interval alone leaves out 0."""
    labels = np.repeat([0, 1], 500)
    a = write_rows(tmp_path, labels, labels, epoch=1)
    b = write_rows(tmp_path, labels, with_mistakes(labels, range(5)), epoch=2)
    found = compare(tmp_path, a, b)
    assert found.overall.p_value == pytest.approx(0.0625)
    assert found.overall.high == 0
    assert found.words == (
        "B is worse than A by 0.5 points (0.0..1.2), not distinguishable from noise; "
        "Coat is worse by 1.0 points (0.0..2.3), not distinguishable from noise."
    )
    c = write_rows(tmp_path, labels, with_mistakes(labels, range(6)), epoch=3)
    assert compare(tmp_path, a, c).words.startswith("B is worse than A by 0.6 points (0.2..1.3); Coat")


@pytest.mark.parametrize("lost", range(13))
def test_sentence_says_noise_exactly_where_the_interval_holds_0(lost: int) -> None:
    ids = np.arange(200)
    for won in range(13):
        right = np.ones((2, 200), bool)
        right[1, :lost] = right[0, lost : lost + won] = False
        found = compare_rows(
            PairedRows(ids=ids, labels=(ids % 2).astype(np.int32), right=right), ("Coat", "Shirt")
        )
        for each in (found.overall, *found.classes):
            assert (each.low <= 0 <= each.high) == (each.p_value > LEVEL) == (not each.is_distinguishable)
            assert each.low <= each.points <= each.high
        if lost != won:
            is_noise = "not distinguishable" in found.words.partition(";")[0]
            assert is_noise == (found.overall.low <= 0 <= found.overall.high)


def test_flipped_rows_are_named_per_class(tmp_path: Path) -> None:
    ids = [1000 + each for each in range(500)]
    a = write_rows(tmp_path, LABELS, wrong_in(range(3), range(2)), epoch=1, ids=ids)
    b = write_rows(tmp_path, LABELS, wrong_in(range(2, 150), range(0)), epoch=2, ids=ids)
    found = compare(tmp_path, a, b)
    coat, shirt, bag = found.classes
    assert [each.name for each in found.classes] == list(CLASSES)
    assert (coat.lost.total, coat.won.ids) == (0, (1000, 1001))
    assert (shirt.won.ids, shirt.lost.total) == ((1200, 1201), 147)
    assert shirt.lost.ids == tuple(range(1203, 1303)), "the list is cut at 100, the total is not"
    assert (bag.lost.total, bag.won.total, bag.points, bag.p_value) == (0, 0, 0.0, 1.0)
    assert (found.overall.lost.total, found.overall.won.total) == (147, 4)
    assert found.overall.points == pytest.approx(100 * (4 - 147) / 500)
    low, high = paired_interval(147, 4, 500)
    assert (found.overall.low, found.overall.high) == pytest.approx((100 * low, 100 * high))


def test_sentence_says_what_is_better_what_is_worse_and_what_is_noise(tmp_path: Path) -> None:
    a = write_rows(tmp_path, LABELS, wrong_in(range(0), range(60)), epoch=1)
    b = write_rows(tmp_path, LABELS, wrong_in(range(4), range(10)), epoch=2)
    assert compare(tmp_path, a, b).words == (
        "B is better than A by 9.2 points (6.6..12.2); Shirt is worse by 2.0 points (0.0..5.0), "
        "not distinguishable from noise; Coat is better by 25.0 points (19.5..31.4)."
    )
    assert compare(tmp_path, b, a).words.startswith(
        "B is worse than A by 9.2 points (6.6..12.2); Coat is worse by"
    )


def test_sentence_of_equal_models_says_how_equal(tmp_path: Path) -> None:
    a = write_rows(tmp_path, LABELS, wrong_in(range(4), range(0)), epoch=1)
    same = write_rows(tmp_path, LABELS, wrong_in(range(4), range(0)), epoch=2)
    other = write_rows(tmp_path, LABELS, wrong_in(range(4, 8), range(0)), epoch=3)
    assert compare(tmp_path, a, same).words == "A and B are right on the same rows."
    assert (
        compare(tmp_path, a, other).words
        == "A and B have the same accuracy, but are right on different rows."
    )
    unpaired = write_rows(tmp_path, LABELS, wrong_in(range(4), range(0)), epoch=4, store=False)
    assert compare(tmp_path, a, unpaired).words == "A and B have the same accuracy."
    assert compare(tmp_path, a, same).overall.low < 0 < compare(tmp_path, a, same).overall.high


def test_sentence_names_few_of_many_classes(tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(9))
    labels = np.repeat(np.arange(9), 60)
    a = write_rows(tmp_path, labels, labels, epoch=1, class_names=names)
    b = write_rows(tmp_path, labels, np.where(np.arange(540) % 2, labels, 0), epoch=2, class_names=names)
    words = compare(tmp_path, a, b).words
    assert words.count("is worse by") == 3
    assert words.endswith("5 more classes are worse.")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"store": False}, "has no predictions"),
        ({"dataset_fingerprint": "other"}, "their datasets differ"),
        ({"split": "train"}, "their splits differ, test and train"),
        ({"ids": list(range(1, 501))}, "have predictions of different rows"),
    ],
    ids=str,
)
def test_reports_that_cannot_be_paired_are_compared_by_their_counts(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    a = write_rows(tmp_path, LABELS, wrong_in(range(20), range(0)), epoch=1)
    b = write_rows(tmp_path, LABELS, wrong_in(range(60), range(0)), epoch=2, **change)
    found = compare(tmp_path, a, b)
    assert found.unpaired_because is not None
    assert reason in found.unpaired_because
    assert found.overall.points == pytest.approx(-8.0)
    assert found.overall.p_value == pytest.approx(significance.unpaired_p(480, 500, 440, 500))
    assert found.classes[1].p_value == pytest.approx(3 * significance.unpaired_p(180, 200, 140, 200))
    assert (found.overall.lost, found.overall.won) == (None, None)
    text = " ".join(
        draw(render_comparison(*(read_report(str(tmp_path), each).record for each in (a, b)), found))
    )
    assert "Not paired row by row, so the test has less power" in text


def test_missing_predictions_are_reported_and_not_fatal(tmp_path: Path) -> None:
    a = write_rows(tmp_path, LABELS, wrong_in(range(20), range(0)), epoch=1)
    b = write_rows(tmp_path, LABELS, wrong_in(range(60), range(0)), epoch=2)
    part = files.list_objects(layout.report_predictions(str(tmp_path), b))[0]
    files.delete(part.uri)
    reason = compare(tmp_path, a, b).unpaired_because
    assert reason is not None
    assert part.uri in reason


def test_classes_that_only_one_has_are_left_open(tmp_path: Path) -> None:
    a = write_rows(tmp_path, LABELS, LABELS, epoch=1)
    other = ("Coat", "Hat", "Bag")
    b = write_rows(tmp_path, LABELS, LABELS, epoch=2, class_names=other, dataset_fingerprint="other")
    found = compare(tmp_path, a, b)
    assert [(each.name, each.points) for each in found.classes] == [
        ("Coat", 0.0),
        ("Shirt", None),
        ("Bag", 0.0),
        ("Hat", None),
    ]
    assert draw(render_comparison(*(read_report(str(tmp_path), each).record for each in (a, b)), found))


def test_comparison_on_a_terminal(tmp_path: Path) -> None:
    a = write_rows(tmp_path, LABELS, wrong_in(range(0), range(60)), epoch=1)
    b = write_rows(tmp_path, LABELS, wrong_in(range(4), range(10)), epoch=2)
    records = [read_report(str(tmp_path), each).record for each in (a, b)]
    lines = draw(render_comparison(*records, compare(tmp_path, a, b)))
    assert lines[0] == f"A {a}  demo@1 on fashion-mnist/test, 2026-11-22 06:01 UTC"
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("class ")) :]
    assert [line.split() for line in table if "─" not in line] == [
        ["class", "A", "B", "B", "-", "A", "95", "%", "range", "lost", "won", "p"],
        ["Coat", "70.0", "95.0", "+25.0", "+19.5..+31.4", "0", "50", "<.001", "*"],
        ["Shirt", "100.0", "98.0", "-2.0", "-5.0..+0.0", "4", "0", "0.250"],
        ["Bag", "100.0", "100.0", "+0.0", "-3.7..+3.7", "0", "0", "1.000"],
        ["all", "88.0", "97.2", "+9.2", "+6.6..+12.2", "4", "50", "<.001", "*"],
        *[line.split() for line in table[-4:]],
    ]
    assert table[-4:] == [
        "B - A in points; *: significant at the 5% level (Holm over the classes).",
        "lost: correct in A, wrong in B; won: the reverse. p: McNemar's exact test.",
        "lost: 4 rows, ids 200, 201, 202, 203",
        "won: 50 rows, ids 10, 11, 12, 13, 14, 15, 16, 17, …",
    ]


def test_ranking_groups_models_that_are_not_distinguishable(tmp_path: Path) -> None:
    mistakes = [range(100), range(34), range(30), range(60, 90), range(50)]
    ids = [
        write_rows(tmp_path, LABELS, wrong_in(each, range(0)), epoch=epoch)
        for epoch, each in enumerate(mistakes, start=1)
    ]
    ranking = rank_reports(str(tmp_path), [read_report(str(tmp_path), each) for each in ids])
    groups = {each.record.subject.checkpoint_epoch: "".join(each.groups) for each in ranking.reports}
    # Report 5 is wrong on all rows on which 2 and 3 are wrong, and on 16 more, but on none of the rows of 4: over 10
    # pairs, 50 against 30 is noise.
    assert [each.record.report_id for each in ranking.reports[2:]] == [ids[1], ids[4], ids[0]]
    assert groups == {3: "a", 2: "a", 4: "ab", 5: "b", 1: "c"}
    assert len(ranking.pairs) == 10
    assert ranking.unpaired_because is None
    lines = draw(render_ranking(ranking))
    assert "group" in next(line for line in lines if line.startswith("report"))
    assert next(line for line in lines if line.startswith(ids[0][:8])).endswith("  c")


def test_ranking_of_other_data_says_that_it_is_weaker(tmp_path: Path) -> None:
    ids = [
        write_rows(tmp_path, LABELS, wrong_in(range(epoch * 10), range(0)), epoch=epoch, split=split)
        for epoch, split in ((1, "test"), (2, "test"), (12, "train"))
    ]
    ranking = rank_reports(str(tmp_path), [read_report(str(tmp_path), each) for each in ids])
    assert ranking.unpaired_because == "their splits differ, test and train"
    assert [each.groups for each in ranking.reports] == [("a",), ("a",), ("b",)]
    assert "so the test has less power" in " ".join(draw(render_ranking(ranking)))
    assert ranking.to_row()["pairs"][0]["p_value"] == pytest.approx(
        significance.holm([significance.unpaired_p(490, 500, 480, 500), 0.0, 0.0])[0]
    )


def test_the_best_of_a_ranking_may_be_better_than_all(tmp_path: Path) -> None:
    ids = [
        write_rows(tmp_path, LABELS, wrong_in(range(wrong), range(0)), epoch=wrong) for wrong in (1, 100, 150)
    ]
    ranking = rank_reports(str(tmp_path), [read_report(str(tmp_path), each) for each in ids])
    assert ranking.words == f"demo@1 ({ids[0][:8]}) is better than all others."


@given(st.data())
def test_two_share_a_letter_exactly_if_they_are_not_different(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    pairs = [(first, second) for first in range(count) for second in range(first + 1, count)]
    different = data.draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    letters = compact_letter_display(count, different)
    assert all(letters)
    for first, second in pairs:
        share_a_letter = bool(set(letters[first]) & set(letters[second]))
        assert share_a_letter == ((first, second) not in different)


def test_letters_go_on_after_z() -> None:
    count = 30
    different = [(first, second) for first in range(count) for second in range(first + 1, count)]
    assert compact_letter_display(count, different)[26] == ("aa",)
