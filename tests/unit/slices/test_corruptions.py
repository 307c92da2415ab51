"""A corruption of a row is the same in every batch and every version, and grows with its strength."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlib.slices import corruptions
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS, corrupt, slice_name
from tests.fashion import fashion_mnist

# The first 16 digits of the sha256 of the first ten test images of Fashion-MNIST at strength 3. Other random numbers
# would change the reports of the same model.
GOLDEN = {
    "noise": "9370e7229a5c3d4a",
    "blur": "61774e036008eaef",
    "shift": "98b27c31c05b4567",
    "rotation": "41bc2984e4fef7e3",
    "contrast": "4dc99c39eb7f7e98",
    "occlusion": "63e2dc703adde10e",
}


def photographs(rows: int) -> np.ndarray:
    return fashion_mnist().splits["test"].images[:rows]


def change(images: np.ndarray, corrupted: np.ndarray) -> np.ndarray:
    """Returns the mean absolute difference of every image, in grey levels."""
    return np.abs(corrupted.astype(int) - images).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_rows_are_corrupted_as_they_always_were(kind: str) -> None:
    corrupted = corrupt(photographs(10), np.arange(10), kind, 3)
    assert hashlib.sha256(corrupted.tobytes()).hexdigest()[:16] == GOLDEN[kind]


@pytest.mark.parametrize("kind", CORRUPTIONS)
@given(order=st.permutations(range(12)), size=st.integers(1, 12))
@settings(max_examples=10)
def test_a_corrupted_row_does_not_depend_on_the_other_rows_of_its_batch(
    kind: str, order: list[int], size: int
) -> None:
    images, ids = photographs(12), np.arange(100, 112)
    together = corrupt(images, ids, kind, 4)
    for first in range(0, 12, size):
        some = np.array(order[first : first + size])
        np.testing.assert_array_equal(corrupt(images[some], ids[some], kind, 4), together[some])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_number_of_rows_at_a_time_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images, ids = photographs(20), np.arange(20)
    together = corrupt(images, ids, kind, 2)
    monkeypatch.setattr(corruptions, "_VALUES_AT_A_TIME", 3 * 28 * 28)
    np.testing.assert_array_equal(corrupt(images, ids, kind, 2), together)


@pytest.mark.parametrize("kind", ["noise", "shift", "rotation", "occlusion"])
def test_what_is_random_differs_from_row_to_row(kind: str) -> None:
    same = photographs(1).repeat(30, axis=0)
    corrupted = corrupt(same, np.arange(30), kind, 5)
    assert len({image.tobytes() for image in corrupted}) > (1 if kind == "rotation" else 5)


@pytest.mark.parametrize("kind", ["blur", "contrast"])
def test_what_is_not_random_is_the_same_for_every_row(kind: str) -> None:
    same = photographs(1).repeat(5, axis=0)
    assert len({image.tobytes() for image in corrupt(same, np.arange(5), kind, 5)}) == 1


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_greater_strength_changes_photographs_more(kind: str) -> None:
    images = photographs(100)
    changes = [change(images, corrupt(images, np.arange(100), kind, strength)) for strength in STRENGTHS]
    means = [each.mean() for each in changes]
    assert means == sorted(means)
    assert len(set(means)) == 5
    assert means[0] > 1  # grey level, of 255
    # All strengths use the same random numbers, so this also holds for nearly every single image.
    assert (np.diff(changes, axis=0) > 0).mean() > 0.85
    assert (changes[-1] > changes[0]).mean() > 0.95


@pytest.mark.parametrize("shape", [(12, 12, 1), (40, 64, 3), (130, 90, 3)])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_images_of_any_size_are_corrupted_in_a_copy(kind: str, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    before = images.copy()
    results = [corrupt(images, np.array([-5, 0, 2**62]), kind, strength) for strength in STRENGTHS]
    np.testing.assert_array_equal(images, before)
    assert {(each.shape, each.dtype.name) for each in results} == {(images.shape, "uint8")}
    assert len({each.tobytes() for each in results}) == 5
    assert corrupt(images[:0], np.arange(0), kind, 1).shape == (0, *shape)


def test_a_strength_means_the_same_on_a_larger_copy_of_the_image() -> None:
    small = photographs(20)
    big = small.repeat(4, axis=1).repeat(4, axis=2)
    ids = np.arange(20)
    for kind in ("blur", "shift", "rotation", "occlusion"):
        at_28 = change(small, corrupt(small, ids, kind, 4)).mean()
        at_112 = change(big, corrupt(big, ids, kind, 4)).mean()
        assert at_112 == pytest.approx(at_28, rel=0.15), kind


def test_contrast_keeps_the_mean_and_a_fraction_of_the_distance_to_it() -> None:
    image = np.array([[[[0], [100], [200]]]], np.uint8)
    assert corrupt(image, np.arange(1), "contrast", 2).ravel().tolist() == [50, 100, 150]


def test_occlusion_covers_one_square_with_grey_and_nothing_else() -> None:
    images = np.zeros((500, 20, 30, 3), np.uint8)
    covered = corrupt(images, np.arange(500), "occlusion", 2) != 0
    assert covered.sum(axis=(1, 2, 3)).tolist() == [6 * 6 * 3] * 500
    assert covered.any(axis=(1, 2, 3)).all()
    assert covered.any(axis=(0, 3)).all(), "some place is never covered"


def test_a_shift_moves_whole_pixels_to_one_of_eight_directions_and_continues_the_edge() -> None:
    image = np.arange(400, dtype=np.uint16).reshape(1, 20, 20, 1) % 251
    image = image.astype(np.uint8)
    moved = {corrupt(image, np.array([row_id]), "shift", 3).tobytes() for row_id in range(60)}
    # Strength 3 moves by at least 3 pixels; 0.12 of 20 is less.
    padded = np.pad(image[0, :, :, 0], 3, mode="edge")
    expected = {
        padded[3 - y : 23 - y, 3 - x : 23 - x].tobytes() for y in (-3, 0, 3) for x in (-3, 0, 3) if y or x
    }
    assert moved == expected


def test_rotation_turns_about_the_centre_either_way() -> None:
    image = np.zeros((1, 41, 41, 1), np.uint8)
    image[0, 18:23, 30:35] = 255  # right of the centre
    tops = []
    for row_id in range(20):
        turned = corrupt(image, np.array([row_id]), "rotation", 5)[0, :, :, 0]
        rows, columns = np.nonzero(turned > 127)
        tops.append(round(rows.mean()))
        # 12 pixels from the centre, at 30 degrees: 10.4 to the right, 6 up or down.
        assert columns.mean() == pytest.approx(20 + 10.4, abs=0.6)
    assert set(tops) == {14, 26}


@pytest.mark.parametrize("strength", [0, 6, -1])
def test_another_strength_is_refused(strength: int) -> None:
    with pytest.raises(ValueError, match=rf"must lie in 1\.\.5\. Received {strength}"):
        corrupt(photographs(1), np.arange(1), "noise", strength)


def test_slices_are_named_by_kind_and_strength() -> None:
    names = [slice_name(kind, strength) for kind in CORRUPTIONS for strength in STRENGTHS]
    assert len(set(names)) == 30
    assert names[0] == "corruption=noise/1"
