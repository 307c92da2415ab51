"""A driver with a Ray of its own, 2 CPUs and a GPU that is not there: `python -m tests.integration.killed_predictors`.

Kills actors that score as predictors do, and looks at the GPUs that tasks see. Prints what it found as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from cnnlib.cluster import local


def main(signal_file: Path) -> dict[str, Any]:
    """Returns what tasks see of GPUs, and what became of actors that were killed once and every time."""
    local.set_environment()
    import ray

    from cnnlib.evaluation.ray_data import quiet_ray_data

    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False)
    quiet_ray_data()
    visible = ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    found = {
        "gpus_of_none": ray.get(visible.options(num_gpus=0).remote()),
        "gpus_of_one": ray.get(visible.options(num_gpus=1).remote()),
        "killed_once": _score(signal_file, forever=False),
        "killed_always": _score(signal_file, forever=True),
    }
    ray.shutdown()
    return found


def _score(signal_file: Path, *, forever: bool) -> int | str:
    """Returns the number of rows that were scored, or the error."""
    import ray
    from ray.data import ActorPoolStrategy

    from cnnlib.cluster.connect import explain_death
    from cnnlib.evaluation.ray_data import RESTARTS
    from cnnlib.evaluation.run import _IF_KILLED

    class Mortal:
        def __call__(self, batch: Any) -> Any:
            if forever or not signal_file.exists():
                signal_file.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return batch

    dataset = ray.data.range(8, override_num_blocks=4).map_batches(
        Mortal, batch_size=None, compute=ActorPoolStrategy(size=1), num_cpus=1, **RESTARTS
    )
    try:
        return sum(1 for _ in dataset.iter_rows())
    except Exception as err:
        return f"{type(explain_death(err, 'A predictor', _IF_KILLED)).__name__}: " + str(
            explain_death(err, "A predictor", _IF_KILLED)
        )


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(Path(sys.argv[1]))) + "\n")
