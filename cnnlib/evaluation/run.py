"""Runs a planned evaluation on the driver: streams the split through predictors, merges scores, writes reports.

Loads no TensorFlow; the predictors do.
"""

from __future__ import annotations

import math
import time
import traceback
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
from ray.data import ActorPoolStrategy

from cnnlib.cluster import connect as cluster
from cnnlib.dataset.manifest import whole_shard
from cnnlib.dataset.reader import read_range
from cnnlib.errors import ClusterError, CnnlibError, ConfigError, DatasetError, EvaluationError, RowCountError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.dataset import build_dataset
from cnnlib.evaluation.foreign.scores import score_predictions
from cnnlib.evaluation.leases import TargetLeases
from cnnlib.evaluation.outcome import EvaluationOutcome, LeftOut
from cnnlib.evaluation.partial_scores import (
    NO_TARGET,
    NUM_ROWS,
    PARTIAL_SCORES,
    SECONDS,
    TARGET_INDEX,
    CollectedScores,
    decode_outcome,
)
from cnnlib.evaluation.pixel_range import Sample
from cnnlib.evaluation.plan import EvaluationPlan
from cnnlib.evaluation.predictor import Predictor, PredictorTask
from cnnlib.evaluation.progress import Progress, build_progress
from cnnlib.evaluation.ray_data import RESTARTS, inside
from cnnlib.evaluation.target import Target
from cnnlib.feed.shared import check_shared_folders
from cnnlib.log import log_event, log_text
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.metrics.sums.rows import keeps_rows
from cnnlib.reports.build import build_activations
from cnnlib.reports.result import EvaluationResult, installed_versions
from cnnlib.reports.write import WrittenReport, write_report
from cnnlib.runs.checkpoints import find_checkpoint
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS
from cnnlib.slices.plan import plan_slicer
from cnnlib.slices.slicer import MAX_SLICES, Slicer
from cnnlib.storage import layout

_SAMPLE_ROWS, _SAMPLE_BYTES = 600, 16 * 2**20
_TARGETS_PER_PASS = 8  # a predictor holds at most this many models at a time

_PREDICTORS_PER_READER = 4
_IF_KILLED = (
    "Try a smaller --batch-size, fewer predictors (--actors), or machines with more memory. Reports that were written "
    "are kept: the same command continues."
)


def evaluate(plan: EvaluationPlan, *, live: bool) -> EvaluationOutcome:
    """Scores the targets without a report, on the cluster at RAY_ADDRESS or on this machine, and writes their reports.

    A target that cannot be scored is left out, and does not keep the others from their reports. A crash leaves the
    reports written so far; the same call again continues with the others.

    Args:
        plan: what to evaluate.
        live: True if a person watches a terminal: shows a progress bar instead of log lines.

    Raises:
        ResourceError: the cluster can never hold the predictors.
        DatasetError: the rows cannot be read, or are not those that the manifest states.
        ClusterError: other jobs used the cluster for too long.
        ConfigError: there are too many slices.
    """
    outcome = EvaluationOutcome(left_out=list(plan.left_out))
    _announce(plan)
    if not plan.missing:
        return outcome
    slicer = _plan_slicer(plan)
    leases = TargetLeases(plan)
    while True:
        with leases.next_pass(_TARGETS_PER_PASS) as targets:
            if targets and targets[0].is_predictions:
                _write_reports(plan, targets, [score_predictions(plan, targets[0], slicer)], outcome)
            elif targets:
                _score_on_cluster(plan, targets, leases, slicer, outcome, live=live)
        if not targets and not leases.wait_for_others():
            leases.tidy()
            return outcome


def _score_on_cluster(
    plan: EvaluationPlan,
    targets: tuple[Target, ...],
    leases: TargetLeases,
    slicer: Slicer | None,
    outcome: EvaluationOutcome,
    *,
    live: bool,
) -> None:
    """Scores targets, and then all others that no other job scores, and writes their reports."""
    config = plan.config
    cpus = cluster.divide_cores(config.actors, config.cpus_per_actor)
    request = cluster.ResourceRequest(
        what="predictors", count=config.actors, cpus=cpus, gpus=config.gpus_per_actor
    )
    num_rows = plan.manifest.split(config.split).rows * len(plan.missing)
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

        def score(targets: tuple[Target, ...]) -> None:
            collected = _score_or_separate(plan, targets, slicer, cpus, progress)
            progress.pause()
            _write_reports(plan, targets, collected, outcome)

        score(targets)
        while targets:
            with leases.next_pass(_TARGETS_PER_PASS) as targets:
                if targets:
                    score(targets)


def _count_readers(config: EvaluateConfig) -> int:
    """Returns how many tasks read at the same time: a CPU reads and checks rows faster than several predict them."""
    return math.ceil(config.actors / _PREDICTORS_PER_READER)


def _announce(plan: EvaluationPlan) -> None:
    counts = {"checkpoints": len(plan.targets), "to_score": len(plan.missing)}
    if plan.pending is not None:
        counts |= {"done": plan.pending.num_done, "of_other_data": plan.pending.num_other_data}
    if plan.left_out:
        counts["left_out"] = len(plan.left_out)
    log_event("evaluate", **counts, data=plan.dataset_uri)


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


def _score_or_separate(
    plan: EvaluationPlan,
    targets: tuple[Target, ...],
    slicer: Slicer | None,
    cpus: int,
    progress: Progress,
) -> list[CollectedScores]:
    """Scores some targets together or, if a predictor does not survive that, one by one.

    A model may end the process that scores it, for example because it needs more memory than there is.
    """
    try:
        return _score_targets(plan, targets, slicer, cpus, progress)
    except CnnlibError:
        raise
    except Exception as err:  # Ray has many classes of errors, and derives classes from those of others
        explained = cluster.explain_death(err, "A predictor", _IF_KILLED)
        if isinstance(explained, CnnlibError) and not isinstance(explained, ClusterError):
            raise explained from err
        if len(targets) == 1:
            return [CollectedScores(error=_explain_lost_predictor(explained, targets[0]))]
        progress.pause()
        log_event("score", note="a predictor failed; scoring its models one by one", models=len(targets))
    return [
        scores for target in targets for scores in _score_or_separate(plan, (target,), slicer, cpus, progress)
    ]


def _explain_lost_predictor(err: BaseException, target: Target) -> EvaluationError:
    if isinstance(err, ClusterError):
        return EvaluationError(f"{target.uri} could not be scored: {err}")
    log_text("".join(traceback.format_exception(err)))  # nobody expected it, so every line may help
    return EvaluationError(f"{target.uri} could not be scored: its predictor raised {type(err).__name__}.")


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
        sample=_read_sample(plan, targets),
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
    for row in dataset.iter_rows():
        index = row[TARGET_INDEX]
        if index == NO_TARGET:
            error = decode_outcome(row[PARTIAL_SCORES])
            raise (
                error
                if isinstance(error, CnnlibError)
                else TypeError(f"Expected an error. Received {error}.")
            )
        collected[index].add(row, time.monotonic())
        _check_num_slices(collected[index], config)
        # A block has one row per target: after its last row all targets have scored its images.
        if index == len(targets) - 1:
            progress.update(row[NUM_ROWS] * len(targets), row[SECONDS])
    return collected


def _read_sample(plan: EvaluationPlan, targets: tuple[Target, ...]) -> Sample | None:
    """Reads a few rows of the first, the middle and the last shard; None if every target states its pixel range."""
    shards = plan.manifest.split(plan.config.split).shards
    if not shards or all(target.pixel_range is not None for target in targets):
        return None
    chosen = sorted({0, len(shards) // 2, len(shards) - 1})
    most = max(1, min(_SAMPLE_ROWS, _SAMPLE_BYTES // math.prod(plan.manifest.image_shape)) // len(chosen))
    images, labels = [], []
    for index in chosen:
        shard = shards[index]
        rows = read_range(
            plan.dataset_uri,
            plan.manifest,
            whole_shard(index, shard),
        )
        positions = np.unique(np.linspace(0, len(rows) - 1, most, dtype=int))
        images.append(rows.images[positions])
        labels.append(rows.labels[positions])
    return Sample(np.concatenate(images), np.concatenate(labels))


def _check_num_slices(collected: CollectedScores, config: EvaluateConfig) -> None:
    """Checks that the shards do not make many more slices than the sample did: memory would run out."""
    most = MAX_SLICES * len(config.slice_by) + len(CORRUPTIONS) * len(STRENGTHS)
    if collected.num_slices > most:
        raise ConfigError(
            f"slice_by {' '.join(config.slice_by)} makes too many slices. Received more than {most}, expected at most "
            f"{MAX_SLICES} each. No report was written. Slice by a coarser column."
        )


def _write_reports(
    plan: EvaluationPlan,
    targets: tuple[Target, ...],
    collected: list[CollectedScores],
    outcome: EvaluationOutcome,
) -> None:
    """Writes the reports of one pass over the data, and adds them and the targets without one to the outcome."""
    total_busy_s = sum(scores.busy_s + scores.corrupted_s for scores in collected)
    for target, scores in zip(targets, collected, strict=True):
        # All targets share the pass over the data, so each gets a part of its time: the fraction that it took of the
        # scoring. The time of corrupted images counts for no target: --corruptions does not make a model slower.
        seconds = scores.seconds * scores.busy_s / total_busy_s if total_busy_s else 0.0
        try:
            outcome.written.append(_write_report(plan, target, scores, seconds))
        except DatasetError:
            raise
        except CnnlibError as err:
            if plan.pending is not None and _is_gone(target):
                log_event("evaluate", checkpoint=target.uri, note="its training has deleted it meanwhile")
                outcome.deleted.append(target)
            else:
                outcome.left_out.append(LeftOut(uri=target.uri, error=err, target=target))


def _is_gone(target: Target) -> bool:
    """Returns whether a checkpoint is known to have been deleted; False if storage does not tell."""
    try:
        return find_checkpoint(target.uri) is None
    except CnnlibError:
        return False


def _write_report(
    plan: EvaluationPlan, target: Target, scores: CollectedScores, seconds: float
) -> WrittenReport:
    if scores.error is not None:
        raise scores.error
    sums = _checked_sums(scores, plan, target)
    profile = scores.profile
    report = write_report(
        plan.reports_uri,
        EvaluationResult(
            subject=plan.subject(target),
            sums=sums,
            evaluated_at=datetime.now(UTC),
            seconds=seconds,
            versions=installed_versions(),
            rows=scores.rows(),
            slices=scores.slices(),
            predictions=scores.predictions() if plan.config.predictions else None,
            parameters=profile.cost.parameters if profile else None,
            flops_per_image=profile.cost.flops_per_image if profile else None,
            pixel_range=profile.pixel_range if profile else None,
            outputs=profile.outputs if profile else None,
            activations=build_activations(profile.example_id, profile.layers) if profile else None,
            has_probabilities=scores.has_probabilities,
        ),
    )
    log_event(
        "report",
        report_id=report.report_id,
        checkpoint=target.uri,
        rows=sums.rows,
        correct=sums.confusion.correct,
        seconds=seconds,
        **({"pixel_range": profile.pixel_range, "outputs": profile.outputs} if profile else {}),
    )
    return report


def _checked_sums(collected: CollectedScores, plan: EvaluationPlan, target: Target) -> MetricSums:
    """Returns the metric sums of all rows, after a check that these are the rows that the manifest states."""
    expected, num_classes = plan.manifest.split(plan.config.split), plan.manifest.num_classes
    top_k = min(plan.config.top_k, num_classes)
    sums = MetricSums.zero(num_classes, top_k=top_k) if collected.sums is None else collected.sums
    if sums.rows != expected.rows:
        raise RowCountError(
            f"{target.uri}: {sums.rows} rows were scored, the manifest states {expected.rows}. No report was written."
        )
    rows_per_class = tuple(map(int, sums.confusion.rows_by_true))
    if rows_per_class != expected.rows_per_class:
        pairs = enumerate(zip(rows_per_class, expected.rows_per_class, strict=True))
        index, (found, stated) = next(each for each in pairs if each[1][0] != each[1][1])
        raise DatasetError(
            f"{plan.dataset_uri}: the labels in its shards are not those its manifest counts: {found} rows of class "
            f"{plan.manifest.class_names[index]!r} against {stated}."
        )
    return sums
