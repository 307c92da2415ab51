"""An error of Keras in, the sentence of it that helps out: Keras quotes whole configs, in messages of many pages."""

from __future__ import annotations

import re

_MOST_CHARACTERS = 300
_INNERMOST = "Exception encountered:"
_CUSTOM = re.compile(r"(?:Could not locate \w+|Unknown [\w ]+:) '(?P<name>[^']+)'")


def short_reason(err: BaseException) -> str:
    r"""Returns the first sentence that says what is wrong, on one line of at most 300 characters.

    >>> short_reason(TypeError("could not be …\n\nconfig={'a': 1}.\n\nException encountered: No axis 3."))
    'No axis 3.'
    """
    text = str(err).rpartition(_INNERMOST)[2].strip()
    paragraph = " ".join(re.split(r"\n\s*\n|\n```|Full object config:|config=\{", text)[0].split())
    # A full stop ends a sentence only before a capital letter: "v2.0", "keras.ops" and "e.g. this" have others.
    return _cut(re.split(r"(?<=[.!?]) (?=[A-Z])", paragraph, maxsplit=1)[0] or type(err).__name__)


def short_text(err: BaseException) -> str:
    r"""Returns the class of an error and what it says, on one line of some 300 characters.

    For an error that may be the user's own, of which every sentence may help.

    >>> short_text(ValueError("No.\nReally."))
    'ValueError: No. Really.'
    """
    return f"{type(err).__name__}: {_cut(' '.join(str(err).split()))}"


def find_custom_object(err: BaseException) -> str | None:
    """Returns the name of the layer or function that is not part of Keras, if this is why Keras failed; else None.

    >>> find_custom_object(TypeError("Could not locate class 'Scale'. Make sure custom classes …"))
    'Scale'
    """
    found = _CUSTOM.search(str(err))
    return found["name"] if found else None


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
