"""The config of a prediction of unlabelled images: a frozen, keyword-only dataclass; stdlib only, as config.py."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cnnlib.config_checks import check_at_least, check_range
from cnnlib.errors import ConfigError
from cnnlib.evaluate_config import Outputs, PixelRange, Preprocess, Tta

Resize = Literal["fill", "fit", "stretch"]


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How images are read and predicted, without the locations of models, images and results."""

    split: str = "test"
    """The split to predict, where --images is a dataset that jobs.prepare wrote."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of the model's outputs; for a model file, which does not state them."""
    size: str | None = None
    """224 or HEIGHTxWIDTH: the size that images are scaled to. None: that of the images that a checkpoint was trained
    on; a model file needs it."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour. None: those of the images that a checkpoint was trained on; for a model file, 3."""
    resize: Resize = "fill"
    """How images get the size, as for jobs.prepare: give what the training data was prepared with."""
    background: str = "white"
    """What transparent pixels lie on: white, black, grey or RRGGBB, as for jobs.prepare."""
    pixel_range: PixelRange | None = None
    """Range of the pixels that the model takes. None: what the checkpoint states; a model file needs it, or
    preprocess."""
    preprocess: Preprocess | None = None
    """imagenet, in place of a range: see jobs.evaluate."""
    outputs: Outputs = "auto"
    """Outputs of the model. auto: probabilities if they lie within 0..1 and add up to 1, else logits."""
    tta: Tta = "none"
    """Test-time augmentation: see jobs.evaluate."""
    top_k: int = 3
    """The number of most probable classes that are listed by name."""
    max_bad: float = 0.01
    """Fraction of images, 0..1, that may be unreadable. With more, the job fails and publishes nothing."""
    batch_size: int = 500
    """Rows that a predictor scores in one call; fewer if their pixels are many."""
    actors: int = 1
    """Number of predictors: actors that read and predict images in parallel, each with a TensorFlow of its own."""
    gpus_per_actor: int = 0
    """GPUs of one predictor, 0 or 1. 0: on CPUs."""
    cpus_per_actor: int | None = None
    """CPU cores of one predictor. None: the cores of this machine divided by the number of predictors; 1 on a
    cluster."""
    wait_for_resources_s: float = 0.0
    """Seconds to wait for a cluster with an autoscaler to grow. 0: a cluster that is too small is an error at once."""
    wait_when_busy_s: float = 1800.0
    """Seconds to wait for resources that other jobs use. The job then fails."""

    def __post_init__(self) -> None:
        if self.preprocess is not None and self.pixel_range is not None:
            raise ConfigError(
                f"Give pixel_range or preprocess. Received {self.pixel_range} and {self.preprocess}."
            )
        check_at_least("top_k", self.top_k, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("actors", self.actors, 1)
        check_range("max_bad", self.max_bad, 0.0, 1.0)
        check_range("wait_for_resources_s", self.wait_for_resources_s, 0.0, math.inf)
        check_range("wait_when_busy_s", self.wait_when_busy_s, 0.0, math.inf)
        if self.cpus_per_actor is not None:
            check_at_least("cpus_per_actor", self.cpus_per_actor, 1)
        if self.gpus_per_actor not in (0, 1):
            raise ConfigError(f"gpus_per_actor must be 0 or 1. Received {self.gpus_per_actor}.")
