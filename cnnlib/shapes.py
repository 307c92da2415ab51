"""Types of array shapes that every room shares. Imports nothing."""

from __future__ import annotations

ImageShape = tuple[int, int, int]
"""Height, width and channels of an image."""
