"""Trains with TensorflowTrainer, Keras 2 `fit` and `to_tf` on two workers, as the guide of Ray Train shows.

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
    """Builds the seed model in Keras 2: 47,090 parameters."""
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
    """Runs one worker. As in the guide, it calls `fit` once per epoch, each time with a new dataset."""

    class Throughput(tf.keras.callbacks.Callback):  # type: ignore[misc]
        """Adds the images per second of the epoch to its logs, without the first batch and the checkpoint."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """Starts the clock after the first batch."""
            del logs
            if batch == 0:  # from here on the data is being read
                self._started = time.perf_counter()
            self._batches = batch

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            """Stops the clock."""
            del epoch
            rows = self._batches * config["batch_size"]
            logs["images_per_s"] = rows / (time.perf_counter() - self._started)

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = build_seed_cnn()
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    dataset = train.get_dataset_shard("train")
    for _ in range(config["epochs"]):
        # The global batch size: Keras splits each batch between the replicas.
        tf_dataset = dataset.to_tf(
            feature_columns="image", label_columns="label", batch_size=config["batch_size"]
        )
        model.fit(tf_dataset, callbacks=[Throughput(), ReportCheckpointCallback()], verbose=2)


def main(data: str, batch_size: int, epochs: int) -> float:
    """Returns the images per second of the last epoch over both workers, from the first batch to the last."""
    ray.init(address="local", num_cpus=4)  # two for the workers, two for reading the data
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
    images_per_s = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    ray.shutdown()  # its log must not follow the last line
    print(json.dumps({"images_per_s": images_per_s}))  # noqa: T201
