"""Command line values in, a checked plan of an evaluation out. Loads no model and scores nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.dataset.reader import check_shards
from cnnlib.errors import ConfigError, InputError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.foreign.scores import check_settings, find_predictions_target
from cnnlib.evaluation.outcome import LeftOut
from cnnlib.evaluation.pending import PendingTargets, find_pending
from cnnlib.evaluation.target import Target, describe_runs, find_target, fit_classes
from cnnlib.log import log_event
from cnnlib.reports.manifest import find_manifest
from cnnlib.reports.subject import ReportSubject
from cnnlib.slices.plan import check_slices
from cnnlib.storage import files

_COLOURS = 3


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """An evaluation whose data, model files and storage have been checked.

    Attributes:
        targets: all targets that were asked for and can be scored; of pending checkpoints, those that are not done.
        missing: the targets without a report, which are to be scored.
        left_out: what was asked for and cannot be scored, as far as that is known before a model is loaded.
        pending: the pending checkpoints; None if checkpoints were named.
    """

    config: EvaluateConfig
    dataset_uri: str
    manifest: Manifest
    reports_uri: str
    targets: tuple[Target, ...]
    missing: tuple[Target, ...]
    left_out: tuple[LeftOut, ...] = ()
    pending: PendingTargets | None = None

    def subject(self, target: Target) -> ReportSubject:
        """Returns what the report of a target is about."""
        return target.subject(self.config, self.dataset_uri, self.manifest)

    def report_id(self, target: Target) -> str:
        """Returns the id of a target's report."""
        return target.report_id(self.config, self.dataset_uri, self.manifest)


def plan_evaluation(
    config: EvaluateConfig,
    dataset_uri: str,
    reports_uri: str,
    *,
    checkpoints: Sequence[str] = (),
    pending_runs_uri: str | None = None,
    predictions: str | None = None,
    gate: str = "",
    retry: bool = False,
) -> EvaluationPlan:
    """Checks everything that can be checked without loading a model.

    Args:
        config: how to evaluate.
        dataset_uri: the dataset.
        reports_uri: the folder of all reports.
        checkpoints: RUNS/NAME[@epoch|@best|@last], checkpoint folders or model files.
        pending_runs_uri: a folder of runs, instead of `checkpoints`: all checkpoints of all its runs.
        predictions: a file of predictions, instead of `checkpoints`: of a model of any framework.
        gate, retry: for pending checkpoints, see `find_pending`.

    Raises:
        InputError: the data, the slices or the storage cannot work, or the only checkpoint. Of several checkpoints,
            those that cannot work are left out.
    """
    given = {"--checkpoint": checkpoints, "--pending": pending_runs_uri, "--predictions": predictions}
    received = [flag for flag, value in given.items() if value]
    if len(received) != 1:
        raise ConfigError(
            f"Expected one of {', '.join(given)}. Received {' and '.join(received) or 'none of them'}."
        )
    manifest = load_manifest(dataset_uri)
    check_shards(dataset_uri, manifest, config.split)
    check_slices(config.slice_by, manifest, config.split)
    if config.preprocess is not None and manifest.image_shape[2] != _COLOURS:
        raise ConfigError(
            f"--preprocess {config.preprocess} is for images of three channels. The images of {dataset_uri} have "
            f"{manifest.image_shape[2]}."
        )
    if pending_runs_uri:
        pending = find_pending(pending_runs_uri, reports_uri, config, manifest, gate=gate, retry=retry)
        targets, left_out = list(pending.targets), list(pending.left_out)
    elif predictions:
        check_settings(config)
        pending, targets, left_out = None, [find_predictions_target(predictions)], []
    else:
        pending = None
        targets, left_out = _find_targets(checkpoints, config, manifest)
    targets = describe_runs(targets)
    for target in targets:
        if target.columns is not None:
            log_event(
                "classes", checkpoint=target.uri, note="outputs are mapped to the data's classes by name"
            )
    if targets:
        files.check_writable(reports_uri)
    # Targets with the same report are one target, such as a checkpoint that is named twice.
    by_report = {target.report_id(config, dataset_uri, manifest): target for target in targets}
    missing = []
    for report_id, target in list(by_report.items()):
        try:
            if find_manifest(reports_uri, report_id) is None:
                missing.append(target)
        except InputError as err:  # an old report that is damaged
            if len(checkpoints) == 1:
                raise
            left_out.append(LeftOut(uri=target.uri, error=err, target=target))
            del by_report[report_id]
    return EvaluationPlan(
        config=config,
        dataset_uri=dataset_uri,
        manifest=manifest,
        reports_uri=reports_uri,
        targets=tuple(by_report.values()),
        missing=tuple(missing),
        left_out=tuple(left_out),
        pending=pending,
    )


def _find_targets(
    checkpoints: Sequence[str], config: EvaluateConfig, manifest: Manifest
) -> tuple[list[Target], list[LeftOut]]:
    """Finds the targets that a command line names, and those that cannot be found; raises if the only one cannot."""
    targets, left_out = [], []
    for name in checkpoints:
        try:
            targets.append(fit_classes(find_target(name, config.model_inputs), config.class_map, manifest))
        except InputError as err:
            if len(checkpoints) == 1:
                raise
            left_out.append(LeftOut(uri=name, error=err))
    return targets, left_out
