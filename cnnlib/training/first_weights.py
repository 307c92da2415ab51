"""The file of `--weights`, from the driver that finds it to the workers that begin with it. Loads no TensorFlow itself.

A run needs the file until it has a checkpoint or a resume point; what it goes on from holds all weights.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlib.config import TrainConfig
from cnnlib.errors import ConfigError, InputError, NotFoundError
from cnnlib.log import log_event
from cnnlib.models.zoo.photograph_weights import DOCUMENTATION, PHOTOGRAPH_WEIGHTS
from cnnlib.runs.checkpoints import resolve_checkpoint
from cnnlib.runs.resume_points import find_last_step
from cnnlib.storage import files, publish
from cnnlib.storage.uri import normalize_uri

if TYPE_CHECKING:
    import keras

    from cnnlib.models.freeze import FrozenLayers
    from cnnlib.models.weights import TakenWeights

_HUBS = ("http://", "https://", "hf://", "kaggle://", "gs://")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstWeights:
    """The file whose weights a new run begins with.

    Attributes:
        uri: a whole path or s3://bucket/key.
        sha256: digest of its bytes, as the driver read them: all workers begin with the same.
    """

    uri: str
    sha256: str


def check_weights_uri(config: TrainConfig) -> TrainConfig:
    """Returns the config with the whole URI of its file of weights, which is part of what the run computes.

    Raises:
        ConfigError: it names a hub's weights, and no file.
    """
    given = config.weights
    if given is None:
        return config
    if given == "imagenet" or given.startswith(_HUBS):
        name = PHOTOGRAPH_WEIGHTS.get(config.model)
        file = (
            f"the file {name}, which {DOCUMENTATION} documents"
            if name
            else "the .keras, .weights.h5 or .h5 file"
        )
        raise ConfigError(
            f"weights must be a file: nothing is downloaded from a hub. Received {given!r}. Bring {file}, and give its "
            "path or its s3:// URI."
        )
    return dataclasses.replace(config, weights=normalize_uri(given))


def find_first_weights(config: TrainConfig, run: str, done_epochs: int) -> FirstWeights | None:
    """Reads the file of weights once, for its digest; None if the run does not need it any more, or never did.

    Args:
        done_epochs: epochs of the run that have a checkpoint.

    Raises:
        InputError: there is no such file, and the run has nothing to go on from.
    """
    may_begin_anew = not done_epochs or config.on_nan == "rollback"
    if config.weights is None or not may_begin_anew:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights")
        try:
            files.download(config.weights, path)
        except InputError as err:
            if isinstance(err, NotFoundError) and (done_epochs or find_last_step(run)):
                return None
            _check_no_run(config.weights)
            raise (_no_file(config.weights) if isinstance(err, NotFoundError) else err) from err
        return FirstWeights(uri=config.weights, sha256=publish.sha256_of_file(path))


def take_first_weights(
    model: keras.Model, config: TrainConfig, first: FirstWeights | None
) -> TakenWeights | None:
    """Gives a new model the weights of the file. Does nothing if the config names none.

    Raises:
        ModelError: the file cannot be read, or does not fit the model.
        NotFoundError, DigestError: it was deleted, or replaced, since the driver read it.
    """
    if config.weights is None:
        return None
    if first is None:  # there was a resume point, which turned out to be damaged
        raise _no_file(config.weights)
    from cnnlib.models.weights import take_weights

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights")
        publish.download_checked(first.uri, path, first.sha256)
        return take_weights(model, path, first.uri)


def log_taken(weights: TakenWeights, uri: str | None) -> None:
    """Says which layers have the weights of the file."""
    left = {"first_left": weights.left[0]} if weights.left else {}
    log_event("weights", file=uri, taken=len(weights.taken), left=len(weights.left), **left)


def log_frozen(frozen: FrozenLayers) -> None:
    """Says which layers are not trained."""
    layers = frozen.layers
    log_event("freeze", layers=len(layers), parameters=frozen.parameters, first=layers[0], last=layers[-1])


def _check_no_run(uri: str) -> None:
    """Checks that a URI at which no file is does not name a run or a checkpoint, as `--checkpoint` takes them.

    Raises:
        ConfigError: it does; the message names the file.
    """
    try:
        checkpoint = resolve_checkpoint(uri)
    except InputError:
        return
    raise ConfigError(
        f"weights must be a file, and no run or checkpoint. Received {uri}. Its file is {checkpoint.model_uri}"
    )


def _no_file(uri: str) -> NotFoundError:
    return NotFoundError(
        f"There is no file of weights at {uri}, and the run has nothing else to begin with. Expected a .keras, "
        ".weights.h5 or .h5 file."
    )
