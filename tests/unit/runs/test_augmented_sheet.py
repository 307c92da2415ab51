"""The sheet of augmented images has one line for each image and one column for each step."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cnnlib.runs.augmented_sheet import augmented_png


@pytest.mark.parametrize(("height", "width", "channels"), [(28, 28, 1), (40, 20, 3), (200, 300, 3)])
def test_images_are_where_they_belong(height: int, width: int, channels: int) -> None:
    images = np.zeros((3, 4, height, width, channels), np.float32)
    images[2, 1] = 400  # more than a pixel can hold
    page = Image.open(io.BytesIO(augmented_png(images))).convert("L")
    assert page.size == (4 * 100 + 4, 3 * 100 + 4)
    assert page.getpixel((110, 210)) == 255
    assert page.getpixel((10, 10)) == page.getpixel((310, 210)) == 0


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Received \[3, 4, 5, 1\]"):
        augmented_png(np.zeros((3, 4, 5, 1)))
