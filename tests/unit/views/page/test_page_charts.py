"""Tests the charts of a page: ticks, places, intervals."""

from __future__ import annotations

import doctest

import pytest

from cnnlib.views.page import charts, formatting
from cnnlib.views.page.charts import Sample, line_chart, nice_ticks
from cnnlib.views.page.sections import confusion, mistakes, slices, verdict
from cnnlib.views.page.sections.slices import corruption_charts, group_slices, split_name


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.812, 0.907, [0.82, 0.84, 0.86, 0.88, 0.9]),
        (1.0, 5.0, [1.0, 2.0, 3.0, 4.0, 5.0]),
        (0.3, 0.3, [0.3]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_ticks_that_are_close_together_have_different_labels() -> None:
    # Rounded to three digits, 98.42% and 98.44% would have the same label.
    chart = line_chart("t", [("a", [Sample(x=1, y=0.9845, low=0.984, high=0.985)])], summary="s")
    assert [tick.text for tick in chart.y.ticks] == ["98.4%", "98.42%", "98.44%", "98.46%", "98.48%", "98.5%"]


@pytest.mark.parametrize("module", [charts, formatting, confusion, mistakes, slices, verdict])
def test_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted >= 1
    assert result.failed == 0


def test_higher_values_lie_further_up_and_later_ones_further_right() -> None:
    samples = [Sample(x=1, y=0.5), Sample(x=2, y=0.75), Sample(x=3, y=0.6)]
    points = line_chart("t", [("a", samples)], summary="s").lines[0].points
    assert points[0].x < points[1].x < points[2].x
    assert points[1].y < points[2].y < points[0].y


def test_intervals_become_a_band_around_the_line() -> None:
    samples = [Sample(x=x, y=0.5, low=0.4, high=0.6) for x in (1, 2)]
    line = line_chart("t", [("a", samples)], summary="s").lines[0]
    assert all(p.high is not None and p.low is not None and p.high < p.y < p.low for p in line.points)
    assert line.band.startswith("M")
    assert line.band.endswith("Z")
    assert line_chart("t", [("a", [Sample(x=1, y=0.5)])], summary="s").lines[0].band == ""


def test_interval_of_one_sample_is_a_whisker_from_end_to_end() -> None:
    samples = [Sample(x=1, y=0.5, low=0.4, high=0.7), Sample(x=2, y=0.5)]
    for chosen in (samples[:1], samples):
        line = line_chart("t", [("a", chosen)], summary="s").lines[0]
        point = line.points[0]
        assert line.band == ""
        assert line.whisker.startswith(f"M{point.x:g},{point.low:g}V{point.high:g}")
    several = [Sample(x=x, y=0.5, low=0.4, high=0.6) for x in (1, 2)]
    assert line_chart("t", [("a", several)], summary="s").lines[0].whisker == ""
    assert line_chart("t", [("a", samples[1:])], summary="s").lines[0].whisker == ""


def test_one_sample_alone_is_a_chart() -> None:
    chart = line_chart("t", [("a", [Sample(x=7, y=0.5)])], summary="s", cursor=7)
    (point,) = chart.lines[0].points
    assert chart.x.start < point.x < chart.x.end
    assert chart.cursor == point.x


def test_cursor_beyond_the_samples_is_left_out() -> None:
    assert line_chart("t", [("a", [Sample(x=1, y=0.5)])], summary="s", cursor=9).cursor is None


def test_axis_of_epochs_has_no_halves() -> None:
    chart = line_chart("t", [("a", [Sample(x=1, y=0.5), Sample(x=2, y=0.6)])], summary="s")
    assert [tick.text for tick in chart.x.ticks] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brightness=q1", ("brightness", "q1")),
        ("source=web+brightness=q2", ("source × brightness", "web × q2")),
        ("source=c++ course", ("source", "c++ course")),
        ("source=a=b", ("source", "a=b")),
    ],
)
def test_names_of_slices_fall_into_dimension_and_value(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected


def row(name: str, accuracy: float | None) -> dict[str, object]:
    return {"slice": name, "accuracy": accuracy, "accuracy_low": accuracy, "accuracy_high": accuracy}


def test_slices_are_grouped_without_the_corruptions() -> None:
    names = ["brightness=q1", "corruption=noise/1", "source=web", "brightness=q2"]
    groups = group_slices([row(name, 0.5) for name in names])
    assert [(each.name, [part.value for part in each.slices]) for each in groups] == [
        ("brightness", ["q1", "q2"]),
        ("source", ["web"]),
    ]


def test_corruptions_start_at_the_original_images_and_share_a_scale() -> None:
    names = {
        "corruption=noise/2": 0.6,
        "corruption=noise/1": 0.7,
        "corruption=blur/1": 0.2,
        "source=web": 0.1,
    }
    charts = corruption_charts(row("", 0.8), [row(name, value) for name, value in names.items()])
    assert [chart.title for chart in charts] == ["noise", "blur"]
    assert [len(chart.lines[0].points) for chart in charts] == [3, 2]
    assert charts[0].lines[0].points[0].y == charts[1].lines[0].points[0].y
    assert "80.0% on the original images, 60.0% at strength 2" in charts[0].summary


def test_report_without_corruptions_has_no_charts() -> None:
    assert corruption_charts(row("", 0.8), [row("source=web", 0.5)]) == ()
