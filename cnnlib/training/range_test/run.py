"""Runs a learning-rate range test in this process: trains some steps with growing rates, and keeps no model.

FOLDER/learning-rates-<digest>.png, then FOLDER/learning-rates-<plan>.json, which names it. The plan is a digest of the
config, the data and the rates: the same test is run once, except for that of a user's own model. Needs no Ray.
Validation rows are trained on as well, and images are not cropped at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from cnnlib.config import TrainConfig, to_dict
from cnnlib.cores import num_cores
from cnnlib.dataset.record import Rows
from cnnlib.errors import DivergedError, NotFoundError
from cnnlib.log import log_event
from cnnlib.models.registry import is_registered
from cnnlib.models.runtime import load_tensorflow
from cnnlib.range_test_config import RangeTestConfig
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri
from cnnlib.training.first_weights import log_taken, take_first_weights
from cnnlib.training.one_process import build_task
from cnnlib.training.plan import RunPlan
from cnnlib.training.range_test.curve import RateCurve, grow_rates, has_diverged
from cnnlib.training.range_test.picture import rate_curve_png
from cnnlib.training.range_test.rows import iter_mixed_batches

if TYPE_CHECKING:
    from cnnlib.training.train_state import TrainState

_FEWEST_STEPS = 10


class RangeTestResult(TypedDict):
    """What a range test found, as `--json` shows it.

    Attributes:
        steepest, tenth_of_lowest: the rates that the curve suggests, see `RateCurve`; None: the loss does not fall.
        lowest_loss_at: the rate at the minimum of the loss.
        diverged_at: the rate at which the loss had grown to four times its minimum; None: it never had.
        steps: steps that were trained.
        picture, result: URIs of the picture and of the JSON object that holds all of this and the curve.
        finished_before: True if the same test was finished before.
    """

    steepest: float | None
    tenth_of_lowest: float | None
    lowest_loss_at: float
    diverged_at: float | None
    steps: int
    picture: str
    result: str
    finished_before: bool


def run_range_test(plan: RunPlan, test: RangeTestConfig) -> RangeTestResult:
    """Tries learning rates, unless the same test was finished before.

    Raises:
        ModelError: the model cannot be built or does not fit the data.
        DatasetError: the rows cannot be read.
        DivergedError: the loss is not finite at the lowest rates.
    """
    plan = dataclasses.replace(plan, config=_for_one_worker(plan.config))
    # Of a user's own function only the name is known, and not what it builds today: it is tried every time.
    stored = _find(_result_uri(plan, test)) if is_registered(plan.config.model) else None
    if stored is not None:
        uri, document = _result_uri(plan, test), stored
    else:
        uri, document = _run(plan, test)
    notes = {"note": "finished before; not tried again"} if stored else {}
    if document["steepest"] is not None and document["lowest_loss_at"] == test.highest:
        notes["note"] = "the loss still falls at the highest rate; try a higher --test.highest"
    log_event(
        "learning-rates",
        **{name: document[name] for name in ("steepest", "tenth_of_lowest")},
        result=uri,
        **notes,
    )
    return {
        "steepest": document["steepest"],
        "tenth_of_lowest": document["tenth_of_lowest"],
        "lowest_loss_at": document["lowest_loss_at"],
        "diverged_at": document["diverged_at"],
        "steps": len(document["rates"]),
        "picture": join_uri(plan.run, document["picture"]),
        "result": uri,
        "finished_before": stored is not None,
    }


def measure_losses(state: TrainState, batches: Iterable[Rows], rates: Sequence[float]) -> list[float]:
    """Trains one step with each learning rate, until the loss diverges.

    Args:
        batches: one for each rate.

    Returns:
        The mean loss of each step's batch, before its update; the last one may not be finite.
    """
    from cnnlib.training.state.optimizer import set_rate

    losses: list[float] = []
    for rate, batch in zip(rates, batches, strict=True):
        set_rate(state.optimizer, rate)
        loss_sum = float(state.train_call(batch.images[None], batch.labels[None])[0])
        losses.append(loss_sum / len(batch))
        if has_diverged(losses):
            break
    return losses


def _result_uri(plan: RunPlan, test: RangeTestConfig, curve: RateCurve | None = None) -> str:
    """Returns where the result of a test is.

    Args:
        curve: of a user's own model, which tells its versions apart.
    """
    key: dict[str, Any] = {
        "config": to_dict(plan.config),
        "dataset": plan.manifest.fingerprint,
        "test": dataclasses.asdict(test),
    }
    if plan.first_weights is not None:
        key["weights"] = plan.first_weights.sha256
    if plan.config.scale_learning_rate_from is not None:
        key["rates"] = "as given"  # earlier versions did not scale them
    if curve is not None:
        key["losses"] = list(curve.losses)
    return layout.range_test(plan.run, publish.sha256_hex(publish.canonical_json(key)))


def _find(uri: str) -> dict[str, Any] | None:
    try:
        return publish.read_manifest(uri)
    except NotFoundError:
        return None


def _for_one_worker(config: TrainConfig) -> TrainConfig:
    """Returns a config of one worker, and of a constant rate, which the test sets in every step."""
    optimizer = dataclasses.replace(config.optimizer, schedule="constant", warmup_epochs=0.0)
    return dataclasses.replace(config, workers=1, min_workers=None, optimizer=optimizer)


def _run(plan: RunPlan, test: RangeTestConfig) -> tuple[str, dict[str, Any]]:
    """Trains the steps, and returns the URI of the result and the result."""
    config, rates = plan.config, grow_rates(test.lowest, test.highest, test.steps)
    log_event(
        "range-test", model=config.model_label, steps=test.steps, lowest=test.lowest, highest=test.highest
    )
    cpus = config.cluster.cpus_per_worker or num_cores()
    load_tensorflow(cpus, gpus=config.gpus_per_worker > 0)
    from cnnlib.training.strategy import build_strategy
    from cnnlib.training.train_state import build_train_state

    state = build_train_state(build_task(plan, cpus), build_strategy())
    taken = take_first_weights(state.model, config, plan.first_weights)
    if taken is not None:
        log_taken(taken, config.weights)
    batches = iter_mixed_batches(
        plan.dataset_uri,
        plan.manifest,
        config.split,
        batch_size=config.batch_size,
        steps=test.steps,
        seed=config.seed,
    )
    scale = config.scaled_learning_rate / config.learning_rate  # of --scale-learning-rate-from
    losses = measure_losses(state, batches, [rate * scale for rate in rates])
    diverged_at = rates[len(losses) - 1] if has_diverged(losses) else None
    curve = RateCurve.of(rates, losses)
    if len(curve.losses) < _FEWEST_STEPS:
        raise DivergedError(
            f"The loss diverges at a learning rate of {diverged_at:.3g}, after {len(losses)} steps. Expected at least "
            f"{_FEWEST_STEPS} steps. Give a lower --test.lowest."
        )
    uri = _result_uri(plan, test, None if is_registered(config.model) else curve)
    return uri, _publish(plan, test, curve, diverged_at, uri)


def _publish(
    plan: RunPlan, test: RangeTestConfig, curve: RateCurve, diverged_at: float | None, uri: str
) -> dict[str, Any]:
    """Writes the picture, then the result; of two tests at once, the first result counts."""
    png = rate_curve_png(
        curve, f"{plan.config.model_label}, {plan.config.optimizer.name}, batch {plan.config.batch_size}"
    )
    picture = layout.range_test_picture(publish.sha256_hex(png))
    files.write_bytes(join_uri(plan.run, picture), png)
    document = {
        "range_test_version": 1,
        "config": to_dict(plan.config),
        "dataset": plan.dataset_uri,
        "dataset_fingerprint": plan.manifest.fingerprint,
        "test": dataclasses.asdict(test),
        "rates": list(curve.rates),
        "losses": list(curve.losses),
        "smoothed_losses": curve.smoothed().tolist(),
        "steepest": curve.steepest_rate,
        "tenth_of_lowest": curve.tenth_of_lowest_rate,
        "lowest_loss_at": curve.lowest_loss_rate,
        "diverged_at": diverged_at,
        "picture": picture,
    }
    if files.create_bytes(uri, publish.canonical_json(document)):
        return document
    return publish.read_manifest(uri)
