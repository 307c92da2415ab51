"""A chunk of images in, a Parquet object with their predictions out: the actor of `jobs.predict`."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.errors import CnnlibError, ModelError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.loaded_model import load_model
from cnnlib.evaluation.target import Target
from cnnlib.models.batches import fit_batch
from cnnlib.models.runtime import count_chunks, load_tensorflow
from cnnlib.prediction.chunks import Chunk, ReadImages
from cnnlib.shapes import ImageShape
from cnnlib.storage import files
from cnnlib.storage.parquet import parquet_bytes

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("id", pa.int64()),
        pa.field("prediction", pa.string()),
        pa.field("prediction_index", pa.int32()),
        pa.field("probability", pa.float32()),
        pa.field("probabilities", pa.list_(pa.float32())),
        pa.field("top_classes", pa.list_(pa.string())),
        pa.field("top_probabilities", pa.list_(pa.float32())),
        pa.field("problem", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A chunk and the object that its predictions are stored in."""

    chunk: Chunk
    uri: str


@dataclass(frozen=True, kw_only=True)
class ImagePredictorTask:
    """The arguments of a predictor.

    Attributes:
        image_shape: of the images as they are read.
        class_names: of the model's outputs.
        cpus: threads of this actor.
    """

    target: Target
    config: EvaluateConfig
    image_shape: ImageShape
    class_names: tuple[str, ...]
    cpus: int


class ImagePredictor:
    """Reads and predicts chunks of images, and stores what it predicts.

    An error is a value in what a call returns: an exception would reach the driver without its cause.
    """

    def __init__(self, task: ImagePredictorTask) -> None:
        self._task = task
        config = task.config
        on_gpu = config.gpus_per_actor > 0
        rows = fit_batch(config.batch_size, task.image_shape, on_gpu=on_gpu)
        chunks = 1 if on_gpu else count_chunks(task.cpus, rows)
        self._error: CnnlibError | None = None
        try:
            load_tensorflow(task.cpus, chunks, gpus=on_gpu)
            self._model = load_model(
                task.target,
                config,
                image_shape=task.image_shape,
                num_classes=len(task.class_names),
                batch_rows=rows,
                chunks=chunks,
            )
        except CnnlibError as err:
            self._error = err
        except Exception as err:  # from code of Keras, TensorFlow or the model's author
            self._error = ModelError(f"{task.target.uri} cannot be used: {type(err).__name__}: {err}")

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Predicts parts; returns for each how many of its images could not be read, or the error, pickled."""
        outcomes = [self._predict(pickle.loads(data)) for data in batch["part"]]
        return {"outcome": np.array([pickle.dumps(each) for each in outcomes], dtype=object)}

    def _predict(self, part: Part) -> int | CnnlibError:
        if self._error is not None:
            return self._error
        try:
            read = part.chunk.read()
            probabilities = (
                self._model.predict(read.images)
                if len(read.images)
                else np.zeros((0, len(self._task.class_names)), np.float32)
            )
            table = build_table(read, probabilities, self._task.class_names, self._task.config.top_k)
            files.write_bytes(part.uri, parquet_bytes(table))
        except CnnlibError as err:
            return err
        return sum(bool(problem) for problem in read.problems)


def build_table(
    read: ReadImages, probabilities: npt.NDArray[np.float32], class_names: Sequence[str], top_k: int
) -> pa.Table:
    """Builds the table of a chunk: a row for every image, with nulls and a problem where it could not be read.

    Args:
        probabilities: float32 [readable images, classes].
    """
    names, size = np.array(class_names, dtype=object), min(top_k, len(class_names))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :size]
    top = np.take_along_axis(probabilities, order, axis=1)
    best = order[:, 0] if len(order) else np.zeros(0, np.int64)
    values: dict[str, list[Any]] = {
        "prediction": names[best].tolist(),
        "prediction_index": best.tolist(),
        "probability": top[:, 0].tolist() if len(top) else [],
        "probabilities": probabilities.tolist(),
        "top_classes": names[order].tolist(),
        "top_probabilities": top.tolist(),
    }
    places = np.cumsum([not problem for problem in read.problems]) - 1
    columns: dict[str, list[Any]] = {
        "path": list(read.paths) if read.paths is not None else [None] * len(read.problems),
        "id": list(read.ids) if read.ids is not None else [None] * len(read.problems),
        **{
            name: [
                None if problem else of_readable[place]
                for problem, place in zip(read.problems, places, strict=True)
            ]
            for name, of_readable in values.items()
        },
        "problem": [problem or None for problem in read.problems],
    }
    return pa.table(
        {field.name: pa.array(columns[field.name], field.type) for field in SCHEMA}, schema=SCHEMA
    )
