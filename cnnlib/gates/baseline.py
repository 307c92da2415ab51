"""A report and its gate's `baseline` in, the report that drops are measured against out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from cnnlib.errors import ConfigError, InputError, ReportError, nearest
from cnnlib.gate_config import EARLIER, find_baseline_run
from cnnlib.reports import earlier
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import Report, complete_record, list_reports, read_report, resolve
from cnnlib.reports.subject import ReportSubject
from cnnlib.runs.checkpoints import last_and_best, list_checkpoints
from cnnlib.storage import files, layout


def find_baseline(
    reports_uri: str, record: ReportRecord, baseline: str, records: Sequence[ReportRecord] | None = None
) -> Report | None:
    """Finds the report that a drop is measured against; None where there is none yet.

    Args:
        reports_uri: the folder of all reports.
        record: of the report that the gate is evaluated on.
        baseline: as `GateConfig.baseline`.
        records: of all reports; None: this function reads them.

    Raises:
        ReportError: there is no report with that id.
    """
    run = find_baseline_run(baseline)
    if run is None and baseline not in EARLIER:
        return read_report(reports_uri, resolve(reports_uri, baseline))
    known = list_reports(reports_uri) if records is None else records
    if run is not None:
        found = earlier.find_last_of_run(record, known, run)
    elif baseline == "best":
        found = earlier.find_best(record, known)
    elif baseline == "best-of-run":
        found = earlier.find_best_of_run(record, known)
    elif baseline == "previous-run":
        found = earlier.find_previous_run(record, known, is_final=is_result(record.subject))
    else:
        found = _find_previous(record, known)
    return None if found is None else complete_record(reports_uri, found)


def _find_previous(record: ReportRecord, records: Sequence[ReportRecord]) -> ReportRecord | None:
    found = earlier.find_previous(record, records, is_final=True)
    if found is None or found.subject.run == record.subject.run or is_result(record.subject):
        return found
    return earlier.find_previous(record, records)


def is_result(subject: ReportSubject) -> bool:
    """Returns whether a model is the result of its run: the last or the best checkpoint, and nobody trains it on.

    A model file of unknown origin is a result.
    """
    if subject.run is None:
        return True
    run = layout.run_of_checkpoint(subject.checkpoint_uri)
    try:
        if files.find_size(layout.run_lease(run)) is not None:
            return False
        checkpoints = list_checkpoints(run)
    except InputError:
        return False
    return bool(checkpoints) and subject.checkpoint_uri in {each.uri for each in last_and_best(checkpoints)}


def check_baseline(reports_uri: str, baseline: str, subjects: Sequence[ReportSubject]) -> None:
    """Checks that the report or the run that a gate names as its baseline exists.

    Args:
        reports_uri: the folder of all reports.
        baseline: as `GateConfig.baseline`; not one that is chosen among earlier reports.
        subjects: of the reports that are about to be written.

    Raises:
        ConfigError: no report is of that run, or will be.
        ReportError: no report has that id, or several have.
    """
    run = find_baseline_run(baseline)
    if run is None:
        resolve(reports_uri, baseline)
        return
    runs = {subject.run for subject in subjects}
    if run in runs:
        return
    with suppress(ReportError):  # there are no reports yet
        runs |= {record.subject.run for record in list_reports(reports_uri)}
    if run not in runs:
        names = sorted(name for name in runs if name is not None)
        raise ConfigError(
            f"baseline: no report of a run {run!r} in {reports_uri}. "
            + (nearest(run, names) if names else "Evaluate that run first.")
        )
