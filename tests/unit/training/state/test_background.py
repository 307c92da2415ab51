"""What is written in the background comes one after the other, and no error of it is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from cnnlib.errors import StorageError
from cnnlib.runs.resume_points import EpochPart
from cnnlib.storage import files, layout
from cnnlib.training.state.background import BackgroundWriter
from cnnlib.training.state.resume_point import ResumePointWriter

WAIT_S = 10.0


def fail() -> None:
    raise StorageError("S3 is away")


def test_one_thing_is_written_at_a_time_in_the_order_of_the_calls() -> None:
    writer, written, go = BackgroundWriter(), [], threading.Event()

    def slow() -> None:
        assert go.wait(WAIT_S)
        written.append("first")

    writer.start(slow, "first")
    assert writer.is_busy()
    assert written == []
    threading.Timer(0.1, go.set).start()
    writer.start(lambda: written.append("second"), "second")
    assert written[0] == "first"
    writer.wait()
    assert written == ["first", "second"]
    assert not writer.is_busy()


@pytest.mark.parametrize("then", ["wait", "start"])
def test_an_error_is_raised_once_at_the_next_call(then: str) -> None:
    writer, written = BackgroundWriter(), []
    writer.start(fail, "fails")
    with pytest.raises(StorageError, match="S3 is away"):
        writer.wait() if then == "wait" else writer.start(lambda: written.append("next"), "next")
    writer.wait()
    assert written == [], "nothing is written after what failed"


def test_a_resume_point_never_overtakes_the_checkpoint_before_it(tmp_path: Path) -> None:
    background, go = BackgroundWriter(), threading.Event()
    points = ResumePointWriter(str(tmp_path), background)
    folder, state = layout.run_resume_points(str(tmp_path)), {"weights/0000": np.zeros(1)}

    background.start(lambda: go.wait(WAIT_S) and None, "checkpoint")
    points.write(state, 10, EpochPart(2, 10), 0.0)
    assert files.list_objects(folder) == [], "it is skipped while storage is busy"
    threading.Timer(0.1, go.set).start()
    points.write(state, 20, EpochPart(2, 20), 0.0, must_be=True)
    assert go.is_set(), "the last one waits for the checkpoint"
    background.wait()
    assert len(files.list_objects(folder)) == 2


def test_no_resume_point_follows_a_checkpoint_that_could_not_be_stored(tmp_path: Path) -> None:
    background = BackgroundWriter()
    points = ResumePointWriter(str(tmp_path), background)
    background.start(fail, "checkpoint")
    with pytest.raises(StorageError):
        points.write({"weights/0000": np.zeros(1)}, 20, EpochPart(2, 20), 0.0, must_be=True)
    assert files.list_objects(str(tmp_path)) == []
