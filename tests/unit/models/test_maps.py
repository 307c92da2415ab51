"""Pictures of a layer are small, and their pixels the means of what they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.models.maps import MAX_LAYERS, build_maps, shrink, spread


@given(height=st.integers(1, 200), width=st.integers(1, 200), limit=st.integers(1, 70))
def test_every_pixel_of_a_shrunk_map_is_the_mean_of_its_block(height: int, width: int, limit: int) -> None:
    maps = np.random.default_rng(0).normal(size=(2, height, width, 1)).astype(np.float32)
    small = shrink(maps, limit)
    assert small.shape == (2, min(height, limit), min(width, limit), 1)
    assert small.dtype == np.float32
    rows, columns = (
        np.arange(each + 1) * size // each
        for each, size in zip(small.shape[1:3], (height, width), strict=True)
    )
    i, j = small.shape[1] // 2, small.shape[2] // 2
    block = maps[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
    np.testing.assert_allclose(small[:, i, j], block.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


def test_map_that_is_small_enough_is_kept_pixel_by_pixel() -> None:
    maps = np.arange(2 * 64 * 3, dtype=np.float32).reshape(2, 64, 3, 1)
    np.testing.assert_array_equal(shrink(maps), maps)


def test_at_most_64_maps_are_kept_and_all_are_counted() -> None:
    layer = build_maps(np.zeros((100, 5, 4, 1)), layer_index=3, layer="conv", kind="activation")
    assert (layer.maps.shape, layer.total) == ((64, 5, 4, 1), 100)


@given(count=st.integers(1, 300))
def test_layers_are_spread_from_the_first_to_the_last(count: int) -> None:
    chosen = spread(list(range(count)))
    assert len(chosen) == len(set(chosen)) == min(count, MAX_LAYERS)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_pictures_are_float32_whatever_they_came_as(dtype: type) -> None:
    layer = build_maps(np.ones((1, 2, 2, 3), dtype), layer_index=-1, layer="image", kind="image")
    assert layer.maps.dtype == np.float32
