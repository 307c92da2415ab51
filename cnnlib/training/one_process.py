"""The plan of a run in, the task of a worker that trains alone out: without Ray, and without rows for validation."""

from __future__ import annotations

from cnnlib.feed.index import RowIndex
from cnnlib.feed.validation import ValidationSplit
from cnnlib.training.plan import RunPlan, WorkerTask


def build_task(plan: RunPlan, cpus: int) -> WorkerTask:
    """Builds the task of a plan with one worker, which has all rows in memory.

    Args:
        cpus: threads of the worker.
    """
    num_rows = plan.manifest.split(plan.config.split).rows
    return WorkerTask(
        config=plan.config,
        dataset_uri=plan.dataset_uri,
        manifest=plan.manifest,
        run=plan.run,
        cpus=cpus,
        steps_per_epoch=plan.steps_per_epoch,
        cache="memory",
        index=RowIndex(validation_split=ValidationSplit.none(num_rows), pieces_per_shard=1),
        live=False,
    )
