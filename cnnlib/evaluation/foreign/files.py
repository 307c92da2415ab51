"""Recognises what is no checkpoint and no model file of Keras 3, but may be taken for one. Reads names, no bytes."""

from __future__ import annotations

from cnnlib.errors import InputError
from cnnlib.storage import files
from cnnlib.storage.uri import join_uri, uri_name

_SAVED_MODEL = "saved_model.pb"


def explain_foreign_file(uri: str) -> str | None:
    """Returns why something cannot be evaluated, if it is a file of another kind or a SavedModel folder; else None."""
    if _is_file(uri):
        kind = uri_name(uri).rpartition(".")[2] if "." in uri_name(uri) else "no suffix"
        return (
            f"{uri} is no model file of Keras. Received a file with {kind!r} as its type, expected .keras or .h5, "
            "a run (RUNS/NAME) or a checkpoint's folder."
        )
    if _is_file(join_uri(uri, _SAVED_MODEL)):
        return (
            f"{uri} is a SavedModel folder, which Keras 3 does not open as a model. Expected a .keras or .h5 file: "
            "open it with the Keras that wrote it, and model.save('a.h5')."
        )
    return None


def _is_file(uri: str) -> bool:
    try:
        return files.find_size(uri) is not None
    except InputError:  # a folder where a file is asked for, or the other way round
        return False
