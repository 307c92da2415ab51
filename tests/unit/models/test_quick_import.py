"""Keras is imported without scikit-learn and matplotlib; both work afterwards. Each test has a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from cnnlib.models.quick_import import importing_quickly

PRELUDE = """
import gc, sys
from cnnlib.models.quick_import import importing_quickly
"""


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_what_is_imported_inside_is_the_real_module_as_soon_as_it_is_used() -> None:
    run("""
        with importing_quickly():
            import matplotlib.pyplot as plt
            from matplotlib import patches
            import matplotlib
            try:
                import sklearn
            except ImportError:
                sklearn = None
            assert not gc.isenabled()
            kept = matplotlib
        assert sklearn is None and gc.isenabled() and gc.get_freeze_count() > 0
        assert not any(name.startswith(("matplotlib", "sklearn")) for name in sys.modules)
        assert issubclass(plt.Figure, object) and patches.Circle((0, 0), 1).radius == 1
        from matplotlib.figure import Figure
        assert plt.Figure is Figure and kept.patches.Circle is patches.Circle
        import matplotlib, sklearn.metrics
        assert matplotlib.__version__ and sklearn.metrics.accuracy_score([1, 0], [1, 1]) == 0.5
    """)


def test_a_module_that_is_used_inside_is_imported_for_real() -> None:
    run("""
        with importing_quickly():
            import matplotlib.pyplot as plt
            figure = plt.Figure
            import matplotlib.colors
        from matplotlib.figure import Figure
        assert figure is Figure and matplotlib.colors.to_hex("red") == "#ff0000"
    """)


def test_what_was_imported_before_stays() -> None:
    run("""
        import matplotlib.figure, sklearn
        gc.disable()
        before = sys.modules["matplotlib"], sys.modules["sklearn"]
        with importing_quickly():
            from matplotlib import pyplot
            import sklearn
            assert (sys.modules["matplotlib"], sys.modules["sklearn"]) == before
        assert (sys.modules["matplotlib"], sys.modules["sklearn"]) == before and not gc.isenabled()
        assert pyplot.Figure is matplotlib.figure.Figure
    """)


def test_nothing_stays_hidden_after_an_import_that_failed() -> None:
    run("""
        try:
            with importing_quickly():
                raise ImportError("tensorflow")
        except ImportError:
            pass
        import matplotlib.pyplot, sklearn
        assert gc.isenabled() and matplotlib.pyplot.Figure and sklearn.__version__
    """)


def test_keras_plots_and_knows_no_scikit_learn() -> None:
    run("""
        from pathlib import Path
        from tempfile import TemporaryDirectory
        from cnnlib.models.runtime import load_tensorflow
        load_tensorflow(1)
        assert not any(name.startswith(("matplotlib", "sklearn")) for name in sys.modules)
        import keras, numpy as np
        with TemporaryDirectory() as folder:
            picture = Path(folder) / "gallery.png"
            keras.visualization.plot_image_gallery(np.zeros((4, 8, 8, 3), "uint8"), rows=2, cols=2, path=str(picture))
            assert picture.stat().st_size > 100
        import matplotlib, sklearn
    """)


def test_where_keras_is_there_already_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", sys)
    before = dict(sys.modules)
    with importing_quickly():
        assert sys.modules == before
