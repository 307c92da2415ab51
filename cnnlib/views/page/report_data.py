"""A report's id in, the stored data of its page out. Reads storage, formats nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cnnlib.errors import CnnlibError, InputError
from cnnlib.gates.verdicts import find_compared, read_gates
from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.reports.comparison import Comparison, compare_reports
from cnnlib.reports.confusion import to_confusion
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.predictions import SHARD, read_predictions
from cnnlib.reports.read import Report, complete_record, list_reports, read_report, read_table
from cnnlib.runs.history import EpochRecord, decode_history
from cnnlib.storage import files, layout
from cnnlib.storage.uri import uri_name
from cnnlib.views.page.images import RowImages, read_images
from cnnlib.views.page.sections.confusion import MAX_MATRIX_CLASSES, worst_pairs
from cnnlib.views.page.sections.mistakes import Pair, ShownMistakes, choose_mistakes

MAX_PREDICTIONS = 5_000_000
"""With more rows a page shows no individual mistake and no comparison: both read all predictions."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a report, its dataset, its training run and the previous report state.

    Attributes:
        overall: row of the table `overall` for the whole split.
        classes: rows of `per_class` for the whole split, in the order of the class indexes.
        slices: rows of `overall` for the slices.
        counts: the confusion counts.
        calibration: rows of `calibration` for the predicted class's probability.
        activations: rows of `activations`.
        gates: rows of `gates` from the last time that gates were evaluated.
        mistakes: the mistakes to show; none without stored predictions.
        images: images of these mistakes.
        notes: sentences that say what is missing and why.
        history: of the training run; empty if it cannot be read.
        previous: the report that this one is compared with: the gate's baseline, or the report before it of the same
            run, else of the same recipe and model; None without one.
        comparison: of this report with the previous one, row by row if both have predictions; None without a previous
            one, and for more rows than `MAX_PREDICTIONS`.
    """

    record: ReportRecord
    overall: Row
    classes: Sequence[Row]
    slices: Sequence[Row]
    counts: ConfusionCounts
    calibration: Sequence[Row]
    activations: Sequence[Row]
    gates: Sequence[Row]
    mistakes: ShownMistakes
    images: RowImages
    notes: Sequence[str]
    history: Sequence[EpochRecord]
    previous: Report | None
    comparison: Comparison | None


def load_report_data(
    reports_uri: str, report_id: str, records: Sequence[ReportRecord] | None = None
) -> ReportData:
    """Reads the data of a report's page. Optional data that is missing or unreadable is left out.

    Args:
        reports_uri: the folder of all reports.
        report_id: all 16 digits.
        records: the records of all reports, newest first; None: this function reads them.

    Raises:
        ReportError: there is no such report, or it is damaged.
    """
    report = read_report(reports_uri, report_id)
    record = report.record
    cells = read_table(reports_uri, "confusion", [report_id])
    counts = to_confusion(cells, len(record.subject.class_names))
    predictions, notes = _find_predictions(reports_uri, record)
    mistakes = (
        ShownMistakes() if predictions is None else choose_mistakes(predictions, _pairs_to_show(counts))
    )
    images = _find_images(record, mistakes, predictions)
    gates = read_gates(reports_uri, report_id)
    previous = _find_previous(reports_uri, record, records or list_reports(reports_uri), gates)
    return ReportData(
        record=record,
        overall=report.overall,
        classes=report.classes,
        slices=report.slices,
        counts=counts,
        calibration=[
            row for row in _find_rows(reports_uri, record, "calibration") if row["class_index"] is None
        ],
        activations=_find_rows(reports_uri, record, "activations"),
        gates=gates,
        mistakes=mistakes,
        images=images,
        notes=[note for note in (*notes, images.missing) if note],
        history=_find_history(record),
        previous=previous,
        comparison=_find_comparison(reports_uri, previous, report),
    )


def _pairs_to_show(counts: ConfusionCounts) -> set[Pair] | None:
    return None if counts.num_classes <= MAX_MATRIX_CLASSES else set(worst_pairs(counts))


def _find_rows(reports_uri: str, record: ReportRecord, table: str) -> list[Row]:
    if table not in record.tables:
        return []  # an older version of cnnlib wrote the report
    rows: list[Row] = read_table(reports_uri, table, [record.report_id]).to_pylist()
    return rows


def _find_predictions(reports_uri: str, record: ReportRecord) -> tuple[pa.Table | None, tuple[str, ...]]:
    """Returns the stored predictions, or None and a sentence that says why."""
    if record.predictions is None:
        return None, ("Individual mistakes are not shown: this report was made without predictions.",)
    if record.rows > MAX_PREDICTIONS:
        return None, (
            f"Individual mistakes are not shown: this split has more than {MAX_PREDICTIONS:,} rows.",
        )
    try:
        return read_predictions(reports_uri, record.report_id, with_shards=True), ()
    except InputError as err:
        return None, (f"Individual mistakes are not shown. {err}",)


def _find_images(record: ReportRecord, mistakes: ShownMistakes, predictions: pa.Table | None) -> RowImages:
    ids, subject = mistakes.ids, record.subject
    if predictions is None or not ids:
        return RowImages(by_id={})
    rows = predictions.filter(pc.is_in(predictions["id"], pa.array(ids, pa.int64())))
    shards = dict(zip(rows["id"].to_pylist(), rows[SHARD].to_pylist(), strict=True))
    shard_of = {row_id: shards[row_id] for row_id in ids}
    return read_images(subject.dataset_uri, subject.dataset_fingerprint, subject.split, shard_of)


def _find_history(record: ReportRecord) -> list[EpochRecord]:
    """Returns the history of the checkpoint's run (RUNS/NAME/checkpoints/epoch-0001); empty without one."""
    checkpoint = record.subject.checkpoint_uri
    run, epoch = layout.run_of_checkpoint(checkpoint), layout.find_epoch(uri_name(checkpoint))
    if epoch is None or layout.checkpoint_uri(run, epoch) != checkpoint:
        return []
    try:
        return decode_history(files.read_bytes(layout.run_history(run)))
    except (CnnlibError, TypeError, pa.ArrowInvalid):
        return []  # gone, not readable, or of another version: the page needs no history


def _find_previous(
    reports_uri: str, record: ReportRecord, records: Sequence[ReportRecord], gates: Sequence[Row]
) -> Report | None:
    """Returns the baseline of the gate, or without one what would be; None without one, or if it is damaged."""
    found = find_compared(record, records, gates)
    try:
        return None if found is None else complete_record(reports_uri, found)
    except CnnlibError:
        return None  # it is damaged: its own page reports that


def _find_comparison(reports_uri: str, previous: Report | None, report: Report) -> Comparison | None:
    if previous is None or report.record.rows > MAX_PREDICTIONS:
        return None
    return compare_reports(reports_uri, previous, report)
