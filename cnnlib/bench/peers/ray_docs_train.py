"""Ray Train's way with TensorFlow, as its guide has it: TensorflowTrainer, Keras 2 `fit`, `to_tf`, two workers.

https://docs.ray.io/en/latest/train/distributed-tensorflow-keras.html
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import json
import sys
import tempfile
import time
from typing import Any

import ray
import tensorflow as tf
from ray import train
from ray.train import RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer
from ray.train.tensorflow.keras import ReportCheckpointCallback


def build_seed_cnn() -> Any:
    """The seed model, layer by layer: 47,090 parameters, in Keras 2."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 3, padding="same"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, padding="same"),
            layers.Conv2D(8, 3, padding="same"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def train_func(config: dict[str, Any]) -> None:
    """One worker: `fit` once per epoch, each with a dataset of its own, as the guide does."""

    class Throughput(tf.keras.callbacks.Callback):  # type: ignore[misc]
        """Puts the epoch's images per second into its logs: after its first batch, before its checkpoint."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """A batch ended; with the first, the reading of the data has begun too."""
            del logs
            if batch == 0:
                self._started = time.perf_counter()
            self._batches = batch

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            """The epoch ended."""
            del epoch
            rows = self._batches * config["batch_size"]
            logs["images_per_s"] = rows / (time.perf_counter() - self._started)

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = build_seed_cnn()
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    dataset = train.get_dataset_shard("train")
    for _ in range(config["epochs"]):
        # batch_size is the global one: Keras splits each batch between the replicas.
        tf_dataset = dataset.to_tf(
            feature_columns="image", label_columns="label", batch_size=config["batch_size"]
        )
        model.fit(tf_dataset, callbacks=[Throughput(), ReportCheckpointCallback()], verbose=2)


def main(data: str, batch_size: int, epochs: int) -> float:
    """Returns images per second of the last epoch, over both workers, from its first batch to its last."""
    ray.init(address="local", num_cpus=4)  # two for the workers, two to read the data
    dataset = ray.data.read_parquet(data)
    with tempfile.TemporaryDirectory() as storage:
        trainer = TensorflowTrainer(
            train_loop_per_worker=train_func,
            train_loop_config={"batch_size": batch_size, "epochs": epochs},
            scaling_config=ScalingConfig(num_workers=2, use_gpu=False),
            run_config=RunConfig(storage_path=storage),
            datasets={"train": dataset},
        )
        result = trainer.fit()
    return float(result.metrics["images_per_s"])


if __name__ == "__main__":
    figure = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    ray.shutdown()  # its log must not follow the figure
    print(json.dumps({"images_per_s": figure}))  # noqa: T201
