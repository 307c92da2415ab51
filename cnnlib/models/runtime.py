"""Loads and configures TensorFlow and Keras in a process, and detects what its CPU or GPU can compute."""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnlib.errors import ConfigError
from cnnlib.models.quick_import import importing_quickly

# Every other choice would compute something else, or nothing: this project is built on TensorFlow and Keras 3. Keras
# reads its backend here before it reads ~/.keras/keras.json.
_KERAS_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}
_BFLOAT16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
_BFLOAT16_COMPUTE_CAPABILITY = (8, 0)  # NVIDIA Ampere
# "I0000 …" is a line of the level INFO.
_BANNER = re.compile(rb"WARNING: All log messages before absl::InitializeLog|I0000 ")
_NO_GPU = "-1"  # as CUDA_VISIBLE_DEVICES
_MIN_ROWS_PER_CHUNK = 16  # with fewer, every kernel loses more than the chunks gain


def count_chunks(num_threads: int, rows: int) -> int:
    """Returns the number of equal chunks in which a CPU computes a batch fastest: at most one per thread.

    Two kernels on one thread each do more than one kernel on two threads: the seed model's training step gains 20 %
    with two chunks (docs/benchmarks/).

    Args:
        num_threads: threads of this process.
        rows: rows of the batch.

    >>> count_chunks(num_threads=2, rows=32)
    2
    >>> count_chunks(num_threads=4, rows=32)
    2
    """
    most = max(1, min(num_threads, rows // _MIN_ROWS_PER_CHUNK))
    return next(chunks for chunks in range(most, 0, -1) if rows % chunks == 0)


def load_tensorflow(num_threads: int, chunks: int = 1, *, gpus: bool = False) -> None:
    """Loads TensorFlow and Keras, and limits TensorFlow to `num_threads` threads. Must run before anything uses either.

    What the user set for Keras elsewhere does not count: backend TensorFlow, float32 and channels_last, whatever
    KERAS_BACKEND, TF_USE_LEGACY_KERAS and ~/.keras/keras.json say. The numbers are then the same everywhere.

    A process that did not ask for GPUs sees none, also where Ray was started by others and leaves them visible: two
    workers that train on CPUs would otherwise both take the GPU of their machine.

    Args:
        num_threads: the most kernels that run at a time, and the most threads of all kernels together.
        chunks: chunks of a batch that are computed in parallel and share the threads.
        gpus: whether the process may use the visible GPUs.

    Raises:
        ConfigError: keras.json is invalid, or Keras was loaded before with another backend.
    """
    os.environ |= _KERAS_ENVIRONMENT
    if not gpus:
        hide_gpus()
    # oneDNN is off by default on CPUs without AVX512. On AVX2, too, it makes the convolutions of the seed model 20 % to
    # 50 % faster.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _log_level(os.environ.get("CUDA_VISIBLE_DEVICES")))
    # Whoever plots in this process, matplotlib logs in a new HOME that it builds its list of fonts.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    try:
        with _without_banners(), importing_quickly():
            import tensorflow as tf  # and Keras
    except (
        AssertionError,
        ValueError,
    ) as err:  # so it refuses the values of a keras.json; it reads that file as well
        raise ConfigError(
            f"TensorFlow cannot be imported ({type(err).__name__}). If there is a file keras.json in ~/.keras "
            "or KERAS_HOME, correct or delete it."
        ) from err
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(max(1, num_threads // chunks))
    tf.config.threading.set_inter_op_parallelism_threads(num_threads)
    if gpus:
        for gpu in tf.config.list_physical_devices("GPU"):
            # Otherwise the first process on a GPU takes all of its memory.
            tf.config.experimental.set_memory_growth(gpu, True)
    else:
        tf.config.set_visible_devices([], "GPU")  # if another library loaded TensorFlow before the line above
    _set_up_keras()


def computes_bfloat16() -> bool:
    """Returns whether this process's GPUs, or without a GPU its CPU, have bfloat16 instructions. Emulation is slow.

    On an EPYC with AVX512-BF16 the seed model's step is 1.3 to 2 times as fast in bfloat16 as in float32; on an EPYC
    without, it is a tenth as fast.
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
    """Returns whether the CPU has bfloat16 instructions that are faster than float32 in this project's benchmarks."""
    return bool(_BFLOAT16_CPU_FLAGS & cpu_flags())


def cpu_flags() -> set[str]:
    """Returns the CPU's instruction sets by the kernel's names, such as avx2; empty if the kernel lists none."""
    path = Path("/proc/cpuinfo")
    flags = re.search(
        r"^(?:flags|Features)\s*:\s*(.+)$", path.read_text() if path.exists() else "", re.MULTILINE
    )
    return set(flags.group(1).split()) if flags else set()


def cpu_name() -> str:
    """Returns the model of the CPU, such as `AMD EPYC 9R14`; its architecture if the kernel does not tell."""
    path = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", path.read_text() if path.exists() else "", re.MULTILINE)
    return model.group(1).strip() if model else platform.processor() or platform.machine()


def _set_up_keras() -> None:
    import keras

    if keras.config.backend() != "tensorflow":
        raise ConfigError(
            f"Keras was loaded with the backend {keras.config.backend()!r}, expected 'tensorflow'. "
            "Import nothing of Keras before this project, or unset KERAS_BACKEND."
        )
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def _log_level(visible_gpus: str | None) -> str:
    """Returns the level for TF_CPP_MIN_LOG_LEVEL: without a GPU, TensorFlow logs errors that it found none."""
    return "3" if visible_gpus in (None, "", _NO_GPU) else "2"


@contextmanager
def _without_banners() -> Iterator[None]:
    """Drops the lines that TensorFlow's libraries write to stderr each time they are loaded; delays other lines.

    The libraries write them before they read TF_CPP_MIN_LOG_LEVEL, directly to the file descriptor.
    """
    if not cpu_flags() & {"avx", "asimd"}:
        yield  # on a CPU without AVX TensorFlow aborts, and its reason must not be lost
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            buffer.seek(0)
            for line in buffer:
                if not _BANNER.match(line):
                    os.write(2, line)


def hide_gpus() -> None:
    """Hides the GPUs from TensorFlow in this process. Must run before TensorFlow is loaded."""
    os.environ["CUDA_VISIBLE_DEVICES"] = _NO_GPU
