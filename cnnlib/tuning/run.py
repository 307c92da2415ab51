"""Searches the values of a recipe: trials of Ray Tune, scored on validation rows alone, and a recipe file of the best.

OUTPUT/search.json says what is searched, OUTPUT/runs/ holds the trainings, OUTPUT/ray/ the state of Ray Tune, by which
the same command goes on after an interruption. OUTPUT/trials.parquet and OUTPUT/recipe.toml come at the end.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import pyarrow as pa

from cnnlib.cluster import connect as cluster
from cnnlib.cluster.local import in_local_mode
from cnnlib.config import TrainConfig, to_dict
from cnnlib.config_fields import field_name
from cnnlib.cores import num_cores
from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.errors import ConfigError, TrainingError
from cnnlib.log import log_event
from cnnlib.recipe_files import format_recipe
from cnnlib.runs.lease import hold_lease
from cnnlib.storage import files, layout, publish
from cnnlib.storage.parquet import parquet_bytes
from cnnlib.storage.uri import is_s3
from cnnlib.training.plan import RunPlan, find_validation_split, plan_run
from cnnlib.tune_config import TuneConfig
from cnnlib.tuning.ranges import Range, apply_values, parse_ranges
from cnnlib.tuning.stated import check_stated_values, find_trial

if TYPE_CHECKING:
    from cnnlib.tuning.follow import Follower


@dataclass(frozen=True, kw_only=True)
class TunePlan:
    """A search whose recipe, data and ranges have been checked.

    Attributes:
        recipe: name of the recipe that is searched.
        first: one of its trainings, checked as far as it can be without a worker; None: see `find_trial`.
    """

    settings: TuneConfig
    config: TrainConfig
    ranges: tuple[Range, ...]
    data_uri: str
    manifest: Manifest
    output_uri: str
    recipe: str
    first: RunPlan | None

    def document(self) -> dict[str, Any]:
        """Returns what makes a search another one."""
        return {
            "recipe": self.recipe,
            "config": to_dict(self.config),
            "ranges": [
                asdict(each) | {"name": field_name(each.name), "values": list(each.values)}
                for each in self.ranges
            ],
            "dataset_fingerprint": self.manifest.fingerprint,
            "trials": self.settings.trials,
            "first_epochs": self.settings.first_epochs,
            "seed": self.settings.seed,
        }


class Trial(TypedDict):
    """One trial, as `trials.parquet` has it.

    `score` is the validation accuracy after its last epoch, 0..1; None: it was not scored. `problem` is why it failed.
    `minutes` are those since it last started.
    """

    trial: str
    epochs: int
    finished: bool
    score: float | None
    problem: str | None
    minutes: float
    values: dict[str, Any]


class TuneResult(TypedDict):
    """The result of a search, as `--json` shows it."""

    recipe: str
    best: Trial
    trials: list[Trial]
    minutes: float


def plan_search(
    settings: TuneConfig,
    config: TrainConfig,
    ranges: Sequence[str],
    data_uri: str,
    output_uri: str,
    recipe: str,
) -> TunePlan:
    """Checks everything that can be checked without training.

    Raises:
        InputError: the recipe, the ranges, the data or the output cannot work.
    """
    manifest = load_manifest(data_uri)
    if find_validation_split(config, manifest) is None and not config.validation_fraction:
        raise ConfigError(
            "A search is scored on validation rows: the test split would no longer be one. The dataset has no split "
            "val. Try --validation-fraction 0.1."
        )
    if settings.first_epochs > config.epochs:
        raise ConfigError(
            f"tune.first_epochs must be at most epochs. Received {settings.first_epochs}, epochs={config.epochs}."
        )
    found = parse_ranges(ranges, config)
    check_stated_values(config, found, manifest)
    files.check_writable(output_uri)
    trial = find_trial(config, found, manifest.image_shape)
    with tempfile.TemporaryDirectory() as nowhere:  # where a run would be written
        first = None if trial is None else plan_run(trial, data_uri, nowhere, "first", recipe)
    return TunePlan(
        settings=settings,
        config=config,
        ranges=found,
        data_uri=data_uri,
        manifest=manifest,
        output_uri=output_uri,
        recipe=recipe,
        first=first,
    )


def search(plan: TunePlan) -> TuneResult:
    """Runs the trials that are left, on the cluster at RAY_ADDRESS or on this machine, and writes the best recipe.

    Raises:
        ModelError: the model of a trial cannot be built, or the weights or layers that its config names do not fit it.
        ConflictError: the output holds another search, or another job works on it.
        ResourceError: the cluster can never hold the workers of a trial.
        TrainingError: no trial was trained to its end.
    """
    _prepare_ray_tune()
    from cnnlib.training import launch

    settings_uri = layout.search_settings(plan.output_uri)
    if files.find_size(settings_uri) is not None:  # of another search: known before anything starts
        publish.write_manifest(settings_uri, plan.document())
    config = plan.config
    cpus = config.cluster.cpus_per_worker
    if cpus is None:
        cpus = max(1, num_cores() // (config.workers * plan.settings.parallel)) if in_local_mode() else 1
    request = cluster.ResourceRequest(
        what="workers",
        count=config.workers * (plan.settings.parallel if in_local_mode() else 1),
        cpus=cpus,
        gpus=config.gpus_per_worker,
    )
    with cluster.connect(request, config.cluster.wait_for_resources_s):
        if plan.first is not None:
            launch.check_on_cluster(plan.first)
        # The first line that writes: what was refused leaves nothing.
        publish.write_manifest(settings_uri, plan.document())
        with hold_lease(plan.output_uri, what="search", flag="--output"):
            trials = _run_trials(plan, cpus)
    minutes = sum(trial["minutes"] for trial in trials)
    table = pa.Table.from_pylist([{**trial, "values": json.dumps(trial["values"])} for trial in trials])
    files.write_bytes(layout.search_trials(plan.output_uri), parquet_bytes(table))
    best = choose_best(trials)
    uri = layout.search_recipe(plan.output_uri)
    files.write_bytes(uri, _write_recipe(plan, best, trials, minutes).encode())
    log_event("recipe", uri=uri, trial=best["trial"], validation_accuracy=best["score"], minutes=minutes)
    return {"recipe": uri, "best": best, "trials": trials, "minutes": minutes}


def choose_best(trials: Sequence[Trial]) -> Trial:
    """Returns the trial with the highest score among those that were trained to their end.

    Raises:
        TrainingError: there is none.
    """
    finished = [trial for trial in trials if trial["finished"] and trial["score"] is not None]
    if not finished:
        problem = next((trial["problem"] for trial in trials if trial["problem"]), None)
        why = f" One failed: {problem}" if problem else " Give more --tune.minutes; the same command goes on."
        raise TrainingError(f"None of {len(trials)} trials was trained to its end.{why}")
    return max(finished, key=lambda trial: trial["score"] or 0.0)


def _prepare_ray_tune() -> None:
    """Sets what Ray Tune reads when it is imported."""
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    logging.getLogger("ray.tune.tune").setLevel(logging.ERROR)  # how to go on with Ray Tune alone
    # Set before the import: without tables of Ray's own on stdout, and with one of its three files per trial.
    # Ctrl-C ends the job, as it does elsewhere: Ray would return from the search as if it were done.
    os.environ.update(
        {
            "RAY_AIR_NEW_OUTPUT": "0",
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
            "TUNE_DISABLE_SIGINT_HANDLER": "1",
        }
    )


def _run_trials(plan: TunePlan, cpus: int) -> list[Trial]:
    from cnnlib.tuning.budget import end_after
    from cnnlib.tuning.follow import Follower
    from cnnlib.tuning.trial import TrialTask, cluster_address
    from cnnlib.tuning.tuner import build_tuner

    settings = plan.settings
    config = apply_values(plan.config, {"cluster.cpus_per_worker": cpus})
    task = TrialTask(
        config=config,
        data_uri=plan.data_uri,
        runs_uri=layout.search_runs(plan.output_uri),
        address=cluster_address(),
        scratch=_scratch(plan.output_uri),
        folder=os.getcwd(),
    )
    follower = Follower(trials=settings.trials, epochs=config.epochs)
    tuner = build_tuner(plan, task, follower)
    with end_after(None if settings.minutes is None else settings.minutes * 60):
        results = tuner.fit()
    return [_describe(follower, result) for result in results]


def _describe(follower: Follower, result: Any) -> Trial:
    """Returns a trial, also one whose actor has failed before its first result."""
    # Ray adds four letters to the name of the folder of a trial that it begins anew.
    folder = result.path.rstrip("/").rpartition("/")[2]
    found = {"trial_id": "_".join(folder.split("_")[:2]), **(result.metrics or {})}
    if result.error is not None:
        found["problem"] = str(result.error).strip().splitlines()[-1]
    return follower.describe(found, dict(result.config or {}))


def _scratch(output_uri: str) -> str:
    """Returns a folder of this machine for recipe files and logs of trials."""
    if not is_s3(output_uri):
        return layout.search_logs(output_uri)
    digest = publish.sha256_hex(output_uri.encode())[:16]
    return os.path.join(os.environ.get("TMPDIR", "/tmp"), f"cnnlib-tune-{digest}")


def _write_recipe(plan: TunePlan, best: Trial, trials: Sequence[Trial], minutes: float) -> str:
    finished = sum(trial["finished"] for trial in trials)
    comments = [
        f"From recipe {plan.recipe}, by {len(trials)} trials ({finished} to their end) in {minutes:.1f} minutes, "
        f"{sum(trial['epochs'] for trial in trials)} epochs in all.",
        f"Validation accuracy {best['score']:.4f} after {best['epochs']} epochs, in one training.",
        f"Searched: {', '.join(each.name for each in plan.ranges)}.",
        f"Data: {plan.data_uri}, fingerprint {plan.manifest.fingerprint[:16]}.",
    ]
    config = apply_values(plan.config, best["values"])
    return format_recipe(config, comments, f"The best of {len(trials)} trials from the recipe {plan.recipe}.")
