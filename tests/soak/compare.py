"""Compares the checkpoints and the reports of two runs that must have computed the same."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import h5py
import numpy as np

from cnnlib.reports.read import list_reports, read_report
from cnnlib.storage import files, layout
from cnnlib.storage.uri import join_uri


def compare_runs(run: str, other_run: str, reports: str, other_reports: str, epochs: int) -> list[str]:
    """Returns in words what differs: weights or optimizer of a checkpoint, counts of a report, or a missing one."""
    found = []
    for epoch in range(1, epochs + 1):
        ours, theirs = (_state(each, epoch) for each in (run, other_run))
        differing = [
            name for name in ours.keys() | theirs.keys() if not _is_same(ours.get(name), theirs.get(name))
        ]
        found += [f"epoch {epoch}: {name} differs" for name in sorted(differing)]
    ours, theirs = _counts(reports), _counts(other_reports)
    for epoch in range(1, epochs + 1):
        if ours.get(epoch) is None or ours.get(epoch) != theirs.get(epoch):
            found.append(f"epoch {epoch}: the report differs or is missing")
    return found


def _state(run: str, epoch: int) -> dict[str, Any]:
    uri = layout.checkpoint_uri(run, epoch)
    found: dict[str, Any] = dict(
        np.load(io.BytesIO(files.read_bytes(join_uri(uri, layout.CHECKPOINT_STATE))))
    )
    with zipfile.ZipFile(io.BytesIO(files.read_bytes(join_uri(uri, layout.CHECKPOINT_MODEL)))) as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    weights.visititems(
        lambda name, each: found.update({name: each[...]}) if isinstance(each, h5py.Dataset) else None
    )
    return found


def _is_same(one: Any, other: Any) -> bool:
    return one is not None and other is not None and bool(np.array_equal(one, other))


def _counts(reports: str) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for record in list_reports(reports):
        report = read_report(reports, record.report_id)
        epoch = int(record.to_row()["checkpoint_epoch"])
        found[epoch] = [(row["class_name"], row["support"], row["correct"]) for row in report.classes]
    return found
