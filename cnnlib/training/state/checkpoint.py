"""Saves and restores checkpoints: the model as Keras saves it, and what else the next epoch needs.

`model.keras` holds the model compiled with its loss and accuracy, ready for `evaluate` in plain Keras; unless the
manifest says `opens_in_keras: false`, see `cnnlib.models.round_trip`. If the run keeps an average of the weights, the
file holds the averages. `state.npz` holds the variables of the optimizer, the seeds of random layers, and the raw
weights if the model file holds averages. A run that resumes from both continues as if it had not stopped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from cnnlib.errors import CheckpointError, DigestError, StorageError
from cnnlib.models.keras_errors import short_reason
from cnnlib.models.probe import probe_outputs
from cnnlib.runs.checkpoints import CHECKPOINT_VERSION, Checkpoint
from cnnlib.runs.history import EpochRecord
from cnnlib.shapes import ImageShape
from cnnlib.storage import layout, publish
from cnnlib.storage.uri import uri_name
from cnnlib.training.state.ema import averaged_weights
from cnnlib.training.state.randomness import find_seed_states

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class StagedCheckpoint:
    """The checkpoint of one epoch on the disk of this machine, before it is in storage.

    Attributes:
        folder: holds the files; `publish` deletes it.
        metadata: the entries of the manifest, without the files.
    """

    uri: str
    folder: tempfile.TemporaryDirectory[str]
    metadata: Mapping[str, object]

    def publish(self) -> None:
        """Writes the checkpoint to storage.

        The files come first and the manifest comes last. A crash before the manifest leaves files that nobody reads
        and that the next attempt replaces.
        """
        with self.folder as folder:
            paths = {name: Path(folder, name) for name in (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_STATE)}
            described = {name: _describe(path) for name, path in paths.items()}
            publish.publish_files(self.uri, paths, {**self.metadata, "files": described})


def stage_checkpoint(
    run: str,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    record: EpochRecord,
    metadata: Mapping[str, object],
    *,
    probe_shape: ImageShape | None = None,
) -> StagedCheckpoint:
    """Copies what the checkpoint of one epoch holds to the disk of this machine. Only the chief calls it.

    Args:
        record: the result of the epoch.
        metadata: further entries of the manifest: model name, config, dataset.
        probe_shape: shape of images; the manifest then records the outputs of the model for some, by which the
            evaluation checks a model that it has to build again. None: it records none.

    Raises:
        StorageError: the disk of this machine is full.
    """
    with _scratch_errors():
        folder = tempfile.TemporaryDirectory()
        np.savez(
            Path(folder.name, layout.CHECKPOINT_STATE),
            allow_pickle=False,
            **copy_state(state_groups(model, optimizer)),
        )
    with averaged_weights(model, optimizer):
        with _scratch_errors():
            model.save(Path(folder.name, layout.CHECKPOINT_MODEL))
        probed = {"probe_outputs": probe_outputs(model, probe_shape)} if probe_shape else {}
    scored_on = "accuracy" if record.validation_accuracy is None else "validation_accuracy"
    return StagedCheckpoint(
        uri=layout.checkpoint_uri(run, record.epoch),
        folder=folder,
        metadata={
            **metadata,
            **probed,
            "checkpoint_version": CHECKPOINT_VERSION,
            "run": uri_name(run),
            "epoch": record.epoch,
            "step": record.step,
            "scored_on": scored_on,
            "score": getattr(record, scored_on),
            "record": record.to_document(),
        },
    )


def restore_checkpoint(
    checkpoint: Checkpoint, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> None:
    """Restores the weights and the state of a checkpoint into a built model and a built optimizer.

    Every worker calls it.

    Raises:
        CheckpointError: its files do not match its manifest, or it belongs to another model.
    """
    with tempfile.TemporaryDirectory() as directory:
        model_path, state_path = (
            Path(directory, layout.CHECKPOINT_MODEL),
            Path(directory, layout.CHECKPOINT_STATE),
        )
        try:
            publish.download_checked(checkpoint.model_uri, model_path, checkpoint.digest)
            publish.download_checked(checkpoint.state_uri, state_path, checkpoint.state_digest)
        except DigestError as err:
            raise CheckpointError(f"{err} Delete that checkpoint to continue from the one before.") from err
        try:
            model.load_weights(model_path)
        except ValueError as err:
            raise CheckpointError(f"{checkpoint.uri} belongs to another model: {short_reason(err)}") from err
        with np.load(state_path) as state:
            for group, variables in state_groups(model, optimizer).items():
                assign_group(group, variables, state, checkpoint.state_uri)


def copy_state(groups: Mapping[str, Sequence[keras.Variable]]) -> dict[str, Array]:
    """Copies the values of variables into host memory, named by their group and their index in it."""
    return {
        f"{group}/{index:04d}": np.array(keras.ops.convert_to_numpy(variable))
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def state_groups(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> dict[str, Sequence[keras.Variable]]:
    """Returns the variables of a run that are not in its model file: see the docstring of this file."""
    return {
        "optimizer": optimizer.variables,
        "seed": find_seed_states(model),
        "raw": model.trainable_variables if optimizer.use_ema else [],
    }


def assign_group(
    group: str, variables: Sequence[keras.Variable], state: Mapping[str, Array], state_uri: str
) -> None:
    """Sets the variables of a group to what `copy_state` returned.

    Raises:
        CheckpointError: the state has another number of values, or others in shape. No variable has changed.
    """
    names = sorted(name for name in state if name.startswith(f"{group}/"))
    shapes = [tuple(state[name].shape) for name in names]
    if shapes != [tuple(variable.shape) for variable in variables]:
        raise CheckpointError(
            f"The {group} variables in {state_uri} differ from this run's in number or shape."
        )
    for name, variable in zip(names, variables, strict=True):
        variable.assign(state[name])


@contextmanager
def _scratch_errors() -> Iterator[None]:
    """Translates an OSError about the folder for temporary files into one that names it."""
    try:
        yield
    except OSError as err:
        raise StorageError(
            f"A checkpoint cannot be put together in {tempfile.gettempdir()}, on the disk of this machine: {err}. Free "
            "space there, or set TMPDIR to another folder, on every machine."
        ) from err


def _describe(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": publish.sha256_of_file(path)}
