"""Two classes of one name are refused where names enter: by every source, and by the reader of manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlib.dataset.class_names import check_class_names
from cnnlib.dataset.manifest import load_manifest
from cnnlib.errors import DatasetError
from cnnlib.storage import layout, publish
from tests.datasets import make_source, write_dataset_without_ray


def test_different_names_are_returned_as_they_are() -> None:
    names = ["A", "a", "T-shirt/top", " b", "0", "00"]
    assert check_class_names(names, "here") == tuple(names)


@pytest.mark.parametrize("second", ["Bag", " Bag", "Bag\t"])
def test_names_that_look_the_same_are_refused_with_both_classes(second: str) -> None:
    with pytest.raises(DatasetError) as raised:
        check_class_names(["Coat", "Bag", "Boot", second], "here")
    assert f"here: two classes have one name. Received 'Bag' for class 1 and {second!r} for class 3." in str(
        raised.value
    )


def test_a_letter_composed_in_two_ways_is_one_name() -> None:
    with pytest.raises(DatasetError, match="two classes have one name"):
        check_class_names(["caf\u00e9", "cafe\u0301"], "here")


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_empty_name_is_refused_with_its_class(name: str) -> None:
    with pytest.raises(DatasetError, match=r"here: class 1 has an empty name\."):
        check_class_names(["Coat", name], "here")


def test_source_refuses_two_classes_of_one_name() -> None:
    with pytest.raises(DatasetError, match="'Bag' for class 0 and 'Bag' for class 2"):
        make_source(class_names=("Bag", "Coat", "Bag"))


def test_manifest_with_two_classes_of_one_name_is_refused(tmp_path: Path) -> None:
    document = write_dataset_without_ray(str(tmp_path / "old")).to_json()
    document["class_names"][2] = document["class_names"][0]
    publish.write_manifest(layout.dataset_manifest(str(tmp_path / "new")), document)
    with pytest.raises(DatasetError, match=r"/new/manifest\.json: two classes have one name"):
        load_manifest(str(tmp_path / "new"))


def test_name_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(
        DatasetError, match=r"the name of class 1 is no text in UTF-8\. Received 'caf\\udce9'"
    ):
        check_class_names(["tea", "caf\udce9"], "a folder")
