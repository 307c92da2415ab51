"""The config of a search for the largest batch: a frozen, keyword-only dataclass; stdlib only, as config.py."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlib.config_checks import check_above_0, check_at_least


@dataclass(frozen=True, kw_only=True)
class LargestBatchConfig:
    """Which batches are tried, and the memory that they may take."""

    memory_gib: float | None = None
    """Most memory of one worker in GiB: of its process, TensorFlow included, or on a GPU what TensorFlow takes there.
    None: 90 % of what is free on this machine, divided by the number of workers; on a GPU, all that it has."""
    highest: int = 4096
    """Most rows of one worker that are tried; never more than there are training rows."""
    steps: int = 3
    """Training steps of each batch whose time is taken, after one that compiles."""

    def __post_init__(self) -> None:
        if self.memory_gib is not None:
            check_above_0("memory_gib", self.memory_gib)
        check_at_least("highest", self.highest, 1)
        check_at_least("steps", self.steps, 1)
