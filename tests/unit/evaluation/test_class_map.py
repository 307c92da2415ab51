"""The outputs of a checkpoint are matched with the classes of the data by name, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlib.errors import ConfigError, ModelError
from cnnlib.evaluation.class_map import map_classes
from cnnlib.evaluation.loaded_model import _select


def test_the_same_classes_need_no_map() -> None:
    assert map_classes(["a", "b"], ["a", "b"], [], "m") is None


def test_classes_in_another_order_are_mapped_by_name() -> None:
    assert map_classes(["a", "b", "c"], ["c", "a", "b"], [], "m") == (2, 0, 1)


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (["a", "x"], r"Class 1 is 'x' in the data, and 'b' in the checkpoint\. .* give --class-map b=x"),
        (["a"], r"Received 1 classes in the data \(a\), expected the 2 of the checkpoint \(a, b\)"),
        (["a", "b", "c"], r"Received 3 classes in the data \(a, b, c\), expected the 2"),
    ],
)
def test_other_classes_are_refused_with_the_first_that_differs(ours: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        map_classes(["a", "b"], ours, [], "runs/x")


def test_a_map_renames_classes_and_leaves_out_those_that_the_data_lack() -> None:
    assert map_classes(["a", "b", "c"], ["x", "a"], ["c=x"], "m") == (2, 0)
    assert map_classes(["a", "b=1"], ["b", "a"], ["b=1=b"], "m") == (1, 0), "a name may hold the sign"


def test_a_map_that_names_no_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'z=a' names no class of the checkpoint: 'z'\. Known: a, b"):
        map_classes(["a", "b"], ["a", "b"], ["z=a"], "m")
    with pytest.raises(ConfigError, match="names no class of the data: 'x'"):
        map_classes(["a", "b"], ["a", "b"], ["a=x"], "m")
    with pytest.raises(ModelError, match=r"was not trained on the class 'y' of the data"):
        map_classes(["a", "b"], ["x", "y"], ["a=x"], "m")


def test_selected_probabilities_are_those_of_the_classes_given_that_it_is_one_of_them() -> None:
    probabilities = np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(_select(probabilities, (2, 0, 1)), probabilities[:, [2, 0, 1]])
    np.testing.assert_allclose(_select(probabilities, (2, 0)), [[5 / 7, 2 / 7], [0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("ours", "entries", "message"),
    [
        (["dog", "Hund"], ["dog=Hund"], "'dog' and 'Hund' of the data would both be the class 'dog'"),
        (["cat", "x"], ["cat=x"], "'cat' and 'x' of the data would both be the class 'cat'"),
        (["cat", "x"], ["cat=x", "dog=x"], "names a class of the data twice"),
    ],
)
def test_no_two_classes_of_the_data_share_an_output(
    ours: list[str], entries: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        map_classes(["cat", "dog"], ours, entries, "m")
