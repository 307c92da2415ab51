"""Reports in, tables for a terminal of 80 columns out, as rich renderables. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from cnnlib.metrics.per_class import Proportion
from cnnlib.reports.compare import Difference, accuracy_of, compare_accuracies, compare_classes
from cnnlib.reports.read import Report, ReportRecord
from cnnlib.storage.uri import uri_name

_SHORT_ID_DIGITS = 8
_NOTHING = "-"

# Header to kind. A name is folded and not cut, as its rest may be what tells two apart; others stay whole.
Columns = Mapping[str, Literal["name", "word", "number"]]

_LIST_COLUMNS: Columns = {
    "report": "word",
    "evaluated (UTC)": "word",
    "model": "name",
    "data": "name",
    "accuracy": "number",
    "95 % range": "number",
}
_REPORT_COLUMNS: Columns = {
    "class": "name",
    "support": "number",
    "correct": "number",
    "accuracy": "number",
    "95 % range": "number",
    "prec.": "number",
    "F1": "number",
    "confused with": "name",
}
_FIGURE_COLUMNS: Columns = {"figure": "name", "value": "number", "95 % range": "number"}
_SLICE_COLUMNS: Columns = {
    "slice": "name",
    "rows": "number",
    "correct": "number",
    "accuracy": "number",
    "95 % range": "number",
    "macro F1": "number",
    "loss": "number",
}
_COMPARISON_COLUMNS: Columns = {
    "class": "name",
    "A": "number",
    "95 % range of A": "number",
    "B": "number",
    "95 % range of B": "number",
    "B - A": "number",
    "": "word",
}


def render_list(records: Sequence[ReportRecord]) -> RenderableType:
    """One line per report, in the order given."""
    table = _new_table(_LIST_COLUMNS)
    for record in records:
        table.add_row(
            record.report_id[:_SHORT_ID_DIGITS],
            f"{record.evaluated_at:%Y-%m-%d %H:%M}",
            Text(describe_model(record)),
            Text(describe_data(record)),
            *_format_accuracy(record.accuracy),
        )
    return table


def render_report(report: Report) -> RenderableType:
    """The figures of every class and of all together, under a line that says what they are of."""
    record = report.record
    totals = ("all", str(record.rows), str(record.correct), *_format_accuracy(record.accuracy))
    table = _new_table(_REPORT_COLUMNS, totals)
    for row in report.classes:
        table.add_row(
            Text(row["class_name"]),
            str(row["support"]),
            str(row["correct"]),
            *_format_accuracy(accuracy_of(row)),
            _format_percent(row["precision"]),
            _format_percent(row["f1"]),
            Text(_describe_confusion(row)),
        )
    parts: list[RenderableType] = [_heading("report", record), "", table, Text(_describe_totals(record))]
    if report.overall["macro_f1"] is not None:
        parts += ["", _figures_table(report.overall)]
    if report.slices:
        parts += ["", _slices_table(report.slices)]
    return Group(*parts)


def render_comparison(a: Report, b: Report) -> RenderableType:
    """Two reports side by side: both accuracies, and how many percentage points B lies above A."""
    overall = compare_accuracies("all", a.record.accuracy, b.record.accuracy)
    table = _new_table(_COMPARISON_COLUMNS, (overall.name, *_format_difference(overall)))
    for difference in compare_classes(a.classes, b.classes):
        table.add_row(Text(difference.name), *_format_difference(difference))
    notes = ["B - A in points; * where the 95 % ranges do not overlap (a hint, not a test)."]
    if _scored_rows(a.record) != _scored_rows(b.record):
        notes.append("A and B were scored on different rows: their dataset or split differs.")
    return Group(_heading("A", a.record), _heading("B", b.record), "", table, *map(Text, notes))


def describe_model(record: ReportRecord) -> str:
    """What was evaluated, as `--checkpoint` names it: `demo@2`, or the name of a file."""
    subject = record.subject
    if subject.run is None:
        return subject.model or uri_name(subject.checkpoint_uri)
    return subject.run if subject.checkpoint_epoch is None else f"{subject.run}@{subject.checkpoint_epoch}"


def describe_data(record: ReportRecord) -> str:
    """What it was evaluated on, the dataset's folder and the split: `fashion-mnist/test`."""
    return f"{uri_name(record.subject.dataset_uri)}/{record.subject.split}"


def _figures_table(overall: Mapping[str, Any]) -> RenderableType:
    """The figures of all classes together that are no share of rows; those that are not defined are left out."""
    table = _new_table(_FIGURE_COLUMNS)
    for column, (title, form) in _FIGURES.items():
        value, low, high = (overall[f"{column}{end}"] for end in ("", "_low", "_high"))
        if value is None:
            continue
        ends = _NOTHING if low is None else f"{form(low)}-{form(high)}"
        table.add_row(title, form(value) + _describe_error(overall.get(f"{column}_error")), ends)
    return table


def _describe_error(error: float | None) -> str:
    return f" ±{error:.1g}" if error else ""


def _slices_table(slices: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The figures of every part of the split."""
    table = _new_table(_SLICE_COLUMNS)
    for row in slices:
        table.add_row(
            Text(row["slice"]),
            str(row["rows"]),
            str(row["correct"]),
            *_format_accuracy(accuracy_of(row)),
            _format_percent(row["macro_f1"]),
            _NOTHING if row["loss"] is None else f"{row['loss']:.4f}",
        )
    return table


def _new_table(columns: Columns, totals: Sequence[str] = ()) -> Table:
    """An empty table, with a last line of totals for its first columns."""
    table = Table(
        box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, show_footer=bool(totals)
    )
    footers = [*totals, *[""] * (len(columns) - len(totals))]
    for (header, kind), footer in zip(columns.items(), footers, strict=True):
        justify: JustifyMethod = "right" if kind == "number" else "left"
        table.add_column(header, footer, justify=justify, overflow="fold", no_wrap=kind != "name")
    return table


def _heading(title: str, record: ReportRecord) -> Text:
    text = f"{describe_model(record)} on {describe_data(record)}, {record.evaluated_at:%Y-%m-%d %H:%M} UTC"
    return Text.assemble((f"{title} {record.report_id}", "bold"), f"  {text}")


def _scored_rows(record: ReportRecord) -> tuple[str, str]:
    return record.subject.dataset_fingerprint, record.subject.split


def _describe_totals(record: ReportRecord) -> str:
    if record.loss is None or record.accuracy.share is None or record.top_k_accuracy is None:
        return "The split has no rows."
    speed = f" ({record.rows / record.seconds:.0f} images/s)" if record.seconds else ""
    return (
        f"accuracy {record.accuracy.share:.2%}, top-{record.top_k} {record.top_k_accuracy:.2%}, "
        f"loss {record.loss:.4f}; {record.rows} rows in {record.seconds:.1f} s{speed}"
    )


def _describe_confusion(row: Mapping[str, Any]) -> str:
    if row["most_confused_with"] is None:
        return _NOTHING
    return f"{row['most_confused_with']} {row['most_confused_count']}"


def _format_difference(difference: Difference) -> tuple[str, ...]:
    points = _NOTHING if difference.points is None else f"{difference.points:+.1f}"
    mark = "" if difference.intervals_overlap else "*"
    return *_format_accuracy(difference.a), *_format_accuracy(difference.b), points, mark


def _format_accuracy(accuracy: Proportion) -> tuple[str, str]:
    """An accuracy and its interval in percent."""
    if accuracy.share is None:
        return _NOTHING, _NOTHING
    return _format_percent(
        accuracy.share
    ), f"{_format_percent(accuracy.low)}-{_format_percent(accuracy.high)}"


def _format_percent(share: float | None) -> str:
    return _NOTHING if share is None else f"{100 * share:.1f}"


def _format_number(value: float) -> str:
    return f"{value:.4f}"


# Column of `overall` to its title and form, in the order shown.
_FIGURES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "macro_accuracy": ("macro accuracy %", _format_percent),
    "macro_precision": ("macro precision %", _format_percent),
    "macro_f1": ("macro F1 %", _format_percent),
    "weighted_precision": ("weighted precision %", _format_percent),
    "weighted_f1": ("weighted F1 %", _format_percent),
    "macro_auc": ("macro ROC AUC", _format_number),
    "weighted_auc": ("weighted ROC AUC", _format_number),
    "macro_average_precision": ("macro average precision", _format_number),
    "loss": ("loss", _format_number),
    "brier": ("Brier score", _format_number),
    "ece": ("calibration error", _format_number),
}
