"""TensorFlow itself: loaded quietly, with its share of the cores, on a GPU or not. Training and evaluation share it."""

from __future__ import annotations

import os
import re
from pathlib import Path

_BFLOAT16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
_BFLOAT16_COMPUTE_CAPABILITY = (8, 0)  # NVIDIA Ampere
_MIN_ROWS_SIDE_BY_SIDE = 16  # of a part: smaller ones lose more in every kernel than they gain


def count_parts(num_threads: int, rows: int) -> int:
    """In how many equal parts a batch of rows is best computed side by side on a CPU, one thread or more each.

    A kernel on two threads does less than two kernels on one thread each: the seed model's training step gains 20 %
    with two parts (docs/benchmarks/).

    >>> count_parts(num_threads=2, rows=32)
    2
    >>> count_parts(num_threads=4, rows=32)
    2
    """
    most = max(1, min(num_threads, rows // _MIN_ROWS_SIDE_BY_SIDE))
    return next(parts for parts in range(most, 0, -1) if rows % parts == 0)


def load_tensorflow(num_threads: int, parts: int = 1) -> None:
    """Loads TensorFlow with so many threads and no more. Call it before anything else touches TensorFlow.

    Args:
        num_threads: kernels at a time, and threads of all kernels together.
        parts: of a batch that are computed side by side and share the threads.
    """
    # Off by default on CPUs without AVX512. Convolutions of the seed model are 20 % to 50 % faster with it on AVX2 too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # 3: without a GPU, TensorFlow reports as errors that it found none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if os.environ.get("CUDA_VISIBLE_DEVICES") else "3")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(max(1, num_threads // parts))
    tf.config.threading.set_inter_op_parallelism_threads(num_threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        # Otherwise the first process on a GPU takes all its memory.
        tf.config.experimental.set_memory_growth(gpu, True)


def computes_bfloat16() -> bool:
    """True where this process's GPU, or else its CPU, has instructions for bfloat16: elsewhere it is emulated, slowly.

    On an EPYC with AVX512-BF16 the seed model's step is 1.3 to 2 times as fast as in float32; on one without, a tenth.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return cpu_has_bfloat16()
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
    ]
    return bool(min(capabilities) >= _BFLOAT16_COMPUTE_CAPABILITY)


def cpu_has_bfloat16() -> bool:
    """True where the CPU has instructions for bfloat16 that a benchmark here has shown to be faster than float32."""
    return bool(_BFLOAT16_CPU_FLAGS & cpu_flags())


def cpu_flags() -> set[str]:
    """The CPU's instruction sets by the kernel's names, such as avx2; empty where the kernel does not tell."""
    path = Path("/proc/cpuinfo")
    flags = re.search(
        r"^(?:flags|Features)\s*:\s*(.+)$", path.read_text() if path.exists() else "", re.MULTILINE
    )
    return set(flags.group(1).split()) if flags else set()


def hide_gpus() -> None:
    """Keeps TensorFlow off the GPUs in this process. Call it before TensorFlow is loaded."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
