"""The config of an export of a model: a frozen, keyword-only dataclass; stdlib only, as config.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cnnlib.config_checks import check_above_0, check_at_least
from cnnlib.errors import ConfigError
from cnnlib.evaluate_config import Outputs, PixelRange, Preprocess

Format = Literal["savedmodel", "litert", "onnx"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How a model is exported and checked, without the locations of model, images and result."""

    format: Format = "savedmodel"
    """savedmodel: TensorFlow's format, as TensorFlow Serving takes it. litert: a .tflite file, for phones and small
    machines. onnx: refused, because its converter is not well kept; docs/export.md says what was tried."""
    split: str = "test"
    """The split of the dataset whose images both models predict."""
    images: int = 1000
    """The number of images that both models predict, from the start of the split; all of it, if it has fewer."""
    tolerance: float = 1e-4
    """The most by which a probability may differ from that of the Keras model. With more, nothing is published."""
    pixel_range: PixelRange | None = None
    """Range of the pixels that the model takes. None: what the checkpoint states; for a model file, see
    jobs.evaluate."""
    preprocess: Preprocess | None = None
    """imagenet, in place of a range: see jobs.evaluate."""
    outputs: Outputs = "auto"
    """Outputs of the model. auto: what the checkpoint states; for a model file, see jobs.evaluate."""
    cpus: int | None = None
    """CPU cores of both models in the check and in the measurement of their latency. None: those of this machine."""

    def __post_init__(self) -> None:
        if self.format == "onnx":
            raise ConfigError(
                "onnx cannot be exported: its converter, tf2onnx, looks for a maintainer and is not tested with this "
                "TensorFlow. Expected savedmodel or litert. docs/export.md says what was tried, and how to convert a "
                "SavedModel yourself."
            )
        if self.preprocess is not None and self.pixel_range is not None:
            raise ConfigError(
                f"Give pixel_range or preprocess. Received {self.pixel_range} and {self.preprocess}."
            )
        check_at_least("images", self.images, 1)
        check_above_0("tolerance", self.tolerance)
        if self.cpus is not None:
            check_at_least("cpus", self.cpus, 1)
