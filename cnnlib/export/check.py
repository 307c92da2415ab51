"""A Keras model and its exported files in, whether they give the same answers and how fast each is out."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnlib.errors import ModelError
from cnnlib.evaluation.loaded_model import LoadedModel, compile_predict
from cnnlib.export.agreement import Agreement, compare, to_probabilities
from cnnlib.export.formats import ExportedModel, input_dtype
from cnnlib.export.latency import measure_latency
from cnnlib.export.plan import ExportPlan
from cnnlib.log import log_event
from cnnlib.models.batches import fit_batch

CHECK_ROWS = 64
"""Rows that are predicted at a time; fewer if their pixels are many."""
_LATENCY_ROWS = (1, 64)

Images = npt.NDArray[np.uint8]


def check_answers(plan: ExportPlan, exported: ExportedModel, ours: LoadedModel) -> Agreement:
    """Lets the exported model and the Keras model predict the images of the check.

    Raises:
        ModelError: a probability differs by more than the tolerance.
    """
    agreement = compare_models(plan, exported, ours)
    tolerance = plan.config.tolerance
    if not agreement.lies_within(tolerance):
        raise ModelError(
            f"{plan.target.uri} gives other answers as {plan.config.format}: the probabilities of "
            f"{agreement.images} images differ by up to {agreement.largest_difference:.3g}, expected at most "
            f"{tolerance:g}, and the most probable class of {agreement.images - agreement.same_class} is another one. "
            "Nothing was published. Choose another --format, or a larger --tolerance."
        )
    return agreement


def compare_models(plan: ExportPlan, exported: ExportedModel, ours: LoadedModel) -> Agreement:
    """Returns how far the exported model and a Keras model agree about the images of the check."""
    batch_rows = fit_batch(CHECK_ROWS, plan.manifest.image_shape)
    parts = []
    for rows in plan.read_rows(plan.num_images, batch_rows):
        outputs = exported.outputs_of(_to_inputs(rows.images, ours))
        probabilities = to_probabilities(outputs, logits=ours.outputs == "logits")
        parts.append(compare(probabilities, ours.predict(rows.images)))
    return reduce(Agreement.merge, parts)


def measure_batches(plan: ExportPlan, exported: ExportedModel, ours: LoadedModel) -> list[dict[str, Any]]:
    """Measures both models for one image and for a batch of 64, or fewer if their pixels are many."""
    shape = plan.manifest.image_shape
    # The limit for GPUs: here, too, only memory counts.
    sizes = sorted({fit_batch(rows, shape, on_gpu=True) for rows in _LATENCY_ROWS})
    return [_measure_batch(plan, exported, ours, size) for size in sizes]


def _measure_batch(
    plan: ExportPlan, exported: ExportedModel, ours: LoadedModel, batch_size: int
) -> dict[str, Any]:
    """Measures both models for batches of a size.

    The exported model gets inputs that are ready. The Keras model is compiled as for jobs.evaluate: it takes pixels,
    uint8, and their conversion, which is short, is part of its time.
    """
    shape = plan.manifest.image_shape
    read = plan.read_rows(min(batch_size, plan.num_images), batch_size)
    images = np.concatenate([rows.images for rows in read])
    images = np.resize(images, (batch_size, *shape))  # repeated, if the check has fewer
    keras_predict = compile_predict(
        ours.model,
        input_shape=ours.input_shape,
        image_shape=shape,
        batch_size=batch_size,
        pixel_range=ours.pixel_range,
        logits=ours.outputs == "logits",
        chunks=1,
    )
    times = measure_latency(
        {
            "keras": partial(keras_predict, images),
            "exported": partial(exported.outputs_of, _to_inputs(images, ours)),
        }
    )
    medians = {f"{name}_ms": each["median_ms"] for name, each in times.items()}
    log_event("latency", batch_size=batch_size, **medians)
    return {"batch_size": batch_size, **times}


def _to_inputs(images: Images, ours: LoadedModel) -> npt.NDArray[Any]:
    """Returns images, uint8 [rows, height, width, channels], as the model takes them: [rows, *input_shape]."""
    from cnnlib.models.pixels import pixels_to_inputs

    inputs = pixels_to_inputs(images, ours.pixel_range).numpy()
    return np.asarray(inputs.reshape(len(images), *ours.input_shape), input_dtype(ours.model))
