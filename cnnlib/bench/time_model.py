"""Predicts the time of a step and of an epoch from the number of workers, the images and the hardware.

`python -m cnnlib.bench.time_model` prints the numbers of docs/scaling.md.

    epoch = steps x (max(compute, read) + all-reduce + overhead)

compute     rows of a worker batch x seconds per row; the seconds per row grow in proportion to the pixels
read        bytes of a worker batch / bytes per second that one worker reads, checks, decodes and shuffles
all-reduce  a ring: 2 (w - 1) / w x gradient bytes / bandwidth + 2 (w - 1) x latency
            (Patarasuk and Yuan 2009, https://doi.org/10.1016/j.jpdc.2008.09.002)
overhead    fixed time of a step: kernel launches and the update of the weights

The numbers of a `Hardware` are either fitted to measurements or assumed: docs/scaling.md says which.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_SEED_PIXELS = 28 * 28


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Holds the speed of a worker and of its network.

    Attributes:
        row_s: seconds to train on one row of 28x28 pixels.
        step_s: overhead of a step, in seconds.
        read_bytes_per_s: bytes of pixels that the streaming feed reads per second.
        network_bytes_per_s: bandwidth between two workers.
        hop_s: latency of one message between two workers, with the overhead of gRPC or NCCL.
    """

    row_s: float
    step_s: float
    read_bytes_per_s: float
    network_bytes_per_s: float
    hop_s: float


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Holds the sizes of the data, the batch and the gradients.

    Attributes:
        rows: rows of an epoch.
        height, width: pixels of an image.
        gradient_bytes: bytes of the gradients of all weights, in float32.
    """

    rows: int
    height: int
    width: int
    channels: int
    batch_size: int
    gradient_bytes: int


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Holds the time of one step by its parts, in seconds."""

    compute_s: float
    read_s: float
    all_reduce_s: float
    overhead_s: float

    @property
    def seconds(self) -> float:
        """The whole step, in seconds. The feed reads while the previous macro-batch is computed, hence the maximum."""
        return max(self.compute_s, self.read_s) + self.all_reduce_s + self.overhead_s


def predict_step_time(workload: Workload, hardware: Hardware, workers: int) -> StepTime:
    """Predicts the time of one step.

    >>> cpu = Hardware(row_s=0.002, step_s=0.001, read_bytes_per_s=1e8, network_bytes_per_s=1e9, hop_s=1e-4)
    >>> seed = Workload(rows=60_000, height=28, width=28, channels=1, batch_size=64, gradient_bytes=188_360)
    >>> time = predict_step_time(seed, cpu, workers=2)
    >>> round(time.compute_s, 3), round(1e6 * time.all_reduce_s)
    (0.064, 388)
    """
    rows = workload.batch_size / workers
    pixels = workload.height * workload.width
    transfer_s = 2 * (workers - 1) / workers * workload.gradient_bytes / hardware.network_bytes_per_s
    return StepTime(
        compute_s=rows * hardware.row_s * pixels / _SEED_PIXELS,
        read_s=rows * pixels * workload.channels / hardware.read_bytes_per_s,
        all_reduce_s=transfer_s + 2 * (workers - 1) * hardware.hop_s,
        overhead_s=hardware.step_s,
    )


def predict_epoch_s(workload: Workload, hardware: Hardware, workers: int) -> float:
    """Predicts the seconds of one epoch."""
    return workload.rows // workload.batch_size * predict_step_time(workload, hardware, workers).seconds


def efficiency(workload: Workload, hardware: Hardware, workers: int) -> float:
    """Returns the speed as a fraction, 0..1, of `workers` times one worker's speed at the same global batch."""
    return predict_epoch_s(workload, hardware, 1) / (workers * predict_epoch_s(workload, hardware, workers))


def build_table(workload: Workload, hardware: Hardware, workers: Iterable[int]) -> list[str]:
    """Returns the lines of a Markdown table: time of an epoch and efficiency for every number of workers."""
    lines = ["| workers | epoch, s | images/s | efficiency | limit |", "| --- | --- | --- | --- | --- |"]
    for count in workers:
        step = predict_step_time(workload, hardware, count)
        seconds = predict_epoch_s(workload, hardware, count)
        parts = {
            "compute": step.compute_s,
            "read": step.read_s,
            "all-reduce": step.all_reduce_s,
            "overhead": step.overhead_s,
        }
        lines.append(
            f"| {count} | {seconds:,.1f} | {workload.rows / seconds:,.0f} "
            f"| {efficiency(workload, hardware, count):.0%} | {max(parts, key=lambda name: parts[name])} |"
        )
    return lines


CPU_CORE = Hardware(
    row_s=1.79e-3, step_s=2.1e-3, read_bytes_per_s=3.4e8, network_bytes_per_s=1.25e9, hop_s=2e-4
)
ASSUMED_GPU = Hardware(
    row_s=107e6 / 20e12, step_s=1e-3, read_bytes_per_s=3.4e8, network_bytes_per_s=1.25e9, hop_s=5e-5
)
_SEED_GRADIENT_BYTES, _LARGE_GRADIENT_BYTES = 4 * 47_090, 4 * 25_000_000


def _fashion_mnist(batch_size: int) -> Workload:
    return Workload(
        rows=60_000,
        height=28,
        width=28,
        channels=1,
        batch_size=batch_size,
        gradient_bytes=_SEED_GRADIENT_BYTES,
    )


def _photographs(size: int) -> Workload:
    return Workload(
        rows=60_000, height=size, width=size, channels=3, batch_size=256, gradient_bytes=_LARGE_GRADIENT_BYTES
    )


def main() -> None:
    """Prints the numbers of docs/scaling.md."""
    for batch_size in (64, 1024, 16384):
        counts = [count for count in (1, 2, 4, 16, 64, 256, 1024) if count <= batch_size]
        _show(f"batch {batch_size}", *build_table(_fashion_mnist(batch_size), CPU_CORE, counts), "")
    images = {
        "28x28x1": _fashion_mnist(256),
        "224x224x3": _photographs(224),
        "2880x2880x3": _photographs(2880),
    }
    for worker, hardware in (("1 CPU core", CPU_CORE), ("GPU, assumed", ASSUMED_GPU)):
        for name, workload in images.items():
            _show(f"{name}, 8 workers, {worker}: {predict_step_time(workload, hardware, 8)}")


def _show(*lines: str) -> None:
    print(*lines, sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
