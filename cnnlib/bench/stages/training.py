"""Defines the stages of a training job with two workers: `train`, `train-images`, `job` and `start`."""

from __future__ import annotations

from cnnlib.bench.harness import Comparison
from cnnlib.bench.programs import Measurement, Program, reported, until_line, whole_command
from cnnlib.bench.stages.contenders import import_tensorflow, waiting_for_data
from cnnlib.bench.stages.setting import Setting

_TRAIN_ROWS = 9600
_ALL_ROWS = 60_000
_START_STEPS = 4
_WORKERS = 2  # where there is more than one
_SMALL_PHOTOS, _CROP_AREA = 4_000, "0.3"


def build_train(setting: Setting) -> list[Comparison]:
    """Returns the comparisons of two workers in steady state: the second of two epochs."""
    rows = setting.rows or _TRAIN_ROWS
    comparisons = []
    for batch_size in setting.batch_sizes:
        case = f"batch {batch_size}, {_WORKERS} workers, second epoch of {rows} images"
        rate = reported("metrics.images_per_s")
        ours = _our_train(rows, batch_size, rate, workers=_WORKERS)
        comparisons += [
            Comparison(
                stage="train",
                case=case,
                ours=ours,
                peer=_ray_docs_train(rows, batch_size, reported("images_per_s")),
                unit="images/s",
                target=5.0,
                fraction=waiting_for_data(case, "metrics.data_wait"),
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


def build_train_images(setting: Setting) -> list[Comparison]:
    """Returns the comparisons of JPEG files of 64x64x3 with their pixels, in memory and streamed."""
    rows = setting.rows or _SMALL_PHOTOS
    rate = reported("metrics.images_per_s")
    comparisons = []
    for batch_size in setting.batch_sizes:
        for way, more in (("in memory", ()), ("streamed, random crops", ("--min-crop-area", _CROP_AREA))):
            case = (
                f"batch {batch_size}, {_WORKERS} workers, {way}, second epoch of {rows} JPEG files of 64x64x3"
            )
            ours, pixels = (
                _our_train(rows, batch_size, rate, workers=_WORKERS, kind=kind, name=name, more=more)
                for kind, name in (("small_jpeg_dataset", "ours"), ("small_raw_dataset", "ours, raw pixels"))
            )
            comparisons.append(
                Comparison(
                    stage="train-images",
                    case=case,
                    ours=ours,
                    peer=pixels,
                    unit="images/s",
                    target=None,
                    fraction=waiting_for_data(case, "metrics.data_wait"),
                )
            )
    return comparisons


def build_job(setting: Setting) -> list[Comparison]:
    """Returns the comparisons of the whole command, from start to exit: two epochs and a saved model."""
    rows = setting.rows or _ALL_ROWS
    comparisons = []
    for batch_size in setting.batch_sizes:
        ours = _our_train(rows, batch_size, whole_command, workers=_WORKERS)
        script = Program(
            name="plain Keras 3 script",
            arguments=(
                *("-m", "cnnlib.bench.peers.keras.script", f"{{idx:{rows}}}", "{fresh}"),
                *(str(batch_size), "2"),
            ),
            measurement=whole_command,
        )
        ray_docs = _ray_docs_train(rows, batch_size, whole_command)
        comparisons += [
            Comparison(
                stage="job",
                case=f"batch {batch_size}, 2 epochs of {rows} images, {_WORKERS} workers, from command to exit",
                ours=ours,
                peer=peer,
                unit="s",
                target=target,
            )
            for peer, target in ((ray_docs, 3.5), (script, 1.5))
        ]
    return comparisons


def build_start(setting: Setting) -> list[Comparison]:
    """Returns the comparison of the time from the command to the first training step with an import of TensorFlow."""
    batch_size = setting.batch_sizes[0]
    ours = _our_train(
        setting.rows or _ALL_ROWS,
        batch_size,
        until_line("train step="),
        workers=_WORKERS,
        epochs=1,
        more=(
            *("--steps-per-epoch", str(_START_STEPS)),
            *("--loop.steps-per-call", "1", "--loop.log-every-steps", "1"),
        ),
    )
    return [
        Comparison(
            stage="start",
            case=f"batch {batch_size}, {_WORKERS} workers, from command to first step",
            ours=ours,
            peer=import_tensorflow(),
            unit="s",
            target=3.0,
            goal="at most",
        )
    ]


def _our_train(
    rows: int,
    batch_size: int,
    measurement: Measurement,
    *,
    workers: int,
    kind: str = "dataset",
    epochs: int = 2,
    cpus: int | None = None,
    name: str = "ours",
    more: tuple[str, ...] = (),
) -> Program:
    return Program(
        name=name,
        arguments=(
            *("-m", "jobs.train", "seed", "--data", f"{{{kind}:{rows}}}", "--runs", "{fresh}"),
            *("--name", "bench", "--workers", str(workers), "--epochs", str(epochs)),
            *("--batch-size", str(batch_size)),
            *(("--cluster.cpus-per-worker", str(cpus)) if cpus else ()),
            *more,
            "--json",
        ),
        measurement=measurement,
    )


def _ray_docs_train(rows: int, batch_size: int, measurement: Measurement) -> Program:
    return Program(
        name="Ray's docs: TensorflowTrainer, tf_keras fit, to_tf",
        arguments=(
            *("-m", "cnnlib.bench.peers.ray.train", f"{{ray_parquet:{rows}}}"),
            *(str(batch_size), "2"),
        ),
        measurement=measurement,
    )
