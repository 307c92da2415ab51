"""A target's model file in, a model that is checked against the data and compiled for its images out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.record import Rows
from cnnlib.errors import ModelError
from cnnlib.evaluate_config import EvaluateConfig, ModelInputs, Tta
from cnnlib.evaluation.open_model import find_input_shape, open_model
from cnnlib.evaluation.partial_scores import ModelProfile
from cnnlib.evaluation.pixel_range import Sample, find_pixel_range
from cnnlib.evaluation.target import OutputKind, Target
from cnnlib.metrics.sums.arrays import LARGEST_PROBABILITY
from cnnlib.models.activations import record_activations
from cnnlib.models.cost import model_cost
from cnnlib.shapes import ImageShape

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_SHIFT = 1 / 14  # of a side, for crops: 2 pixels of 28
Images = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
Predict = Callable[[Images], Probabilities]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A target's model, ready to score rows.

    Attributes:
        input_shape: the shape in which the model takes one image.
        pixel_range: the range of the pixels that the model takes.
        outputs: what its outputs are.
        outputs_of: the compiled prediction, whose outputs are not yet checked.
    """

    target: Target
    model: keras.Model
    input_shape: tuple[int, ...]
    pixel_range: ModelInputs
    outputs: OutputKind
    outputs_of: Predict

    def predict(self, images: Images) -> Probabilities:
        """Predicts the classes of images.

        Args:
            images: uint8 [rows, height, width, channels].

        Returns:
            Probabilities, float32 [rows, classes].

        Raises:
            ModelError: the outputs are not finite, or they are not probabilities.
        """
        probabilities = self.outputs_of(images)
        if not np.isfinite(probabilities).all():
            raise ModelError(f"{self.target.uri} gives values that are not finite: its training diverged.")
        low, high = probabilities.min(), probabilities.max()
        if low < 0 or high > LARGEST_PROBABILITY:
            raise ModelError(
                f"{self.target.uri} gives no probabilities: its outputs lie in {low:.3g}..{high:.3g}. "
                "Try --outputs logits, or auto."
            )
        return probabilities if self.target.columns is None else _select(probabilities, self.target.columns)

    def profile(self, rows: Rows) -> ModelProfile:
        """Counts the model's cost and records its activations for the first row."""
        from cnnlib.models.pixels import pixels_to_inputs

        inputs = pixels_to_inputs(rows.images[:1], self.pixel_range).numpy().reshape(1, *self.input_shape)
        return ModelProfile(
            cost=model_cost(self.model, self.input_shape),
            pixel_range=self.pixel_range,
            outputs=self.outputs,
            example_id=int(rows.ids[0]),
            layers=tuple(record_activations(self.model, rows.images[0], inputs)),
        )


def load_model(
    target: Target,
    config: EvaluateConfig,
    *,
    image_shape: ImageShape,
    num_classes: int,
    batch_rows: int,
    chunks: int,
    sample: Sample | None = None,
) -> LoadedModel:
    """Opens a target's model, checks that it fits the data, and compiles it.

    Args:
        target: the model file, and the pixel range that the model takes.
        config: says how to interpret the outputs.
        image_shape: height, width, channels of the dataset's images.
        num_classes: number of classes of the dataset.
        batch_rows: rows that are computed at a time.
        chunks: see `compile_predict`.
        sample: rows on which the range of the pixels is checked, if the target does not state it.

    Raises:
        CheckpointError: the file's bytes are not those of its digest.
        ModelError: the file cannot be opened, or the model does not fit the data.
    """
    from cnnlib.models.outputs import find_output_kind

    model, outputs = open_model(target, num_classes=target.num_outputs(num_classes), outputs=config.outputs)
    input_shape = find_input_shape(model, target, image_shape)
    if outputs == "auto":
        outputs = target.outputs or find_output_kind(model, input_shape, target.uri)
    pixel_range = target.pixel_range or find_pixel_range(model, input_shape, target.uri, sample)
    outputs_of = compile_predict(
        model,
        input_shape=input_shape,
        image_shape=image_shape,
        batch_size=batch_rows,
        pixel_range=pixel_range,
        logits=outputs == "logits",
        chunks=chunks,
        tta=config.tta,
    )
    return LoadedModel(
        target=target,
        model=model,
        input_shape=input_shape,
        pixel_range=pixel_range,
        outputs=outputs,
        outputs_of=outputs_of,
    )


def compile_predict(
    model: keras.Model,
    *,
    input_shape: tuple[int, ...],
    image_shape: ImageShape,
    batch_size: int,
    pixel_range: ModelInputs,
    logits: bool,
    chunks: int,
    tta: Tta = "none",
) -> Predict:
    """Builds a function from images, uint8 [rows, height, width, channels], to outputs, float32 [rows, classes].

    Args:
        model: a built model.
        input_shape: the shape in which the model takes one image.
        image_shape: height, width, channels.
        batch_size: rows that are computed at a time.
        pixel_range: see `pixels_to_inputs`.
        logits: True if the model outputs logits, which are then turned into probabilities.
        chunks: equal parts of a batch that are computed in parallel.
        tta: of which views of an image the outputs are averaged, as probabilities; see `EvaluateConfig`.
    """
    import tensorflow as tf

    from cnnlib.models.pixels import pixels_to_inputs

    spec = tf.TensorSpec([batch_size, *image_shape], tf.uint8)

    @tf.function(input_signature=[spec], autograph=False)  # type: ignore[untyped-decorator]
    def predict_batch(images: tf.Tensor) -> tf.Tensor:
        outputs = [predict_view(view) for view in _views(images, tta)]
        return outputs[0] if len(outputs) == 1 else tf.add_n(outputs) / len(outputs)

    def predict_view(images: tf.Tensor) -> tf.Tensor:
        inputs = tf.reshape(pixels_to_inputs(images, pixel_range), [batch_size, *input_shape])
        # TensorFlow computes the chunks in parallel: nothing in the graph makes one wait for another.
        outputs = [tf.cast(model(chunk, training=False), tf.float32) for chunk in tf.split(inputs, chunks)]
        joined = tf.concat(outputs, axis=0)
        return tf.nn.softmax(joined) if logits else joined

    def predict(images: Images) -> Probabilities:
        outputs = []
        for first in range(0, len(images), batch_size):
            batch = images[first : first + batch_size]
            rows = len(batch)
            if rows < batch_size:
                # All batches have one shape, so that TensorFlow compiles once: zeros fill up the last batch.
                batch = np.pad(batch, [(0, batch_size - rows), *[(0, 0)] * 3])
            outputs.append(predict_batch(tf.constant(batch)).numpy()[:rows])
        return np.concatenate(outputs)

    return predict


def _views(images: tf.Tensor, tta: Tta) -> list[tf.Tensor]:
    """Returns the images, and changed ones beside them: each uint8 [rows, height, width, channels]."""
    import tensorflow as tf

    if tta == "flips":
        return [images, tf.reverse(images, [2])]
    if tta == "crops":
        _, height, width, _ = images.shape
        down, right = (max(1, round(side * _SHIFT)) for side in (height, width))
        bordered = tf.pad(images, [[0, 0], [down, down], [right, right], [0, 0]])
        corners = [(top, left) for top in (0, 2 * down) for left in (0, 2 * right)]
        return [images, *(bordered[:, top : top + height, left : left + width] for top, left in corners)]
    return [images]


def _select(probabilities: Probabilities, columns: tuple[int, ...]) -> Probabilities:
    """Returns the probabilities of the data's classes; of some classes of the model, given that it is one of these."""
    selected = probabilities[:, columns]
    if len(columns) == probabilities.shape[1]:
        return selected
    sums = selected.sum(axis=1, keepdims=True)
    # Where the model rules out all of these classes, it does not tell them apart.
    return np.where(sums > 0, selected / np.maximum(sums, 1e-30), np.float32(1 / len(columns))).astype(
        np.float32
    )
