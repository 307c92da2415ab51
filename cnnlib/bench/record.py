"""Records measurements: every pair in Parquet, and a Markdown page that is rendered from the Parquet file alone.

A row that is measured again replaces its old entry, and all other rows stay, so that stages can run one by one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cnnlib.bench.harness import Pair, Row
from cnnlib.bench.machine import Machine
from cnnlib.bench.present import NOTHING, describe_medians, describe_ratio, describe_target, describe_verdict
from cnnlib.errors import NotFoundError
from cnnlib.storage import files
from cnnlib.storage.parquet import parquet_bytes
from cnnlib.storage.uri import join_uri

SCHEMA = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),
        pa.field("case", pa.string(), nullable=False),
        pa.field("peer", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("goal", pa.string(), nullable=False),
        pa.field("target", pa.float64()),
        pa.field("not_run", pa.string()),  # the reason; then pair is 0, and ours, theirs and ratio are null
        pa.field("pair", pa.int32(), nullable=False),
        pa.field("ours", pa.float64()),
        pa.field("theirs", pa.float64()),
        pa.field("ratio", pa.float64()),
        pa.field("time", pa.timestamp("s", tz="UTC"), nullable=False),
        pa.field("cpu", pa.string(), nullable=False),
        pa.field("cores", pa.int32(), nullable=False),
        pa.field("memory_gib", pa.int32(), nullable=False),
        pa.field("versions", pa.list_(pa.string()), nullable=False),
        pa.field("command", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Holds a row, and where, when and how it was measured.

    Attributes:
        time: when its last pair began, or when it turned out that the row cannot run (UTC).
        command: the command line that measures it again.
    """

    row: Row
    machine: Machine
    time: datetime
    command: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies what is measured: a new entry replaces the entry with the same key."""
        return self.row.stage, self.row.case, self.row.peer


def record_name(theme: str, machine: Machine, time: datetime) -> str:
    """Returns the name of both files without a suffix, such as `engine_epyc-2core_202611`."""
    return f"{theme}_{machine.slug}_{time:%Y%m}"


def write_record(folder_uri: str, theme: str, entries: Sequence[Entry]) -> str:
    """Adds entries to the record of their machine and month, and returns the URI of its page."""
    first = entries[0]
    base = join_uri(folder_uri, record_name(theme, first.machine, first.time))
    merged = {entry.key: entry for entry in [*read_record(f"{base}.parquet"), *entries]}
    kept = list(merged.values())
    files.write_bytes(f"{base}.parquet", encode(kept))
    files.write_bytes(f"{base}.md", render(theme, kept).encode())
    return f"{base}.md"


def read_record(parquet_uri: str) -> list[Entry]:
    """Reads the entries of a record; returns an empty list if there is no such file."""
    try:
        data = files.read_bytes(parquet_uri)
    except NotFoundError:
        return []
    return decode(data)


def encode(entries: Sequence[Entry]) -> bytes:
    """Encodes entries as Parquet: one row per pair, or one row without measurements if the entry was not measured."""
    rows = [line for entry in entries for line in _lines(entry)]
    return parquet_bytes(pa.Table.from_pylist(rows, schema=SCHEMA))


def decode(data: bytes) -> list[Entry]:
    """Decodes the entries of a Parquet file."""
    grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in pq.read_table(io.BytesIO(data)).to_pylist():
        grouped.setdefault((line["stage"], line["case"], line["peer"]), []).append(line)
    return [_entry(lines) for lines in grouped.values()]


def render(theme: str, entries: Sequence[Entry]) -> str:
    """Renders the page: machine and versions, then one section per stage, in the order of the entries."""
    stages = dict.fromkeys(entry.row.stage for entry in entries)
    head = [
        f"# {theme.capitalize()}: this project against named peers",
        "",
        *_provenance(entries),
        "",
        "Programs run in turn, A B A B …, each in a fresh process on the same cores. A ratio compares the two",
        "runs of one pair, minutes apart at most. Above 1 ours is better, unless the target says `<=`.",
        "",
    ]
    return "\n".join(
        [*head, *(line for stage in stages for line in _render_stage(stage, entries)), *_commands(entries)]
    )


def _provenance(entries: Sequence[Entry]) -> list[str]:
    seen = dict.fromkeys(
        f"{entry.machine.cpu}, {entry.machine.cores} cores, {entry.machine.memory_gib} GiB · "
        + ", ".join(entry.machine.versions)
        for entry in entries
    )
    dates = sorted({f"{entry.time:%Y-%m-%d}" for entry in entries})
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return [f"{span} · {provenance}" for provenance in seen]


def _render_stage(stage: str, entries: Sequence[Entry]) -> list[str]:
    lines = [
        f"## `{stage}`",
        "",
        "| case | against | ratio, median | min..max | ours | theirs | n | target | met | date |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    notes = []
    for entry in entries:
        row = entry.row
        if row.stage != stage:
            continue
        ratio, spread = describe_ratio(row)
        ours, theirs = describe_medians(row)
        cells = [
            *(row.case, row.peer, f"**{ratio}**" if row.pairs else NOTHING, spread, ours, theirs),
            *(str(len(row.pairs)), describe_target(row), describe_verdict(row), f"{entry.time:%Y-%m-%d}"),
        ]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        if row.not_run:
            notes.append(f"- {row.case}, against {row.peer}: {row.not_run}")
    return [*lines, "", *(["Not run:", "", *notes, ""] if notes else [])]


def _commands(entries: Sequence[Entry]) -> list[str]:
    commands = dict.fromkeys(entry.command for entry in entries)
    return ["## Commands", "", "```sh", *commands, "```", ""]


def _lines(entry: Entry) -> list[dict[str, Any]]:
    row = entry.row
    common = {
        "stage": row.stage,
        "case": row.case,
        "peer": row.peer,
        "unit": row.unit,
        "goal": row.goal,
        "target": row.target,
        "not_run": row.not_run,
        "cpu": entry.machine.cpu,
        "cores": entry.machine.cores,
        "memory_gib": entry.machine.memory_gib,
        "versions": list(entry.machine.versions),
        "command": entry.command,
    }
    if not row.pairs:
        return [common | {"pair": 0, "ours": None, "theirs": None, "ratio": None, "time": entry.time}]
    return [common | {"pair": number, **pair._asdict()} for number, pair in enumerate(row.pairs, start=1)]


def _entry(lines: Sequence[dict[str, Any]]) -> Entry:
    first = lines[0]
    pairs = tuple(
        Pair(line["ours"], line["theirs"], line["ratio"], line["time"].astimezone(UTC))
        for line in lines
        if line["pair"]
    )
    row = Row(
        **{key: first[key] for key in ("stage", "case", "peer", "unit", "goal", "target", "not_run")},
        pairs=pairs,
    )
    return Entry(
        row=row,
        machine=Machine(
            cpu=first["cpu"],
            cores=first["cores"],
            memory_gib=first["memory_gib"],
            versions=tuple(first["versions"]),
        ),
        time=lines[-1]["time"].astimezone(UTC),
        command=first["command"],
    )
