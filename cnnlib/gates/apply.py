"""A report and its gate in, the verdict on every check out, stored beside the report as the table `gates`.

Verdicts are stored once for a report and a gate, with the baseline of that moment. Evaluating the same gate again finds
them, whatever reports were added or deleted since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from cnnlib.gate_config import GateConfig
from cnnlib.gates.baseline import find_baseline
from cnnlib.gates.checks import CheckResult, evaluate_checks, list_checks
from cnnlib.gates.evidence import collect_evidence
from cnnlib.gates.verdicts import Verdict, read_rows, worst
from cnnlib.reports.manifest import ReportRecord
from cnnlib.reports.read import Report, read_report
from cnnlib.reports.schema import table_schema
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes

_DIGEST_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The result of a report's gate.

    Attributes:
        rows: the rows of the table `gates`, one per check, as column -> value.
        exit_code: the exit code that the gate sets for its verdict.
    """

    report_id: str
    verdict: Verdict
    rows: Sequence[Mapping[str, Any]]
    exit_code: int

    def to_row(self) -> dict[str, Any]:
        """Returns the verdict and the checks as JSON values."""
        return {"report_id": self.report_id, "verdict": self.verdict, "checks": list(self.rows)}


def apply_gates(
    reports_uri: str, report_id: str, gate: GateConfig, records: Sequence[ReportRecord] | None = None
) -> GateResult:
    """Evaluates a gate on a report and stores the verdicts, unless they are stored for this gate.

    Args:
        reports_uri: the folder of all reports.
        report_id: all 16 digits.
        records: of all reports, for the choice of the baseline; None: they are read.

    Raises:
        ReportError: there is no such report, or no report with the id that the gate names as its baseline.
    """
    digest = publish.sha256_hex(publish.canonical_json(gate.to_dict()))
    uri = layout.report_gates_table(reports_uri, report_id, digest[:_DIGEST_DIGITS])
    if files.find_size(uri) is None:
        report = read_report(reports_uri, report_id)
        baseline = _find_baseline(reports_uri, report.record, gate, records)
        checks = list_checks(gate, [row["class_name"] for row in report.classes if row["support"]])
        evidence = collect_evidence(reports_uri, report, baseline, checks, gate.baseline)
        results = evaluate_checks(checks, evidence, gate.significance)
        baseline_id = None if baseline is None else baseline.record.report_id
        files.create_bytes(uri, parquet_bytes(_build_table(report_id, results, gate, digest, baseline_id)))
    # Read back: another writer may have stored the rows first, with its own time.
    rows = read_rows(uri)
    verdict = worst(row["verdict"] for row in rows)
    codes = {"pass": 0, "fail": gate.fail_exit_code, "inconclusive": gate.inconclusive_exit_code}
    return GateResult(report_id=report_id, verdict=verdict, rows=rows, exit_code=codes[verdict])


def exit_code(results: Sequence[GateResult]) -> int:
    """Returns the exit code of the worst of several results; 0 without any."""
    verdict = worst(result.verdict for result in results)
    return max((result.exit_code for result in results if result.verdict == verdict), default=0)


def _find_baseline(
    reports_uri: str, record: ReportRecord, gate: GateConfig, records: Sequence[ReportRecord] | None
) -> Report | None:
    return find_baseline(reports_uri, record, gate.baseline, records) if gate.max_drop.is_limiting else None


def _build_table(
    report_id: str, results: Sequence[CheckResult], gate: GateConfig, digest: str, baseline_id: str | None
) -> pa.Table:
    checked_at = datetime.now(UTC)
    rows = [
        {
            "report_id": report_id,
            "checked_at": checked_at,
            "gates_digest": digest,
            "check": result.check.check,
            "scope": result.check.scope,
            "slice": result.check.slice,
            "class_name": result.check.class_name,
            "limit": result.check.limit,
            "observed": result.evidence.observed,
            "observed_low": result.evidence.low,
            "observed_high": result.evidence.high,
            "p_value": result.p_value,
            "significance": gate.significance,
            "baseline_id": baseline_id if result.check.check == "max_drop" else None,
            "verdict": result.verdict,
            "reason": result.reason,
        }
        for result in results
    ]
    return pa.Table.from_pylist(rows, schema=table_schema("gates"))
