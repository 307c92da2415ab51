"""The driver's part of an evaluation: find what is asked for, stream the split through predictors, write reports.

Loads no TensorFlow: the predictors do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ray.data import ActorPoolStrategy

from cnnlib.cluster import connect as cluster
from cnnlib.config import EvaluateConfig
from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.dataset.reader import check_shards
from cnnlib.errors import ConfigError, DatasetError, RowCountError
from cnnlib.evaluation.dataset import build_dataset
from cnnlib.evaluation.partial_scores import TARGET, Collected, ModelProfile
from cnnlib.evaluation.predictor import Predictor, PredictorTask
from cnnlib.evaluation.target import Target, find_all_targets, find_target
from cnnlib.log import log_event
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import keeps_rows
from cnnlib.reports.activations import activations_table
from cnnlib.reports.manifest import find_manifest
from cnnlib.reports.result import installed_versions
from cnnlib.reports.subject import ReportSubject
from cnnlib.reports.write import WrittenReport, write_report
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS
from cnnlib.slices.plan import check_slices, plan_slicer
from cnnlib.slices.slicer import MAX_SLICES, Slicer
from cnnlib.storage import files

_TARGETS_PER_PASS = 8  # models that an actor holds at a time


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """An evaluation whose data, models' files and storage have been checked.

    Attributes:
        targets: all that were asked for.
        missing: those of them to score; the others have their report already.
    """

    config: EvaluateConfig
    dataset_uri: str
    manifest: Manifest
    reports_uri: str
    targets: tuple[Target, ...]
    missing: tuple[Target, ...]

    def subject(self, target: Target) -> ReportSubject:
        """What the report of a target is about."""
        return target.subject(self.config, self.dataset_uri, self.manifest)

    def report_id(self, target: Target) -> str:
        """The name of a target's report."""
        return target.report_id(self.config, self.dataset_uri, self.manifest)


def plan_evaluation(
    config: EvaluateConfig,
    dataset_uri: str,
    reports_uri: str,
    *,
    checkpoints: Sequence[str] = (),
    pending_runs_uri: str | None = None,
) -> EvaluationPlan:
    """Checks all that can be checked without a model.

    Args:
        checkpoints: RUNS/NAME[@epoch|@best|@last], checkpoint folders or model files.
        pending_runs_uri: instead of them, every checkpoint of every run below this folder.

    Raises:
        InputError: the data, a slice that it cannot have, a checkpoint, or the storage.
    """
    if bool(checkpoints) == bool(pending_runs_uri):
        raise ConfigError(
            "Expected either --checkpoint or --pending. Received " + ("both." if checkpoints else "neither.")
        )
    manifest = load_manifest(dataset_uri)
    check_shards(dataset_uri, manifest, config.split)
    check_slices(config.slice_by, manifest, config.split)
    if pending_runs_uri:
        targets = find_all_targets(pending_runs_uri, config.pixel_range)
    else:
        targets = [find_target(name, config.pixel_range) for name in checkpoints]
    files.check_writable(reports_uri)
    by_report = {target.report_id(config, dataset_uri, manifest): target for target in targets}
    missing = [
        target for report_id, target in by_report.items() if find_manifest(reports_uri, report_id) is None
    ]
    return EvaluationPlan(
        config=config,
        dataset_uri=dataset_uri,
        manifest=manifest,
        reports_uri=reports_uri,
        targets=tuple(by_report.values()),
        missing=tuple(missing),
    )


def evaluate(plan: EvaluationPlan) -> list[WrittenReport]:
    """Scores what has no report yet, on the cluster at RAY_ADDRESS or on this machine, and writes the reports.

    A crash leaves the reports written so far; the same call goes on with the others.

    Raises:
        ResourceError: the cluster can never hold the predictors.
        ModelError: a model file that Keras cannot open or that does not fit the data.
        RowCountError: another number of rows was scored than the manifest states. No report is written.
        ConfigError: more slices than can be looked at.
    """
    if not plan.missing:
        return []
    config = plan.config
    slicer = _plan_slicer(plan)
    cpus = cluster.divide_cores(config.actors, config.cpus_per_actor)
    request = cluster.ResourceRequest(
        what="predictors", count=config.actors, cpus=cpus, gpus=config.gpus_per_actor
    )
    written = []
    with cluster.connect(request, config.wait_for_resources_s):
        for first in range(0, len(plan.missing), _TARGETS_PER_PASS):
            together = plan.missing[first : first + _TARGETS_PER_PASS]
            written += _evaluate_together(plan, together, slicer, cpus)
    return written


def _plan_slicer(plan: EvaluationPlan) -> Slicer | None:
    """What cuts the rows into slices, found before any predictor starts; None where no slice is asked for."""
    config = plan.config
    if not config.slice_by:
        return None
    started = time.monotonic()
    slicer = plan_slicer(
        config.slice_by, config.slice_quantiles, plan.dataset_uri, plan.manifest, config.split
    )
    log_event("slices", by=" ".join(config.slice_by), seconds=time.monotonic() - started)
    return slicer


def _evaluate_together(
    plan: EvaluationPlan, targets: tuple[Target, ...], slicer: Slicer | None, cpus: int
) -> list[WrittenReport]:
    collected = _score(plan, targets, slicer, cpus)
    busy_s = sum(own.busy_s + own.corrupted_s for own in collected)
    versions = installed_versions()
    written = []
    for target, own in zip(targets, collected, strict=True):
        score = _checked_score(own, plan, target)
        # All targets share the pass over the data, so each is given of its time what it took of the scoring. What
        # distorted images took is nobody's: a model is as fast with --corruptions as without.
        seconds = own.seconds * own.busy_s / busy_s if busy_s else 0.0
        report = write_report(
            plan.reports_uri,
            target.subject(plan.config, plan.dataset_uri, plan.manifest),
            score,
            evaluated_at=datetime.now(UTC),
            seconds=seconds,
            versions=versions,
            rows=own.rows(),
            slices=own.slices(),
            predictions=own.predictions() if plan.config.predictions else None,
            **_describe_model(own.profile),
        )
        log_event(
            "report",
            report_id=report.report_id,
            checkpoint=target.uri,
            rows=score.rows,
            correct=score.confusion.correct,
            seconds=seconds,
        )
        written.append(report)
    return written


def _describe_model(profile: ModelProfile | None) -> dict[str, Any]:
    """What a report says of the model itself, as arguments of `write_report`; nothing of a split without rows."""
    if profile is None:
        return {}
    return {
        "parameters": profile.cost.parameters,
        "flops_per_image": profile.cost.flops_per_image,
        "activations": activations_table(profile.example_id, profile.layers),
    }


def _score(
    plan: EvaluationPlan, targets: tuple[Target, ...], slicer: Slicer | None, cpus: int
) -> list[Collected]:
    """What every target scored, merged over the shards; see `Predictor.__call__` for what comes back of each."""
    config = plan.config
    task = PredictorTask(
        targets=targets,
        config=config,
        image_shape=plan.manifest.image_shape,
        num_classes=plan.manifest.num_classes,
        cpus=cpus,
        reports_uri=plan.reports_uri,
        report_ids=tuple(map(plan.report_id, targets)) if config.predictions else None,
        keep_rows=keeps_rows(plan.manifest.split(config.split).rows, plan.manifest.num_classes),
        slicer=slicer,
    )
    dataset = build_dataset(plan.dataset_uri, plan.manifest, config.split).map_batches(
        Predictor,
        fn_constructor_args=(task,),
        batch_size=None,  # a whole shard at a time; the predictor cuts it into its own batches
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=config.actors),
        num_cpus=cpus,
        num_gpus=config.gpus_per_actor,
    )
    collected = [Collected() for _ in targets]
    try:
        for row in dataset.iter_rows():
            collected[row[TARGET]].add(row)
            _check_slices(collected[row[TARGET]], config)
    except Exception as err:  # Ray wraps whatever an actor raises
        raise cluster.find_own_error(err) or err from err
    return collected


def _check_slices(collected: Collected, config: EvaluateConfig) -> None:
    """Checks that a column has not more values than its sample had by so much that memory ends."""
    most = MAX_SLICES * len(config.slice_by) + len(CORRUPTIONS) * len(STRENGTHS)
    if collected.num_slices > most:
        raise ConfigError(
            f"slice_by {' '.join(config.slice_by)} makes too many slices. Received more than {most}, expected at most "
            f"{MAX_SLICES} each. No report was written. Slice by a coarser column."
        )


def _checked_score(collected: Collected, plan: EvaluationPlan, target: Target) -> MetricSums:
    """The score of all rows, once it is clear that it is of those that the manifest states."""
    expected, num_classes = plan.manifest.split(plan.config.split), plan.manifest.num_classes
    top_k = min(plan.config.top_k, num_classes)
    score = MetricSums.zero(num_classes, top_k=top_k) if collected.score is None else collected.score
    support = tuple(map(int, score.confusion.counts.sum(axis=1)))
    if score.rows != expected.rows:
        raise RowCountError(
            f"{target.uri}: {score.rows} rows were scored, the manifest states {expected.rows}. No report was written."
        )
    if support != expected.rows_per_class:
        raise DatasetError(
            f"{plan.dataset_uri}: the labels in its shards are not those its manifest counts: "
            f"{support} against {expected.rows_per_class}."
        )
    return score
