"""The config of a search over a recipe's values: a frozen, keyword-only dataclass; stdlib only, as config.py."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlib.config_checks import check_above_0, check_at_least


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How values are searched for, without the locations of data and results."""

    trials: int = 16
    """Trials: trainings, each with other values. The first has the recipe's own."""
    minutes: float | None = None
    """Most minutes of this command for its trials. Those that run then are stopped, and the best finished one counts;
    the same command with as many minutes again goes on. None: no limit."""
    first_epochs: int = 1
    """Epochs after which a trial may be stopped first. ASHA goes on with the best third of the trials after so many
    epochs, then after 3 times as many, and so on (Li et al. 2020)."""
    parallel: int = 1
    """Trials at the same time. In local mode they share the cores of this machine."""
    seed: int = 0
    """Seed of the values that are drawn. The seed of the trainings is --seed."""

    def __post_init__(self) -> None:
        check_at_least("tune.trials", self.trials, 1)
        check_at_least("tune.first_epochs", self.first_epochs, 1)
        check_at_least("tune.parallel", self.parallel, 1)
        check_at_least("tune.seed", self.seed, 0)
        if self.minutes is not None:
            check_above_0("tune.minutes", self.minutes)
