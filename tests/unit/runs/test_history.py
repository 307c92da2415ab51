"""Tests that a history survives Parquet, and that its picture is drawn for any number of epochs."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from cnnlib.runs.history import EpochRecord, decode_history, encode_history
from cnnlib.runs.learning_curves import learning_curves_png


def epoch(number: int, *, validated: bool = True) -> EpochRecord:
    return EpochRecord(
        epoch=number,
        step=number * 100,
        loss=1 / number,
        accuracy=1 - 0.5 / number,
        validation_loss=1.25 / number if validated else None,
        validation_accuracy=1 - 0.625 / number if validated else None,
        learning_rate=1e-3,
        images_per_s=1234.5,
        data_wait=0.03,
        seconds=2.5,
        time=datetime(2026, 11, 22, 6, number % 60, tzinfo=UTC),
        rows=3200,
    )


def test_history_survives_parquet() -> None:
    history = [epoch(1), epoch(2, validated=False)]
    assert decode_history(encode_history(history)) == history


def test_history_without_epochs_survives_parquet() -> None:
    assert decode_history(encode_history([])) == []


def test_pandas_reads_the_history() -> None:
    frame = pd.read_parquet(io.BytesIO(encode_history([epoch(1), epoch(2, validated=False)])))
    assert frame["validation_loss"].isna().tolist() == [False, True]
    assert frame["rows"].tolist() == [3200, 3200]


@pytest.mark.parametrize("num_epochs", [1, 7, 100])
def test_curves_are_a_png_of_one_size(num_epochs: int) -> None:
    png = learning_curves_png([epoch(number + 1) for number in range(num_epochs)])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (1200, 480)


def test_same_history_gives_the_same_picture() -> None:
    history = [epoch(1), epoch(2)]
    assert learning_curves_png(history) == learning_curves_png(history)


def test_validation_is_drawn_in_a_colour_of_its_own() -> None:
    def has_orange(png: bytes) -> bool:
        pixels = np.round(imread(io.BytesIO(png))[..., :3] * 255)
        return bool((pixels == (0xD1, 0x60, 0x3D)).all(axis=-1).any())

    assert has_orange(learning_curves_png([epoch(1), epoch(2)]))
    assert not has_orange(learning_curves_png([epoch(1, validated=False), epoch(2, validated=False)]))


def test_run_that_diverged_still_gives_a_picture() -> None:
    assert learning_curves_png([epoch(1), replace(epoch(2), loss=math.nan, validation_loss=math.inf)])


def test_drawing_leaves_no_global_state_behind() -> None:
    program = (
        "import sys, cnnlib.runs.learning_curves, cnnlib.dataset.preview; "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
