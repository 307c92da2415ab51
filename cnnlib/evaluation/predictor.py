"""The actor that scores rows: loads TensorFlow and the models once, then turns blocks of rows into sums."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnlib.config import EvaluateConfig
from cnnlib.dataset.record import SHARD_INDEX, ImageShape, Rows, table_to_rows
from cnnlib.errors import CheckpointError, InputError, ModelError
from cnnlib.evaluation.partial_scores import ENDED, PART, STARTED, TARGET, ModelProfile, PartialScores
from cnnlib.evaluation.target import Target
from cnnlib.metrics.sums.arrays import LARGEST_PROBABILITY
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.models.activations import record_activations
from cnnlib.models.cost import model_cost
from cnnlib.models.runtime import count_chunks, load_tensorflow
from cnnlib.reports.predictions import write_predictions
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS, corrupt, slice_name
from cnnlib.slices.slicer import Mask, Slicer
from cnnlib.storage import files, publish
from cnnlib.storage.uri import uri_name

if TYPE_CHECKING:
    import keras
    import pyarrow as pa

Images = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
Predict = Callable[[Images], Probabilities]
Explain = Callable[[Rows], ModelProfile]


@dataclass(frozen=True, kw_only=True)
class PredictorTask:
    """All a predictor is told.

    Attributes:
        report_ids: of each target, under which its predictions are stored; None: they are not.
        keep_rows: whether the driver gets the rows with all their probabilities, or a histogram of them.
        cpus: threads of this actor.
        slicer: cuts the rows into slices; None: there are none.
    """

    targets: tuple[Target, ...]
    config: EvaluateConfig
    image_shape: ImageShape
    num_classes: int
    cpus: int
    reports_uri: str
    report_ids: tuple[str, ...] | None
    keep_rows: bool
    slicer: Slicer | None = None


class Predictor:
    """Scores every row with every target: one pass over the data for all of them."""

    def __init__(self, task: PredictorTask) -> None:
        self._task = task
        self._predicts: list[Predict] = []
        self._explains: list[Explain] = []
        self._error: InputError | None = None
        load_tensorflow(task.cpus, _parts(task))
        try:
            for target in task.targets:
                predict, explain = _load(target, task)
                self._predicts.append(predict)
                self._explains.append(explain)
        except InputError as err:
            # Raised by the first block: a constructor's error reaches the driver as a dead actor, without its cause.
            self._error = err

    def __call__(self, table: pa.Table) -> dict[str, npt.NDArray[Any]]:
        """Scores the rows of one shard, or of a part of it.

        Returns:
            One row per target: its index, a `PartialScores` as bytes, and when this began and ended, in seconds since
            1970.
        """
        if self._error is not None:
            raise self._error
        rows = table_to_rows(table, self._task.image_shape)
        shard_index = int(table.column(SHARD_INDEX)[0].as_py())
        # Before the clock starts: it is done once, whatever the number of rows.
        profiles = [explain(rows) if shard_index == 0 else None for explain in self._explains]
        started = time.time()
        masks = {} if self._task.slicer is None else self._task.slicer.masks(rows)
        parts = [
            self._score(index, rows, shard_index, masks, profile) for index, profile in enumerate(profiles)
        ]
        if self._task.config.corruptions:
            parts = self._add_corruptions(parts, rows)
        return {
            TARGET: np.arange(len(parts)),
            PART: np.array([part.encode() for part in parts], dtype=object),
            STARTED: np.full(len(parts), started),
            ENDED: np.full(len(parts), time.time()),
        }

    def _score(
        self,
        index: int,
        rows: Rows,
        shard_index: int,
        masks: Mapping[str, Mask],
        profile: ModelProfile | None,
    ) -> PartialScores:
        task, started = self._task, time.perf_counter()
        probabilities = self._predict(index, rows.images)
        stored = None
        if task.report_ids is not None:
            stored = write_predictions(
                task.reports_uri,
                task.report_ids[index],
                shard_index=shard_index,
                ids=rows.ids,
                labels=rows.labels,
                probabilities=probabilities,
            )
        return PartialScores(
            score=self._sums(rows.labels, probabilities, histogram=not task.keep_rows),
            rows=ScoredRows.from_probabilities(rows.ids, rows.labels, probabilities)
            if task.keep_rows
            else None,
            predictions=stored,
            slices={name: self._sums(rows.labels[mask], probabilities[mask]) for name, mask in masks.items()},
            busy_s=time.perf_counter() - started,
            profile=profile,
        )

    def _sums(
        self, labels: npt.NDArray[np.int32], probabilities: Probabilities, *, histogram: bool = False
    ) -> MetricSums:
        top_k = min(self._task.config.top_k, self._task.num_classes)
        return MetricSums.from_probabilities(labels, probabilities, top_k=top_k, histogram=histogram)

    def _add_corruptions(self, parts: list[PartialScores], rows: Rows) -> list[PartialScores]:
        """The parts with one slice more for every corruption: all rows, distorted, predicted again."""
        started = time.perf_counter()
        slices: list[dict[str, MetricSums]] = [{} for _ in parts]
        for kind in CORRUPTIONS:
            for strength in STRENGTHS:
                images = corrupt(rows.images, rows.ids, kind, strength)
                for index, own in enumerate(slices):
                    own[slice_name(kind, strength)] = self._sums(rows.labels, self._predict(index, images))
        seconds = (time.perf_counter() - started) / len(parts)
        return [
            replace(part, slices={**part.slices, **own}, corrupted_s=seconds)
            for part, own in zip(parts, slices, strict=True)
        ]

    def _predict(self, index: int, images: Images) -> Probabilities:
        """Probabilities float32 [rows, classes] of one target; what is none is refused."""
        target = self._task.targets[index]
        probabilities = self._predicts[index](images)
        if not np.isfinite(probabilities).all():
            raise ModelError(f"{target.uri} gives values that are not finite: its training diverged.")
        low, high = probabilities.min(), probabilities.max()
        if low < 0 or high > LARGEST_PROBABILITY:
            raise ModelError(
                f"{target.uri} gives no probabilities: its outputs lie in {low:.3g}..{high:.3g}. "
                "Try --outputs logits, or auto."
            )
        return probabilities


def _load(target: Target, task: PredictorTask) -> tuple[Predict, Explain]:
    """Opens a model; what comes out predicts images, and explains the model with the first of some rows."""
    from cnnlib.models.registry import gives_probabilities

    model = _load_model(target)
    input_shape = _fit_input(model, target, task.image_shape)
    _check_output(model, target, task.num_classes)
    outputs = task.config.outputs
    logits = not gives_probabilities(model) if outputs == "auto" else outputs == "logits"
    scale = 255.0 if target.pixel_range == "0-1" else 1.0
    predict = _compile(
        model, input_shape, task.image_shape, task.config.batch_size, scale, logits, _parts(task)
    )
    return predict, lambda rows: _explain(model, rows, input_shape, scale)


def _explain(model: keras.Model, rows: Rows, input_shape: tuple[int, ...], scale: float) -> ModelProfile:
    """What a model costs, and what it makes of the first row."""
    from cnnlib.models.pixels import pixels_to_inputs

    inputs = pixels_to_inputs(rows.images[:1], scale).numpy().reshape(1, *input_shape)
    return ModelProfile(
        cost=model_cost(model, input_shape),
        example_id=int(rows.ids[0]),
        layers=tuple(record_activations(model, rows.images[0], inputs)),
    )


def _parts(task: PredictorTask) -> int:
    return 1 if task.config.gpus_per_actor else count_chunks(task.cpus, task.config.batch_size)


def _load_model(target: Target) -> keras.Model:
    import keras

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, uri_name(target.model_uri))
        files.download(target.model_uri, path)
        if publish.sha256_hex(path.read_bytes()) != target.digest:
            raise CheckpointError(f"{target.model_uri} does not match its manifest: its bytes have changed.")
        try:
            return keras.models.load_model(path, compile=False)
        except Exception as err:  # Keras raises whatever the file makes it meet
            reason = (str(err).splitlines() or [""])[0]
            raise ModelError(f"Keras cannot open {target.model_uri}: {type(err).__name__}: {reason}") from err


def _fit_input(model: keras.Model, target: Target, image_shape: ImageShape) -> tuple[int, ...]:
    """The shape one image is given to the model in: as it is, without its single channel, or flat."""
    wanted = getattr(model, "input_shape", None)  # an unbuilt Sequential has none
    if isinstance(wanted, tuple):
        height, width, channels = image_shape
        without_channel = [(height, width)] if channels == 1 else []
        for shape in (image_shape, *without_channel, (math.prod(image_shape),)):
            fits = len(wanted) == len(shape) + 1 and all(
                have in (None, want) for have, want in zip(wanted[1:], shape, strict=True)
            )
            if fits:
                return shape
    raise ModelError(
        f"{target.uri} does not take this data set's images. Received a model with input {wanted}, "
        f"expected (None, {', '.join(map(str, image_shape))})."
    )


def _check_output(model: keras.Model, target: Target, num_classes: int) -> None:
    output = getattr(model, "output_shape", None)
    if not isinstance(output, tuple) or tuple(output[1:]) != (num_classes,):
        raise ModelError(
            f"{target.uri} does not fit the number of classes. Received a model with output {output}, "
            f"expected (None, {num_classes}): one value per class."
        )


def _compile(
    model: keras.Model,
    input_shape: tuple[int, ...],
    image_shape: ImageShape,
    batch_size: int,
    scale: float,
    logits: bool,
    parts: int,
) -> Predict:
    import tensorflow as tf

    from cnnlib.models.pixels import pixels_to_inputs

    spec = tf.TensorSpec([batch_size, *image_shape], tf.uint8)

    @tf.function(input_signature=[spec], autograph=False)  # type: ignore[untyped-decorator]
    def predict_batch(images: tf.Tensor) -> tf.Tensor:
        inputs = tf.reshape(pixels_to_inputs(images, scale), [batch_size, *input_shape])
        # Side by side: nothing in the graph makes one part wait for another.
        outputs = [tf.cast(model(part, training=False), tf.float32) for part in tf.split(inputs, parts)]
        together = tf.concat(outputs, axis=0)
        return tf.nn.softmax(together) if logits else together

    def predict(images: Images) -> Probabilities:
        results = []
        for first in range(0, len(images), batch_size):
            part = images[first : first + batch_size]
            # One shape for every call, so that TensorFlow compiles once: the last part is filled up with zeros.
            filled = (
                np.pad(part, [(0, batch_size - len(part)), *[(0, 0)] * 3]) if len(part) < batch_size else part
            )
            results.append(predict_batch(tf.constant(filled)).numpy()[: len(part)])
        return np.concatenate(results)

    return predict
