"""Reports in, tables for a terminal of 80 columns out, as rich renderables. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from cnnlib.metrics.intervals import Proportion
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.percent import format_percent
from cnnlib.reports.read import Report
from cnnlib.reports.subject import SHORT_ID_DIGITS

NOTHING = "-"
MAX_CLASSES = 100
"""A table has at most this many lines of classes."""

# Header to kind. A long name is folded, not cut: two names may differ only at the end. Words and numbers stay whole.
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
_METRIC_COLUMNS: Columns = {"metric": "name", "value": "number", "95 % range": "number"}
_SLICE_COLUMNS: Columns = {
    "slice": "name",
    "rows": "number",
    "correct": "number",
    "accuracy": "number",
    "95 % range": "number",
    "macro F1": "number",
    "loss": "number",
}


def render_list(records: Sequence[ReportRecord]) -> RenderableType:
    """Renders a list of reports, one per line, in the order given."""
    table = new_table(_LIST_COLUMNS)
    for record in records:
        table.add_row(
            record.report_id[:SHORT_ID_DIGITS],
            f"{record.evaluated_at:%Y-%m-%d %H:%M}",
            Text(record.subject.model_label),
            Text(record.subject.data_label),
            *format_accuracy(record.accuracy),
        )
    return table


def render_report(report: Report) -> RenderableType:
    """Renders the metrics of every class, of all classes and of the slices, under a heading."""
    record = report.record
    totals = ("all", str(record.rows), str(record.correct), *format_accuracy(record.accuracy))
    table = new_table(_REPORT_COLUMNS, totals)
    shown = _classes_to_show(report.classes)
    for row in shown:
        table.add_row(
            Text(row["class_name"]),
            str(row["support"]),
            str(row["correct"]),
            *format_accuracy(_accuracy_of(row)),
            percent_cell(row["precision"]),
            percent_cell(row["f1"]),
            Text(_describe_confusion(row)),
        )
    parts: list[RenderableType] = [heading("report", record), "", table]
    if len(shown) < len(report.classes):
        parts.append(describe_left_out(len(report.classes) - len(shown), "with a higher accuracy"))
    parts.append(Text(_describe_totals(record)))
    if report.overall["macro_f1"] is not None:
        parts += ["", _metrics_table(report.overall)]
    if report.slices:
        parts += ["", _slices_table(report.slices)]
    return Group(*parts)


def describe_left_out(count: int, which: str) -> Text:
    """Returns a line that says how many classes a table leaves out, and where they are."""
    return Text(f"{count:,} more classes, {which}, are in the table per_class (Parquet) and in --json.")


def _classes_to_show(classes: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Returns all classes or, of more than `MAX_CLASSES`, those with the lowest accuracy, the lowest first."""
    if len(classes) <= MAX_CLASSES:
        return classes
    known = [row for row in classes if row["accuracy"] is not None]
    # Of classes with equal accuracy first those with most rows, which have the narrowest intervals.
    return sorted(known, key=lambda row: (float(row["accuracy"]), float(row["accuracy_high"])))[:MAX_CLASSES]


def _metrics_table(overall: Mapping[str, Any]) -> RenderableType:
    """Renders the metrics of all classes together; those that are not defined are left out."""
    table = new_table(_METRIC_COLUMNS)
    for column, (title, format_value) in _METRICS.items():
        value, low, high = (overall[f"{column}{end}"] for end in ("", "_low", "_high"))
        if value is None:
            continue
        ends = NOTHING if low is None else f"{format_value(low)}-{format_value(high)}"
        table.add_row(title, format_value(value) + _describe_error(overall.get(f"{column}_error")), ends)
    return table


def _describe_error(error: float | None) -> str:
    return f" ±{error:.1g}" if error else ""


def _slices_table(slices: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Renders the metrics of every slice."""
    table = new_table(_SLICE_COLUMNS)
    for row in slices:
        table.add_row(
            Text(row["slice"]),
            str(row["rows"]),
            str(row["correct"]),
            *format_accuracy(_accuracy_of(row)),
            percent_cell(row["macro_f1"]),
            NOTHING if row["loss"] is None else f"{row['loss']:.4f}",
        )
    return table


def new_table(columns: Columns, totals: Sequence[str] = ()) -> Table:
    """Returns an empty table, with a footer of totals for its first columns."""
    table = Table(
        box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, show_footer=bool(totals)
    )
    footers = [*totals, *[""] * (len(columns) - len(totals))]
    for (header, kind), footer in zip(columns.items(), footers, strict=True):
        justify: JustifyMethod = "right" if kind == "number" else "left"
        table.add_column(header, footer, justify=justify, overflow="fold", no_wrap=kind != "name")
    return table


def heading(title: str, record: ReportRecord) -> Text:
    """Returns a line with the report's id, model, data and time."""
    text = f"{record.subject.model_label} on {record.subject.data_label}, {record.evaluated_at:%Y-%m-%d %H:%M} UTC"
    return Text.assemble((f"{title} {record.report_id}", "bold"), f"  {text}")


def _describe_totals(record: ReportRecord) -> str:
    if record.accuracy.fraction is None:
        return "The split has no rows."
    accuracy = f"accuracy {format_percent(record.accuracy.fraction, 2)}"
    if record.loss is None or record.top_k_accuracy is None:
        return f"{accuracy}; {record.rows} rows, of which only the predicted classes are known"
    speed = f" ({record.rows / record.seconds:.0f} images/s)" if record.seconds else ""
    return (
        f"{accuracy}, "
        f"top-{record.top_k} {format_percent(record.top_k_accuracy, 2)}, "
        f"loss {record.loss:.4f}; {record.rows} rows in {record.seconds:.1f} s{speed}"
    )


def _accuracy_of(row: Mapping[str, Any]) -> Proportion:
    """Returns the accuracy of a row of `per_class` or `overall`, with its interval."""
    return Proportion(row["accuracy"], row["accuracy_low"], row["accuracy_high"])


def _describe_confusion(row: Mapping[str, Any]) -> str:
    if row["most_confused_with"] is None:
        return NOTHING
    return f"{row['most_confused_with']} {row['most_confused_count']}"


def format_accuracy(accuracy: Proportion) -> tuple[str, str]:
    """Returns an accuracy and its interval in percent, for two columns."""
    if accuracy.fraction is None:
        return NOTHING, NOTHING
    return percent_cell(accuracy.fraction), f"{percent_cell(accuracy.low)}-{percent_cell(accuracy.high)}"


def percent_cell(fraction: float | None) -> str:
    """Returns a fraction in percent, for a column whose header says so."""
    return format_percent(fraction, unit="", if_none=NOTHING)


def _format_number(value: float) -> str:
    return f"{value:.4f}"


# Column of `overall` to its title and format, in the order of the table.
_METRICS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "macro_accuracy": ("macro accuracy %", percent_cell),
    "macro_precision": ("macro precision %", percent_cell),
    "macro_f1": ("macro F1 %", percent_cell),
    "weighted_precision": ("weighted precision %", percent_cell),
    "weighted_f1": ("weighted F1 %", percent_cell),
    "macro_auc": ("macro ROC AUC", _format_number),
    "weighted_auc": ("weighted ROC AUC", _format_number),
    "macro_average_precision": ("macro average precision", _format_number),
    "loss": ("loss", _format_number),
    "brier": ("Brier score", _format_number),
    "ece": ("calibration error", _format_number),
}
