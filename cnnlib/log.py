"""Logs one event as one line, `train step=200 loss=0.412 images_per_s=8120`, on stderr.

No line of the log goes to stdout, which is for results (tables, `--json`). No line shows a password that is in a URI.
"""

from __future__ import annotations

import sys

from cnnlib.redact import redact

_MAX_FLOAT_DIGITS = 5


def log_event(event: str, **fields: object) -> None:
    """Writes one line `event key=value …` to stderr and flushes it.

    >>> format_event("train", step=200, loss=0.41234567)
    'train step=200 loss=0.41235'
    """
    # Not print(): Ray Train replaces it in its workers, which would show every line twice.
    sys.stderr.write(redact(format_event(event, **fields)) + "\n")
    sys.stderr.flush()


def log_text(text: str) -> None:
    """Writes text of several lines to stderr as it is, and flushes it."""
    sys.stderr.write(redact(text.rstrip("\n")) + "\n")
    sys.stderr.flush()


def format_event(event: str, **fields: object) -> str:
    """Returns the line that `log_event` would write. Values with spaces are quoted."""
    return " ".join([event, *(f"{key}={_format_value(value)}" for key, value in fields.items())])


def _format_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{_MAX_FLOAT_DIGITS}g}" if abs(value) < 1000 else f"{value:.0f}"
    text = " ".join(str(value).splitlines())  # one line, also for a value with line breaks
    return f'"{text}"' if " " in text or not text else text
