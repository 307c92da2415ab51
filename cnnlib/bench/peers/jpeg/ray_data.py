"""Measures Ray Data's documented way: `read_images`, a random crop per image, `iter_batches`.

https://docs.ray.io/en/latest/data/working-with-images.html
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import numpy as np
import ray
from PIL import Image


def main(folder: str, batch_size: int, threads: int, side: int, min_area: float) -> float:
    """Returns the images per second of the second epoch."""
    ray.init(address="local", num_cpus=threads, include_dashboard=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    def crop(row: dict[str, Any]) -> dict[str, Any]:
        rng = np.random.default_rng()
        height, width = row["image"].shape[:2]
        part = np.sqrt(rng.uniform(min_area, 1.0))
        left, top = rng.uniform(0, 1 - part, 2) * (width, height)
        box = (left, top, left + part * width, top + part * height)
        picture = Image.fromarray(row["image"]).resize((side, side), Image.Resampling.BILINEAR, box)
        return {"image": np.asarray(picture)}

    dataset = ray.data.read_images(folder).map(crop)

    def epoch() -> int:
        batches = dataset.iter_batches(batch_size=batch_size, drop_last=True, local_shuffle_buffer_size=1_000)
        return sum(len(batch["image"]) for batch in batches)

    epoch()
    started = time.perf_counter()
    rows = epoch()
    return rows / (time.perf_counter() - started)


if __name__ == "__main__":
    folder, batch_size, threads, side, min_area = sys.argv[1:]
    speed = main(folder, int(batch_size), int(threads), int(side), float(min_area))
    print(json.dumps({"images_per_s": speed}))  # noqa: T201
