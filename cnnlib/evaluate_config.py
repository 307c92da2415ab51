"""The config of an evaluation: a frozen, keyword-only dataclass that checks its values when created.

As in config.py, `--help` shows the docstring of each field. This module imports only the standard library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cnnlib.config_checks import check_at_least, check_range
from cnnlib.errors import ConfigError

PixelRange = Literal["0-255", "0-1", "-1..1"]
Preprocess = Literal["imagenet"]
ModelInputs = Literal["0-255", "0-1", "-1..1", "imagenet"]
"""What a model takes: pixels in a range, or preprocessed."""
Outputs = Literal["auto", "probabilities", "logits"]
Tta = Literal["none", "flips", "crops"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The config of an evaluation, without the locations of its inputs and reports."""

    split: str = "test"
    """The split of the dataset to score."""
    pixel_range: PixelRange | None = None
    """Range of the pixels that the model takes: raw (0-255), or scaled (0-1 or -1..1).
    None: for a checkpoint of this project, what its manifest states. For a model file, 0-255 if the model scales the
    pixels itself, else 0-1, after a check on a few hundred rows that no other range gives better predictions."""
    preprocess: Preprocess | None = None
    """Preprocessing that the model expects, in place of a range. imagenet: pixels of 0..1, less the mean and divided by
    the standard deviation of ImageNet for each of three channels, as torchvision and Keras's mode torch do.
    None: the pixels in their range."""
    outputs: Outputs = "auto"
    """Outputs of the model. auto: probabilities if they lie within 0..1 and add up to 1, else logits."""
    tta: Tta = "none"
    """Test-time augmentation: the probabilities of an image are the mean of those of several views of it. flips: the
    image and its mirror image. crops: the image, and it shifted by a fourteenth of its side to each of four corners.
    The report names it among its settings; it takes 2 or 5 times as long."""
    class_map: tuple[str, ...] = ()
    """For a checkpoint of other classes: THEIRS=OURS for every class whose name differs between checkpoint and data.
    Classes of the checkpoint that the data do not have are then ignored."""
    top_k: int = 3
    """The k of the top-k accuracy."""
    batch_size: int = 500
    """Rows that a predictor scores in one call; fewer if their pixels take more than 4 MiB as float32, such as 4 of
    224x224x3, or 64 MiB on a GPU. It changes the speed, not the counts."""
    actors: int = 1
    """Number of predictors: actors that score rows in parallel, each with a TensorFlow of its own."""
    gpus_per_actor: int = 0
    """GPUs of one predictor, 0 or 1. 0: scoring on CPUs."""
    cpus_per_actor: int | None = None
    """CPU cores and TensorFlow threads of one predictor.
    None: the cores of this machine divided by the number of predictors; 1 on a cluster."""
    wait_for_resources_s: float = 0.0
    """Seconds to wait for a cluster with an autoscaler to grow. 0: a cluster that is too small is an error at once."""
    wait_when_busy_s: float = 1800.0
    """Seconds to wait for resources that other jobs use. The job then fails."""
    predictions: bool = True
    """Whether the label, the prediction and the most probable classes of every row are stored. This flag turns it off.
    A comparison of models row by row needs them."""
    slice_by: tuple[str, ...] = ()
    """Also compute metrics for slices of the split, by one property of the rows or by two crossed: source+brightness.
    A property is a metadata column, near-duplicate (of a training image), or, in quantiles, brightness, contrast,
    sharpness or size."""
    slice_quantiles: int = 4
    """Number of quantiles into which an image property or a column of numbers is cut, at least 2."""
    corruptions: bool = False
    """Also compute metrics, as slices, under noise, blur, shift, rotation, contrast and occlusion at 5 strengths each.
    Every image is predicted 31 times instead of once; the report's seconds count only the time without corruptions."""

    def __post_init__(self) -> None:
        if self.preprocess is not None and self.pixel_range is not None:
            raise ConfigError(
                f"Give pixel_range or preprocess. Received {self.pixel_range} and {self.preprocess}."
            )
        check_at_least("top_k", self.top_k, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("actors", self.actors, 1)
        check_at_least("slice_quantiles", self.slice_quantiles, 2)
        if self.cpus_per_actor is not None:
            check_at_least("cpus_per_actor", self.cpus_per_actor, 1)
        for entry in self.class_map:
            if "=" not in entry.strip("="):
                raise ConfigError(f"class_map takes THEIRS=OURS, two names of a class. Received {entry!r}.")
        check_range("wait_for_resources_s", self.wait_for_resources_s, 0.0, math.inf)
        check_range("wait_when_busy_s", self.wait_when_busy_s, 0.0, math.inf)
        if self.gpus_per_actor not in (0, 1):
            raise ConfigError(f"gpus_per_actor must be 0 or 1. Received {self.gpus_per_actor}.")

    @property
    def model_inputs(self) -> ModelInputs | None:
        """What the model takes; None: it is found out."""
        return self.preprocess or self.pixel_range
