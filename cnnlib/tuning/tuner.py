"""A checked search in, the search of Ray Tune that runs its trials out: a new one, or one that was interrupted."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.logger import JsonLoggerCallback

from cnnlib.log import log_event
from cnnlib.storage import layout
from cnnlib.storage.uri import join_uri
from cnnlib.tuning.at_once import DrawnValues, LimitedAsha, restore_search
from cnnlib.tuning.follow import Follower
from cnnlib.tuning.ranges import Range, own_values
from cnnlib.tuning.trial import SCORE, TrainingTrial, TrialTask, find_scores

if TYPE_CHECKING:
    from cnnlib.tuning.run import TunePlan

_REDUCTION = 3


def build_tuner(plan: TunePlan, task: TrialTask, follower: Follower) -> tune.Tuner:
    """Returns the search as it was interrupted, or a new one."""
    settings, own = plan.settings, own_values(plan.ranges, plan.config)
    # Its training takes the CPUs; the actor that follows it takes none.
    trainable = tune.with_resources(tune.with_parameters(TrainingTrial, task=task), {"CPU": 0, "memory": 1})
    tune_config = tune.TuneConfig(
        metric=SCORE,
        mode="max",
        num_samples=settings.trials,
        search_alg=DrawnValues(
            points_to_evaluate=[own] if own else None,
            max_concurrent=settings.parallel,
            random_state=settings.seed,
        ),
        scheduler=LimitedAsha(
            settings.parallel,
            functools.partial(find_scores, task.runs_uri),
            max_t=plan.config.epochs,
            grace_period=settings.first_epochs,
            reduction_factor=_REDUCTION,
        ),
        trial_name_creator=lambda trial: trial.trial_id,
        trial_dirname_creator=lambda trial: trial.trial_id,
    )
    storage = layout.search_state(plan.output_uri)
    if tune.Tuner.can_restore(path := join_uri(storage, "search")):
        log_event("search", note="goes on with its trials", output=plan.output_uri)
        return restore_search(path, trainable, tune_config)
    return tune.Tuner(
        trainable,
        param_space={each.name: _space(each) for each in plan.ranges},
        tune_config=tune_config,
        run_config=tune.RunConfig(
            name="search",
            storage_path=storage,
            callbacks=[follower, JsonLoggerCallback()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )


def _space(each: Range) -> Any:
    if each.kind == "choice":
        return tune.choice(list(each.values))
    first, last = each.values
    if each.kind == "whole":
        return tune.randint(first, last + 1)
    return tune.loguniform(first, last) if each.kind == "log" else tune.uniform(first, last)
