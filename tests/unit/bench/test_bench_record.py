"""Tests the record of a benchmark: every pair, and the page that is rendered from the pairs."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from cnnlib.bench import record
from cnnlib.bench.harness import Pair, Row
from cnnlib.bench.machine import Machine, describe_machine
from cnnlib.bench.present import build_table

TIME = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)
HERE = Machine(cpu="AMD EPYC, avx2", cores=2, memory_gib=24, versions=("Python 3.11.7", "keras 3.15.1"))


def row(*ratios: float, stage: str = "step", peer: str = "Keras 3 fit", **fields: object) -> Row:
    return Row(
        **{
            "stage": stage,
            "case": "batch 32",
            "peer": peer,
            "unit": "images/s",
            "goal": "at least",
            "target": 1.4,
            "pairs": tuple(Pair(100 * ratio, 100.0, ratio, TIME) for ratio in ratios),
            **fields,
        }
    )


def entry(each: Row, command: str = "python -m jobs.bench step") -> record.Entry:
    return record.Entry(row=each, machine=HERE, time=TIME, command=command)


NOT_RUN = row(peer="PyTorch eager", not_run="PyTorch is not installed; see make bench-peers")
START = row(2.5, 3.5, 2.7, stage="start", peer="import tensorflow", unit="s", goal="at most", target=3.0)


def test_entries_survive_a_round_trip_through_parquet() -> None:
    entries = [entry(row(1.5, 1.4)), entry(NOT_RUN), entry(START)]
    assert record.decode(record.encode(entries)) == entries


def test_parquet_has_one_row_per_pair_and_opens_in_pandas(tmp_path: Path) -> None:
    record.write_record(str(tmp_path), "engine", [entry(row(1.5, 1.4)), entry(NOT_RUN)])
    stored = pd.read_parquet(tmp_path / "engine_epyc-2core_202611.parquet")
    assert list(stored.columns) == record.SCHEMA.names
    assert stored["pair"].tolist() == [1, 2, 0]
    assert stored["ratio"].tolist()[:2] == [1.5, 1.4]
    assert stored["not_run"].tolist()[2].startswith("PyTorch is not installed")
    assert stored["cores"].tolist() == [2, 2, 2]


def test_a_row_measured_again_replaces_its_own_entry_and_no_other(tmp_path: Path) -> None:
    record.write_record(str(tmp_path), "engine", [entry(row(9.0)), entry(START)])
    page = record.write_record(
        str(tmp_path), "engine", [entry(row(1.5), "python -m jobs.bench step --pairs 1")]
    )
    text = Path(page).read_text()
    assert "9.00" not in text
    assert "**1.50**" in text
    assert "**2.70**" in text
    assert text.index("## `step`") < text.index("## `start`")
    assert "jobs.bench step --pairs 1" in text


def test_the_page_states_machine_versions_spread_and_verdicts() -> None:
    text = record.render("engine", [entry(row(1.5, 1.3, 1.6)), entry(NOT_RUN), entry(START)])
    assert text.startswith(
        "# Engine: this project against named peers\n\n2026-11-22 · AMD EPYC, avx2, 2 cores, 24 GiB"
    )
    assert "Python 3.11.7, keras 3.15.1" in text
    lines = [line.replace("2026-11-22", "DAY") for line in text.splitlines() if line.startswith("| batch")]
    assert lines == [
        "| batch 32 | Keras 3 fit | **1.50** | 1.30..1.60 | 150 images/s | 100 images/s | 3 | >= 1.4 | yes | DAY |",
        "| batch 32 | PyTorch eager | - | - | - | - | 0 | >= 1.4 | not run | DAY |",
        "| batch 32 | import tensorflow | **2.70** | 2.50..3.50 | 270.0 s | 100.0 s | 3 | <= 3 | yes | DAY |",
    ]
    assert "against PyTorch eager: PyTorch is not installed; see make bench-peers" in text


@pytest.mark.parametrize(
    ("cpu", "slug"),
    [
        ("AMD EPYC, avx2", "epyc-2core"),
        ("AMD EPYC 7763 64-Core Processor, avx2", "epyc-7763-2core"),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz, avx512f", "xeon-platinum-8375c-2core"),
    ],
)
def test_a_record_is_named_after_its_hardware(cpu: str, slug: str) -> None:
    machine = Machine(cpu=cpu, cores=2, memory_gib=1, versions=())
    assert machine.slug == slug
    assert record.record_name("engine", machine, TIME) == f"engine_{slug}_202611"


def test_this_machine_is_described() -> None:
    here = describe_machine(cores=2)
    assert here.versions[0].startswith("Python 3.")
    assert any(version.startswith("ray ") for version in here.versions)
    assert here.memory_gib > 0
    assert here.slug.endswith("2core")


def test_the_table_fits_80_columns_and_shows_verdicts() -> None:
    sink = io.StringIO()
    Console(file=sink, width=80).print(build_table([row(1.5), NOT_RUN, START]))
    text = sink.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for expected in ("1.50", ">= 1.4", "yes", "not run", "<= 3", "150 : 100 images/s"):
        assert expected in text
    assert "see make bench-peers" in " ".join(text.split())
