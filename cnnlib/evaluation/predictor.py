"""The actor that scores rows: loads TensorFlow and the models once, then turns blocks of rows into partial scores."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.record import SHARD_INDEX, Rows, table_to_rows
from cnnlib.errors import InputError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.loaded_model import LoadedModel, Probabilities, load_model
from cnnlib.evaluation.partial_scores import (
    ENDED_AT,
    PARTIAL_SCORES,
    STARTED_AT,
    TARGET_INDEX,
    ModelProfile,
    PartialScores,
)
from cnnlib.evaluation.target import Target
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows
from cnnlib.models.runtime import count_chunks, load_tensorflow
from cnnlib.reports.manifest import StoredTable
from cnnlib.reports.predictions import write_predictions
from cnnlib.shapes import ImageShape
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS, corrupt, slice_name
from cnnlib.slices.slicer import Mask, Slicer

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class PredictorTask:
    """The arguments of a predictor.

    Attributes:
        targets: the models that score every row.
        cpus: threads of this actor.
        report_ids: of each target, the report under which its predictions are stored; None: they are not stored.
        keep_rows: True: the driver gets the rows with all their probabilities; False: a histogram of them.
        slicer: cuts the rows into slices; None: there are no slices.
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

    @property
    def chunks(self) -> int:
        """The number of chunks of a batch that are computed in parallel; 1 on a GPU."""
        return 1 if self.config.gpus_per_actor else count_chunks(self.cpus, self.config.batch_size)


class Predictor:
    """Scores every row with every target, in one pass over the data."""

    def __init__(self, task: PredictorTask) -> None:
        self._task = task
        self._models: list[LoadedModel] = []
        self._error: InputError | None = None
        load_tensorflow(task.cpus, task.chunks, gpus=task.config.gpus_per_actor > 0)
        try:
            self._models = [
                load_model(
                    target,
                    task.config,
                    image_shape=task.image_shape,
                    num_classes=task.num_classes,
                    chunks=task.chunks,
                )
                for target in task.targets
            ]
        except InputError as err:
            # The first block raises it: an error of the constructor reaches the driver as a dead actor without a cause.
            self._error = err

    def __call__(self, table: pa.Table) -> dict[str, npt.NDArray[Any]]:
        """Scores the rows of one shard, or of a part of it.

        Returns:
            A block with one row per target; its columns are those of `cnnlib.evaluation.partial_scores`.

        Raises:
            InputError: a model could not be opened or does not fit the data, or the shard lacks a column.
        """
        if self._error is not None:
            raise self._error
        rows = table_to_rows(table, self._task.image_shape)
        shard_index = int(table.column(SHARD_INDEX)[0].as_py())
        # Before the clock starts: profiles are made once, whatever the number of rows.
        profiles = [model.profile(rows) if shard_index == 0 else None for model in self._models]
        started_at = time.time()
        masks = {} if self._task.slicer is None else self._task.slicer.masks(rows)
        scores = [self._score(index, rows, shard_index, masks, each) for index, each in enumerate(profiles)]
        if self._task.config.corruptions:
            scores = self._add_corruptions(scores, rows)
        return {
            TARGET_INDEX: np.arange(len(scores)),
            PARTIAL_SCORES: np.array([each.encode() for each in scores], dtype=object),
            STARTED_AT: np.full(len(scores), started_at),
            ENDED_AT: np.full(len(scores), time.time()),
        }

    def _score(
        self,
        target_index: int,
        rows: Rows,
        shard_index: int,
        masks: Mapping[str, Mask],
        profile: ModelProfile | None,
    ) -> PartialScores:
        """Scores the rows with one target, as a whole and by slice, and stores its predictions."""
        started = time.perf_counter()
        probabilities = self._models[target_index].predict(rows.images)
        predictions = self._store_predictions(target_index, rows, shard_index, probabilities)
        keep_rows = self._task.keep_rows
        return PartialScores(
            sums=self._sum_metrics(rows.labels, probabilities, histogram=not keep_rows),
            rows=ScoredRows.from_probabilities(rows.ids, rows.labels, probabilities) if keep_rows else None,
            predictions=predictions,
            slices={
                name: self._sum_metrics(rows.labels[mask], probabilities[mask])
                for name, mask in masks.items()
            },
            busy_s=time.perf_counter() - started,
            profile=profile,
        )

    def _store_predictions(
        self, target_index: int, rows: Rows, shard_index: int, probabilities: Probabilities
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
        )

    def _sum_metrics(
        self, labels: npt.NDArray[np.int32], probabilities: Probabilities, *, histogram: bool = False
    ) -> MetricSums:
        top_k = min(self._task.config.top_k, self._task.num_classes)
        return MetricSums.from_probabilities(labels, probabilities, top_k=top_k, histogram=histogram)

    def _add_corruptions(self, scores: list[PartialScores], rows: Rows) -> list[PartialScores]:
        """Returns the scores with one more slice per corruption: all rows, corrupted and predicted again."""
        started = time.perf_counter()
        slices: list[dict[str, MetricSums]] = [{} for _ in scores]
        for kind in CORRUPTIONS:
            for strength in STRENGTHS:
                images = corrupt(rows.images, rows.ids, kind, strength)
                for model, of_model in zip(self._models, slices, strict=True):
                    sums = self._sum_metrics(rows.labels, model.predict(images))
                    of_model[slice_name(kind, strength)] = sums
        seconds = (time.perf_counter() - started) / len(scores)
        return [
            replace(each, slices={**each.slices, **of_model}, corrupted_s=seconds)
            for each, of_model in zip(scores, slices, strict=True)
        ]
