"""Defines the stage `step`: training steps in one process, on images generated in memory."""

from __future__ import annotations

import json

from cnnlib.bench import machine
from cnnlib.bench.flops import SEED_CNN, training_flops
from cnnlib.bench.harness import Comparison
from cnnlib.bench.programs import Program, reported
from cnnlib.bench.stages.contenders import keras_fit, our_steps, torch_eager
from cnnlib.bench.stages.setting import Setting
from cnnlib.models.runtime import cpu_has_bfloat16

_STEPS = 150
_AUGMENTS: dict[str, dict[str, str | float]] = {
    "flip, shift": {"flip": "horizontal", "shift": 4},
    "rotation": {"rotate": 15},
    "colours": {"brightness": 0.2, "contrast": 0.2},
    "RandAugment of 2": {"rand_operations": 2},
    "random erasing": {"erase": 0.5},
    "MixUp": {"mixup": 0.2},
    "CutMix": {"cutmix": 1.0},
    "flip, shift, erasing, CutMix": {"flip": "horizontal", "shift": 4, "erase": 0.5, "cutmix": 1.0},
}
_NO_BF16 = "this CPU has no bfloat16 instructions (avx512_bf16, amx_bf16)"


def build_step(setting: Setting) -> list[Comparison]:
    """Returns the comparisons with Keras 3, PyTorch and the peak of a matrix product, for each batch size."""
    has_bf16 = cpu_has_bfloat16()
    best_precision = "mixed_bfloat16" if has_bf16 else "float32"
    comparisons = []
    for batch_size in setting.batch_sizes:
        steps, threads = _num_steps(setting, batch_size), setting.threads
        fits = [keras_fit(batch_size, steps, threads, jit=jit) for jit in (False, True)]
        comparisons += [_compare(setting, batch_size, "float32", fit, 1.4) for fit in fits]
        not_run = None if has_bf16 else f"{_NO_BF16}: float32 is our best precision here"
        comparisons += [_compare(setting, batch_size, "mixed_bfloat16", fit, 2.6, not_run) for fit in fits]
        for bf16 in (False, True):
            peer = torch_eager(batch_size, steps, threads, bf16=bf16)
            not_run = _NO_BF16 if bf16 and not has_bf16 else machine.why_no_torch()
            comparisons.append(_compare(setting, batch_size, best_precision, peer, 1.7, not_run))
        comparisons.append(_compare_with_peak(setting, batch_size, "float32"))
        if has_bf16:
            comparisons.append(_compare_with_peak(setting, batch_size, "mixed_bfloat16"))
    return comparisons


def _compare(
    setting: Setting,
    batch_size: int,
    precision: str,
    peer: Program,
    target: float,
    not_run: str | None = None,
) -> Comparison:
    return Comparison(
        stage="step",
        case=f"batch {batch_size}, ours {precision}, {setting.threads} threads",
        ours=our_steps(batch_size, _num_steps(setting, batch_size), setting.threads, precision),
        peer=peer,
        unit="images/s",
        target=target,
        not_run=not_run,
    )


def _compare_with_peak(setting: Setting, batch_size: int, precision: str) -> Comparison:
    dtype = "float32" if precision == "float32" else "bfloat16"
    flops, threads = training_flops(SEED_CNN), setting.threads
    return Comparison(
        stage="step",
        case=f"batch {batch_size}, ours {precision}, {threads} threads: {flops / 1e6:.0f} MFLOP per image",
        ours=our_steps(batch_size, _num_steps(setting, batch_size), threads, precision, scale=flops / 1e9),
        peer=Program(
            name=f"{dtype} peak, 2048^3 product",
            arguments=("-m", "cnnlib.bench.peers.gemm_peak", dtype, str(threads)),
            measurement=reported("gflop_per_s"),
        ),
        unit="GFLOP/s",
        target=None,
    )


def _num_steps(setting: Setting, batch_size: int) -> int:
    return max(10, setting.rows // batch_size) if setting.rows else _STEPS


def build_augment(setting: Setting) -> list[Comparison]:
    """Returns the comparisons of the seed model's step with each augmentation with the step without any."""
    batch_size, threads = setting.batch_sizes[0], setting.threads
    steps = _num_steps(setting, batch_size)
    peer = our_steps(batch_size, steps, threads, "float32", name="the same step without augmentation")
    return [
        Comparison(
            stage="augment",
            case=f"batch {batch_size}, {threads} threads: {name}",
            ours=our_steps(batch_size, steps, threads, "float32", augment=json.dumps(augment)),
            peer=peer,
            unit="images/s",
            target=0.95,
        )
        for name, augment in _AUGMENTS.items()
    ]
