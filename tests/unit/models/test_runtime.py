"""A batch is split into chunks that keep the threads of a CPU busy, and TensorFlow's banners are dropped."""

from __future__ import annotations

import os

import pytest

from cnnlib.models import runtime
from cnnlib.models.runtime import count_chunks
from tests.unit.conftest import THREADS


@pytest.mark.parametrize(
    ("threads", "rows", "chunks"),
    [
        (1, 32, 1),
        (2, 32, 2),
        (2, 31, 1),
        (2, 16, 1),
        (4, 64, 4),
        (3, 64, 2),
        (16, 64, 4),
        (2, 500, 2),
        (4, 1, 1),
    ],
)
def test_chunks_are_equal_and_of_sixteen_rows_or_more(threads: int, rows: int, chunks: int) -> None:
    assert count_chunks(threads, rows) == chunks
    assert rows % chunks == 0


def test_banners_are_dropped_and_other_lines_are_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with runtime._without_banners():
        os.write(
            2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
        )
        os.write(2, b"I0000 00:00:1795657034.548858   12584 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1795657034.548858   12584 real.cc:1] this is an error\n")
        os.write(2, b"no newline at the end")
    assert capfd.readouterr().err == (
        "E0000 00:00:1795657034.548858   12584 real.cc:1] this is an error\nno newline at the end"
    )


def test_lines_are_kept_where_the_import_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with runtime._without_banners():
            os.write(2, b"libtensorflow.so is missing\n")
            raise ImportError("tensorflow")

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "libtensorflow.so is missing\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize(
    ("visible_gpus", "level"), [(None, "3"), ("", "3"), ("-1", "3"), ("0", "2"), ("0,1", "2")]
)
def test_errors_of_tensorflow_are_shown_where_there_is_a_gpu(visible_gpus: str | None, level: str) -> None:
    assert runtime._log_level(visible_gpus) == level


@pytest.mark.usefixtures("strategy")
def test_keras_computes_in_float32_and_channels_last_whatever_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import keras

    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    keras.config.set_floatx("float16")
    keras.config.set_epsilon(0.1)
    keras.config.set_image_data_format("channels_first")
    runtime.load_tensorflow(THREADS)
    found = keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()
    assert found == ("float32", 1e-7, "channels_last")
    assert (os.environ["KERAS_BACKEND"], os.environ["TF_USE_LEGACY_KERAS"]) == ("tensorflow", "0")


@pytest.mark.parametrize(("asked", "visible"), [(False, "-1"), (True, "3")])
def test_process_that_asked_for_no_gpu_sees_none(
    strategy: object, monkeypatch: pytest.MonkeyPatch, asked: bool, visible: str
) -> None:
    # As on a cluster that others started, whose Ray leaves all GPUs visible.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    runtime.load_tensorflow(THREADS, gpus=asked)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
