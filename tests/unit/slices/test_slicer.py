"""Every row is in exactly one slice of a group, and a slice has a readable name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.dataset.record import Rows
from cnnlib.errors import ConfigError, DatasetError
from cnnlib.slices.duplicates import NearDuplicates, hash_images
from cnnlib.slices.plan import quantile_edges
from cnnlib.slices.properties import measure
from cnnlib.slices.slicer import MAX_SLICES, Slicer, parse_slices
from tests.fashion import fashion_mnist

COLUMNS = {"source": "string", "age": "int64", "indoors": "bool"}


def make_rows(count: int = 8, **metadata: list[object]) -> Rows:
    """Builds rows of the first test images of Fashion-MNIST with metadata."""
    rows = fashion_mnist().splits["test"].read(0, count)
    return Rows(
        ids=rows.ids,
        images=rows.images,
        labels=rows.labels,
        metadata={name: pa.array(values) for name, values in metadata.items()},
    )


def slice_rows(rows: Rows, *groups: tuple[str, ...], **edges: tuple[float, ...]) -> dict[str, list[int]]:
    """Returns the indexes of the rows in every slice."""
    masks = Slicer(groups=groups, edges=edges).masks(rows)
    return {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}


def test_texts_numbers_and_booleans_are_sliced_by_value() -> None:
    rows = make_rows(
        4, source=["web", "camera", "web", None], age=[3, -1, None, 3], indoors=[True, False, None, True]
    )
    assert slice_rows(rows, ("source",), ("age",), ("indoors",)) == {
        "source=web": [0, 2],
        "source=camera": [1],
        "source=null": [3],
        "age=3": [0, 3],
        "age=-1": [1],
        "age=null": [2],
        "indoors=true": [0, 3],
        "indoors=false": [1],
        "indoors=null": [2],
    }


def test_numbers_are_sliced_at_edges_which_belong_to_the_lower_quantile() -> None:
    rows = make_rows(6, age=[1, 2, 3, 4, 5, None], angle=[0.1, float("nan"), 0.5, 0.6, 9.0, None])
    assert slice_rows(rows, ("age",), ("angle",), age=(2.0, 4.0), angle=(0.5,)) == {
        "age=q1": [0, 1],
        "age=q2": [2, 3],
        "age=q3": [4],
        "age=null": [5],
        "angle=q1": [0, 2],
        "angle=q2": [3, 4],
        "angle=null": [1, 5],
    }


def test_nan_is_null_where_numbers_are_sliced_by_value() -> None:
    rows = make_rows(3, angle=[0.5, float("nan"), None])
    assert slice_rows(rows, ("angle",)) == {"angle=0.5": [0], "angle=null": [1, 2]}


@pytest.mark.parametrize(
    ("text", "name"),
    [("", 'source=""'), ("null", 'source="null"'), ("a+b=c", 'source="a+b=c"'), ("über 3", "source=über 3")],
)
def test_an_ambiguous_text_is_quoted(text: str, name: str) -> None:
    assert slice_rows(make_rows(2, source=[text, None]), ("source",)) == {name: [0], "source=null": [1]}


def test_crossed_dimensions_have_a_slice_for_every_pair_with_rows() -> None:
    rows = make_rows(4, source=["web", "web", "camera", "web"], age=[1, 9, 9, 1])
    assert slice_rows(rows, ("source", "age"), age=(5.0,)) == {
        "source=web+age=q1": [0, 3],
        "source=web+age=q2": [1],
        "source=camera+age=q2": [2],
    }


def test_images_are_sliced_by_a_property() -> None:
    rows = make_rows(200)
    values = measure("brightness", rows.images)
    edges = quantile_edges(values, 4)
    slices = slice_rows(rows, ("brightness",), brightness=edges)
    assert list(slices) == ["brightness=q1", "brightness=q2", "brightness=q3", "brightness=q4"]
    assert [len(each) for each in slices.values()] == [50, 50, 50, 50]
    assert max(values[slices["brightness=q1"]]) < min(values[slices["brightness=q2"]])


def test_images_that_look_like_a_training_image_are_a_slice() -> None:
    rows = make_rows(30)
    train = NearDuplicates(hash_images(rows.images[[4, 7]]))
    masks = Slicer(groups=(("near-duplicate",),), edges={}, train=train).masks(rows)
    assert np.flatnonzero(masks["near-duplicate=yes"]).tolist() == [4, 7]
    assert masks["near-duplicate=no"].sum() == 28


def test_a_slice_without_a_row_is_left_out() -> None:
    assert list(slice_rows(make_rows(2, age=[1, 1]), ("age",), age=(5.0, 9.0))) == ["age=q1"]
    assert slice_rows(make_rows(0, age=pa.array([], pa.int64())), ("age",), age=(5.0,)) == {}


@given(
    sources=st.lists(st.sampled_from(["web", "camera", None, "null", ""]), min_size=1, max_size=8),
    ages=st.lists(st.none() | st.integers(-3, 3), min_size=8, max_size=8),
    edges=st.lists(st.integers(-3, 3), unique=True, max_size=3).map(
        lambda edges: tuple(map(float, sorted(edges)))
    ),
)
def test_every_row_is_in_one_slice_of_a_dimension_and_of_a_pair(
    sources: list[str | None], ages: list[int | None], edges: tuple[float, ...]
) -> None:
    count = len(sources)
    rows = make_rows(count, source=pa.array(sources, pa.string()), age=pa.array(ages[:count], pa.int64()))
    slicer = Slicer(groups=(("source",), ("age",), ("source", "age")), edges={"age": edges})
    masks = slicer.masks(rows)
    for chosen in (
        [n for n in masks if n.startswith("age")],
        [n for n in masks if "+age" in n],
        [n for n in masks if n.startswith("source") and "+age" not in n],
    ):
        assert np.sum([masks[name] for name in chosen], axis=0).tolist() == [1] * count
    assert all(mask.any() for mask in masks.values())


def test_too_many_values_are_refused_before_they_are_crossed() -> None:
    rows = make_rows(
        MAX_SLICES + 1, source=[f"s{i}" for i in range(MAX_SLICES + 1)], age=list(range(MAX_SLICES + 1))
    )
    with pytest.raises(ConfigError, match=r"slice_by source makes too many slices\. Received 257"):
        slice_rows(rows, ("source",))
    with pytest.raises(ConfigError, match=r"slice_by source makes too many slices"):
        slice_rows(rows, ("source", "age"))


def test_a_shard_without_a_column_that_the_manifest_states_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"lacks the column 'source' .* Received age\."):
        slice_rows(make_rows(2, age=[1, 2]), ("source",))


def test_requested_groups_are_parsed_once_and_in_order() -> None:
    assert parse_slices(["size", "source", "source+size", "size", "near-duplicate"], COLUMNS) == (
        ("size",),
        ("source",),
        ("source", "size"),
        ("near-duplicate",),
    )
    assert parse_slices([], COLUMNS) == ()


@pytest.mark.parametrize(
    "name", ["brightnes", "source+brightnes", "", "source+", "near_duplicate", "brightness "]
)
def test_an_unknown_name_is_refused_with_all_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="slice_by has no dimension") as raised:
        parse_slices([name], COLUMNS)
    for known in (
        "age",
        "brightness",
        "contrast",
        "indoors",
        "near-duplicate",
        "sharpness",
        "size",
        "source",
    ):
        assert known in str(raised.value)
    assert "own columns: source, age, indoors." in str(raised.value)


def test_a_data_set_without_columns_says_so() -> None:
    with pytest.raises(ConfigError, match=r"has no dimension 'source'\. .*own columns: none\."):
        parse_slices(["source"], {})


@pytest.mark.parametrize("item", ["source+age+size", "size+size"])
def test_only_two_different_dimensions_can_be_crossed(item: str) -> None:
    with pytest.raises(ConfigError, match=r"crosses two different dimensions at most\. Received") as raised:
        parse_slices([item], COLUMNS)
    assert repr(item) in str(raised.value)
