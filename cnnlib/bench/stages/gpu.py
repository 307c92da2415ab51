"""Defines the stage `gpu`: steps and ingest on the first GPU of this machine.

Without a GPU its rows are not run, and say so.
"""

from __future__ import annotations

import shutil
import subprocess

from cnnlib.bench import machine
from cnnlib.bench.harness import Comparison, Fraction
from cnnlib.bench.programs import Program
from cnnlib.bench.stages.contenders import (
    keras_fit,
    our_ingest,
    our_steps,
    tfrecord_iterate,
    torch_eager,
    waiting_for_data,
)
from cnnlib.bench.stages.setting import Setting

_FIRST_GPU = "0"
_DEFAULT_BATCH = 32  # the default of Keras's fit
_BIG_BATCH = 1024
_STEPS = 600


def why_no_gpu() -> str | None:
    """Returns the reason why nothing can be measured on a GPU here; None if it can."""
    if shutil.which("nvidia-smi") is None:
        return "this machine has no NVIDIA GPU (no nvidia-smi)"
    found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return None if found.stdout.startswith("GPU") else f"nvidia-smi finds no GPU: {found.stdout.strip()}"


def build_gpu(setting: Setting) -> list[Comparison]:
    """Returns the comparisons: ours with mixed bfloat16 and XLA, as `--loop.precision auto` picks on a GPU.

    `setting.rows` is the number of images of the ingest and of an epoch of steps; None means 60,000 and 600 steps.
    """
    threads, rows = setting.threads, setting.rows
    no_gpu = why_no_gpu()
    comparisons = []
    for batch_size in (_DEFAULT_BATCH, _BIG_BATCH):
        steps = max(50, rows // batch_size) if rows else _STEPS
        case = f"batch {batch_size}, ours mixed_bfloat16 and XLA"
        ours = our_steps(batch_size, steps, threads, "mixed_bfloat16", gpu=_FIRST_GPU)
        waiting = waiting_for_data(case, "data_wait")
        for jit in (False, True):
            peer = keras_fit(batch_size, steps, threads, jit=jit, gpu=_FIRST_GPU)
            target = 1.5 if batch_size == _DEFAULT_BATCH else None
            comparisons.append(_compare(case, ours, peer, target, no_gpu, None if jit else waiting))
        for bf16 in (False, True):
            peer = torch_eager(batch_size, steps, threads, bf16=bf16, gpu=_FIRST_GPU)
            comparisons.append(_compare(case, ours, peer, None, no_gpu or machine.why_no_torch()))
    ingest_rows = rows or 60_000
    ingest = our_ingest(ingest_rows, _BIG_BATCH, threads, gpu=_FIRST_GPU)
    tfrecord = tfrecord_iterate(ingest_rows, _BIG_BATCH, threads, gpu=_FIRST_GPU)
    case = f"batch {_BIG_BATCH}, second pass over {ingest_rows} images, ours into the GPU's memory"
    return [*comparisons, _compare(case, ingest, tfrecord, 1.0, no_gpu)]


def _compare(
    case: str,
    ours: Program,
    peer: Program,
    target: float | None,
    not_run: str | None,
    fraction: Fraction | None = None,
) -> Comparison:
    return Comparison(
        stage="gpu",
        case=case,
        ours=ours,
        peer=peer,
        unit="images/s",
        target=target,
        not_run=not_run,
        fraction=fraction,
    )
