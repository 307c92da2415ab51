"""What became of the targets of an evaluation: the reports that were written, and the targets that were left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnlib.errors import CnnlibError
from cnnlib.evaluation.target import Target
from cnnlib.reports.write import WrittenReport


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A target without a report, and the reason.

    Attributes:
        uri: the checkpoint's folder or the model file, as far as it is known.
        error: why it could not be scored.
        target: the target; None if it could not even be found.
        remembered: True if an earlier evaluation failed to score the same bytes, and this one did not try.
    """

    uri: str
    error: CnnlibError
    target: Target | None = None
    remembered: bool = False


@dataclass(kw_only=True)
class EvaluationOutcome:
    """The outcome of an evaluation, which grows while it runs.

    Attributes:
        deleted: pending checkpoints that their training has deleted meanwhile: there is nothing to report about.
    """

    written: list[WrittenReport] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    deleted: list[Target] = field(default_factory=list)
