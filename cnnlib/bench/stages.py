"""The stages: which of our programs stands against which peers, and the ratio it is to reach."""

from __future__ import annotations

from cnnlib.bench.harness import Comparison, Peer
from cnnlib.errors import ConfigError, nearest

_STEPS = 150


def build_stage(name: str, threads: int) -> list[Comparison]:
    """The comparisons of a stage.

    Raises:
        ConfigError: there is no such stage; the message names the nearest.
    """
    if name not in STAGES:
        raise ConfigError(f"Unknown stage {name!r}. {nearest(name, STAGES)}")
    return STAGES[name](threads)


def _build_step(threads: int) -> list[Comparison]:
    """Training steps of the seed model in one process, against plain Keras 3 with XLA on and off."""
    return [
        Comparison(
            stage="step",
            case=f"seed-cnn, batch {batch_size}, float32, {threads} threads",
            ours=("cnnlib.bench.our_step", str(batch_size), str(_STEPS), str(threads)),
            peer=Peer(
                name=f"Keras 3 fit, XLA {'on' if jit else 'off'}",
                command=(
                    "cnnlib.bench.peers.keras_fit",
                    str(batch_size),
                    str(_STEPS),
                    str(threads),
                    str(int(jit)),
                ),
            ),
            target=1.4,
        )
        for batch_size in (32, 64)
        for jit in (False, True)
    ]


STAGES = {"step": _build_step}
