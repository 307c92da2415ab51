"""Reads what the tutorial's models cost at five image sizes, from `cost_table.json`. Loads no TensorFlow.

The file is generated: `python -m cnnlib.models.cost` traces the Keras models, and a test compares the file with them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnlib.shapes import ImageShape

COST_TABLE = Path(__file__).with_suffix(".json")
BYTES_PER_VALUE = 4  # float32

GROWING = ("seed-cnn", "small-cnn", "dnn")
"""The models of the table: those whose costs the tutorial compares from small images to 4K."""
IMAGE_SIZES = ((28, 28), (224, 224), (720, 1280), (1080, 1920), (2160, 3840))
"""Height and width: Fashion-MNIST, ImageNet, HD, Full HD, 4K."""
CHANNELS = 1  # of the images in the table
NUM_CLASSES = 10  # of the models in the table


@dataclass(frozen=True, kw_only=True)
class CostAtSize:
    """What a registered model costs at one image size.

    Attributes:
        model: its registered name.
        image_shape: height, width, channels.
        parameters: number of parameters, trained or not.
        flops_per_image: floating-point operations of one prediction, counted as in `cnnlib.models.cost.ModelCost`.
        activation_values: values that all layers output for one image, together. Training keeps them for the backward
            pass. A layer that only reshapes adds none.
    """

    model: str
    image_shape: ImageShape
    parameters: int
    flops_per_image: int
    activation_values: int

    @property
    def activation_bytes(self) -> int:
        """The activation values in bytes, as float32."""
        return BYTES_PER_VALUE * self.activation_values

    def to_row(self) -> dict[str, Any]:
        """Returns the cost as flat JSON values."""
        height, width, channels = self.image_shape
        return {
            "model": self.model,
            "height": height,
            "width": width,
            "channels": channels,
            "parameters": self.parameters,
            "flops_per_image": self.flops_per_image,
            "activation_bytes": self.activation_bytes,
        }


def load_cost_table() -> list[CostAtSize]:
    """Reads the costs of every model of the table, by model and then from the smallest image to the largest."""
    return [
        CostAtSize(**{**entry, "image_shape": tuple(entry["image_shape"])})
        for entry in json.loads(COST_TABLE.read_text())
    ]


def format_cost_table(costs: Sequence[CostAtSize]) -> str:
    """Returns the text of `cost_table.json`: a JSON array with one line per cost, which is easy to review."""
    return "[\n" + ",\n".join(f"  {json.dumps(asdict(cost))}" for cost in costs) + "\n]\n"


def registered_cost(model: str, image_shape: ImageShape) -> CostAtSize:
    """Returns the cost of a registered model at an image size of the table.

    Raises:
        KeyError: the table has no such model or no such size.

    >>> registered_cost("seed-cnn", (28, 28, 1)).parameters
    47090
    """
    costs = {(cost.model, cost.image_shape): cost for cost in load_cost_table()}
    return costs[model, image_shape]
