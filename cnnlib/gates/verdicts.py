"""What gates said of reports: the verdicts, which of them is the worst, and the stored rows of the table `gates`.

Loads no test of significance: whoever shows verdicts does not judge anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from cnnlib.storage import files, layout
from cnnlib.storage.parquet import parquet_table
from cnnlib.storage.uri import uri_name

Verdict = Literal["pass", "inconclusive", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")
"""From the best to the worst."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of some verdicts: fail, else inconclusive, else pass.

    >>> worst(["pass", "inconclusive"])
    'inconclusive'
    """
    return max(verdicts, key=VERDICTS.index, default="pass")


def worst_first(row: Mapping[str, Any]) -> int:
    """A key that sorts rows of `gates` by their verdict.

    >>> sorted([{"verdict": "pass"}, {"verdict": "fail"}], key=worst_first)
    [{'verdict': 'fail'}, {'verdict': 'pass'}]
    """
    return -VERDICTS.index(row["verdict"])


def read_gates(reports_uri: str, report_id: str) -> list[dict[str, Any]]:
    """The rows of `gates` of a report, as column -> value: of those gates that were applied to it last.

    Gates that are applied again keep the time of the first. Empty where none were.
    """
    return find_gates(reports_uri, {report_id}).get(report_id, [])


def find_gates(reports_uri: str, report_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The same of several reports, by report; nothing of one without gates."""
    newest: dict[str, list[dict[str, Any]]] = {}
    for stored in files.list_objects(layout.report_gates(reports_uri)):
        report_id = uri_name(stored.uri).partition("-")[0]
        if report_id not in report_ids or not stored.uri.endswith(".parquet"):
            continue
        rows = parquet_table(files.read_bytes(stored.uri)).to_pylist()
        known = newest.get(report_id)
        if rows and (known is None or known[0]["checked_at"] <= rows[0]["checked_at"]):
            newest[report_id] = rows
    return newest
