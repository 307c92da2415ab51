"""The options of each registered model with their defaults, and what they need of the images. Loads no TensorFlow.

A field here has the name and the type of a field of `cnnlib.model_options.ModelOptions`, which a test checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cnnlib.errors import ModelError
from cnnlib.model_options import Activation, Padding, Pooling
from cnnlib.shapes import ImageShape

_COLOURS = 3


@dataclass(frozen=True, kw_only=True)
class FamilyOptions:
    """The options of one registered model. Values that do not go together raise a ModelError."""

    smallest_side: ClassVar[int] = 1
    """Height and width that an image has at least."""

    @property
    def is_row_by_row(self) -> bool:
        """True without batch normalisation and without random layers."""
        return False

    def check_images(self, name: str, image_shape: ImageShape) -> None:
        """Raises a ModelError if the model cannot take images of this shape."""
        if min(image_shape[:2]) < self.smallest_side:
            raise ModelError(
                f"Images of {_size(image_shape)} pixels are too small for {name}. Expected at least "
                f"{self.smallest_side}x{self.smallest_side}."
            )


@dataclass(frozen=True, kw_only=True)
class SeedCnnOptions(FamilyOptions):
    """The tutorial's network, and the knobs that it turns."""

    filters: tuple[int, ...] = (64, 32, 32, 16, 16, 8)
    kernel: int = 3
    stride: int = 1
    padding: Padding = "same"
    pooling: Pooling = "max"
    activation: Activation = "relu"
    batch_norm: bool = False
    units: tuple[int, ...] = (128,)
    dropout: float = 0.0

    @property
    def is_row_by_row(self) -> bool:
        """See `FamilyOptions`."""
        return not self.batch_norm and not self.dropout

    def check_images(self, name: str, image_shape: ImageShape) -> None:
        """Follows the shorter side of the image through all layers."""
        side = min(image_shape[:2])
        for index in range(len(self.filters)):
            stride = self.stride if index == 0 else 1
            side = -(-side // stride) if self.padding == "same" else (side - self.kernel) // stride + 1
            if index % 2 and self.pooling != "none":
                side //= 2
            if side < 1:
                raise ModelError(
                    f"Images of {_size(image_shape)} pixels are too small for {name}: nothing is left of them after "
                    f"convolution {index + 1} of {len(self.filters)}. Give larger images, fewer --model.filters, "
                    "--model.padding same or --model.pooling none."
                )


@dataclass(frozen=True, kw_only=True)
class DnnOptions(FamilyOptions):
    """The tutorial's dense network."""

    units: tuple[int, ...] = (256, 128)
    activation: Activation = "relu"
    batch_norm: bool = False
    dropout: float = 0.0

    @property
    def is_row_by_row(self) -> bool:
        """See `FamilyOptions`."""
        return not self.batch_norm and not self.dropout


@dataclass(frozen=True, kw_only=True)
class SmallCnnOptions(FamilyOptions):
    """The network of this project."""

    smallest_side: ClassVar[int] = 4

    width: int = 24
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _ThreeStages(FamilyOptions):
    """A network of three stages of n blocks, which have two layers with weights each: the depth is 6n + others."""

    smallest_side: ClassVar[int] = 8
    name: ClassVar[str]
    other_layers: ClassVar[int]
    """Layers with weights outside the blocks; those of the shortcuts do not count."""

    depth: int

    def __post_init__(self) -> None:
        rest = self.other_layers
        if self.depth >= 6 + rest and self.depth % 6 == rest:
            return
        below = 6 * max(1, (self.depth - rest) // 6) + rest
        raise ModelError(
            f"model.depth must be 6n+{rest} for {self.name}. Received {self.depth}. Try {below} or {below + 6}."
        )

    @property
    def blocks(self) -> int:
        """Blocks of each stage, n."""
        return (self.depth - self.other_layers) // 6


@dataclass(frozen=True, kw_only=True)
class ResNetOptions(_ThreeStages):
    """A residual network for small images."""

    name: ClassVar[str] = "resnet"
    other_layers: ClassVar[int] = 2

    depth: int = 20
    width: int = 16


@dataclass(frozen=True, kw_only=True)
class WideResNetOptions(_ThreeStages):
    """A wide residual network."""

    name: ClassVar[str] = "wide-resnet"
    other_layers: ClassVar[int] = 4

    depth: int = 28
    widen_factor: int = 10
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DenseNetOptions(_ThreeStages):
    """A densely connected network with bottlenecks and compression."""

    name: ClassVar[str] = "densenet-bc"
    other_layers: ClassVar[int] = 4

    depth: int = 100
    growth: int = 12
    compression: float = 0.5
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PhotographOptions(FamilyOptions):
    """A network of `keras.applications`, for images of one or three channels."""

    smallest_side: ClassVar[int] = 32

    dropout: float = 0.0

    def check_images(self, name: str, image_shape: ImageShape) -> None:
        """Checks the size and the channels of the images."""
        super().check_images(name, image_shape)
        if image_shape[2] not in (1, _COLOURS):
            raise ModelError(f"{name} takes images of 1 or 3 channels. Received images of {image_shape[2]}.")


@dataclass(frozen=True, kw_only=True)
class EfficientNetOptions(PhotographOptions):
    """EfficientNetV2-S, which has dropout in the paper too."""

    dropout: float = 0.2


@dataclass(frozen=True, kw_only=True)
class ConvNextOptions(PhotographOptions):
    """ConvNeXt, which normalises each row alone."""

    @property
    def is_row_by_row(self) -> bool:
        """See `FamilyOptions`."""
        return not self.dropout


def _size(image_shape: ImageShape) -> str:
    return f"{image_shape[1]}x{image_shape[0]}"
