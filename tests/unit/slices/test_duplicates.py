"""Images that look alike are found, and only those; the search finds what a comparison of all pairs finds."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage

from cnnlib.slices import duplicates
from cnnlib.slices.duplicates import MAX_DISTANCE, NearDuplicates, hash_images
from tests.fashion import fashion_mnist

BITS = 256


def some_images() -> np.ndarray:
    return fashion_mnist().splits["test"].images


def random_hashes(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 2**64, (count, 4), np.uint64)


def flip(hashes: np.ndarray, bits: list[int]) -> np.ndarray:
    """Returns the same hashes with some bits flipped."""
    mask = np.zeros(BITS, np.uint8)
    mask[bits] = 1
    return hashes ^ np.packbits(mask).view(np.uint64)


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the distances of all pairs, int [rows, rows]."""
    return np.bitwise_count(one[:, np.newaxis] ^ other[np.newaxis]).sum(axis=2, dtype=int)


def test_a_hash_says_which_low_frequencies_are_above_their_median() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 1), np.uint8)  # 32x32: nothing to scale
    frequencies = fft.dctn(image[0, :, :, 0].astype(float), norm="ortho")[:16, :16].ravel()
    bits = frequencies > np.median(frequencies[1:])
    bits[0] = False
    assert np.packbits(bits).view(np.uint64).tolist() == hash_images(image)[0].tolist()


def test_a_hash_of_256_bits_tells_fashion_mnists_silhouettes_apart() -> None:
    hashes = hash_images(some_images()[:2000])
    assert hashes.shape == (2000, 4)
    assert hashes.dtype == np.uint64
    assert len(np.unique(hashes, axis=0)) == 2000


def test_an_image_has_the_same_hash_whichever_images_it_is_hashed_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = some_images()[:40]
    together = hash_images(images)
    monkeypatch.setattr(duplicates, "_VALUES_AT_A_TIME", 9 * 28 * 28)
    np.testing.assert_array_equal(hash_images(images), together)
    np.testing.assert_array_equal(
        np.concatenate([hash_images(images[i : i + 1]) for i in range(40)]), together
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3), (28, 28, 1), (33, 65, 3), (200, 120, 1)])
def test_images_of_any_size_have_a_hash_and_all_plain_ones_the_same(shape: tuple[int, ...]) -> None:
    plain = [np.full((1, *shape), value, np.uint8) for value in (0, 90, 255)]
    assert hash_images(np.concatenate(plain)).tolist() == [[0, 0, 0, 0]] * 3


def test_a_photograph_saved_differently_is_found_and_another_one_is_not() -> None:
    images = some_images()[:300]
    index = NearDuplicates(hash_images(images))
    darker = np.rint(images * 0.8).astype(np.uint8)
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 2, images.shape), 0, 255).astype(np.uint8)
    # Three times as large, like the same photograph in another resolution.
    bigger = images.repeat(3, axis=1).repeat(3, axis=2)
    for same in (images, darker, noisy, bigger):
        assert index.find(hash_images(same)).mean() > 0.95
    others = NearDuplicates(hash_images(images[150:]))
    assert others.find(hash_images(images[:150])).mean() < 0.05
    assert not index.find(hash_images(images[:, ::-1])).any()
    assert not index.find(hash_images(ndimage.rotate(images, 90, axes=(1, 2)))).any()


def test_fashion_mnist_has_near_duplicates() -> None:
    # The first training images are enough to find some of the 72 near-duplicates of the whole split.
    source = fashion_mnist()
    train = source.splits["train"].images[:20_000]
    found = NearDuplicates(hash_images(train)).find(hash_images(source.splits["test"].images))
    assert found.sum() == 24


@given(
    seed=st.integers(0, 2**32), count=st.integers(0, 40), bits=st.lists(st.integers(0, BITS - 1), max_size=40)
)
@settings(max_examples=60)
def test_the_search_finds_what_a_comparison_of_all_pairs_finds(
    seed: int, count: int, bits: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    known = random_hashes(rng, count)
    wanted = np.concatenate([random_hashes(rng, 5), flip(known, bits), known[:3]])
    expected = (distances(wanted, known) <= MAX_DISTANCE).any(axis=1)
    assert NearDuplicates(known).find(wanted).tolist() == expected.tolist()


@pytest.mark.parametrize("step", [1, 7, 10, 25])
def test_the_greatest_distance_is_found_wherever_its_bits_lie_and_one_bit_more_is_not(step: int) -> None:
    known = random_hashes(np.random.default_rng(step), 1)
    bits = [(step * index) % BITS for index in range(MAX_DISTANCE + 1)]
    assert len(set(bits)) == MAX_DISTANCE + 1
    index = NearDuplicates(known)
    assert index.find(flip(known, bits[:-1])).tolist() == [True]
    assert index.find(flip(known, bits)).tolist() == [False]


def test_the_search_finds_the_same_with_fewer_pairs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = hash_images(some_images()[:1000])
    index = NearDuplicates(hashes[:800])
    together = index.find(hashes)
    assert together[:800].all()
    monkeypatch.setattr(duplicates, "_PAIRS_AT_A_TIME", 50)
    np.testing.assert_array_equal(index.find(hashes), together)


def test_a_search_is_pickled_as_its_hashes() -> None:
    hashes = hash_images(some_images()[:500])
    index = NearDuplicates(hashes)
    data = pickle.dumps(index)
    assert len(data) < hashes.nbytes + 1000
    np.testing.assert_array_equal(pickle.loads(data).find(hashes[:20]), np.ones(20, bool))


def test_nothing_is_near_to_nothing() -> None:
    nothing = np.empty((0, 4), np.uint64)
    assert NearDuplicates(nothing).find(random_hashes(np.random.default_rng(0), 3)).tolist() == [False] * 3
    assert NearDuplicates(random_hashes(np.random.default_rng(0), 3)).find(nothing).shape == (0,)
