"""An export is published once and whole: nobody reads half of one, nor a mixture of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnlib.errors import ConflictError, ModelError, StorageError
from cnnlib.export.publication import find_export, publish_export
from cnnlib.storage import files, publish

PLAN = {"plan": "0a1b", "checkpoint": "runs/a", "format": "savedmodel"}


def write_folder(folder: Path, text: str) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(f"graph {text}")
    (folder / "variables" / "variables.index").write_text(f"weights {text}")
    return folder


def stored(output: Path) -> set[str]:
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


def test_a_manifest_names_every_file_with_its_digest(tmp_path: Path) -> None:
    output = tmp_path / "out"
    manifest = publish_export(str(output), write_folder(tmp_path / "local", "a"), PLAN)
    assert manifest["model"].startswith("model-")
    assert set(manifest["files"]) == {
        f"{manifest['model']}/{name}" for name in ("saved_model.pb", "variables/variables.index")
    }
    for name, entry in manifest["files"].items():
        data = (output / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": publish.sha256_hex(data)}
    assert stored(output) == {*manifest["files"], "manifest.json"}
    assert find_export(str(output), "0a1b") == manifest


@pytest.mark.parametrize("damage", ["deleted", "cut off"])
def test_an_export_that_lost_a_file_is_not_taken_for_whole(tmp_path: Path, damage: str) -> None:
    output = tmp_path / "out"
    manifest = publish_export(str(output), write_folder(tmp_path / "local", "a"), PLAN)
    name = sorted(manifest["files"])[1]
    if damage == "deleted":
        (output / name).unlink()
    else:
        (output / name).write_bytes(b"weigh")
    with pytest.raises(
        ModelError, match=rf"{name}, a file of the export, is missing or damaged\. Delete .*manifest"
    ):
        find_export(str(output), "0a1b")
    (output / "manifest.json").unlink()
    again = publish_export(str(output), tmp_path / "local", PLAN)
    assert find_export(str(output), "0a1b") == again == manifest


def test_a_single_file_keeps_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"weights")
    manifest = publish_export(str(tmp_path / "out"), path, PLAN)
    assert manifest["model"].endswith(".tflite")
    assert list(manifest["files"]) == [manifest["model"]]
    assert (tmp_path / "out" / manifest["model"]).read_bytes() == b"weights"


def test_of_two_at_once_the_second_adopts_the_first_and_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = publish_export(str(output), write_folder(tmp_path / "a", "a"), PLAN)
    before = stored(output)
    second = publish_export(str(output), write_folder(tmp_path / "b", "b"), {**PLAN, "latency": 2})
    assert second == first
    assert stored(output) == before
    same = publish_export(str(output), tmp_path / "a", PLAN)
    assert same == first
    assert stored(output) == before


def test_another_export_is_not_replaced(tmp_path: Path) -> None:
    output = tmp_path / "out"
    publish_export(str(output), write_folder(tmp_path / "a", "a"), PLAN)
    before = {name: (output / name).read_bytes() for name in stored(output)}
    other: dict[str, Any] = {**PLAN, "plan": "c2d3"}
    for attempt in (
        lambda: find_export(str(output), other["plan"]),
        lambda: publish_export(str(output), write_folder(tmp_path / "b", "b"), other),
    ):
        with pytest.raises(ConflictError, match="already holds another export, of runs/a as savedmodel"):
            attempt()
    assert {name: (output / name).read_bytes() for name in before} == before


def test_what_a_crash_leaves_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, upload, uploaded = tmp_path / "out", files.upload, []

    def upload_one(path: Path, uri: str) -> None:
        if uploaded:
            raise StorageError("the disk is full")
        uploaded.append(uri)
        upload(path, uri)

    with monkeypatch.context() as patched:
        patched.setattr(files, "upload", upload_one)
        with pytest.raises(StorageError):
            publish_export(str(output), write_folder(tmp_path / "a", "a"), PLAN)
    assert len(stored(output)) == 1
    assert find_export(str(output), "0a1b") is None
    manifest = publish_export(str(output), tmp_path / "a", PLAN)
    assert stored(output) == {*manifest["files"], "manifest.json"}
