"""Holds the types of array shapes that several modules use."""

from __future__ import annotations

ImageShape = tuple[int, int, int]
"""Height, width and channels of one image."""
