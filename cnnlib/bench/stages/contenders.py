"""Builds the programs that more than one stage runs: ours and those of the peers, on the CPU or on a GPU."""

from __future__ import annotations

import sys

from cnnlib.bench import machine
from cnnlib.bench.harness import Fraction
from cnnlib.bench.programs import Program, reported, whole_command

_MAX_DATA_WAIT = 0.02


def waiting_for_data(case: str, field: str) -> Fraction:
    """Returns the row of the time that our training waits for data.

    Args:
        case: of the comparison that the row belongs to.
        field: where our program reports the fraction.
    """
    return Fraction(
        case=f"{case}: waiting for data",
        of="the time of the epoch",
        measurement=reported(field),
        target=_MAX_DATA_WAIT,
    )


def import_tensorflow() -> Program:
    """Returns what every program waits for that uses TensorFlow; the measurement is the seconds of the command."""
    return Program(name="import tensorflow", arguments=("-c", "import tensorflow"), measurement=whole_command)


def our_steps(
    batch_size: int,
    steps: int,
    threads: int,
    precision: str,
    *,
    scale: float = 1.0,
    gpu: str = "",
    augment: str = "",
    name: str = "ours",
) -> Program:
    """Returns our training steps on images generated in memory; the measurement is images/s times `scale`.

    Args:
        augment: see `cnnlib.bench.ours.step`.
    """
    arguments = (batch_size, steps, threads, precision, *([augment] if augment else []))
    return _program(name, "cnnlib.bench.ours.step", *arguments, scale=scale, gpu=gpu)


def keras_fit(batch_size: int, steps: int, threads: int, *, jit: bool, gpu: str = "") -> Program:
    """Returns the same steps with Keras 3."""
    return _program(
        f"Keras 3 fit, float32, XLA {'on' if jit else 'off'}",
        *("cnnlib.bench.peers.keras.fit", batch_size, steps, threads, int(jit)),
        gpu=gpu,
    )


def torch_eager(batch_size: int, steps: int, threads: int, *, bf16: bool, gpu: str = "") -> Program:
    """Returns the same steps with PyTorch."""
    return _program(
        f"PyTorch eager, {'bfloat16 autocast' if bf16 else 'float32'}",
        *("cnnlib.bench.peers.torch_eager", batch_size, steps, threads, int(bf16)),
        python=str(machine.PEERS_PYTHON),
        gpu=gpu,
    )


def our_ingest(rows: int, batch_size: int, threads: int, *, gpu: str = "") -> Program:
    """Returns our reading of shards into tensors."""
    return _program("ours", "cnnlib.bench.ours.ingest", f"{{dataset:{rows}}}", batch_size, threads, gpu=gpu)


def tfrecord_iterate(rows: int, batch_size: int, threads: int, *, gpu: str = "") -> Program:
    """Returns the reading of TFRecord files into tensors with tf.data."""
    return _program(
        "tf.data, TFRecord",
        *("cnnlib.bench.peers.tfrecord.iterate", f"{{tfrecord:{rows}}}", batch_size, threads),
        gpu=gpu,
    )


def _program(
    name: str, module: str, *arguments: object, python: str = sys.executable, scale: float = 1.0, gpu: str
) -> Program:
    return Program(
        name=name,
        arguments=("-m", module, *map(str, arguments)),
        measurement=reported("images_per_s", scale),
        python=python,
        gpu=gpu,
    )
