"""Checks that the folders of a job are the same on every machine of a cluster: a local path must be on a shared disk.

Otherwise a worker on another machine finds no data, or writes a checkpoint where nobody looks for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from cnnlib.cluster.machines import ask_other_machines, count_other_machines
from cnnlib.errors import ConfigError, InputError
from cnnlib.storage import files
from cnnlib.storage.uri import is_s3

Ask = Callable[[Callable[[], list[str]]], Mapping[str, list[str]]]


def check_shared_folders(read: Mapping[str, str], written: Mapping[str, str]) -> None:
    """Checks every other machine of the cluster, if there is one. Requires a connection. Leaves nothing behind.

    Args:
        read: by flag, an object that exists.
        written: by flag, a folder in which results will be written.

    Raises:
        ConfigError: a machine does not see what this machine sees.
    """
    folders = {flag: uri for flag, uri in written.items() if not is_s3(uri)}
    objects = {flag: uri for flag, uri in read.items() if not is_s3(uri)}
    if not (folders or objects) or not count_other_machines():
        return
    with contextlib.ExitStack() as probes:
        for flag, uri in folders.items():
            objects[flag] = probes.enter_context(files.hold_probe(uri))
        check_seen(objects, ask_other_machines)


def check_seen(objects: Mapping[str, str], ask: Ask) -> None:
    """Checks that other machines see some objects.

    Args:
        objects: by flag.
        ask: calls a function on every other machine, and returns the results by the machine's address.

    Raises:
        ConfigError: a machine does not see one of them.
    """
    uris = list(objects.values())
    for machine, missing in ask(lambda: _find_missing(uris)).items():
        for flag, uri in objects.items():
            if uri in missing:
                raise ConfigError(
                    f"{flag}: the machine {machine} does not see {uri}, which is on this one. Every machine of a "
                    "cluster must read and write the same folders. Use s3://, or a disk that all of them mount."
                )


def _find_missing(uris: Sequence[str]) -> list[str]:
    return [uri for uri in uris if not _exists(uri)]


def _exists(uri: str) -> bool:
    try:
        return files.find_size(uri) is not None
    except InputError:  # no permission
        return False
