"""Defines the errors of this project, in words for the person who can fix the problem.

    CnnlibError
    ├── InputError            the input cannot work                               exit code 2
    │   ├── ConfigError       a flag, field or recipe
    │   ├── NotFoundError     a URI with nothing behind it
    │   ├── AccessError       credentials, permissions, a missing bucket
    │   ├── ConflictError     an output that already holds something else
    │   ├── DigestError       bytes that differ from those their manifest states
    │   ├── DatasetError      a manifest or shard that breaks the dataset contract
    │   ├── ModelError        a model that cannot be built or loaded, or does not fit the data
    │   ├── ModelCodeError    a user's own model whose code is missing here, or has changed
    │   ├── CheckpointError   a checkpoint that is missing or incomplete
    │   ├── ReportError       a report that is missing or ambiguous
    │   └── ResourceError     more resources than the cluster can ever have
    ├── ClusterError          Ray did not start, or the cluster stayed full       exit code 1
    ├── StorageError          storage failed, after its retries                   exit code 1
    ├── RowCountError         too few or too many rows were read or scored        exit code 1
    ├── EvaluationError       predictors failed, after Ray's restarts             exit code 1
    ├── DivergedError         a training whose loss or weights are not finite     exit code 1
    ├── RestartError          workers end on purpose and start again              exit code 1
    └── TrainingError         workers failed, after Ray's restarts                exit code 1

Every error takes one message, so that it survives pickling between Ray processes. A message says what is
wrong, what came, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CnnlibError(Exception):
    """The base of every error that this project raises on purpose."""


class InputError(CnnlibError):
    """The input cannot work. What was finished before, such as an epoch or a report, is kept."""


class ConfigError(InputError):
    """A flag, field or recipe has a value that cannot work."""


class NotFoundError(InputError):
    """A URI has nothing behind it."""


class AccessError(InputError):
    """Storage refuses access: credentials, permissions or a missing bucket."""


class ConflictError(InputError):
    """An output already holds something else."""


class DigestError(InputError):
    """An object's bytes differ from those that its manifest states."""


class DatasetError(InputError):
    """A manifest or a shard breaks the dataset contract."""


class ModelError(InputError):
    """A model cannot be built or loaded, or does not fit the data."""


class ModelCodeError(InputError):
    """The code of a user's own model is missing where it is needed, or builds another model than was trained."""


class CheckpointError(InputError):
    """A checkpoint is missing or incomplete."""


class ReportError(InputError):
    """A report is missing, or its shortened id is ambiguous."""


class ResourceError(InputError):
    """A job requests more resources than the cluster can ever have."""


class ClusterError(CnnlibError):
    """Ray did not start, a cluster had no free resources for too long, or it killed a process too often."""


class StorageError(CnnlibError):
    """Storage failed, also after retries."""


class RowCountError(CnnlibError):
    """An evaluation scored, or a training received, another number of rows than the manifest states."""


class EvaluationError(CnnlibError):
    """Predictors failed, also after Ray restarted them."""


class DivergedError(CnnlibError):
    """The loss or the weights of a training are not finite; a restart would end in the same way."""


class RestartError(CnnlibError):
    """All workers of a training end on purpose, and start again; this is no failure."""


class TrainingError(CnnlibError):
    """Training failed, also after Ray restarted the workers."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the end of an error message: the known name that is closest, and all known names.

    >>> nearest("sed", ["seed", "demo"])
    "Did you mean 'seed'? Known: demo, seed."
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names)}."
