"""The stages: which of our programs stands against which peers, and the ratio it is to reach.

Where a target is against the better of a peer's variants, every variant has a row, and the harder one decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cnnlib.bench import machine
from cnnlib.bench.contenders import keras_fit, our_ingest, our_steps, tfrecord_iterate, torch_eager
from cnnlib.bench.flops import SEED_CNN, training_flops
from cnnlib.bench.gpu import build_gpu
from cnnlib.bench.harness import Comparison, Share
from cnnlib.bench.programs import Program, reported, until_line, whole_command
from cnnlib.errors import ConfigError, nearest
from cnnlib.models.runtime import cpu_has_bfloat16

_RATE = reported("images_per_s")
_STEPS = 150
_TRAIN_ROWS = 9600
_ALL_ROWS = 60_000
_START_STEPS = 4
_PARALLEL = 2  # workers, where there is more than one
_MAX_DATA_WAIT = 0.02
_NO_BF16 = "this CPU has no bfloat16 instructions (avx512_bf16, amx_bf16)"
# How many shards jobs.prepare makes of the two splits: of at least 4 MiB of pixels, see data/shards.py.
_SHARD_PIXELS = 4 * 2**20
_IMAGE_PIXELS = 28 * 28


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all stages are run with.

    Attributes:
        threads: cores that the programs are pinned to.
        batch_sizes: global batches.
        rows: training images; None: what each stage takes by itself.
    """

    threads: int
    batch_sizes: tuple[int, ...]
    rows: int | None


def build_stage(name: str, setting: Setting) -> list[Comparison]:
    """The comparisons of a stage.

    Raises:
        ConfigError: there is no such stage; the message names the nearest.
    """
    if name not in STAGES:
        raise ConfigError(f"Unknown stage {name!r}. {nearest(name, STAGES)}")
    return STAGES[name](setting)


def _build_step(setting: Setting) -> list[Comparison]:
    """Training steps in one process, on images made up in memory."""
    able = cpu_has_bfloat16()
    best = "mixed_bfloat16" if able else "float32"
    rows = []
    for batch_size in setting.batch_sizes:
        steps, threads = _steps(setting, batch_size), setting.threads
        fits = [keras_fit(batch_size, steps, threads, jit=jit) for jit in (False, True)]
        rows += [_step(setting, batch_size, "float32", fit, 1.4) for fit in fits]
        why = None if able else f"{_NO_BF16}: float32 is our best precision here"
        rows += [_step(setting, batch_size, "mixed_bfloat16", fit, 2.6, why) for fit in fits]
        for bf16 in (False, True):
            peer = torch_eager(batch_size, steps, threads, bf16=bf16)
            why = _NO_BF16 if bf16 and not able else machine.why_no_torch()
            rows.append(_step(setting, batch_size, best, peer, 1.7, why))
        rows += [_share_of_peak(setting, batch_size, "float32", None)]
        if able:
            rows += [_share_of_peak(setting, batch_size, "mixed_bfloat16", None)]
    return rows


def _step(
    setting: Setting, batch_size: int, precision: str, peer: Program, target: float, why: str | None = None
) -> Comparison:
    return Comparison(
        stage="step",
        case=f"batch {batch_size}, ours {precision}, {setting.threads} threads",
        ours=our_steps(batch_size, _steps(setting, batch_size), setting.threads, precision),
        peer=peer,
        unit="images/s",
        target=target,
        not_run=why,
    )


def _share_of_peak(setting: Setting, batch_size: int, precision: str, target: float | None) -> Comparison:
    dtype = "float32" if precision == "float32" else "bfloat16"
    flops = training_flops(SEED_CNN)
    return Comparison(
        stage="step",
        case=f"batch {batch_size}, ours {precision}, {setting.threads} threads: {flops / 1e6:.0f} MFLOP per image",
        ours=our_steps(
            batch_size, _steps(setting, batch_size), setting.threads, precision, scale=flops / 1e9
        ),
        peer=Program(
            name=f"{dtype} peak, 2048^3 product",
            arguments=("-m", "cnnlib.bench.peers.gemm_peak", dtype, str(setting.threads)),
            figure=reported("gflop_per_s"),
        ),
        unit="GFLOP/s",
        target=target,
    )


def _build_train(setting: Setting) -> list[Comparison]:
    """Two workers in steady state: the second of two epochs."""
    rows = setting.rows or _TRAIN_ROWS
    comparisons = []
    for batch_size in setting.batch_sizes:
        case = f"batch {batch_size}, {_PARALLEL} workers, second epoch of {rows} images"
        rate = reported("figures.images_per_s")
        ours = _our_train(rows, batch_size, rate, workers=_PARALLEL)
        comparisons += [
            Comparison(
                stage="train",
                case=case,
                ours=ours,
                peer=_ray_docs_train(rows, batch_size),
                unit="images/s",
                target=5.0,
                share=Share(
                    case=f"{case}: waiting for data",
                    of="the time of the epoch",
                    figure=reported("figures.data_wait"),
                    target=_MAX_DATA_WAIT,
                ),
            ),
            Comparison(
                stage="train",
                case=case,
                ours=ours,
                peer=_our_train(
                    rows, batch_size, rate, workers=1, cpus=setting.threads, name="ours, 1 worker, same cores"
                ),
                unit="images/s",
                target=0.95,
            ),
        ]
    return comparisons


def _build_job(setting: Setting) -> list[Comparison]:
    """The whole command, to its exit: two epochs and a saved model."""
    rows = setting.rows or _ALL_ROWS
    comparisons = []
    for batch_size in setting.batch_sizes:
        ours = _our_train(rows, batch_size, whole_command, workers=_PARALLEL)
        script = Program(
            name="plain Keras 3 script",
            arguments=(
                *("-m", "cnnlib.bench.peers.keras_script", f"{{idx:{rows}}}", "{fresh}"),
                *(str(batch_size), "2"),
            ),
            figure=whole_command,
        )
        ray_docs = _ray_docs_train(rows, batch_size, whole_command)
        comparisons += [
            Comparison(
                stage="job",
                case=f"batch {batch_size}, 2 epochs of {rows} images, {_PARALLEL} workers, from command to exit",
                ours=ours,
                peer=peer,
                unit="s",
                target=target,
            )
            for peer, target in ((ray_docs, 3.5), (script, 1.5))
        ]
    return comparisons


def _build_start(setting: Setting) -> list[Comparison]:
    """From the command to the first training step: how often one could have imported TensorFlow meanwhile."""
    batch_size = setting.batch_sizes[0]
    ours = _our_train(
        setting.rows or _ALL_ROWS,
        batch_size,
        until_line("train step="),
        workers=_PARALLEL,
        epochs=1,
        more=(
            *("--steps-per-epoch", str(_START_STEPS)),
            *("--loop.steps-per-call", "1", "--loop.log-every-steps", "1"),
        ),
    )
    return [
        Comparison(
            stage="start",
            case=f"batch {batch_size}, {_PARALLEL} workers, from command to first step",
            ours=ours,
            peer=Program(
                name="import tensorflow", arguments=("-c", "import tensorflow"), figure=whole_command
            ),
            unit="s",
            target=3.0,
            goal="at most",
        )
    ]


def _build_ingest(setting: Setting) -> list[Comparison]:
    """From Parquet shards (or TFRecord files) to tensors, without training: the second pass."""
    rows, threads = setting.rows or _ALL_ROWS, str(setting.threads)
    comparisons = []
    for batch_size in setting.batch_sizes:
        ours = our_ingest(rows, batch_size, setting.threads)
        peers = [
            (_ray_iterate("to_tf", rows, batch_size, threads), 10.0),
            (_ray_iterate("iter_tf_batches", rows, batch_size, threads), 10.0),
            (tfrecord_iterate(rows, batch_size, setting.threads), 1.0),
        ]
        comparisons += [
            Comparison(
                stage="ingest",
                case=f"batch {batch_size}, second pass over {rows} images",
                ours=ours,
                peer=peer,
                unit="images/s",
                target=target,
            )
            for peer, target in peers
        ]
    return comparisons


def _build_evaluate(setting: Setting) -> list[Comparison]:
    """Scoring the test images, the model loaded: the second pass."""
    rows = setting.rows or _ALL_ROWS
    model, threads = f"{{model:{rows}}}", str(setting.threads)
    return [
        Comparison(
            stage="evaluate",
            case=f"second pass over {min(rows, 10_000)} test images, float32, {threads} threads",
            ours=Program(
                name="ours",
                arguments=("-m", "cnnlib.bench.ours.evaluate", model, f"{{dataset:{rows}}}", threads),
                figure=_RATE,
            ),
            peer=Program(
                name="Keras 3 evaluate, defaults",
                arguments=("-m", "cnnlib.bench.peers.keras_evaluate", model, f"{{idx:{rows}}}", threads),
                figure=_RATE,
            ),
            unit="images/s",
            target=3.0,
        )
    ]


def _build_prepare(setting: Setting) -> list[Comparison]:
    """IDX files to shards, the whole command."""
    rows = setting.rows or _ALL_ROWS
    shards = [str(_num_shards(count)) for count in (rows, min(rows, 10_000))]
    source = f"{{idx:{rows}}}"
    return [
        Comparison(
            stage="prepare",
            case=f"{rows} images to {shards[0]} + {shards[1]} shards, from command to exit",
            ours=Program(
                name="ours",
                arguments=("-m", "jobs.prepare", "idx", source, "--output", "{fresh}"),
                figure=whole_command,
            ),
            peer=Program(
                name="a straight loop with pyarrow",
                arguments=("-m", "cnnlib.bench.peers.straight_prepare", source, "{fresh}", *shards),
                figure=whole_command,
            ),
            unit="s",
            target=1.0,
        )
    ]


def _our_train(
    rows: int,
    batch_size: int,
    figure: Callable[..., float],
    *,
    workers: int,
    epochs: int = 2,
    cpus: int | None = None,
    name: str = "ours",
    more: tuple[str, ...] = (),
) -> Program:
    return Program(
        name=name,
        arguments=(
            *("-m", "jobs.train", "seed", "--data", f"{{dataset:{rows}}}", "--runs", "{fresh}"),
            *("--name", "bench", "--workers", str(workers), "--epochs", str(epochs)),
            *("--batch-size", str(batch_size)),
            *(("--cluster.cpus-per-worker", str(cpus)) if cpus else ()),
            *more,
            "--json",
        ),
        figure=figure,
    )


def _ray_docs_train(rows: int, batch_size: int, figure: Callable[..., float] = _RATE) -> Program:
    return Program(
        name="Ray's docs: TensorflowTrainer, tf_keras fit, to_tf",
        arguments=(
            *("-m", "cnnlib.bench.peers.ray_docs_train", f"{{ray_parquet:{rows}}}"),
            *(str(batch_size), "2"),
        ),
        figure=figure,
    )


def _ray_iterate(way: str, rows: int, batch_size: int, threads: str) -> Program:
    return Program(
        name=f"Ray Data {way}",
        arguments=(
            *("-m", "cnnlib.bench.peers.ray_iterate", way, f"{{ray_parquet:{rows}}}"),
            *(str(batch_size), threads),
        ),
        figure=_RATE,
    )


def _steps(setting: Setting, batch_size: int) -> int:
    return max(10, setting.rows // batch_size) if setting.rows else _STEPS


def _num_shards(rows: int) -> int:
    return -(-rows * _IMAGE_PIXELS // _SHARD_PIXELS)


STAGES: dict[str, Callable[[Setting], list[Comparison]]] = {
    "step": _build_step,
    "train": _build_train,
    "job": _build_job,
    "start": _build_start,
    "ingest": _build_ingest,
    "evaluate": _build_evaluate,
    "prepare": _build_prepare,
    "gpu": lambda setting: build_gpu(setting.threads, setting.rows),
}
