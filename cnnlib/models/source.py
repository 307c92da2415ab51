"""Says how the model of a checkpoint was built, so that it can be built again where plain Keras cannot open its file.

Imports no Keras: the driver reads it from a checkpoint's manifest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnlib.model_options import ModelOptions
from cnnlib.shapes import ImageShape


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The call that built a user's own model, and what the model made of the probe images.

    Attributes:
        function: `package.module:function`.
        image_shape: height, width, channels; the first argument of the function.
        num_classes: the second argument of the function.
        options: the options that were given; keyword arguments of the function.
        dtype_policy: the Keras dtype policy under which the function was called.
        opens_in_keras: False if plain Keras cannot open the model's file, or opens another model from it.
        probe_outputs: outputs for `probe_images`, see `cnnlib.models.probe`; None: they are not known.
    """

    function: str
    image_shape: ImageShape
    num_classes: int
    options: ModelOptions = field(default_factory=ModelOptions)
    dtype_policy: str = "float32"
    opens_in_keras: bool = True
    probe_outputs: tuple[tuple[float, ...], ...] | None = None
