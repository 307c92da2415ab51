"""One trial of a search: a training in a process of its own, which is followed by its history in storage.

The training is `python -m jobs.train FILE.toml`, as a person runs it, so it has a lease, resumes, and saves a resume
point when it is stopped. A trial that starts again, because its actor or the whole search was killed, goes on with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cnnlib.config import TrainConfig
from cnnlib.config_fields import replace_fields
from cnnlib.errors import CnnlibError
from cnnlib.recipe_files import format_recipe
from cnnlib.runs.history import EpochRecord
from cnnlib.runs.mending import find_history
from cnnlib.storage import layout

SCORE = "validation_accuracy"
FAILED_SCORE = -1.0
_POLL_S, _END_S = 0.5, 40.0
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """What all trials have in common.

    Attributes:
        config: the recipe; a trial replaces some of its fields.
        address: of the Ray cluster.
        scratch: a folder of this machine, for recipe files and logs.
        folder: where the search was started, which may hold the module of the user's own model.
    """

    config: TrainConfig
    data_uri: str
    runs_uri: str
    address: str
    scratch: str
    folder: str


class TrainingTrial(tune.Trainable):  # type: ignore[misc]
    """Follows a training: each step is an epoch."""

    def setup(self, config: dict[str, Any], task: TrialTask | None = None) -> None:
        """Starts the training, or follows one that is done."""
        assert task is not None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            own = replace_fields(task.config, config)
        except CnnlibError as err:  # such as a momentum together with adam
            self._problem = str(err)
            return
        self._run = layout.run_uri(task.runs_uri, self.trial_id)
        self._epochs = own.epochs
        scratch = Path(task.scratch)
        scratch.mkdir(parents=True, exist_ok=True)
        recipe, self._log = scratch / f"{self.trial_id}.toml", scratch / f"{self.trial_id}.log"
        recipe.write_text(format_recipe(own))
        command = [sys.executable, "-m", "jobs.train", str(recipe), "--data", task.data_uri]
        command += ["--runs", task.runs_uri, "--name", self.trial_id]
        with self._log.open("a") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                # Ray lets workers import from the folder in which their driver runs, which is the training here.
                cwd=task.folder if Path(task.folder).is_dir() else None,
                env={**os.environ, "RAY_ADDRESS": task.address},
                preexec_fn=_end_with_parent,
            )

    def step(self) -> dict[str, Any]:
        """Waits for the next epoch of the training; returns its score, or the lowest one if the training has failed."""
        epoch = self.iteration + 1
        if self._process is None:
            return _failed(epoch, self._problem)
        while True:
            ended = self._process.poll() is not None  # asked first: what it wrote before it ended is there
            record = _find_epoch(self._run, epoch)
            if record is not None:
                return {SCORE: record.validation_accuracy, "epoch": epoch, "done": epoch >= self._epochs}
            if ended:
                return self._end_early(epoch, self._process.returncode)
            time.sleep(_POLL_S)

    def cleanup(self) -> None:
        """Ends the training: it saves a resume point."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves nothing: the training has checkpoints of its own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Loads nothing."""

    def _end_early(self, epoch: int, code: int) -> dict[str, Any]:
        if code == 0:  # early stopping
            records = find_history(self._run)
            return {
                SCORE: records[-1].validation_accuracy, "epoch": epoch - 1, "done": True, "stopped_early": True
            }  # fmt: skip
        lines = self._log.read_text(errors="replace").splitlines()
        reason = next(
            (line for line in reversed(lines) if line.startswith("error: ")), "error: it was killed"
        )
        return _failed(epoch, reason.removeprefix("error: "))


def _failed(epoch: int, problem: str) -> dict[str, Any]:
    return {SCORE: FAILED_SCORE, "epoch": epoch - 1, "done": True, "problem": problem}


def _find_epoch(run: str, epoch: int) -> EpochRecord | None:
    try:
        return next((each for each in find_history(run) if each.epoch == epoch), None)
    except CnnlibError:  # storage is away for a moment; the training has patience of its own
        return None


def find_scores(runs_uri: str, trial_id: str) -> list[float | None]:
    """Returns the score of each epoch of a trial, as its run has them; none if they cannot be read."""
    try:
        return [record.validation_accuracy for record in find_history(layout.run_uri(runs_uri, trial_id))]
    except CnnlibError:
        return []


def _end_with_parent() -> None:
    """Lets the training get SIGTERM when the actor that follows it is killed: nobody would end it then."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def cluster_address() -> str:
    """Returns the address of the cluster that this process is connected to."""
    address: str = ray.get_runtime_context().gcs_address
    return address
