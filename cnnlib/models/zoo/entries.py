"""The registered models, by name: what each one is, what it costs, and what it has reached. Loads no TensorFlow.

A test traces every model and compares it with the numbers here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnlib.errors import ModelError
from cnnlib.model_options import ModelOptions, OptionValue, format_option
from cnnlib.models.zoo.options import (
    ConvNextOptions,
    DenseNetOptions,
    DnnOptions,
    EfficientNetOptions,
    FamilyOptions,
    PhotographOptions,
    ResNetOptions,
    SeedCnnOptions,
    SmallCnnOptions,
    WideResNetOptions,
)
from cnnlib.shapes import ImageShape

LISTED_CLASSES = 10
"""Classes of the models whose costs are stated."""
SMALL_IMAGE: ImageShape = (28, 28, 1)
PHOTOGRAPH: ImageShape = (224, 224, 3)


@dataclass(frozen=True, kw_only=True)
class Reached:
    """An accuracy that a model reached under a recipe of this project.

    Attributes:
        accuracy: 0..1, on all test rows.
        recipe: name of the recipe, with its defaults.
        data: name of the dataset.
        source: the document of this project that states it.
    """

    accuracy: float
    recipe: str
    data: str
    source: str


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A model of this project.

    Attributes:
        builder: `module:function`, a name and not the function: this is read where TensorFlow must not be loaded.
        options: the class of its options, with their defaults.
        summary: what it is.
        image_shape: height, width, channels of the images for which the costs are stated, with 10 classes.
        parameters: number of parameters, trained or not.
        flops_per_image: of one prediction, counted as in `cnnlib.models.cost.ModelCost`.
        reached: the accuracy that was measured; None: none was.
    """

    builder: str
    options: type[FamilyOptions]
    summary: str
    image_shape: ImageShape = SMALL_IMAGE
    parameters: int
    flops_per_image: int
    reached: Reached | None = None

    def defaults(self) -> dict[str, OptionValue]:
        """Returns the options with their defaults, by name."""
        return {field.name: getattr(self.options(), field.name) for field in dataclasses.fields(self.options)}

    def to_row(self) -> dict[str, Any]:
        """Returns the entry as JSON values."""
        return {
            "summary": self.summary,
            "image_shape": list(self.image_shape),
            "parameters": self.parameters,
            "flops_per_image": self.flops_per_image,
            "accuracy": None if self.reached is None else self.reached.accuracy,
            "recipe": None if self.reached is None else self.reached.recipe,
            "data": None if self.reached is None else self.reached.data,
            "options": self.defaults(),
        }


_LADDER = "docs/benchmarks/ladder_epyc-2core_202611.md"

ZOO: Mapping[str, RegisteredModel] = {
    "seed-cnn": RegisteredModel(
        builder="cnnlib.models.cnn:build_seed_cnn",
        options=SeedCnnOptions,
        summary="the tutorial's CNN",
        parameters=47_090,
        flops_per_image=35_583_232,
        reached=Reached(
            accuracy=0.9165,
            recipe="seed",
            data="fashion-mnist",
            source=_LADDER,
        ),
    ),
    "small-cnn": RegisteredModel(
        builder="cnnlib.models.cnn:build_small_cnn",
        options=SmallCnnOptions,
        summary="this project's CNN, with batch normalisation",
        parameters=178_754,
        flops_per_image=28_790_400,
        reached=Reached(accuracy=0.8976, recipe="demo", data="fashion-mnist", source="README.md"),
    ),
    "dnn": RegisteredModel(
        builder="cnnlib.models.dnn:build_dnn",
        options=DnnOptions,
        summary="the tutorial's dense network",
        parameters=235_146,
        flops_per_image=469_504,
        reached=Reached(accuracy=0.8765, recipe="dnn", data="fashion-mnist", source=_LADDER),
    ),
    "resnet": RegisteredModel(
        builder="cnnlib.models.zoo.resnet:build_resnet",
        options=ResNetOptions,
        summary="ResNet for small images (He et al. 2016)",
        parameters=273_754,
        flops_per_image=62_043_904,
    ),
    "wide-resnet": RegisteredModel(
        builder="cnnlib.models.zoo.resnet:build_wide_resnet",
        options=WideResNetOptions,
        summary="wide ResNet for small images (Zagoruyko and Komodakis 2016)",
        parameters=36_496_858,
        flops_per_image=8_028_398_592,
    ),
    "densenet-bc": RegisteredModel(
        builder="cnnlib.models.zoo.densenet:build_densenet_bc",
        options=DenseNetOptions,
        summary="DenseNet-BC for small images (Huang et al. 2017)",
        parameters=792_718,
        flops_per_image=440_216_568,
    ),
    "resnet-50": RegisteredModel(
        builder="cnnlib.models.zoo.photographs:build_resnet_50",
        options=PhotographOptions,
        summary="ResNet-50 for photographs (He et al. 2016)",
        image_shape=PHOTOGRAPH,
        parameters=23_608_202,
        flops_per_image=7_711_891_456,
    ),
    "efficientnet-v2-s": RegisteredModel(
        builder="cnnlib.models.zoo.photographs:build_efficientnet_v2_s",
        options=EfficientNetOptions,
        summary="EfficientNetV2-S for photographs (Tan and Le 2021)",
        image_shape=PHOTOGRAPH,
        parameters=20_344_170,
        flops_per_image=5_697_257_344,
    ),
    "convnext-tiny": RegisteredModel(
        builder="cnnlib.models.zoo.photographs:build_convnext_tiny",
        options=ConvNextOptions,
        summary="ConvNeXt-T for photographs (Liu et al. 2022)",
        image_shape=PHOTOGRAPH,
        parameters=27_827_818,
        flops_per_image=8_909_541_888,
    ),
}
"""The registered models, in the order of the lists."""


def resolve_options(name: str, given: ModelOptions) -> FamilyOptions:
    """Returns the options of a registered model: those that were given, and its defaults for the others.

    Raises:
        ModelError: the model has no such option, or the values do not go together.
    """
    defaults = ZOO[name].defaults()
    check_known(name, given, defaults)
    return ZOO[name].options(**given.given())


def check_known(name: str, given: ModelOptions, known: Mapping[str, object]) -> None:
    """Checks that a model has the options that are given.

    Raises:
        ModelError: it has not; the message names those that it has.
    """
    unknown = {option: value for option, value in given.given().items() if option not in known}
    if unknown:
        received = " ".join(_flag(option, value) for option, value in unknown.items())
        flags = ", ".join(f"--model.{option.replace('_', '-')}" for option in known)
        raise ModelError(
            f"{name} has no such option. Received {received}, expected one of: {flags or 'none'}."
        )


def _flag(option: str, value: OptionValue) -> str:
    return f"--model.{option.replace('_', '-')} {format_option(value)}"
