"""The options of a model, one flag each: `--model.depth 56`. Imports only the standard library.

A config says which options were given. Which of them a model has, with which defaults: `cnnlib.models.zoo.options`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cnnlib.config_checks import check_at_least, check_range
from cnnlib.errors import ConfigError

Padding = Literal["same", "valid"]
Pooling = Literal["max", "average", "none"]
Activation = Literal["relu", "elu", "gelu", "silu", "tanh", "linear"]

OptionValue = int | float | str | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What to change in the model. None: as the model has it; --list-models shows what each model has.

    A model of your own gets the options that are given as keyword arguments of its function.
    """

    filters: tuple[int, ...] | None = None
    """Filters of each convolution of seed-cnn, in order."""
    units: tuple[int, ...] | None = None
    """Units of each hidden dense layer of seed-cnn and dnn, in order."""
    kernel: int | None = None
    """Height and width of the kernels of seed-cnn."""
    stride: int | None = None
    """Stride of the first convolution of seed-cnn."""
    padding: Padding | None = None
    """Borders of the convolutions of seed-cnn: same keeps the size of the image, valid cuts it."""
    pooling: Pooling | None = None
    """What follows every second convolution of seed-cnn."""
    activation: Activation | None = None
    """Activation of seed-cnn and dnn. In seed-cnn it follows the first half of the convolutions, as in the tutorial."""
    batch_norm: bool | None = None
    """Normalise the batch after each convolution of seed-cnn, and after each hidden layer of dnn."""
    width: int | None = None
    """Filters of the first convolution of small-cnn and resnet; the others grow in proportion."""
    depth: int | None = None
    """Layers with weights: of resnet 6n+2, of wide-resnet and densenet-bc 6n+4."""
    widen_factor: int | None = None
    """Factor by which a wide-resnet has more filters than a ResNet."""
    growth: int | None = None
    """Channels that each layer of densenet-bc adds."""
    compression: float | None = None
    """Part of the channels, above 0, up to 1, that a transition of densenet-bc keeps."""
    dropout: float | None = None
    """Probability, 0 to below 1, that a value is dropped in training: before the classes; in wide-resnet between the
    two convolutions of a block, in densenet-bc after each convolution, in dnn after each hidden layer. 0: none."""

    def __post_init__(self) -> None:
        for name in ("filters", "units"):
            for value in getattr(self, name) or ():
                check_at_least(f"model.{name}", value, 1)
        for name in ("kernel", "stride", "width", "depth", "widen_factor", "growth"):
            value = getattr(self, name)
            if value is not None:
                check_at_least(f"model.{name}", value, 1)
        if self.compression is not None and not 0 < self.compression <= 1:
            raise ConfigError(
                f"model.compression must be above 0 and at most 1. Received {self.compression}."
            )
        if self.dropout is not None:
            check_range("model.dropout", self.dropout, 0.0, 1.0)
            if self.dropout == 1:
                raise ConfigError("model.dropout must be below 1. Received 1.0.")

    def given(self) -> dict[str, OptionValue]:
        """Returns the options that were given, by name.

        >>> ModelOptions(depth=56).given()
        {'depth': 56}
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def label(self, name: str) -> str:
        """Returns the name of a model, followed by the options that were given.

        >>> ModelOptions(depth=56, dropout=0.3).label("resnet")
        'resnet depth=56 dropout=0.3'
        """
        texts = [f"{option}={_text(value)}" for option, value in self.given().items()]
        return " ".join([name, *texts])

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ModelOptions:
        """Reads the options of a stored config, in which tuples are lists."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
        }
        return cls(**values)


def format_option(value: OptionValue) -> str:
    """Returns an option's value as the command line takes it.

    >>> format_option((64, 32)), format_option(0.5), format_option(False)
    ('64 32', '0.5', 'False')
    """
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _text(value: OptionValue) -> str:
    return format_option(value).replace(" ", ",")
