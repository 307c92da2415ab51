"""The actor that scores rows: loads TensorFlow and the models once, then turns blocks of rows into partial scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.record import SHARD_ERROR, SHARD_INDEX, Rows, table_to_rows
from cnnlib.errors import CnnlibError, EvaluationError, ModelError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.loaded_model import Images, LoadedModel, Probabilities, load_model
from cnnlib.evaluation.partial_scores import (
    NO_TARGET,
    NUM_ROWS,
    PARTIAL_SCORES,
    SECONDS,
    TARGET_INDEX,
    ModelProfile,
    PartialScores,
    encode_outcome,
)
from cnnlib.evaluation.pixel_range import Sample
from cnnlib.evaluation.target import Target
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.models.batches import fit_batch, split_rows
from cnnlib.models.runtime import count_chunks, load_tensorflow
from cnnlib.reports.manifest import StoredTable
from cnnlib.reports.predictions import write_predictions
from cnnlib.shapes import ImageShape
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS, corrupt, slice_name
from cnnlib.slices.slicer import Mask, Slicer

if TYPE_CHECKING:
    import pyarrow as pa

ResultT = TypeVar("ResultT")

# Errors of TensorFlow that the state of a machine decides, such as a GPU whose memory another process has.
_MAY_PASS = {
    "AbortedError",
    "CancelledError",
    "DeadlineExceededError",
    "InternalError",
    "NotFoundError",
    "UnavailableError",
    "UnknownError",
}


@dataclass(frozen=True, kw_only=True)
class PredictorTask:
    """The arguments of a predictor.

    Attributes:
        targets: the models that score every row.
        cpus: threads of this actor.
        report_ids: of each target, the report under which its predictions are stored; None: they are not stored.
        keep_rows: True: the driver gets the rows with all their probabilities; False: a histogram of them.
        slicer: cuts the rows into slices; None: there are no slices.
        sample: rows on which the range of the pixels of a model file is checked; None: no target needs it.
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
    sample: Sample | None = None

    @property
    def chunks(self) -> int:
        """The number of chunks of a batch that are computed in parallel; 1 on a GPU."""
        return 1 if self.config.gpus_per_actor else count_chunks(self.cpus, self.batch_rows)

    @property
    def batch_rows(self) -> int:
        """The rows that the model computes in one call."""
        return fit_batch(self.config.batch_size, self.image_shape, on_gpu=self.config.gpus_per_actor > 0)


class Predictor:
    """Scores every row with every target, in one pass over the data.

    An error is a value in the block that a call returns: an exception would reach the driver without its cause, and
    would end the scoring of the other targets.
    """

    def __init__(self, task: PredictorTask) -> None:
        self._task = task
        self._error: CnnlibError | None = None
        try:
            load_tensorflow(task.cpus, task.chunks, gpus=task.config.gpus_per_actor > 0)
        except CnnlibError as err:
            self._error = err
            return
        self._models = [self._load(target) for target in task.targets]

    def __call__(self, table: pa.Table) -> dict[str, npt.NDArray[Any]]:
        """Scores the rows of one shard, or of a part of it.

        Returns:
            A block with one row per target; its columns are those of `cnnlib.evaluation.partial_scores`. If the rows
            themselves cannot be read, or TensorFlow cannot be used, a block of one row for all targets.
        """
        if self._error is not None:
            return _block([NO_TARGET], [encode_outcome(self._error)])
        if table.column_names == [SHARD_ERROR]:
            return _block([NO_TARGET], [table.column(SHARD_ERROR)[0].as_py()])
        try:
            rows = table_to_rows(table, self._task.image_shape)
            masks = {} if self._task.slicer is None else self._task.slicer.masks(rows)
        except CnnlibError as err:
            return _block([NO_TARGET], [encode_outcome(err)])
        shard_index = int(table.column(SHARD_INDEX)[0].as_py())
        indexes = range(len(self._models))
        # Before the clock starts: profiles are made once, whatever the number of rows.
        profiles = [
            self._attempt(index, lambda model: model.profile(rows)) if shard_index == 0 else None
            for index in indexes
        ]
        started = time.perf_counter()
        outcomes = [self._score(index, rows, shard_index, masks, profiles[index]) for index in indexes]
        if self._task.config.corruptions:
            outcomes = self._add_corruptions(outcomes, rows)
        seconds = time.perf_counter() - started
        return _block(indexes, map(encode_outcome, outcomes), num_rows=len(rows), seconds=seconds)

    def _load(self, target: Target) -> LoadedModel | CnnlibError:
        task = self._task
        try:
            return load_model(
                target,
                task.config,
                image_shape=task.image_shape,
                num_classes=task.num_classes,
                batch_rows=task.batch_rows,
                chunks=task.chunks,
                sample=task.sample,
            )
        except Exception as err:
            return to_own_error(err, target)

    def _attempt(self, index: int, work: Callable[[LoadedModel], ResultT]) -> ResultT | CnnlibError:
        """Returns what the work with a target's model returns, or the first error of this target.

        A target that has failed is left alone: it gets no report, so its other rows need no scoring.
        """
        model = self._models[index]
        if isinstance(model, CnnlibError):
            return model
        try:
            return work(model)
        except Exception as err:  # from code of Keras, TensorFlow or the model's author
            error = to_own_error(err, self._task.targets[index])
        self._models[index] = error
        return error

    def _score(
        self,
        target_index: int,
        rows: Rows,
        shard_index: int,
        masks: Mapping[str, Mask],
        profile: ModelProfile | CnnlibError | None,
    ) -> PartialScores | CnnlibError:
        """Scores the rows with one target, as a whole and by slice, and stores its predictions."""
        if isinstance(profile, CnnlibError):
            return profile

        def score(model: LoadedModel) -> PartialScores:
            started = time.perf_counter()
            pieces = (
                self._score_piece(
                    model,
                    target_index,
                    rows.slice(piece.start, piece.stop),
                    shard_index,
                    {name: mask[piece] for name, mask in masks.items()},
                )
                for piece in self._pieces(len(rows))
            )
            whole = reduce(PartialScores.merge, pieces)
            return replace(whole, busy_s=time.perf_counter() - started, profile=profile)

        return self._attempt(target_index, score)

    def _score_piece(
        self, model: LoadedModel, target_index: int, rows: Rows, shard_index: int, masks: Mapping[str, Mask]
    ) -> PartialScores:
        """Scores so few rows that all their probabilities fit into memory; the caller measures the time."""
        keep_rows = self._task.keep_rows
        probabilities = model.predict(rows.images)
        stored = self._store_predictions(target_index, rows, shard_index, probabilities, masks)
        kept = ScoredRows.from_probabilities(rows.ids, rows.labels, probabilities) if keep_rows else None
        return PartialScores(
            sums=self._sum_metrics(rows.labels, probabilities, histogram=not keep_rows),
            rows=kept,
            predictions=None if stored is None else (stored,),
            slices={
                name: self._sum_metrics(rows.labels[mask], probabilities[mask])
                for name, mask in masks.items()
                if mask.any()
            },
            busy_s=0.0,
        )

    def _pieces(self, num_rows: int) -> Iterator[slice]:
        return split_rows(num_rows, self._task.num_classes, self._task.batch_rows)

    def _store_predictions(
        self,
        target_index: int,
        rows: Rows,
        shard_index: int,
        probabilities: Probabilities,
        masks: Mapping[str, Mask],
    ) -> StoredTable | None:
        """Writes the predictions of the rows; returns None if they are not asked for."""
        if self._task.report_ids is None:
            return None
        return write_predictions(
            self._task.reports_uri,
            self._task.report_ids[target_index],
            shard_index=shard_index,
            ids=rows.ids,
            labels=rows.labels,
            probabilities=probabilities,
            slices=None if self._task.slicer is None else masks,
        )

    def _sum_metrics(
        self, labels: npt.NDArray[np.int32], probabilities: Probabilities, *, histogram: bool = False
    ) -> MetricSums:
        top_k = min(self._task.config.top_k, self._task.num_classes)
        return MetricSums.from_probabilities(labels, probabilities, top_k=top_k, histogram=histogram)

    def _add_corruptions(
        self, outcomes: list[PartialScores | CnnlibError], rows: Rows
    ) -> list[PartialScores | CnnlibError]:
        """Returns the scores with one more slice per corruption: all rows, corrupted and predicted again."""
        started = time.perf_counter()
        slices: list[dict[str, MetricSums]] = [{} for _ in outcomes]
        for kind in CORRUPTIONS:
            for strength in STRENGTHS:
                images = corrupt(rows.images, rows.ids, kind, strength)
                score = partial(self._score_images, images, rows.labels)
                for index, of_model in enumerate(slices):
                    sums = self._attempt(index, score)
                    if not isinstance(sums, CnnlibError):
                        of_model[slice_name(kind, strength)] = sums
        seconds = (time.perf_counter() - started) / len(outcomes)
        added: list[PartialScores | CnnlibError] = []
        for model, outcome, of_model in zip(self._models, outcomes, slices, strict=True):
            if isinstance(model, CnnlibError):
                added.append(model)
            elif isinstance(outcome, CnnlibError):
                added.append(outcome)
            else:
                merged = {**outcome.slices, **of_model}
                added.append(replace(outcome, slices=merged, corrupted_s=seconds))
        return added

    def _score_images(self, images: Images, labels: npt.NDArray[np.int32], model: LoadedModel) -> MetricSums:
        return MetricSums.merge_all(
            self._sum_metrics(labels[piece], model.predict(images[piece]))
            for piece in self._pieces(len(labels))
        )


def _block(
    indexes: Iterable[int], outcomes: Iterable[bytes], *, num_rows: int = 0, seconds: float = 0.0
) -> dict[str, npt.NDArray[Any]]:
    """Returns the block of a call: the target indexes with their encoded outcomes."""
    targets = np.array(list(indexes))
    return {
        TARGET_INDEX: targets,
        PARTIAL_SCORES: np.array(list(outcomes), dtype=object),
        NUM_ROWS: np.full(len(targets), num_rows),
        SECONDS: np.full(len(targets), seconds),
    }


def to_own_error(err: Exception, target: Target) -> CnnlibError:
    """Returns an error of this project for any error that a target's model raises; its message has one line."""
    if isinstance(err, CnnlibError):
        return err
    first_line = next(iter(str(err).splitlines()), "")
    text = f"{target.uri} could not be scored: {type(err).__name__}: {first_line}"
    # These may not happen again: on a GPU, ResourceExhaustedError is what an allocation raises.
    if isinstance(err, (MemoryError, OSError)) or type(err).__name__ == "ResourceExhaustedError":
        return EvaluationError(f"{text}. Try a smaller --batch-size, or a machine with more memory.")
    if type(err).__name__ in _MAY_PASS:
        return EvaluationError(f"{text}. Try again.")
    return ModelError(f"{text}.")
