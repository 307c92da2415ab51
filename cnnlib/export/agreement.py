"""The probabilities of two models for the same images in, how far they agree out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two models agree about some images. The values of parts of the images merge into those of all.

    Attributes:
        images: the number of images.
        same_class: the images of which both find the same class most probable.
        largest_difference: the largest difference of a probability; NaN if one is not a number.
    """

    images: int = 0
    same_class: int = 0
    largest_difference: float = 0.0

    def merge(self, other: Agreement) -> Agreement:
        """Returns the agreement about the images of both."""
        return Agreement(
            images=self.images + other.images,
            same_class=self.same_class + other.same_class,
            # Not max(), which may lose a NaN.
            largest_difference=float(np.maximum(self.largest_difference, other.largest_difference)),
        )

    def lies_within(self, tolerance: float) -> bool:
        """Returns whether no probability differs by more than the tolerance.

        Another class can then be the most probable one only where the probabilities of two lie within twice the
        tolerance.
        """
        return self.largest_difference <= tolerance  # False for NaN


def compare(probabilities: Floats, expected: Floats) -> Agreement:
    """Compares the probabilities of two models, float32 [images, classes] each.

    >>> compare(np.array([[0.25, 0.75]]), np.array([[0.5, 0.5]]))
    Agreement(images=1, same_class=0, largest_difference=0.25)
    """
    return Agreement(
        images=len(expected),
        same_class=int((probabilities.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        largest_difference=float(np.abs(probabilities - expected).max()),
    )


def to_probabilities(outputs: Floats, *, logits: bool) -> Floats:
    """Returns the probabilities of outputs, float32 [images, classes]: a softmax of logits, else the outputs.

    >>> to_probabilities(np.array([[7.0, 7.0]], np.float32), logits=True)
    array([[0.5, 0.5]], dtype=float32)
    """
    if not logits:
        return outputs
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
