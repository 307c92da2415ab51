"""Array shapes that several rooms name."""

from __future__ import annotations

ImageShape = tuple[int, int, int]
"""Height, width and channels of one image."""
