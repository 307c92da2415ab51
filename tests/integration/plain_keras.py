"""Does what a user of plain Keras does, in a process that cannot import this project. test_jobs.py runs it.

python plain_keras.py train IDX_DIR OUTPUT_DIR      trains a small model on 0-1 pixels, saves it, evaluates it
python plain_keras.py evaluate IDX_DIR MODEL_FILE   opens a checkpoint of this project, evaluates it on raw pixels
"""

import gzip
import json
import sys

sys.modules["cnnlib"] = None  # type: ignore[assignment]  # importing it fails from here on

import keras
import numpy as np


def load(directory: str, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(f"{directory}/{prefix}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with open(f"{directory}/{prefix}-labels-idx1-ubyte", "rb") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


def correct_rows(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    return loss, round(accuracy * len(labels))


def train(directory: str, output: str) -> dict[str, object]:
    keras.utils.set_random_seed(1)
    images, labels = load(directory, "train")
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images / 255.0, labels, epochs=2, verbose=0)
    model.save(f"{output}/plain.keras")
    model.save(f"{output}/plain.h5")
    test_images, test_labels = load(directory, "t10k")
    loss, correct = correct_rows(model, test_images / 255.0, test_labels)
    return {"loss": loss, "correct": correct}


def evaluate(directory: str, model_file: str) -> dict[str, object]:
    model = keras.models.load_model(model_file)
    images, labels = load(directory, "t10k")
    loss, correct = correct_rows(model, images.astype("float32"), labels)
    return {"loss": loss, "correct": correct}


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    print(json.dumps({"train": train, "evaluate": evaluate}[command](*paths)))
