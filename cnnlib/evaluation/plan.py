"""Command line values in, a checked plan of an evaluation out. Loads no model and scores nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.dataset.reader import check_shards
from cnnlib.errors import ConfigError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.target import Target, find_all_targets, find_target
from cnnlib.reports.manifest import find_manifest
from cnnlib.reports.subject import ReportSubject
from cnnlib.slices.plan import check_slices
from cnnlib.storage import files


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """An evaluation whose data, model files and storage have been checked.

    Attributes:
        targets: all targets that were asked for.
        missing: the targets without a report, which are to be scored.
    """

    config: EvaluateConfig
    dataset_uri: str
    manifest: Manifest
    reports_uri: str
    targets: tuple[Target, ...]
    missing: tuple[Target, ...]

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
) -> EvaluationPlan:
    """Checks everything that can be checked without loading a model.

    Args:
        config: how to evaluate.
        dataset_uri: the dataset.
        reports_uri: the folder of all reports.
        checkpoints: RUNS/NAME[@epoch|@best|@last], checkpoint folders or model files.
        pending_runs_uri: a folder of runs, instead of `checkpoints`: all checkpoints of all its runs.

    Raises:
        InputError: the data, the slices, a checkpoint or the storage cannot work.
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
    # Targets with the same report are one target, such as a checkpoint that is named twice.
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
