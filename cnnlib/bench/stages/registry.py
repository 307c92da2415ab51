"""Lists the stages. A stage says which of our programs is compared with which peers, and the ratio to reach.

A peer may have variants (XLA on or off, float32 or bfloat16). Each variant has a row, and the faster one decides
whether we meet the target.
"""

from __future__ import annotations

from collections.abc import Callable

from cnnlib.bench.harness import Comparison
from cnnlib.bench.stages.data import build_ingest, build_ingest_images, build_prepare, build_prepare_images
from cnnlib.bench.stages.evaluation import build_evaluate
from cnnlib.bench.stages.gpu import build_gpu
from cnnlib.bench.stages.setting import Setting
from cnnlib.bench.stages.step import build_augment, build_step
from cnnlib.bench.stages.training import build_job, build_start, build_train, build_train_images
from cnnlib.errors import ConfigError, nearest

STAGES: dict[str, Callable[[Setting], list[Comparison]]] = {
    "step": build_step,
    "augment": build_augment,
    "train": build_train,
    "train-images": build_train_images,
    "job": build_job,
    "start": build_start,
    "ingest": build_ingest,
    "ingest-images": build_ingest_images,
    "evaluate": build_evaluate,
    "prepare": build_prepare,
    "prepare-images": build_prepare_images,
    "gpu": build_gpu,
}


def build_stage(name: str, setting: Setting) -> list[Comparison]:
    """Returns the comparisons of a stage.

    Raises:
        ConfigError: the stage does not exist; the message names the nearest one.
    """
    if name not in STAGES:
        raise ConfigError(f"Unknown stage {name!r}. {nearest(name, STAGES)}")
    return STAGES[name](setting)
