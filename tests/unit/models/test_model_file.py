"""A file that Keras cannot open is refused in one line that says why and what to do."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from cnnlib.errors import ModelError
from cnnlib.models.keras_errors import short_reason, short_text
from cnnlib.models.model_file import open_model_file
from cnnlib.models.probe import predict, probe_images
from tests import own_models

pytestmark = pytest.mark.usefixtures("strategy")

SHAPE = (8, 8, 1)


def build(*more: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE), *more, layers.Flatten(), layers.Dense(3)])


def save(directory: Path, name: str = "mine.keras", *more: keras.Layer) -> Path:
    build(*more).save(directory / name)
    return directory / name


def change_zip(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Rewrites the members of a .keras file; one that becomes None is left out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def as_keras_2(path: Path) -> Path:
    """Makes a .keras file one of Keras 2.15, which names the class of a model in another module."""

    def change(name: str, data: bytes) -> bytes:
        if name == "metadata.json":
            return json.dumps({"keras_version": "2.15.0"}).encode()
        if name != "config.json":
            return data
        config = json.loads(data)
        config |= {
            "module": "keras.src.engine.functional",
            "class_name": "Functional",
            "registered_name": "Functional",
        }
        return json.dumps(config).encode()

    return change_zip(path, change)


def as_keras_2_hdf5(path: Path, old_option: dict[str, int] | None = None) -> Path:
    """Makes an .h5 file one of Keras 2.11, whose depthwise convolutions had an option that Keras 3 refuses."""
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = "2.11.0"
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"] |= old_option or {}
        file.attrs["model_config"] = json.dumps(config)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        open_model_file(path, "mine")
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_keras_2_file_says_that_it_is_one_and_how_to_convert_it(tmp_path: Path) -> None:
    assert refusal(as_keras_2(save(tmp_path))) == (
        "Keras 3 cannot open mine: Keras 2.15.0 wrote it (Could not deserialize class 'Functional' because its parent "
        "module keras.src.engine.functional cannot be imported). Convert it with Keras 2 (pip install tf_keras): "
        "tf_keras.models.load_model('a.keras', compile=False).save('a.h5'), and evaluate a.h5."
    )


def test_keras_2_hdf5_file_is_opened_where_keras_3_reads_it(tmp_path: Path) -> None:
    path = as_keras_2_hdf5(save(tmp_path, "old.h5"))
    assert open_model_file(path, "mine").output_shape == (None, 3)


def test_keras_2_hdf5_file_that_keras_3_does_not_read_says_how_to_convert_it(tmp_path: Path) -> None:
    path = as_keras_2_hdf5(save(tmp_path, "old.h5", layers.DepthwiseConv2D(3)), {"groups": 1})
    assert refusal(path) == (
        "Keras 3 cannot open mine: Keras 2.11.0 wrote it (Unrecognized keyword arguments passed to DepthwiseConv2D: "
        "{'groups': 1}). Convert it: build the same model with Keras 3, then model.load_weights('a.h5') and "
        "model.save('a.keras')."
    )


@pytest.mark.parametrize("name", ["mine.keras", "mine.h5"])
def test_file_that_was_cut_off_says_so(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-500])
    message = refusal(path)
    assert message.startswith("Keras cannot open mine: the file is damaged or cut off (")
    assert message.endswith("Copy or download it again.")
    assert "not found" not in message


def test_file_with_a_flipped_bit_says_so(tmp_path: Path) -> None:
    path = save(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert refusal(path).startswith(
        "Keras cannot open mine: the file is damaged or cut off (Bad CRC-32 for file"
    )


@pytest.mark.parametrize(
    ("data", "head"), [(b"", "b''"), (b"version https://git-lfs.github.com", "b'version https://'")]
)
def test_file_that_is_no_model_shows_how_it_begins(tmp_path: Path, data: bytes, head: str) -> None:
    path = tmp_path / "mine.keras"
    path.write_bytes(data)
    assert refusal(path) == (
        f"Keras cannot open mine: it is no model. Received {len(data)} bytes that begin with {head}, expected a .keras "
        "file (zip) or an .h5 file (HDF5)."
    )


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "mine.weights.h5"
    build().save_weights(path)
    assert refusal(path) == (
        "Keras cannot open mine: it holds weights without their model. Expected the file of model.save."
    )


def test_zip_file_of_something_else_is_no_model(tmp_path: Path) -> None:
    path = change_zip(save(tmp_path), lambda name, data: None if name == "config.json" else data)
    expected = "Keras cannot open mine: it is a zip file without config.json, expected a .keras file."
    assert refusal(path) == expected


@pytest.mark.parametrize(("name", "other"), [("mine.keras", "mine.h5"), ("mine.h5", "mine.keras")])
def test_format_is_known_by_the_bytes_and_not_by_the_name(tmp_path: Path, name: str, other: str) -> None:
    path = save(tmp_path, name).rename(tmp_path / other)
    assert open_model_file(path, "mine").output_shape == (None, 3)


@pytest.mark.parametrize(
    ("build_own", "message"),
    [
        (
            own_models.build_gain,
            "'Gain' is no layer or function of Keras. Expected a model of Keras's own layers.",
        ),
        (own_models.build_lambda, "it has a Lambda layer, whose Python code is not run from a file."),
    ],
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_strangers_code_is_not_run(tmp_path: Path, build_own: Any, message: str, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    build_own(SHAPE, 3).save(path)
    refused = refusal(path)
    assert message in refused
    assert refused.endswith("scored if it was trained here: jobs.train --model package.module:function.")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_softmax_of_tensorflow_is_that_of_keras(tmp_path: Path, suffix: str) -> None:
    model, path = own_models.build_tf_softmax(SHAPE, 3), tmp_path / f"mine{suffix}"
    model.save(path)
    opened = open_model_file(path, "mine")
    assert opened.layers[-1].activation is keras.activations.softmax
    np.testing.assert_allclose(predict(opened, probe_images(SHAPE)), predict(model, probe_images(SHAPE)))


def test_nan_is_found_where_the_outputs_hide_it(tmp_path: Path) -> None:
    hidden = layers.Dense(4, activation=None)
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), hidden, layers.Dense(3)])
    kernel, bias = hidden.get_weights()
    kernel[5, 1:3] = np.nan
    hidden.set_weights([kernel, bias])
    model.save(tmp_path / "mine.keras")
    message = refusal(tmp_path / "mine.keras")
    assert message.startswith("The weights of mine are not numbers: 2 of 256 values of ")
    assert message.endswith(
        "are NaN. Its training diverged; choose an earlier epoch, or train again with a lower learning rate."
    )


def test_reason_is_one_sentence_of_at_most_300_characters() -> None:
    assert short_reason(ValueError("First v2.0 e.g. this. Second one.\nThird.")) == "First v2.0 e.g. this."
    assert short_reason(ValueError("one\nline")) == "one line"
    assert short_reason(KeyError()) == "KeyError"
    assert len(short_reason(ValueError("x" * 1000))) == 300
    assert len(short_text(ValueError("x" * 1000))) == len("ValueError: ") + 300
