"""Defines the stage `step`: training steps in one process, on images generated in memory."""

from __future__ import annotations

from cnnlib.bench import machine
from cnnlib.bench.flops import SEED_CNN, training_flops
from cnnlib.bench.harness import Comparison
from cnnlib.bench.programs import Program, reported
from cnnlib.bench.stages.contenders import keras_fit, our_steps, torch_eager
from cnnlib.bench.stages.setting import Setting
from cnnlib.models.runtime import cpu_has_bfloat16

_STEPS = 150
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
