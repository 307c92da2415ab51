"""Predictions of a model of any framework in, the scores of its report out: no model is opened, no cluster used."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnnlib.dataset.manifest import whole_shard
from cnnlib.dataset.reader import read_range
from cnnlib.dataset.record import Rows
from cnnlib.errors import ConfigError, DatasetError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.foreign.parts import digest_predictions
from cnnlib.evaluation.foreign.table import ForeignPredictions, Ids, first_of, load_predictions
from cnnlib.evaluation.partial_scores import CollectedScores, PartialScores
from cnnlib.evaluation.target import Target
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import ScoredRows, keeps_rows
from cnnlib.models.batches import split_rows
from cnnlib.reports.predictions import write_predictions
from cnnlib.slices.slicer import Mask, Slicer
from cnnlib.storage.uri import normalize_uri, uri_name

_BATCH_ROWS = 4096

if TYPE_CHECKING:
    from cnnlib.evaluation.plan import EvaluationPlan


def find_predictions_target(name: str) -> Target:
    """Returns a file of predictions, or a folder of Parquet files, as the target of a report.

    Raises:
        NotFoundError: there is no such file.
    """
    uri = normalize_uri(name)
    return Target(
        uri=uri,
        model_uri=uri,
        digest=digest_predictions(uri),
        pixel_range=None,
        model=uri_name(uri),
        is_predictions=True,
    )


def score_predictions(plan: EvaluationPlan, target: Target, slicer: Slicer | None) -> CollectedScores:
    """Scores the predictions of a file against the labels of the split; also stores them under the report.

    Raises:
        DatasetError: the file is no such table, or does not have exactly one prediction for every row of the split.
    """
    config, manifest = plan.config, plan.manifest
    found = load_predictions(target.uri, manifest.class_names, config.outputs)
    started_at = time.monotonic()
    # Everything is checked before the first prediction is stored: people read that folder without the report.
    pieces = list(_match(plan, found, target.uri, slicer))
    _check_all_used(found, [piece.ids for piece in pieces], target.uri)
    collected = CollectedScores(started_at=started_at, has_probabilities=found.has_probabilities)
    for piece in pieces:
        collected.merge(_score(plan, target, found, piece))
    collected.ended_at = time.monotonic()
    return collected


@dataclass(frozen=True, kw_only=True, eq=False)
class _Piece:
    """Some rows of a shard.

    Attributes:
        ids, labels: of the rows.
        places: where their predictions are, int64 [rows].
        slices: which of the rows are in each slice; None: nobody asked for slices.
    """

    shard_index: int
    ids: Ids
    labels: npt.NDArray[np.int32]
    places: Ids
    slices: Mapping[str, Mask] | None


def _match(
    plan: EvaluationPlan, found: ForeignPredictions, uri: str, slicer: Slicer | None
) -> Iterator[_Piece]:
    """Yields the rows of the split with the places of their predictions."""
    manifest = plan.manifest
    split = manifest.split(plan.config.split)
    for shard_index, shard in enumerate(split.shards):
        rows = read_range(plan.dataset_uri, manifest, whole_shard(shard_index, shard))
        masks = None if slicer is None else slicer.masks(rows)
        places = _find(found, rows, split.rows, uri, manifest.class_names)
        for piece in split_rows(len(rows), manifest.num_classes, _BATCH_ROWS):
            yield _Piece(
                shard_index=shard_index,
                ids=rows.ids[piece],
                labels=rows.labels[piece],
                places=places[piece],
                slices=None if masks is None else {name: mask[piece] for name, mask in masks.items()},
            )


def _score(plan: EvaluationPlan, target: Target, found: ForeignPredictions, piece: _Piece) -> PartialScores:
    config, num_classes = plan.config, plan.manifest.num_classes
    probabilities, labels = found.probabilities[piece.places], piece.labels
    top_k = min(config.top_k, num_classes)
    keep_rows = keeps_rows(plan.manifest.split(config.split).rows, num_classes)
    stored = None
    if config.predictions:
        stored = write_predictions(
            plan.reports_uri,
            plan.report_id(target),
            shard_index=piece.shard_index,
            ids=piece.ids,
            labels=labels,
            probabilities=probabilities,
            slices=piece.slices,
            has_probabilities=found.has_probabilities,
        )
    return PartialScores(
        sums=MetricSums.from_probabilities(labels, probabilities, top_k=top_k, histogram=not keep_rows),
        rows=ScoredRows.from_probabilities(piece.ids, labels, probabilities) if keep_rows else None,
        predictions=None if stored is None else (stored,),
        slices={
            name: MetricSums.from_probabilities(labels[mask], probabilities[mask], top_k=top_k)
            for name, mask in (piece.slices or {}).items()
            if mask.any()
        },
        busy_s=0.0,
    )


def _find(
    found: ForeignPredictions, rows: Rows, split_rows: int, uri: str, class_names: Sequence[str]
) -> Ids:
    """Returns where the predictions of some rows of the split are: int64 [rows]."""
    places = np.searchsorted(found.ids, rows.ids)
    places[places == len(found.ids)] = 0
    missing = rows.ids[found.ids[places] != rows.ids] if len(found.ids) else rows.ids
    if len(missing):
        raise DatasetError(
            f"{uri} has no prediction of some of the {split_rows} rows of the split. First ids: {first_of(missing)}. "
            f"It has {len(found.ids)} rows. Expected exactly one for every row."
            + (
                ""
                if found.first_path is None
                else f" Its first row is {found.first_path!r}. Expected paths below the folder that was prepared, "
                "such as test/CLASS/FILE if that folder has a folder for each split."
            )
        )
    if found.labels is not None and (wrong := np.flatnonzero(found.labels[places] != rows.labels)).size:
        row = int(wrong[0])
        raise DatasetError(
            f"{uri} states other labels than the data: row {rows.ids[row]} is "
            f"{class_names[found.labels[places][row]]!r} there and {class_names[rows.labels[row]]!r} here. Are its "
            "classes numbered in another order?"
        )
    return places


def _check_all_used(found: ForeignPredictions, seen: Sequence[Ids], uri: str) -> None:
    unknown = np.setdiff1d(found.ids, np.concatenate(seen) if seen else np.zeros(0, np.int64))
    if len(unknown):
        raise DatasetError(
            f"{uri} has predictions of {len(unknown)} rows that are not in the split. First ids: {first_of(unknown)}. "
            "Was another split or another version of the data predicted?"
        )


def check_settings(config: EvaluateConfig) -> None:
    """Checks that nothing is asked for that needs a model.

    Raises:
        ConfigError: it is.
    """
    if config.corruptions or config.class_map or config.tta != "none":
        raise ConfigError(
            "corruptions, class_map and tta need a model. Received --predictions, which has none."
        )
