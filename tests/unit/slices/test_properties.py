"""An image's properties match a direct computation, whichever images it is measured with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy import ndimage

from cnnlib.dataset.metadata import IMAGE_PROPERTIES
from cnnlib.slices import properties
from cnnlib.slices.properties import PROPERTIES, measure
from tests.fashion import fashion_mnist

IMAGES = st_numpy.arrays(
    np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 3]))
)


def box(top: int, left: int, height: int, width: int, value: int = 200, background: int = 0) -> np.ndarray:
    """Draws one 10x10 image of a box on a plain background, uint8 [1, 10, 10, 1]."""
    image = np.full((1, 10, 10, 1), background, np.uint8)
    image[0, top : top + height, left : left + width] = value
    return image


def test_the_properties_are_those_that_no_metadata_column_is_called() -> None:
    assert tuple(PROPERTIES) == IMAGE_PROPERTIES


@given(images=IMAGES)
def test_brightness_and_contrast_are_mean_and_deviation(images: np.ndarray) -> None:
    flat = images.reshape(len(images), -1) / 255
    np.testing.assert_allclose(measure("brightness", images), flat.mean(axis=1), atol=1e-6)
    # Near 0 the square root makes a rounding error a thousand times larger.
    np.testing.assert_allclose(measure("contrast", images), flat.std(axis=1), atol=1e-5)


@given(images=IMAGES.filter(lambda images: min(images.shape[1:3]) >= 3))
def test_sharpness_is_the_variance_of_the_laplacian_of_the_grey_image(images: np.ndarray) -> None:
    expected = [ndimage.laplace(image.mean(axis=2) / 255)[1:-1, 1:-1].var() for image in images]
    np.testing.assert_allclose(measure("sharpness", images), expected, atol=1e-5)


def test_sharpness_of_an_image_without_an_inside_is_zero() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 9, 1), np.uint8)
    assert measure("sharpness", images).tolist() == [0, 0, 0]


def test_a_blurred_photograph_is_less_sharp() -> None:
    images = fashion_mnist().splits["test"].images[:200]
    blurred = ndimage.gaussian_filter(images, (0, 1, 1, 0))
    assert (measure("sharpness", blurred) < measure("sharpness", images)).all()


@pytest.mark.parametrize("background", [0, 120, 255])
def test_size_is_the_fraction_inside_the_box_around_the_object_on_any_background(background: int) -> None:
    value = 60 if background else 200
    images = np.concatenate(
        [
            box(2, 3, 4, 5, value, background),
            box(0, 0, 10, 4, value, background),  # touches the border
            box(9, 9, 1, 1, value, background),
            box(0, 0, 0, 0, value, background),
        ]
    )
    np.testing.assert_allclose(measure("size", images), [0.2, 0.4, 0.01, 0])


def test_size_counts_two_objects_far_apart_as_one() -> None:
    images = box(0, 0, 1, 1) | box(9, 9, 1, 1)
    assert measure("size", images).tolist() == [1]


def test_size_ignores_small_differences_in_the_background() -> None:
    image = box(4, 4, 2, 2)
    image[0, 1, 1] = properties.BACKGROUND_TOLERANCE
    assert measure("size", image)[0] == pytest.approx(0.04)


@pytest.mark.parametrize("name", PROPERTIES)
def test_an_image_has_the_same_value_whichever_images_it_is_measured_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = fashion_mnist().splits["test"].images[:60]
    together = measure(name, images)
    assert together.dtype == np.float32
    assert together.shape == (60,)
    assert len(set(together.tolist())) > 10
    monkeypatch.setattr(properties, "_VALUES_AT_A_TIME", 7 * 28 * 28)
    np.testing.assert_array_equal(measure(name, images), together)
    np.testing.assert_array_equal(
        np.concatenate([measure(name, images[i : i + 1]) for i in range(60)]), together
    )


@pytest.mark.parametrize("name", PROPERTIES)
def test_no_rows_have_no_values(name: str) -> None:
    assert measure(name, np.empty((0, 28, 28, 1), np.uint8)).shape == (0,)


@given(images=IMAGES)
@settings(max_examples=50)
def test_every_property_is_finite_and_not_negative(images: np.ndarray) -> None:
    for name in PROPERTIES:
        values = measure(name, images)
        assert np.isfinite(values).all()
        assert (values >= 0).all()
