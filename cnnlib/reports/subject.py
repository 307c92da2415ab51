"""What a report is about: a checkpoint, a split of a dataset and the settings. The report's id follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnlib.reports.schema import REPORT_VERSION
from cnnlib.storage import publish
from cnnlib.storage.publish import entry
from cnnlib.storage.uri import uri_name

_ID_DIGITS = 16
SHORT_ID_DIGITS = 8
"""Digits of a report id that people see where space is short."""


_REQUIRED = frozenset({"checkpoint_digest", "dataset_fingerprint", "split", "checkpoint_uri", "dataset_uri"})
_OPTIONAL = frozenset({"run", "model", "recipe", "run_started_at", "trained_at"})
_COUNTS = frozenset({"checkpoint_step", "checkpoint_epoch"})


@dataclass(frozen=True, kw_only=True)
class ReportSubject:
    """One checkpoint, one split of one dataset, and one way to evaluate.

    Attributes:
        checkpoint_digest: sha256 of the model file, in hex.
        dataset_fingerprint: the fingerprint in the dataset's manifest.
        split: name of the split.
        evaluation: every setting that changes a number (pixel range, top k, outputs, …), as JSON values. Settings
            that change only the speed, such as the number of actors, stay out: they would make a second report.
        class_names: name of every class, in the order of the labels.
        checkpoint_uri: where the model file was found.
        dataset_uri: where the dataset was found.
        run: name of the training run; None for a model of another origin.
        model: name of the model with the options that were given, or the name of its file.
        recipe: name of the recipe that the run's config came from; None if it came from none, or is not known.
        run_started_at: when the run was first started, ISO 8601: two runs may have one name; None if not known.
        trained_at: when the checkpoint's epoch ended, ISO 8601; None if not known.
        checkpoint_step: training steps that the checkpoint has completed; None if unknown.
        checkpoint_epoch: epochs that the checkpoint has completed; None if unknown.
    """

    checkpoint_digest: str
    dataset_fingerprint: str
    split: str
    evaluation: Mapping[str, str | int | float | bool | None]
    class_names: tuple[str, ...]
    checkpoint_uri: str
    dataset_uri: str
    run: str | None = None
    model: str | None = None
    recipe: str | None = None
    run_started_at: str | None = None
    trained_at: str | None = None
    checkpoint_step: int | None = None
    checkpoint_epoch: int | None = None

    @property
    def model_label(self) -> str:
        """The model as `--checkpoint` names it, `demo@2`, or the name of its file."""
        if self.run is None:
            return self.model or uri_name(self.checkpoint_uri)
        return self.run if self.checkpoint_epoch is None else f"{self.run}@{self.checkpoint_epoch}"

    @property
    def data_label(self) -> str:
        """The name of the dataset's folder and the split, `fashion-mnist/test`."""
        return f"{uri_name(self.dataset_uri)}/{self.split}"

    def to_columns(self) -> dict[str, str | int | None]:
        """Returns the columns that every row of `overall` and `per_class` repeats, as column -> value."""
        return {
            "run": self.run,
            "model": self.model,
            "checkpoint_uri": self.checkpoint_uri,
            "checkpoint_step": self.checkpoint_step,
            "checkpoint_epoch": self.checkpoint_epoch,
            "checkpoint_digest": self.checkpoint_digest,
            "dataset_uri": self.dataset_uri,
            "dataset_fingerprint": self.dataset_fingerprint,
            "split": self.split,
        }

    def to_document(self) -> dict[str, Any]:
        """Returns the subject as JSON values."""
        return dataclasses.asdict(self) | {"class_names": list(self.class_names)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ReportSubject:
        """Reads what `to_document` returned.

        Raises:
            KeyError, TypeError: an entry is missing, unknown, or of another kind.
        """
        optional = {name: entry(document, name, str, type(None)) for name in _OPTIONAL & document.keys()}
        counts = {name: entry(document, name, int, type(None)) for name in _COUNTS & document.keys()}
        own = {name: entry(document, name, str) for name in _REQUIRED}
        names = tuple(entry(document, "class_names", list))
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"class_names are {names!r}, expected str")
        unknown = document.keys() - _OPTIONAL - _COUNTS - _REQUIRED - {"class_names", "evaluation"}
        if unknown:
            raise TypeError(f"unknown entries {', '.join(sorted(unknown))}")
        evaluation = entry(document, "evaluation", dict)
        return cls(**own, **optional, **counts, class_names=names, evaluation=evaluation)


def report_id(subject: ReportSubject) -> str:
    """Returns the id of a subject's report: 16 hex digits, the same wherever and whenever it is evaluated.

    URIs and run names are left out, so that a copied checkpoint or dataset needs no second evaluation.
    """
    identity = {
        "checkpoint_digest": subject.checkpoint_digest,
        "dataset_fingerprint": subject.dataset_fingerprint,
        "split": subject.split,
        "evaluation": dict(subject.evaluation),
        "report_version": REPORT_VERSION,
        # A file of unknown origin may have the bytes of a checkpoint. Its report is not the report of the run.
        **({} if subject.run is not None else {"origin": "file"}),
    }
    return publish.sha256_hex(publish.canonical_json(identity))[:_ID_DIGITS]
