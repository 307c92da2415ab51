"""Writes JPEG files as Parquet with `read_images` and `write_parquet`, as the guide of Ray Data for images shows.

https://docs.ray.io/en/latest/data/working-with-images.html
"""

from __future__ import annotations

import sys

import ray


def main(folder: str, output: str, side: int) -> None:
    """Writes all images of a folder, stretched to squares of that side."""
    ray.init(address="local")
    dataset = ray.data.read_images(folder, size=(side, side), mode="RGB", include_paths=True)
    dataset.write_parquet(output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
