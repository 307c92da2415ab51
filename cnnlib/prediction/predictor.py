"""A chunk of images in, a Parquet object with their predictions out: the actor of `jobs.predict`."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnnlib.errors import CnnlibError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.foreign.parts import CLASS_NAMES
from cnnlib.evaluation.loaded_model import load_model
from cnnlib.evaluation.predictor import to_own_error
from cnnlib.evaluation.target import Target
from cnnlib.models.batches import fit_batch, split_rows
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
        self._rows = rows = fit_batch(config.batch_size, task.image_shape, on_gpu=on_gpu)
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
        except Exception as err:  # from code of Keras, TensorFlow or the model's author
            self._error = to_own_error(err, task.target)

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Predicts parts; returns for each how many of its images could not be read, or the error, pickled."""
        outcomes = [self._predict(pickle.loads(data)) for data in batch["part"]]
        return {"outcome": np.array([pickle.dumps(each) for each in outcomes], dtype=object)}

    def _predict(self, part: Part) -> int | CnnlibError:
        if self._error is not None:
            return self._error
        try:
            read = part.chunk.read()
            pieces = [
                self._model.predict(read.images[piece])
                for piece in split_rows(len(read.images), len(self._task.class_names), self._rows)
            ]
            empty = np.zeros((0, len(self._task.class_names)), np.float32)
            probabilities = np.concatenate([empty, *pieces])
            table = build_table(read, probabilities, self._task.class_names, self._task.config.top_k)
            # Of two jobs that predict the same images, the first one's part stays: its digest may be published already.
            files.create_bytes(part.uri, parquet_bytes(table))
        except Exception as err:  # from code of Keras, TensorFlow or the model's author
            return to_own_error(err, self._task.target)
        return sum(bool(problem) for problem in read.problems)


def build_table(
    read: ReadImages, probabilities: npt.NDArray[np.float32], class_names: Sequence[str], top_k: int
) -> pa.Table:
    """Builds the table of a chunk: a row for every image, with nulls and a problem where it could not be read.

    Args:
        probabilities: float32 [readable images, classes].
    """
    readable = np.array([not problem for problem in read.problems], bool)
    size = min(top_k, len(class_names))
    order = _most_probable(probabilities, size)
    top = np.take_along_axis(probabilities, order, axis=1)
    names = pa.array(class_names, pa.string())
    count = len(readable)
    columns = {
        "path": pa.nulls(count, pa.string()) if read.paths is None else pa.array(read.paths, pa.string()),
        "id": pa.nulls(count, pa.int64()) if read.ids is None else pa.array(read.ids, pa.int64()),
        "prediction": names.take(_spread(pa.array(order[:, 0], pa.int32()), readable)),
        "prediction_index": _spread(pa.array(order[:, 0], pa.int32()), readable),
        "probability": _spread(pa.array(top[:, 0], pa.float32()), readable),
        "probabilities": _lists(pa.array(probabilities.reshape(-1), pa.float32()), readable),
        "top_classes": _lists(names.take(pa.array(order.reshape(-1), pa.int32())), readable),
        "top_probabilities": _lists(pa.array(top.reshape(-1), pa.float32()), readable),
        "problem": pa.array([problem or None for problem in read.problems], pa.string()),
    }
    stated = {CLASS_NAMES: json.dumps(list(class_names)).encode()}
    return pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA.with_metadata(stated))


def _most_probable(probabilities: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.int32]:
    """Returns the most probable classes of each row, of equal ones the first: int32 [rows, size]."""
    # In pieces, because the order of all classes takes twice the memory of their probabilities.
    order = np.zeros((len(probabilities), size), np.int32)
    for piece in split_rows(len(probabilities), probabilities.shape[1], 1):
        order[piece] = np.argsort(-probabilities[piece], axis=1, kind="stable")[:, :size]
    return order


def _spread(values: pa.Array, readable: npt.NDArray[np.bool_]) -> pa.Array:
    """Returns the values of the readable images, and null for the others."""
    places = np.cumsum(readable) - 1
    return values.take(pa.array(places, pa.int64(), mask=~readable))


def _lists(values: pa.Array, readable: npt.NDArray[np.bool_]) -> pa.Array:
    """Returns a list of equally many values for each readable image, and null for the others."""
    size = len(values) // max(1, int(readable.sum()))
    offsets = np.concatenate([[0], np.cumsum(readable) * size]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~readable))
