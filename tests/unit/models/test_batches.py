"""Batches and pieces are sized by bytes, and their size changes no count and no stored row."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.evaluation.partial_scores import PARTIAL_SCORES, CollectedScores, decode_outcome
from cnnlib.evaluation.predictor import Predictor
from cnnlib.evaluation.target import find_target
from cnnlib.models import batches
from cnnlib.models.batches import BATCH_BYTES, GPU_BATCH_BYTES, OUTPUT_BYTES, fit_batch, split_rows
from cnnlib.slices.plan import quantile_edges
from cnnlib.slices.properties import measure
from cnnlib.slices.slicer import Slicer
from tests.unit.evaluation.test_predictor import CLASSES, ROWS, as_table, build_task, nearest_pattern, save


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from([1, 3, 4]),
    st.booleans(),
)
def test_batch_fits_its_bytes_and_has_a_row(
    batch_size: int, height: int, width: int, channels: int, on_gpu: bool
) -> None:
    rows = fit_batch(batch_size, (height, width, channels), on_gpu=on_gpu)
    most = GPU_BATCH_BYTES if on_gpu else BATCH_BYTES
    assert 1 <= rows <= batch_size
    one = height * width * channels * 4
    assert rows == 1 or rows * one <= most
    assert rows == batch_size or 2 * rows > batch_size or 2 * rows * one > most


@given(st.integers(0, 30_000), st.integers(1, 30_000), st.integers(1, 500))
def test_pieces_are_all_rows_in_whole_batches(num_rows: int, num_classes: int, batch_rows: int) -> None:
    pieces = list(split_rows(num_rows, num_classes, batch_rows))
    assert [row for piece in pieces for row in range(piece.start, piece.stop)] == list(range(num_rows))
    for piece in pieces[:-1]:
        rows = piece.stop - piece.start
        assert rows % batch_rows == 0
        assert rows == batch_rows or rows * num_classes * 4 <= OUTPUT_BYTES


def test_small_images_and_few_classes_are_scored_as_before() -> None:
    assert fit_batch(500, (28, 28, 1)) == fit_batch(500, (64, 64, 3), on_gpu=True) == 500
    assert list(split_rows(21_400, 10, 500)) == [slice(0, 21_400)]


@pytest.mark.usefixtures("strategy")
def test_scores_in_pieces_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = find_target(str(save(nearest_pattern(), tmp_path)), None)
    edges = {"brightness": quantile_edges(measure("brightness", ROWS.images), 2)}
    slicer = Slicer(groups=(("brightness",),), edges=edges)

    def score(reports: str) -> tuple[CollectedScores, Any]:
        task = build_task(target, reports=str(tmp_path / reports), report_ids=("abc",), corruptions=True)
        block = Predictor(replace(task, slicer=slicer))(as_table())
        collected = CollectedScores()
        collected.add({name: values[0] for name, values in block.items()}, now=1.0)
        return collected, decode_outcome(block[PARTIAL_SCORES][0])

    whole, _ = score("whole")
    monkeypatch.setattr(batches, "OUTPUT_BYTES", 1)
    parts, outcome = score("parts")
    assert len(outcome.predictions) == 4, "230 rows in batches of 64"
    assert (parts.sums, parts.slices()) == (whole.sums, whole.slices())
    assert len(whole.slices()) == 2 + 30
    rows, expected = parts.rows(), whole.rows()
    assert rows is not None
    assert expected is not None
    assert np.array_equal(rows.ids, ROWS.ids)
    assert np.array_equal(rows.probabilities, expected.probabilities)
    assert rows.probabilities.shape == (230, CLASSES)
    stored, together = (
        pd.read_parquet(tmp_path / name / "predictions").sort_values("id") for name in ("parts", "whole")
    )
    assert [list(row) for row in stored["top_classes"]] == [list(row) for row in together["top_classes"]]
    assert stored["slices"].map(list).tolist() == together["slices"].map(list).tolist()


@pytest.mark.usefixtures("strategy")
def test_batches_of_few_bytes_change_no_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = find_target(str(save(nearest_pattern(), tmp_path)), None)
    task = build_task(target)
    before = decode_outcome(Predictor(task)(as_table())[PARTIAL_SCORES][0])
    monkeypatch.setattr(batches, "BATCH_BYTES", 8 * 8 * 4 * 5)
    assert task.batch_rows == 4
    after = decode_outcome(Predictor(task)(as_table())[PARTIAL_SCORES][0])
    assert after.sums.confusion == before.sums.confusion
    np.testing.assert_allclose(after.rows.probabilities, before.rows.probabilities, rtol=1e-5)


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(batches)
    assert (result.attempted > 0, result.failed) == (True, 0)
