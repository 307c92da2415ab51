"""Tests the compact sequences of candidates and records: what comes out is what went in, and it takes little memory."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.dataset import compact
from cnnlib.dataset.streamed import Candidate, Candidates
from cnnlib.sources.packed.records import Record, Records, Span

TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["", " ", "a b c d", "caf\udce9", "s3://b/a b.tar"]))
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS)
METADATA = st.dictionaries(TEXTS, VALUES, max_size=2)
CANDIDATES = st.builds(
    Candidate,
    key=TEXTS,
    label=st.one_of(st.none(), st.integers(0, 300)),
    split=st.one_of(st.none(), TEXTS),
    metadata=METADATA,
    problem=TEXTS,
    version=TEXTS,
    location=TEXTS,
)
RECORDS = st.builds(
    Record,
    key=TEXTS,
    span=st.one_of(st.none(), st.builds(Span, TEXTS, st.integers(0), st.integers(0))),
    label=VALUES,
    label_field=TEXTS,
    problem=TEXTS,
    metadata=METADATA,
)


@given(st.lists(CANDIDATES, max_size=6), st.integers(0, 2))
def test_candidates_come_out_as_they_went_in(items: list[Candidate], most_shared: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "_MOST_SHARED", most_shared)
        packed = Candidates(items)
    check_equal(packed, items)
    order = np.arange(len(items))[::-1]
    check_equal(packed.take(order), items[::-1])
    check_equal(pickle.loads(pickle.dumps(packed)), items)


@given(st.lists(RECORDS, max_size=6))
def test_records_come_out_as_they_went_in(items: list[Record]) -> None:
    check_equal(Records(items), items)


def check_equal(packed: compact.Compact[Any], items: list[Any]) -> None:
    # repr tells 1 from True and from 1.0, which are equal
    assert list(map(repr, packed)) == list(map(repr, items))
    assert [repr(packed[index]) for index in range(len(items))] == list(map(repr, items))
    assert packed[1:3] == items[1:3]
    assert len(packed) == len(items)
    assert bool(packed) == bool(items)


def test_labels_that_are_equal_and_of_different_types_stay_apart() -> None:
    labels = [1, True, 1.0, "1", 0, False, None]
    packed = Records(Record(key="", span=None, label=label) for label in labels)
    assert [(type(each.label), each.label) for each in packed] == [(type(each), each) for each in labels]


def test_an_index_beyond_the_end_is_refused() -> None:
    with pytest.raises(IndexError):
        Candidates([Candidate(key="a", label=0)])[1]


def list_files(rows: int) -> Iterator[Candidate]:
    for row in range(rows):
        yield Candidate(
            key=f"train/class {row % 10}/image-{row:09d}.jpg", label=row % 10, version=f"{row} {row * 977}"
        )


def list_packed(rows: int) -> Iterator[Candidate]:
    for row in range(rows):
        file = f"s3://bucket/a-long-prefix/of-a-data-set/train-{row // 1000:05d}.tar"
        yield Candidate(
            key=f"train-{row // 1000:05d}.tar/{row:09d}",
            label=row % 10,
            split="train",
            version=f"123456789 {row // 1000}",
            location=f"{row * 977} 976 {file}",
        )


@pytest.mark.parametrize("listed", [list_files, list_packed])
def test_a_candidate_takes_few_bytes(listed: Callable[[int], Iterator[Candidate]]) -> None:
    rows = 20_000
    tracemalloc.start()
    try:
        packed = Candidates(listed(rows))
        num_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(packed) == rows
    # Objects take 340 and 390 bytes. Of files, whose versions are all different, the first 10,000 are in a table.
    assert num_bytes / rows < 250
