"""Tests the pages in a real browser: they work by mouse and keyboard, fit, print, and request nothing by network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from cnnlib.views.page.report_data import load_report_data
from tests.browser.chromium import DESKTOP, PHONE, SHOTS, OpenPage, Visit, page_file
from tests.pages import Reports

KINDS = ["report", "history"]
SCHEMES = ["light", "dark"]
SIZES = {"desktop": DESKTOP, "phone": PHONE}
MAX_PAGE_BYTES = 3_000_000


def column(page: Page, header: str, table: str = "table.sortable") -> list[str]:
    """Returns the values that a column is sorted by, top to bottom."""
    index = page.locator(f"{table} thead th").all_text_contents().index(header)
    cells = page.locator(f"{table} tbody tr > :nth-child({index + 1})")
    return [str(value) for value in cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]


def header(page: Page, name: str) -> str | None:
    return page.get_by_role("columnheader", name=name, exact=True).get_attribute("aria-sort")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_fits_without_scrolling_sideways(
    reports: Reports, visit: OpenPage, kind: str, size: str, scheme: str
) -> None:
    page = visit(page_file(reports, kind), SIZES[size], scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{kind}-{size}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_history_of_one_report_shows_its_interval(
    many: Reports, visit: OpenPage, size: str, scheme: str
) -> None:
    page = visit(page_file(many, "history"), SIZES[size], scheme).page
    expect(page.locator(".lead").first).to_contain_text("The vertical bar is the 95% interval.")
    whisker = page.locator(".whisker:visible").first
    box = whisker.bounding_box()
    assert box is not None
    assert box["height"] > 50
    stroke, accent = (
        whisker.evaluate("path => getComputedStyle(path).stroke"),
        page.locator(".dot:visible").first.evaluate("dot => getComputedStyle(dot).fill"),
    )
    assert stroke == accent
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    page.screenshot(path=SHOTS / f"history-of-one-{size}-{scheme}.png")
    assert_accessible(page)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_serious_violation(
    reports: Reports, visit: OpenPage, kind: str, scheme: str, size: str
) -> None:
    page = visit(page_file(reports, kind), SIZES[size], scheme).page
    assert_accessible(page)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_serious_violation_in_an_open_cell(
    reports: Reports, visit: OpenPage, scheme: str
) -> None:
    page = visit(page_file(reports, "report"), scheme=scheme).page
    page.locator("button.cell").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert_accessible(page)


def assert_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.response["passes"], "axe did not run"
    serious = [
        (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"][:3]])
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_table_sorts_by_click_and_a_second_click_reverses_it(reports: Reports, visit: OpenPage) -> None:
    page = visit(page_file(reports, "report")).page
    before = column(page, "Accuracy")
    assert header(page, "Accuracy") is None
    page.get_by_role("button", name="Accuracy", exact=True).click()
    assert header(page, "Accuracy") == "descending"
    assert column(page, "Accuracy") == sorted(before, key=float, reverse=True)
    page.get_by_role("button", name="Accuracy", exact=True).click()
    assert header(page, "Accuracy") == "ascending"
    assert column(page, "Accuracy") == sorted(before, key=float)
    expect(page.get_by_role("status")).to_have_text("Sorted by Accuracy, ascending.")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_table_sorts_by_keyboard_and_one_column_at_a_time(
    reports: Reports, visit: OpenPage, key: str
) -> None:
    page = visit(page_file(reports, "report")).page
    names = column(page, "Class")
    page.get_by_role("button", name="Log loss", exact=True).click()
    page.get_by_role("button", name="Class", exact=True).focus()
    page.keyboard.press(key)
    assert (header(page, "Class"), header(page, "Log loss")) == ("ascending", None)
    assert column(page, "Class") == sorted(names, key=str.casefold)


def test_history_table_sorts_and_rows_without_a_value_stay_last(reports: Reports, visit: OpenPage) -> None:
    page = visit(page_file(reports, "history")).page
    for order in ("descending", "ascending"):
        page.get_by_role("button", name="Change", exact=True).click()
        assert header(page, "Change") == order
        values = column(page, "Change")
        assert values[-1] == "", "the first report has none before it"
        assert values[:-1] == sorted(values[:-1], key=float, reverse=order == "descending")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_of_a_thousand_classes_fits_and_can_be_searched(
    thousand: Reports, visit: OpenPage, size: str, scheme: str
) -> None:
    page = visit(page_file(thousand, "report"), SIZES[size], scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    rows = page.locator("#class-table tbody tr")
    assert rows.count() == 1000
    page.get_by_role("searchbox", name="Search for a class").fill("NUMBER 99")
    expect(page.get_by_role("status")).to_have_text("11 classes shown.")
    shown = page.locator("#class-table tbody tr:visible")
    assert shown.count() == 11
    page.get_by_role("button", name="Accuracy", exact=True).click()
    values = shown.locator(":nth-child(4)").all_text_contents()
    numbers = [float(value.rstrip("%")) for value in values if value != "–"]
    assert len(numbers) > 5
    assert numbers == sorted(numbers, reverse=True)
    assert "–" not in values[: len(numbers)]
    page.get_by_role("searchbox").fill("")
    assert page.locator(".scroll.tall").evaluate("box => box.clientHeight < 700 && box.scrollHeight > 20000")
    page.screenshot(path=SHOTS / f"thousand-{size}-{scheme}.png", full_page=True)
    assert_accessible(page)


def test_pair_of_photographs_opens_in_their_shape(thousand: Reports, visit: OpenPage) -> None:
    page = visit(page_file(thousand, "report")).page
    page.locator("[data-pair]").first.click()
    canvas = page.locator("#dialog-rows canvas").first
    expect(canvas).to_be_visible()
    assert canvas.evaluate("canvas => [canvas.width, canvas.height]") == [128, 77]
    assert canvas.evaluate("canvas => getComputedStyle(canvas).imageRendering") == "auto"
    assert (
        canvas.evaluate("canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 128, 77).data).size")
        > 50
    )
    page.screenshot(path=SHOTS / "photographs.png")


def test_cell_opens_its_images_and_gives_the_focus_back(reports: Reports, visit: OpenPage) -> None:
    page = visit(page_file(reports, "report")).page
    data = load_report_data(reports.uri, reports.ids[-1])
    true, predicted = 6, 4
    count = data.counts.count(true, predicted)
    expected = [each for each in data.mistakes.by_pair if each.pair == (true, predicted)]
    assert len(expected) == 24 < count
    cell = page.locator(f'[data-pair="{true}-{predicted}"]')
    assert (
        cell.get_attribute("aria-label")
        == f"Shirt predicted as Coat: {count} images, {100 * count / 1000:.1f}%"
    )
    cell.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("heading")).to_have_text("Shirt predicted as Coat")
    expect(dialog).to_contain_text(f"Showing 24 of {count}, most confident first.")
    shown = dialog.locator("li").evaluate_all("rows => rows.map(row => Number(row.dataset.id))")
    assert shown == [each.id for each in expected]
    assert_pixels(page, expected[0].id, data.images.by_id[expected[0].id])
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(cell).to_be_focused()


def assert_pixels(page: Page, row_id: int, expected: npt.NDArray[np.uint8]) -> None:
    """Checks that the canvas of a row shows its image, pixel by pixel."""
    drawn = page.locator(f'[data-id="{row_id}"] canvas').evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        ".filter((_, place) => place % 4 === 0)"
    )
    assert drawn == expected[..., 0].ravel().tolist()


def test_cell_closes_by_button_and_by_a_click_beside(reports: Reports, visit: OpenPage) -> None:
    page = visit(page_file(reports, "report")).page
    dialog = page.get_by_role("dialog")
    page.locator("button.cell").first.click()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    page.locator("button.cell").first.click()
    expect(dialog).to_be_visible()
    page.mouse.click(5, 5)
    expect(dialog).to_be_hidden()


def test_matrix_is_one_stop_for_tab_and_arrows_move_within(reports: Reports, visit: OpenPage) -> None:
    page = visit(page_file(reports, "report")).page
    cells = page.locator("#matrix button.cell")
    assert cells.count() > 20
    stops = cells.evaluate_all("cells => cells.filter(cell => cell.tabIndex === 0).length")
    assert stops == 1
    cells.first.focus()
    assert page.evaluate("document.activeElement.dataset.pair") == "0-1"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    moved = page.evaluate("document.activeElement.dataset.pair")
    assert re.fullmatch(r"[2-9]-1", moved), moved
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_theme_button_changes_the_colours_and_is_remembered(reports: Reports, visit: OpenPage) -> None:
    page = visit(page_file(reports, "report")).page

    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = paper()
    button = page.locator("#theme")
    expect(button).to_contain_text("Auto")
    button.click()
    assert paper() == light
    button.click()
    expect(button).to_contain_text("Dark")
    dark = paper()
    assert dark != light
    page.reload()
    assert paper() == dark


def test_first_tab_skips_to_the_content(reports: Reports, visit: OpenPage) -> None:
    page = visit(page_file(reports, "report")).page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_history_leads_to_a_report_and_back(reports: Reports, visit: OpenPage) -> None:
    page = visit(page_file(reports, "history")).page
    page.get_by_role("link", name="Read this report").click()
    expect(page).to_have_url(page_file(reports, "report").as_uri())
    page.get_by_role("link", name="All reports").click()
    expect(page).to_have_url(page_file(reports, "history").as_uri())


def test_page_of_ten_thousand_rows_is_small(reports: Reports) -> None:
    assert load_report_data(reports.uri, reports.ids[-1]).record.rows == 10_000
    assert page_file(reports, "report").stat().st_size < MAX_PAGE_BYTES


@pytest.mark.parametrize("kind", KINDS)
def test_page_prints_in_light_colours_without_controls(
    reports: Reports, visit: OpenPage, kind: str, tmp_path: Path
) -> None:
    page = visit(page_file(reports, kind), scheme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    for hidden in (".contents", "#theme", ".skip"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator(".huge")).to_be_visible()
    # A4 less its margins, at 96 pixels an inch: nothing is cut off at the right.
    page.set_viewport_size({"width": 687, "height": 980})
    assert page.evaluate("document.documentElement.scrollWidth") <= 687
    page.screenshot(path=SHOTS / f"{kind}-print.png", full_page=True)
    pages = page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True).count(b"/Type /Page\n")
    assert 1 <= pages <= 12


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_run_nothing(hostile: Reports, visit: OpenPage, kind: str) -> None:
    opened: Visit = visit(page_file(hostile, kind))
    if kind == "report":
        opened.page.locator("[data-pair]").first.click()
        expect(opened.page.get_by_role("dialog").get_by_role("heading")).to_contain_text("predicted as")
    assert "<script>alert(1)</script>" in opened.page.locator("body").inner_text()
    assert opened.page.evaluate("document.querySelectorAll('img[src=x]').length") == 0


def test_pair_of_many_classes_opens_its_images(many: Reports, visit: OpenPage) -> None:
    page = visit(page_file(many, "report"), PHONE).page
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    assert page.locator("#matrix").count() == 0
    page.locator(".pairs button").first.click()
    expect(page.get_by_role("dialog").locator("canvas").first).to_be_visible()
    assert page.locator("canvas").first.evaluate("c => [c.width, c.height]") == [80, 96]
    page.keyboard.press("Escape")
    assert_accessible(page)


def test_page_works_without_script(reports: Reports, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file(reports, "report").as_uri())
    accuracy = load_report_data(reports.uri, reports.ids[-1]).overall["accuracy"]
    expect(page.locator(".huge")).to_have_text(f"{100 * accuracy:.1f}%")
    expect(page.locator("#mistakes img")).to_have_count(24)
    expect(page.locator("#theme")).to_be_hidden()
    context.close()
