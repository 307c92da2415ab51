"""Runs a planned evaluation on the driver: streams the split through predictors, merges scores, writes reports.

Loads no TensorFlow; the predictors do.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from datetime import UTC, datetime

from ray.data import ActorPoolStrategy

from cnnlib.cluster import connect as cluster
from cnnlib.errors import ConfigError, DatasetError, RowCountError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.dataset import build_dataset
from cnnlib.evaluation.partial_scores import ENDED_AT, STARTED_AT, TARGET_INDEX, CollectedScores
from cnnlib.evaluation.plan import EvaluationPlan
from cnnlib.evaluation.predictor import Predictor, PredictorTask
from cnnlib.evaluation.progress import Progress, build_progress
from cnnlib.evaluation.ray_data import RESTARTS, inside
from cnnlib.evaluation.target import Target
from cnnlib.feed.shared import check_shared_folders
from cnnlib.log import log_event
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import keeps_rows
from cnnlib.reports.build import build_activations
from cnnlib.reports.result import EvaluationResult, installed_versions
from cnnlib.reports.write import WrittenReport, write_report
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS
from cnnlib.slices.plan import plan_slicer
from cnnlib.slices.slicer import MAX_SLICES, Slicer
from cnnlib.storage import layout

_TARGETS_PER_PASS = 8  # a predictor holds at most this many models at a time

_PREDICTORS_PER_READER = 4
_IF_KILLED = (
    "Try a smaller --batch-size, fewer predictors (--actors), or machines with more memory. Reports that were written "
    "are kept: the same command continues."
)


def evaluate(plan: EvaluationPlan, *, live: bool) -> list[WrittenReport]:
    """Scores the targets without a report, on the cluster at RAY_ADDRESS or on this machine, and writes their reports.

    A crash leaves the reports written so far; the same call again continues with the others.

    Args:
        plan: what to evaluate.
        live: True if a person watches a terminal: shows a progress bar instead of log lines.

    Raises:
        ResourceError: the cluster can never hold the predictors.
        ClusterError: other jobs used the cluster for too long, or predictors were killed again and again.
        ModelError: Keras cannot open a model file, or the model does not fit the data.
        RowCountError: the number of scored rows is not the manifest's. No report is written.
        ConfigError: there are too many slices.
    """
    if not plan.missing:
        _announce(plan)
        return []
    config = plan.config
    slicer = _plan_slicer(plan)
    cpus = cluster.divide_cores(config.actors, config.cpus_per_actor)
    request = cluster.ResourceRequest(
        what="predictors", count=config.actors, cpus=cpus, gpus=config.gpus_per_actor
    )
    num_rows = plan.manifest.split(config.split).rows * len(plan.missing)
    written = []
    with (
        cluster.connect(request, config.wait_for_resources_s),
        cluster.reserve(request, config.wait_when_busy_s, _count_readers(config)) as reserved,
        inside(reserved),
        closing(build_progress(num_rows, live=live)) as progress,
    ):
        check_shared_folders(
            read={
                "--data": layout.dataset_manifest(plan.dataset_uri),
                **{f"--checkpoint {target.uri}": target.model_uri for target in plan.missing},
            },
            written={"--reports": plan.reports_uri},
        )
        _announce(plan)
        for first in range(0, len(plan.missing), _TARGETS_PER_PASS):
            targets = plan.missing[first : first + _TARGETS_PER_PASS]
            collected = _score_targets(plan, targets, slicer, cpus, progress)
            progress.pause()
            written += _write_reports(plan, targets, collected)
    return written


def _count_readers(config: EvaluateConfig) -> int:
    """Returns how many tasks read at the same time: a CPU reads and checks rows faster than several predict them."""
    return math.ceil(config.actors / _PREDICTORS_PER_READER)


def _announce(plan: EvaluationPlan) -> None:
    log_event("evaluate", checkpoints=len(plan.targets), to_score=len(plan.missing), data=plan.dataset_uri)


def _plan_slicer(plan: EvaluationPlan) -> Slicer | None:
    """Prepares the slices before any predictor starts; returns None if no slices are asked for."""
    config = plan.config
    if not config.slice_by:
        return None
    started = time.monotonic()
    slicer = plan_slicer(
        config.slice_by, config.slice_quantiles, plan.dataset_uri, plan.manifest, config.split
    )
    log_event("slices", by=" ".join(config.slice_by), seconds=time.monotonic() - started)
    return slicer


def _score_targets(
    plan: EvaluationPlan,
    targets: tuple[Target, ...],
    slicer: Slicer | None,
    cpus: int,
    progress: Progress,
) -> list[CollectedScores]:
    """Scores all rows with some targets, in one pass over the data; returns the collected scores of each target."""
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
        **RESTARTS,
    )
    collected = [CollectedScores() for _ in targets]
    try:
        for row in dataset.iter_rows():
            of_target = collected[row[TARGET_INDEX]]
            scores = of_target.add(row)
            _check_num_slices(of_target, config)
            # A block has one row per target: after its last row all targets have scored its images.
            if row[TARGET_INDEX] == len(targets) - 1:
                progress.update(scores.sums.rows * len(targets), row[ENDED_AT] - row[STARTED_AT])
    except Exception as err:  # Ray wraps every error that an actor raises
        raise cluster.explain_death(err, "A predictor", _IF_KILLED) from err
    return collected


def _check_num_slices(collected: CollectedScores, config: EvaluateConfig) -> None:
    """Checks that the shards do not make many more slices than the sample did: memory would run out."""
    most = MAX_SLICES * len(config.slice_by) + len(CORRUPTIONS) * len(STRENGTHS)
    if collected.num_slices > most:
        raise ConfigError(
            f"slice_by {' '.join(config.slice_by)} makes too many slices. Received more than {most}, expected at most "
            f"{MAX_SLICES} each. No report was written. Slice by a coarser column."
        )


def _write_reports(
    plan: EvaluationPlan, targets: tuple[Target, ...], collected: list[CollectedScores]
) -> list[WrittenReport]:
    """Writes the reports of one pass over the data."""
    total_busy_s = sum(scores.busy_s + scores.corrupted_s for scores in collected)
    versions = installed_versions()
    written = []
    for target, scores in zip(targets, collected, strict=True):
        sums = _checked_sums(scores, plan, target)
        # All targets share the pass over the data, so each gets a part of its time: the fraction that it took of the
        # scoring. The time of corrupted images counts for no target: --corruptions does not make a model slower.
        seconds = scores.seconds * scores.busy_s / total_busy_s if total_busy_s else 0.0
        profile = scores.profile
        report = write_report(
            plan.reports_uri,
            EvaluationResult(
                subject=plan.subject(target),
                sums=sums,
                evaluated_at=datetime.now(UTC),
                seconds=seconds,
                versions=versions,
                rows=scores.rows(),
                slices=scores.slices(),
                predictions=scores.predictions() if plan.config.predictions else None,
                parameters=profile.cost.parameters if profile else None,
                flops_per_image=profile.cost.flops_per_image if profile else None,
                activations=build_activations(profile.example_id, profile.layers) if profile else None,
            ),
        )
        log_event(
            "report",
            report_id=report.report_id,
            checkpoint=target.uri,
            rows=sums.rows,
            correct=sums.confusion.correct,
            seconds=seconds,
        )
        written.append(report)
    return written


def _checked_sums(collected: CollectedScores, plan: EvaluationPlan, target: Target) -> MetricSums:
    """Returns the metric sums of all rows, after a check that these are the rows that the manifest states."""
    expected, num_classes = plan.manifest.split(plan.config.split), plan.manifest.num_classes
    top_k = min(plan.config.top_k, num_classes)
    sums = MetricSums.zero(num_classes, top_k=top_k) if collected.sums is None else collected.sums
    if sums.rows != expected.rows:
        raise RowCountError(
            f"{target.uri}: {sums.rows} rows were scored, the manifest states {expected.rows}. No report was written."
        )
    rows_per_class = tuple(map(int, sums.confusion.counts.sum(axis=1)))
    if rows_per_class != expected.rows_per_class:
        raise DatasetError(
            f"{plan.dataset_uri}: the labels in its shards are not those its manifest counts: "
            f"{rows_per_class} against {expected.rows_per_class}."
        )
    return sums
