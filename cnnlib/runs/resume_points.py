"""Finds and deletes a run's resume points: its state inside an epoch, from which a run that was interrupted goes on.

A resume point is a file with the state and, written last, a manifest. It is younger than the last checkpoint: once its
epoch has a checkpoint, nobody needs it, and it is deleted. Its name bears a random text, so no attempt replaces the
files of another. Only the chief of the training that holds the run's lease writes or deletes here.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cnnlib.errors import CnnlibError, InputError, NotFoundError
from cnnlib.log import log_event
from cnnlib.runs.checkpoints import Checkpoint, list_checkpoints
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri, uri_name

_VERSION = 1


@dataclass(frozen=True)
class EpochPart:
    """The steps of an epoch that are done.

    Attributes:
        epoch: the number of the epoch, from 1.
        steps: how many of its steps are done.
        loss_sum: the sum of the losses over their rows, of all workers.
        correct: how many of their rows were predicted right.
        seconds: the time that they took.
    """

    epoch: int
    steps: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """A resume point that is complete.

    Attributes:
        step: training steps since the run began.
        part: what is done of its epoch.
        digest: sha256 (hex) of the state.
    """

    uri: str
    step: int
    part: EpochPart
    digest: str

    @property
    def state_uri(self) -> str:
        """URI of the weights, the state of the optimizer and that of the random layers."""
        return layout.resume_point_state(self.uri)


def write_resume_point(run: str, step: int, part: EpochPart, state_path: Path) -> str:
    """Publishes a resume point and returns its URI. A crash at any line leaves it incomplete, and nobody reads it.

    Args:
        state_path: the local file of the state.
    """
    uri = layout.resume_point(run, step, secrets.token_hex(4))
    manifest = {
        "resume_point_version": _VERSION,
        "run": uri_name(run),
        "step": step,
        "part": asdict(part),
        "state": {"bytes": state_path.stat().st_size, "sha256": publish.sha256_of_file(state_path)},
    }
    files.upload(state_path, layout.resume_point_state(uri))
    publish.write_manifest(uri, manifest)
    return uri


def find_resume_point(uri: str) -> ResumePoint | None:
    """Reads the resume point of a manifest; None if there is no manifest.

    Raises:
        InputError: its manifest is damaged, or another version of this project wrote it.
    """
    try:
        document = publish.read_manifest(uri)
    except NotFoundError:
        return None
    if document.get("resume_point_version") != _VERSION:
        raise InputError(
            f"{uri} has resume_point_version {document.get('resume_point_version')!r}. This version reads {_VERSION}."
        )
    try:
        return ResumePoint(
            uri=uri,
            step=document["step"],
            part=EpochPart(**document["part"]),
            digest=document["state"]["sha256"],
        )
    except (KeyError, TypeError) as err:
        raise InputError(
            f"The manifest of {uri} has a missing or invalid entry: {type(err).__name__}: {err}."
        ) from err


def choose_resume_point(run: str, checkpoints: Sequence[Checkpoint]) -> ResumePoint | None:
    """Returns the newest resume point after the last checkpoint whose bytes are what its manifest states.

    One that is damaged is named in the log and left out: the one before it serves, or the checkpoint.

    Args:
        checkpoints: all complete checkpoints of the run, by epoch.

    Returns:
        None: the run goes on from its last checkpoint, or from its beginning.
    """
    epoch, step = (checkpoints[-1].epoch, checkpoints[-1].step) if checkpoints else (0, 0)
    for uri in reversed([each for each in _list(run) if each.endswith(".json")]):
        try:
            point = find_resume_point(uri)
            if point is None or point.part.epoch != epoch + 1 or point.step != step + point.part.steps:
                continue
            with tempfile.TemporaryDirectory() as folder:
                publish.download_checked(point.state_uri, Path(folder, "state.npz"), point.digest)
        except InputError as err:
            log_event("resume-point", note=f"left out: {err}")
        else:
            return point
    return None


def find_last_step(run: str) -> int:
    """Returns the step of the newest checkpoint or resume point of a run, judged by names and manifests; 0 without any.

    >>> find_last_step("no/such/run")
    0
    """
    checkpoints = list_checkpoints(run)
    points = [layout.find_step(uri_name(uri)) or 0 for uri in _list(run) if uri.endswith(".json")]
    return max([each.step for each in checkpoints[-1:]] + points, default=0)


def delete_resume_points(run: str, keep: Collection[str] = ()) -> None:
    """Deletes the resume points of a run, complete or not, but for those whose URIs are given.

    A manifest goes before its state, so a crash in between leaves nothing that looks complete. What cannot be deleted
    is named in the log, and harms nobody.
    """
    kept = {each for uri in keep for each in (uri, layout.resume_point_state(uri))}
    for uri in sorted(set(_list(run)) - kept):
        try:
            files.delete(uri)
        except CnnlibError as err:
            log_event("resume-point", note=f"{uri} was not deleted: {err}")


def _list(run: str) -> list[str]:
    """Returns the URIs of all manifests and states, by step."""
    folder = layout.run_resume_points(run)
    steps = {name: layout.find_step(name) for name in files.list_files(folder)}
    found = sorted((step, name) for name, step in steps.items() if step is not None)
    return [join_uri(folder, name) for _, name in found]
