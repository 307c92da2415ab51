"""Imports Keras in about half the time: without scikit-learn, and with matplotlib only when somebody plots."""

from __future__ import annotations

import gc
import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PLOTS = ("matplotlib", "matplotlib.pyplot")
_WRAPPED = "sklearn"


@contextmanager
def importing_quickly() -> Iterator[None]:
    """Makes the first import of Keras and TensorFlow in this process quick.

    Keras imports matplotlib.pyplot for `keras.visualization` and scikit-learn for `keras.wrappers` wherever they are
    installed; together they take a quarter of the import of TensorFlow. Here matplotlib.pyplot is imported when Keras
    first plots, and Keras behaves as if scikit-learn was not installed. Both can be imported as usual afterwards.
    What was imported before stays as it is. No other thread may import matplotlib or scikit-learn meanwhile.

    The garbage collector would go through the modules' growing number of objects again and again: it waits, and never
    looks at these objects later, since modules stay.
    """
    if "keras" in sys.modules:
        yield
        return
    collects = gc.isenabled()
    gc.disable()
    left_out = _leave_out()
    try:
        yield
    finally:
        for name, module in left_out.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        gc.freeze()
        if collects:
            gc.enable()


class _Package(types.ModuleType):
    """Stands for a package whose modules are imported as soon as somebody takes something from them."""

    def __getattr__(self, name: str) -> types.ModuleType:
        if name.startswith("__"):  # what the import system asks for
            raise AttributeError(name)
        return _Module(f"{self.__name__}.{name}")


class _Module(types.ModuleType):
    """Stands for a module of a package, and imports it as soon as somebody takes something from it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for each in _PLOTS:
            if isinstance(sys.modules.get(each), (_Package, _Module)):
                del sys.modules[each]
        return getattr(importlib.import_module(self.__name__), name)


def _leave_out() -> dict[str, Any]:
    """Puts stand-ins where the modules are not imported yet, and returns them by the modules' names."""
    left_out: dict[str, Any] = {}
    if not any(name in sys.modules for name in _PLOTS):
        left_out |= {"matplotlib": _Package("matplotlib"), "matplotlib.pyplot": _Module("matplotlib.pyplot")}
    if _WRAPPED not in sys.modules:
        left_out[_WRAPPED] = None  # an import of it raises ModuleNotFoundError
    sys.modules.update(left_out)
    return left_out
