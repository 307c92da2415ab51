"""A report and its gates in, a verdict for every check out, stored beside the report as the table `gates`.

A verdict is a function of the report, the gates and the baseline, none of which changes: whoever applies the same
gates again finds the same rows, written once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from cnnlib.errors import ConfigError, nearest
from cnnlib.gate_config import EARLIER, GateConfig, Limits
from cnnlib.gates.checks import Judged, judge, list_checks
from cnnlib.gates.evidence import weigh
from cnnlib.gates.verdicts import Verdict, worst
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import Report, complete_record, list_reports, read_report, resolve
from cnnlib.reports.schema import table_schema
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes, parquet_table

_DIGEST_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What became of a report's gates.

    Attributes:
        rows: of the table `gates`, as column -> value, one per check.
        exit_code: what the gates say that jobs.evaluate exits with.
    """

    report_id: str
    verdict: Verdict
    rows: Sequence[Mapping[str, Any]]
    exit_code: int

    def to_row(self) -> dict[str, Any]:
        """As JSON values."""
        return {"report_id": self.report_id, "verdict": self.verdict, "checks": list(self.rows)}


def check_gates(
    gates: GateConfig,
    reports_uri: str,
    class_names: Sequence[str],
    *,
    slice_by: Sequence[str],
    corruptions: bool,
) -> None:
    """Checks all of some gates that can be checked before anything is scored.

    Args:
        class_names: of the data set.
        slice_by: what the evaluation slices by.
        corruptions: whether it scores corrupted images too.

    Raises:
        ConfigError: a class that the data do not have, or a slice that the evaluation does not make.
        ReportError: no report has the id that is the baseline, or several have.
    """
    made = [*slice_by, *(["corruption"] if corruptions else [])]
    for table in ("min_accuracy", "max_drop"):
        limits: Limits = getattr(gates, table)
        for name in limits.classes:
            if name not in class_names:
                raise ConfigError(
                    f"{table}.classes: no class {name!r} in the data. {nearest(name, class_names)}"
                )
        for name in limits.slices:
            # source=web+brightness=q1 is made by source+brightness
            key = "+".join(part.partition("=")[0] for part in name.split("+"))
            if key not in made:
                known = f"made are {', '.join(made)}" if made else "none is made"
                raise ConfigError(
                    f"{table}.slices: the evaluation makes no slice {name!r}; {known}. "
                    "Give --slice-by or --corruptions."
                )
    if gates.baseline not in EARLIER:
        resolve(reports_uri, gates.baseline)


def apply_gates(reports_uri: str, report_id: str, gates: GateConfig) -> GateResult:
    """Judges a report by its gates and stores the verdicts, unless the same gates have met the same baseline before.

    Args:
        reports_uri: the folder of all reports.
        report_id: all 16 digits.

    Raises:
        ReportError: there is no such report, or no baseline of the id that the gates name.
    """
    report = read_report(reports_uri, report_id)
    baseline = (
        find_baseline(reports_uri, report.record, gates.baseline) if gates.max_drop.is_limiting else None
    )
    digest = publish.sha256_hex(publish.canonical_json(gates.to_dict()))
    met = {"gates": digest, "baseline": None if baseline is None else baseline.record.report_id}
    name = publish.sha256_hex(publish.canonical_json(met))[:_DIGEST_DIGITS]
    uri = layout.report_gates_table(reports_uri, report_id, name)
    if files.find_size(uri) is None:
        checks = list_checks(gates, [row["class_name"] for row in report.classes if row["support"]])
        judged = judge(checks, weigh(reports_uri, report, baseline, checks), gates.significance)
        table = _build_table(report_id, judged, gates, digest, met["baseline"])
        files.create_bytes(uri, parquet_bytes(table))
    rows = parquet_table(files.read_bytes(uri)).to_pylist()
    verdict = worst(row["verdict"] for row in rows)
    codes = {"pass": 0, "fail": gates.fail_exit_code, "inconclusive": gates.inconclusive_exit_code}
    return GateResult(report_id=report_id, verdict=verdict, rows=rows, exit_code=codes[verdict])


def find_baseline(reports_uri: str, record: ReportRecord, baseline: str) -> Report | None:
    """The report that a drop is measured against; None where there is none yet.

    Only earlier reports count, so that gates applied again to the same report meet the same baseline.

    Args:
        record: of the report that is judged.
        baseline: previous or best among the earlier reports of the same data, split and settings, or an id.

    Raises:
        ReportError: there is no report of that id.
    """
    if baseline not in EARLIER:
        return read_report(reports_uri, resolve(reports_uri, baseline))
    earlier = [each for each in list_reports(reports_uri) if _precedes(each, record)]
    if not earlier:
        return None
    # Newest first, so the newest of the best.
    found = (
        earlier[0] if baseline == "previous" else max(earlier, key=lambda each: each.accuracy.fraction or 0.0)
    )
    return complete_record(reports_uri, found)


def _precedes(other: ReportRecord, record: ReportRecord) -> bool:
    return (
        other.age < record.age
        and other.scored_rows == record.scored_rows
        and dict(other.subject.evaluation) == dict(record.subject.evaluation)
    )


def _build_table(
    report_id: str, judged: Sequence[Judged], gates: GateConfig, digest: str, baseline_id: str | None
) -> pa.Table:
    checked_at = datetime.now(UTC)
    rows = [
        {
            "report_id": report_id,
            "checked_at": checked_at,
            "gates_digest": digest,
            "check": each.check.check,
            "scope": each.check.scope,
            "slice": each.check.slice,
            "class_name": each.check.class_name,
            "limit": each.check.limit,
            "observed": each.evidence.observed,
            "observed_low": each.evidence.low,
            "observed_high": each.evidence.high,
            "p_value": each.p_value,
            "significance": gates.significance,
            "baseline_id": baseline_id if each.check.check == "max_drop" else None,
            "verdict": each.verdict,
            "reason": each.reason,
        }
        for each in judged
    ]
    return pa.Table.from_pylist(rows, schema=table_schema("gates"))
