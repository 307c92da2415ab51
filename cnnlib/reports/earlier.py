"""A report and all others in, the earlier report that it is compared with out. Reads nothing.

`previous` is the report before it of the same run. The first report of a run is compared with an earlier run of the
same recipe and model, as far as that run had trained then: a first epoch is not worse because an earlier run has
finished. Two models of different recipes are no series, so none of them is a regression of the other.

What is earlier is decided by when a model was trained, or for a model of unknown origin by when it was first scored on
the rows: neither the order of an evaluation nor a second report, such as one with other slices, makes it a later model.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cnnlib.reports.manifest import ReportRecord

# The settings that decide how the rows are scored. Others, such as slice_by, only add rows to a report; class_map only
# says which output of a model is which class of the data.
_DECIDING = ("pixel_range", "outputs", "tta")


def find_previous(
    record: ReportRecord, records: Sequence[ReportRecord], *, is_final: bool = False
) -> ReportRecord | None:
    """Finds the report before one; None where there is none.

    Args:
        record: of the report that is compared.
        records: of all reports, in any order.
        is_final: True if its model is a result of its run, the last or the best one. It is then compared with the
            last one of an earlier run, even if that run had trained longer.
    """
    earlier = _find_earlier(record, records)
    of_run = [each for each in earlier if _is_of_run(each, record) and _epoch(each) < _epoch(record)]
    if of_run:
        return max(of_run, key=lambda each: (_epoch(each), each.age))
    return _find_in_previous_run(record, earlier, is_final=is_final)


def find_previous_run(
    record: ReportRecord, records: Sequence[ReportRecord], *, is_final: bool = False
) -> ReportRecord | None:
    """Finds the report of the last earlier run of the same recipe and model; see `find_previous` for `is_final`."""
    return _find_in_previous_run(record, _find_earlier(record, records), is_final=is_final)


def is_replaced(record: ReportRecord, records: Sequence[ReportRecord]) -> bool:
    """Returns whether a later run of the same recipe and model has a report on the same rows."""
    first_seen = _first_seen(record, records)
    return any(
        first_seen[each.subject.checkpoint_digest] > first_seen[record.subject.checkpoint_digest]
        and _replaces(each, record)
        for each in records
        if _is_comparable(each, record)
    )


def find_best_of_run(record: ReportRecord, records: Sequence[ReportRecord]) -> ReportRecord | None:
    """Finds the most accurate earlier report of the same run, the newest among equals; None where there is none."""
    return _find_best([each for each in _find_earlier(record, records) if _is_of_run(each, record)])


def find_best(record: ReportRecord, records: Sequence[ReportRecord]) -> ReportRecord | None:
    """Finds the most accurate earlier report of any run, the newest among equals; None where there is none."""
    return _find_best(_find_earlier(record, records))


def find_last_of_run(record: ReportRecord, records: Sequence[ReportRecord], run: str) -> ReportRecord | None:
    """Finds the report of the last epoch of a named run, other than this report's own model; None without one."""
    found = [each for each in records if each.subject.run == run and _is_comparable(each, record)]
    return max(found, key=lambda each: (_epoch(each), each.age), default=None)


def _find_best(records: Sequence[ReportRecord]) -> ReportRecord | None:
    return max(records, key=lambda each: (each.accuracy.fraction or 0.0, each.age), default=None)


def _is_comparable(other: ReportRecord, record: ReportRecord) -> bool:
    """Returns whether another model was scored on the same rows in the same way."""
    ours, theirs = record.subject.evaluation, other.subject.evaluation
    return (
        other.subject.checkpoint_digest != record.subject.checkpoint_digest
        and other.scored_rows == record.scored_rows
        and all(theirs.get(name) == ours.get(name) for name in _DECIDING)
    )


Age = tuple[datetime, int, str]


def _first_seen(record: ReportRecord, records: Sequence[ReportRecord]) -> dict[str, Age]:
    """Returns when each model with a report on the same rows came into being, by the digest of its checkpoint."""
    found = {record.subject.checkpoint_digest: _origin(record)}
    for each in records:
        digest = each.subject.checkpoint_digest
        if each.scored_rows == record.scored_rows:
            found[digest] = min(found.get(digest, _origin(each)), _origin(each))
    return found


def _origin(record: ReportRecord) -> Age:
    trained_at = record.subject.trained_at
    evaluated_at, epoch, report_id = record.age
    return evaluated_at if trained_at is None else datetime.fromisoformat(trained_at), epoch, report_id


def _find_earlier(record: ReportRecord, records: Sequence[ReportRecord]) -> list[ReportRecord]:
    """Returns the comparable reports of models that were scored before, the model that came last at the end."""
    first_seen = _first_seen(record, records)
    own = first_seen[record.subject.checkpoint_digest]
    found = [
        each
        for each in records
        if _is_comparable(each, record) and first_seen[each.subject.checkpoint_digest] < own
    ]
    return sorted(found, key=lambda each: (first_seen[each.subject.checkpoint_digest], each.age))


def _find_in_previous_run(
    record: ReportRecord, earlier: Sequence[ReportRecord], *, is_final: bool
) -> ReportRecord | None:
    """Finds the report of the last run before among earlier reports, those of the last model at the end."""
    alike = [each for each in earlier if _replaces(record, each)]
    if not alike:
        return None
    run = [each for each in alike if _is_of_run(each, alike[-1])]
    reached = [each for each in run if is_final or _epoch(each) <= _epoch(record)]
    return max(reached, key=lambda each: (_epoch(each), each.age), default=None)


def _is_of_run(other: ReportRecord, record: ReportRecord) -> bool:
    """Returns whether two models are of one run; each file of unknown origin is a run of its own."""
    if record.subject.run is None:
        return other.subject.run is None and other.subject.checkpoint_uri == record.subject.checkpoint_uri
    ours, theirs = record.subject, other.subject
    return (theirs.run, theirs.model, theirs.run_started_at) == (ours.run, ours.model, ours.run_started_at)


def _replaces(record: ReportRecord, other: ReportRecord) -> bool:
    """Returns whether a model is of another run of the same recipe and model, also of a run whose name it took over."""
    ours, theirs = record.subject, other.subject
    same = (theirs.model, theirs.recipe, theirs.run is None) == (ours.model, ours.recipe, ours.run is None)
    return same and (theirs.checkpoint_uri == ours.checkpoint_uri or not _is_of_run(other, record))


def _epoch(record: ReportRecord) -> int:
    return record.subject.checkpoint_epoch or 0
