"""How many rows are predicted or validated at a time: by the bytes of their pixels and of their probabilities.

Neither number is part of a report's id: they change the memory and the speed. A row's probabilities depend on its batch
at most by the rounding of float32, as they do with another `--batch-size`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from cnnlib.shapes import ImageShape

BATCH_BYTES, GPU_BATCH_BYTES = 4 * 2**20, 64 * 2**20
"""A batch has at most this many bytes of pixels in float32, and at least one row. The activations of a model take
several times as many: ten times as many where a convolution makes 32 channels of 3. On a CPU they should stay near its
caches: small-cnn scores 40 images of 256x256x3 per second in batches of 4, 18 in batches of 16 and 5 in batches of 64
(2 cores of a Xeon). On a GPU, large batches are faster."""
OUTPUT_BYTES = 64 * 2**20
"""The rows of a shard are scored in pieces of at most this many bytes of probabilities in float32: 838 rows of 20,000
classes. Counting and sorting them takes several times as many."""
_FLOAT32_BYTES = 4


def fit_batch(batch_size: int, image_shape: ImageShape, *, on_gpu: bool = False) -> int:
    """Returns the rows of a batch: `batch_size`, or, if they exceed the bytes, the largest power of two that fits.

    A power of two divides into the chunks that a CPU computes in parallel.

    >>> fit_batch(500, (28, 28, 1)), fit_batch(500, (224, 224, 3)), fit_batch(500, (2160, 4096, 3))
    (500, 4, 1)
    """
    most = (GPU_BATCH_BYTES if on_gpu else BATCH_BYTES) // (math.prod(image_shape) * _FLOAT32_BYTES)
    return batch_size if batch_size <= most else 2 ** (max(1, most).bit_length() - 1)


def split_rows(num_rows: int, num_classes: int, batch_rows: int) -> Iterator[slice]:
    """Yields the pieces in which rows are scored: whole batches, except the last one.

    >>> list(split_rows(2000, 20_000, 500))
    [slice(0, 500, None), slice(500, 1000, None), slice(1000, 1500, None), slice(1500, 2000, None)]
    """
    batches = OUTPUT_BYTES // (num_classes * _FLOAT32_BYTES * batch_rows)
    step = max(1, batches) * batch_rows
    for first in range(0, num_rows, step):
        yield slice(first, min(first + step, num_rows))
