"""Holds the options that all stages share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Holds the options of a benchmark run.

    Attributes:
        threads: number of cores that the programs are pinned to.
        batch_sizes: global batch sizes.
        rows: number of training images; None for the default of each stage.
    """

    threads: int
    batch_sizes: tuple[int, ...]
    rows: int | None
