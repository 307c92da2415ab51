"""Networks for photographs from `keras.applications`, with new weights: raw pixels in, class probabilities out.

Grey images become images of three equal channels inside the model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import keras
from keras import applications, layers

from cnnlib.models.zoo.blocks import class_probabilities, drop
from cnnlib.models.zoo.options import ConvNextOptions, EfficientNetOptions, PhotographOptions
from cnnlib.shapes import ImageShape

# Mean and standard deviation of the pixels of ImageNet, red, green and blue, as fractions of 255.
_MEAN, _STANDARD_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_CAFFE_MEAN = (123.68, 116.779, 103.939)  # red, green and blue, of 0..255


def build_resnet_50(
    image_shape: ImageShape, num_classes: int, options: PhotographOptions | None = None
) -> keras.Model:
    """Builds ResNet-50 (He et al. 2016, https://arxiv.org/abs/1512.03385): 25.6 million parameters for 1,000 classes.

    Args:
        image_shape: height, width, channels; height and width at least 32, channels 1 or 3.
        num_classes: size of the last layer.
        options: dropout before the classes; None: the defaults.
    """
    options = PhotographOptions() if options is None else options
    return _build(
        "resnet_50", image_shape, num_classes, options, scale=_centre_blue_first, body=applications.ResNet50
    )


def build_efficientnet_v2_s(
    image_shape: ImageShape, num_classes: int, options: EfficientNetOptions | None = None
) -> keras.Model:
    """Builds EfficientNetV2-S (Tan and Le 2021, https://arxiv.org/abs/2104.00298): 21.6 million for 1,000 classes.

    Args:
        image_shape: height, width, channels; height and width at least 32, channels 1 or 3.
        num_classes: size of the last layer.
        options: dropout before the classes; None: the defaults.
    """
    options = EfficientNetOptions() if options is None else options
    return _build(
        "efficientnet_v2_s",
        image_shape,
        num_classes,
        options,
        scale=layers.Rescaling(1 / 127.5, offset=-1.0),
        body=partial(applications.EfficientNetV2S, include_preprocessing=False),
    )


def build_convnext_tiny(
    image_shape: ImageShape, num_classes: int, options: ConvNextOptions | None = None
) -> keras.Model:
    """Builds ConvNeXt-T (Liu et al. 2022, https://arxiv.org/abs/2201.03545): 28.6 million for 1,000 classes.

    Args:
        image_shape: height, width, channels; height and width at least 32, channels 1 or 3.
        num_classes: size of the last layer.
        options: dropout before the classes; None: the defaults.
    """
    options = ConvNextOptions() if options is None else options
    return _build(
        "convnext_tiny",
        image_shape,
        num_classes,
        options,
        scale=_standardize,
        body=partial(applications.ConvNeXtTiny, include_preprocessing=False),
    )


def _build(
    name: str,
    image_shape: ImageShape,
    num_classes: int,
    options: PhotographOptions,
    *,
    scale: Callable[[keras.KerasTensor], keras.KerasTensor],
    body: Callable[..., keras.Model],
) -> keras.Model:
    """Builds a network between raw pixels and class probabilities.

    Args:
        scale: makes of raw pixels, red, green and blue, what the network is made for.
        body: the function of `keras.applications`.
    """
    inputs = keras.Input(image_shape)
    base = body(include_top=False, weights=None, input_tensor=scale(_in_colours(inputs)), pooling="avg")
    x = drop(base.output, options.dropout)
    return keras.Model(inputs, class_probabilities(num_classes)(x), name=name)


def _in_colours(inputs: keras.KerasTensor) -> keras.KerasTensor:
    """Returns images of three channels."""
    return layers.Concatenate()([inputs] * 3) if inputs.shape[-1] == 1 else inputs


def _standardize(x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns pixels of 0..255 less the mean of ImageNet, divided by its standard deviation."""
    mean = [255 * value for value in _MEAN]
    variance = [(255 * value) ** 2 for value in _STANDARD_DEVIATION]
    return layers.Normalization(mean=mean, variance=variance)(x)


def _centre_blue_first(x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns pixels of 0..255 less the mean of ImageNet, in the order blue, green, red: as Caffe had them.

    The weights that `keras.applications` has for ResNet-50 are made for these, see its `resnet.preprocess_input`.
    """
    return keras.ops.flip(layers.Normalization(mean=_CAFFE_MEAN, variance=(1.0, 1.0, 1.0))(x), axis=-1)
