"""Writes files for TensorBoard: the metrics of each epoch, and a trace of some steps for its profiler.

TensorFlow writes into a temporary folder, from which finished files are uploaded, so that `s3://` works as a disk does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import tensorflow as tf

from cnnlib.log import log_event
from cnnlib.runs.history import EpochRecord
from cnnlib.storage import files, layout
from cnnlib.storage.uri import join_uri
from cnnlib.training.observe.observers import Observer
from cnnlib.training.step import TrainCall


class ScalarWriter(Observer):
    """Writes the metrics of each epoch as scalars, into RUN/tensorboard.

    Each epoch has an event file of its own, which an epoch that is trained again replaces. TensorBoard reads the files
    of a folder in the order of their names, as one history.
    """

    def __init__(self, run: str) -> None:
        self._run = run

    def end_epoch(self, record: EpochRecord) -> None:
        """Writes the event file of an epoch."""
        with tempfile.TemporaryDirectory() as directory:
            writer = tf.summary.create_file_writer(directory)
            with writer.as_default(step=record.epoch):
                for name, value in record.metrics().items():
                    tf.summary.write(name, tf.constant(value, tf.float32), metadata=_scalar_metadata())
            writer.close()
            (path,) = Path(directory).iterdir()
            files.upload(path, layout.run_scalars(self._run, record.epoch))


class StepProfiler(Observer):
    """Traces some steps for TensorBoard's profiler, into RUN/profile.

    A trace holds whole calls: as many as `steps` need, without the first call, which compiles, unless it is the only
    one.
    """

    def __init__(self, run: str, steps: int) -> None:
        self._run = run
        self._steps_left = steps
        self._calls_to_skip = 0
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._last_result: tf.Tensor | None = None

    def watch(self, train_call: TrainCall, calls: int) -> TrainCall:
        """Returns a function that runs the call, and traces it while there are steps left to trace."""
        if not calls:
            return train_call
        self._calls_to_skip = min(1, calls - 1)

        def profiled_call(images: tf.Tensor, labels: tf.Tensor, request: float = 0.0) -> tf.Tensor:
            if self._steps_left <= 0:
                return train_call(images, labels, request)
            traced = self._calls_to_skip == 0
            if traced:
                self._start()
            self._last_result = train_call(images, labels, request)
            if traced:
                self._steps_left -= int(labels.shape[0])
            else:
                self._calls_to_skip -= 1
            if self._steps_left <= 0:
                self.close()
            return self._last_result

        return profiled_call

    def close(self) -> None:
        """Ends the trace, if one is going on, and uploads it."""
        if self._directory is None:
            return
        self._wait_for_last_call()
        self._steps_left = 0
        tf.profiler.experimental.stop()
        with self._directory as directory:
            for path in sorted(each for each in Path(directory).rglob("*") if each.is_file()):
                name = path.relative_to(directory).as_posix()
                files.upload(path, join_uri(layout.run_profile(self._run), name))
        self._directory = None
        log_event("profile", trace=layout.run_profile(self._run))

    def _start(self) -> None:
        if self._directory is not None:
            return
        # Otherwise the trace would hold the end of the previous call.
        self._wait_for_last_call()
        self._directory = tempfile.TemporaryDirectory()
        tf.profiler.experimental.start(self._directory.name)

    def _wait_for_last_call(self) -> None:
        if self._last_result is not None:
            self._last_result.numpy()  # a call returns before a GPU has finished its work


def _scalar_metadata() -> tf.compat.v1.SummaryMetadata:
    # tf.summary.scalar would write the same, but it imports the package tensorboard, which may be missing.
    metadata = tf.compat.v1.SummaryMetadata
    return metadata(plugin_data=metadata.PluginData(plugin_name="scalars"), data_class=1)  # DATA_CLASS_SCALAR
