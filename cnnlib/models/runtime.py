"""TensorFlow itself: loaded quietly, with its share of the cores, on a GPU or not. Training and evaluation share it."""

from __future__ import annotations

import os


def load_tensorflow(num_threads: int) -> None:
    """Loads TensorFlow with so many threads and no more. Call it before anything else touches TensorFlow.

    Args:
        num_threads: threads of the kernels, and as many kernels at a time.
    """
    # 3: without a GPU, TensorFlow reports as errors that it found none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if os.environ.get("CUDA_VISIBLE_DEVICES") else "3")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    tf.config.threading.set_inter_op_parallelism_threads(num_threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        # Otherwise the first process on a GPU takes all its memory.
        tf.config.experimental.set_memory_growth(gpu, True)


def hide_gpus() -> None:
    """Keeps TensorFlow off the GPUs in this process. Call it before TensorFlow is loaded."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
