"""What a run tells TensorBoard: a few figures per epoch, and a trace of some steps. The chief's alone.

TensorFlow writes into a temporary folder, and finished files are uploaded from there: so `s3://` works as a disk does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from cnnlib.log import log_event
from cnnlib.runs.history import EpochRecord
from cnnlib.storage import files, layout
from cnnlib.storage.uri import join_uri
from cnnlib.training.step import TrainCall


def epoch_scalars(record: EpochRecord) -> dict[str, float]:
    """An epoch's figures under the names that the history has; those that it has not are left out."""
    scalars = {
        "loss": record.loss,
        "accuracy": record.accuracy,
        "validation_loss": record.validation_loss,
        "validation_accuracy": record.validation_accuracy,
        "learning_rate": record.learning_rate,
        "images_per_s": record.images_per_s,
        "data_wait": record.data_wait,
    }
    return {name: value for name, value in scalars.items() if value is not None}


def write_scalars(run: str, record: EpochRecord) -> None:
    """Writes an epoch's figures as an event file of its own, which an epoch that is trained again replaces.

    TensorBoard reads the files of a folder in the order of their names, as one history.
    """
    with tempfile.TemporaryDirectory() as directory:
        writer = tf.summary.create_file_writer(directory)
        with writer.as_default(step=record.epoch):
            for name, value in epoch_scalars(record).items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=_scalar_metadata())
        writer.close()
        (path,) = Path(directory).iterdir()
        files.upload(path, layout.run_scalars(run, record.epoch))


class StepTrace:
    """A training call that traces some of its steps for TensorBoard's profiler, and then is what it was.

    A trace holds whole calls: as many as `steps` need, and not the first, which compiles, unless it is the only one.
    """

    def __init__(self, train_call: TrainCall, run: str, steps: int, calls: int) -> None:
        """`calls` of the train call are to come; the first of them is traced only if there is no other."""
        self._train_call = train_call
        self._run = run
        self._steps_left = steps
        self._calls_to_skip = min(1, calls - 1)
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._last: Any = None

    def __call__(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Runs the call, under the profiler while steps are left to trace."""
        if self._steps_left <= 0:
            return self._train_call(images, labels)
        if self._calls_to_skip:
            self._calls_to_skip -= 1
            self._last = self._train_call(images, labels)
            return self._last
        self._start()
        self._last = self._train_call(images, labels)
        self._steps_left -= int(labels.shape[0])
        if self._steps_left <= 0:
            self.close()
        return self._last

    def close(self) -> None:
        """Ends the trace, if one is going on, and uploads it."""
        if self._directory is None:
            return
        self._last.numpy()  # a GPU may still be at it
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
        if self._last is not None:
            self._last.numpy()  # or its end would be in the trace
        self._directory = tempfile.TemporaryDirectory()
        tf.profiler.experimental.start(self._directory.name)


def _scalar_metadata() -> Any:
    # What tf.summary.scalar writes; that one needs the package tensorboard, the files do not.
    metadata = tf.compat.v1.SummaryMetadata
    return metadata(plugin_data=metadata.PluginData(plugin_name="scalars"), data_class=1)  # DATA_CLASS_SCALAR
