"""A pattern means what it means in a shell, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlib.storage.patterns import find_objects

NAMES = ("1.png", "a/1.png", "a/2.jpg", "a/b/1.png", "a/b/c/1.png", "ab/1.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("pattern", "below", "found"),
    [
        ("*.png", "", ["1.png"]),
        ("a/*", "a", ["1.png", "2.jpg"]),
        ("a*/*.png", "", ["a/1.png", "ab/1.png"]),
        ("a?/*.png", "", ["ab/1.png"]),
        ("a[b-d]/1.png", "", ["ab/1.png"]),
        ("*/*/*.png", "", ["a/b/1.png"]),
        ("**/1.png", "", ["1.png", "a/1.png", "a/b/1.png", "a/b/c/1.png", "ab/1.png"]),
        ("a/**/*.png", "a", ["1.png", "b/1.png", "b/c/1.png"]),
        ("a/**", "a", ["1.png", "2.jpg", "b/1.png", "b/c/1.png"]),
        ("*/c/*.png", "", []),
        ("nowhere/*.png", "nowhere", []),
    ],
)
def test_marks_stand_for_no_slash_and_two_stars_for_folders(
    folder: Path, pattern: str, below: str, found: list[str]
) -> None:
    result = find_objects(f"{folder}/{pattern}")
    assert result.is_pattern
    assert result.folder == str(folder / below)
    assert [result.relative(each) for each in result.objects] == found


def test_a_folder_has_all_its_objects_also_if_its_name_looks_like_a_pattern(folder: Path) -> None:
    for name in ("in", "in [new]", "in*"):
        folder = folder.rename(folder.parent / name)
        result = find_objects(str(folder))
        assert (result.is_pattern, result.num_listed) == (False, len(NAMES))
        assert [result.relative(each) for each in result.objects] == sorted(NAMES)
    assert find_objects(str(folder.parent / "absent")).objects == ()
