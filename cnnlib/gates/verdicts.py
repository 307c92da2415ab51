"""The verdicts on reports: which of several is the worst, and the stored rows of the table `gates`.

Views read verdicts from here, so this file loads no test of significance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from cnnlib.errors import ReportError
from cnnlib.reports.earlier import find_previous
from cnnlib.reports.manifest import ReportRecord
from cnnlib.storage import files, layout
from cnnlib.storage.parquet import parquet_table
from cnnlib.storage.uri import uri_name

Verdict = Literal["pass", "inconclusive", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")
"""From the best to the worst."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Returns the worst of several verdicts: fail, else inconclusive, else pass.

    >>> worst(["pass", "inconclusive"])
    'inconclusive'
    """
    return max(verdicts, key=VERDICTS.index, default="pass")


def worst_first(row: Mapping[str, Any]) -> int:
    """Returns a sort key for rows of `gates`: the worst verdict comes first.

    >>> sorted([{"verdict": "pass"}, {"verdict": "fail"}], key=worst_first)
    [{'verdict': 'fail'}, {'verdict': 'pass'}]
    """
    return -VERDICTS.index(row["verdict"])


def read_gates(reports_uri: str, report_id: str) -> list[dict[str, Any]]:
    """Reads the rows of `gates` of a report, as column -> value; empty where no gate was evaluated.

    They belong to the gate with the latest time. A gate that is evaluated again keeps the time of its first evaluation.
    """
    return find_gates(reports_uri, {report_id}).get(report_id, [])


def read_rows(uri: str) -> list[dict[str, Any]]:
    """Reads the rows of `gates` of one gate, as column -> value.

    Raises:
        ReportError: the table is damaged.
    """
    try:
        rows: list[dict[str, Any]] = parquet_table(files.read_bytes(uri)).to_pylist()
    except (OSError, ValueError) as err:  # what Arrow raises
        raise ReportError(
            f"{uri} is damaged: {str(err).splitlines()[0]}. Delete it, and evaluate the gate again."
        ) from err
    return rows


def find_compared(
    record: ReportRecord, records: Sequence[ReportRecord], gates: Sequence[Mapping[str, Any]]
) -> ReportRecord | None:
    """Returns the report that one is compared with on a page; None without one.

    Args:
        record: of the report.
        records: of all reports.
        gates: rows of `gates` of the report: their baseline, if they had one, else the report before it.
    """
    ids = {row["baseline_id"] for row in gates if row["baseline_id"] is not None}
    baseline = next((each for each in records if each.report_id in ids), None)
    return baseline or find_previous(record, records)


def find_gates(reports_uri: str, report_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Reads what `read_gates` returns for several reports, by report id; reports without a gate are left out."""
    newest: dict[str, list[dict[str, Any]]] = {}
    for stored in files.list_objects(layout.report_gates(reports_uri)):
        report_id = uri_name(stored.uri).partition("-")[0]
        if report_id not in report_ids or not stored.uri.endswith(".parquet"):
            continue
        rows = read_rows(stored.uri)
        known = newest.get(report_id)
        if rows and (known is None or known[0]["checked_at"] <= rows[0]["checked_at"]):
            newest[report_id] = rows
    return newest
