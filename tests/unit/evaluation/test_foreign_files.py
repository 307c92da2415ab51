"""A file that is no checkpoint and no model of Keras is refused by its name, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlib.errors import CheckpointError, ModelError
from cnnlib.evaluation.target import find_target


@pytest.mark.parametrize(
    ("name", "kind"), [("net.pt", "'pt'"), ("net.onnx", "'onnx'"), ("net", "'no suffix'")]
)
def test_file_of_another_kind_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"a model")
    with pytest.raises(ModelError) as raised:
        find_target(str(tmp_path / name), None)
    assert str(raised.value) == (
        f"{tmp_path / name} is no model file of Keras. Received a file with {kind} as its type, expected .keras or "
        ".h5, a run (RUNS/NAME) or a checkpoint's folder."
    )


def test_saved_model_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"a graph")
    with pytest.raises(ModelError, match=r"is a SavedModel folder.*model\.save\('a\.h5'\)"):
        find_target(str(tmp_path), None)


def test_folder_of_something_else_is_still_a_run_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        find_target(str(tmp_path), None)


def test_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "NET.KERAS").write_bytes(b"a model")
    assert find_target(str(tmp_path / "NET.KERAS"), None).model == "NET.KERAS"
