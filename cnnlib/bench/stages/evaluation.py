"""Defines the stage `evaluate`: scoring the test images with a loaded model, and the whole command around it."""

from __future__ import annotations

from cnnlib.bench.harness import Comparison
from cnnlib.bench.programs import Finished, Program, reported
from cnnlib.bench.stages.contenders import import_tensorflow
from cnnlib.bench.stages.setting import Setting

_ALL_ROWS = 60_000
_TEST_ROWS = 10_000


def build_evaluate(setting: Setting) -> list[Comparison]:
    """Returns the comparisons of the second pass over the test images, and of a command less its scoring."""
    rows = setting.rows or _ALL_ROWS
    model, threads = f"{{model:{rows}}}", str(setting.threads)
    rate = reported("images_per_s")
    return [
        Comparison(
            stage="evaluate",
            case=f"second pass over {min(rows, _TEST_ROWS)} test images, float32, {threads} threads",
            ours=Program(
                name="ours",
                arguments=("-m", "cnnlib.bench.ours.evaluate", model, f"{{dataset:{rows}}}", threads),
                measurement=rate,
            ),
            peer=Program(
                name="Keras 3 evaluate, defaults",
                arguments=("-m", "cnnlib.bench.peers.keras.evaluate", model, f"{{idx:{rows}}}", threads),
                measurement=rate,
            ),
            unit="images/s",
            target=3.0,
        ),
        Comparison(
            stage="evaluate",
            case=f"{min(rows, _TEST_ROWS)} test images, from command to exit, less the scoring",
            ours=Program(
                name="ours",
                arguments=(
                    *("-m", "jobs.evaluate", "--checkpoint", model, "--data", f"{{dataset:{rows}}}"),
                    *("--reports", "{fresh}", "--json"),
                ),
                measurement=_without_scoring,
            ),
            peer=import_tensorflow(),
            unit="s",
            target=2.2,
            goal="at most",
        ),
    ]


def _without_scoring(done: Finished) -> float:
    """Returns the seconds of `jobs.evaluate` that its one report does not give as those of the scoring."""
    return done.seconds - float(done.result["reports"][0]["seconds"])
