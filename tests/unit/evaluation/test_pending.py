"""Pending checkpoints are found with two listings, and one bad checkpoint does not hide the others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cnnlib.config import TrainConfig
from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.errors import AccessError, CheckpointError, ConfigError, ModelError, NotFoundError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.outcome import LeftOut
from cnnlib.evaluation.pending import PendingTargets, find_pending, mark_done, mark_left_out
from cnnlib.storage import files, layout
from cnnlib.storage.local import LocalPlace
from tests.checkpoints import write_checkpoint_without_model, write_run_record
from tests.datasets import make_source, write_dataset_without_ray

CONFIG = EvaluateConfig()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    uri = str(tmp_path_factory.mktemp("data"))
    return write_dataset_without_ray(uri, make_source()) and load_manifest(uri)


def write_run(runs: Path, name: str, epochs: int, **changes: Any) -> list[str]:
    run = str(runs / name)
    write_run_record(run, TrainConfig(), "any")
    return [write_checkpoint_without_model(run, epoch, **changes) for epoch in range(1, epochs + 1)]


def find(tmp_path: Path, manifest: Manifest, **options: Any) -> PendingTargets:
    return find_pending(str(tmp_path / "runs"), str(tmp_path / "reports"), CONFIG, manifest, **options)


def finish(tmp_path: Path, pending: PendingTargets) -> None:
    """Leaves what an evaluation leaves of its targets: a report, here without its tables, and a mark."""
    for index, target in enumerate(pending.targets):
        report_id = f"{index:016x}"
        files.create_bytes(layout.report_manifest(str(tmp_path / "reports"), report_id), b"{}")
        mark_done(str(tmp_path / "reports"), pending.keys[target.uri], report_id)


def names(pending: PendingTargets) -> list[tuple[str | None, int | None]]:
    return [(target.run, target.epoch) for target in pending.targets]


def test_whole_checkpoints_of_all_runs_are_pending_in_order(tmp_path: Path, manifest: Manifest) -> None:
    write_run(tmp_path / "runs", "seed", 2)
    write_run(tmp_path / "runs", "dnn", 1)
    half = tmp_path / "runs" / "dnn" / "checkpoints" / "epoch-0002"
    half.mkdir()
    (half / "model.keras").write_bytes(b"half")
    write_checkpoint_without_model(str(tmp_path / "runs" / "no-record"), 1)
    pending = find(tmp_path, manifest)
    assert names(pending) == [("dnn", 1), ("seed", 1), ("seed", 2)]
    assert (pending.left_out, pending.num_done, pending.num_other_data) == ([], 0, 0)


def test_a_folder_without_runs_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(NotFoundError, match=r"runs holds no run\. Expected the --runs folder of jobs\.train"):
        find(tmp_path, manifest)


def test_a_look_at_many_checkpoints_with_nothing_to_do_costs_two_listings(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "runs", "long", 290)
    write_run(tmp_path / "runs", "other", 10, class_names=["cat", "dog"])
    first = find(tmp_path, manifest)
    assert (len(first.targets), first.num_other_data) == (290, 10)
    finish(tmp_path, first)
    requests: Counter[str] = Counter()
    for name in ("read_bytes", "find_size", "write_bytes", "create_bytes", "delete", "scan_folders"):
        _count(monkeypatch, name, requests)
    real_list = files.list_objects

    def list_objects(uri: str) -> Any:
        requests["list"] += 1
        return real_list(uri)

    monkeypatch.setattr(files, "list_objects", list_objects)
    second = find(tmp_path, manifest)
    assert (second.targets, second.left_out) == ([], [])
    assert (second.num_done, second.num_other_data) == (290, 10)
    assert dict(requests) == {"list": 2}


def _count(monkeypatch: pytest.MonkeyPatch, name: str, requests: Counter[str]) -> None:
    real = getattr(LocalPlace, name)

    def counted(place: LocalPlace, *args: Any) -> Any:
        requests[name] += 1
        return real(place, *args)

    monkeypatch.setattr(LocalPlace, name, counted)


def test_only_new_checkpoints_are_pending_after_the_others_are_done(
    tmp_path: Path, manifest: Manifest
) -> None:
    write_run(tmp_path / "runs", "seed", 2)
    finish(tmp_path, find(tmp_path, manifest))
    write_checkpoint_without_model(str(tmp_path / "runs" / "seed"), 3)
    assert names(find(tmp_path, manifest)) == [("seed", 3)]
    # Another gate, and other settings, leave something to do for all of them.
    assert len(find(tmp_path, manifest, gate="strict").targets) == 3
    other = find_pending(str(tmp_path / "runs"), str(tmp_path / "reports"), EvaluateConfig(top_k=1), manifest)
    assert len(other.targets) == 3


def test_a_mark_without_its_report_counts_for_nothing(tmp_path: Path, manifest: Manifest) -> None:
    write_run(tmp_path / "runs", "seed", 2)
    finish(tmp_path, find(tmp_path, manifest))
    files.delete(layout.report_manifest(str(tmp_path / "reports"), f"{1:016x}"))
    assert names(find(tmp_path, manifest)) == [("seed", 2)]


def test_a_checkpoint_that_is_replaced_is_pending_again(tmp_path: Path, manifest: Manifest) -> None:
    [uri] = write_run(tmp_path / "runs", "seed", 1)
    finish(tmp_path, find(tmp_path, manifest))
    files.write_bytes(f"{uri}/{layout.CHECKPOINT_MODEL}", b"a model of another size")
    assert names(find(tmp_path, manifest)) == [("seed", 1)]


def test_bad_checkpoints_are_left_out_with_their_reason_and_the_good_ones_are_pending(
    tmp_path: Path, manifest: Manifest
) -> None:
    uris = write_run(tmp_path / "runs", "seed", 5)
    files.write_bytes(f"{uris[0]}/{layout.MANIFEST}", b"{ no JSON")
    files.delete(f"{uris[2]}/{layout.CHECKPOINT_MODEL}")
    files.write_bytes(f"{uris[4]}/{layout.MANIFEST}", b'{"checkpoint_version": 99}')
    pending = find(tmp_path, manifest)
    assert names(pending) == [("seed", 2), ("seed", 4)]
    assert [each.uri for each in pending.left_out] == [uris[0], uris[2], uris[4]]
    reasons = [str(each.error) for each in pending.left_out]
    assert "is not JSON" in reasons[0]
    assert reasons[1].endswith("has a manifest but no model.keras: it was deleted in part.")
    assert "has checkpoint_version 99" in reasons[2]


def test_checkpoints_of_other_classes_or_images_are_not_pending(tmp_path: Path, manifest: Manifest) -> None:
    shape, classes = list(manifest.image_shape), list(manifest.class_names)
    write_run(tmp_path / "runs", "same", 1, class_names=classes, image_shape=shape)
    write_run(tmp_path / "runs", "other-order", 1, class_names=classes[::-1], image_shape=shape)
    write_run(tmp_path / "runs", "fewer", 1, class_names=classes[1:], image_shape=shape)
    write_run(tmp_path / "runs", "larger", 1, class_names=classes, image_shape=[9, 9, 1])
    pending = find(tmp_path, manifest)
    assert names(pending) == [("other-order", 1), ("same", 1)]
    assert (pending.left_out, pending.num_other_data) == ([], 2)


def test_a_class_map_is_for_the_checkpoints_that_have_its_classes(tmp_path: Path, manifest: Manifest) -> None:
    """A folder of runs holds some of the data's own names, some of others and some of other data."""
    coat, bag, sandal = manifest.class_names
    runs, reports = tmp_path / "runs", str(tmp_path / "reports")
    write_run(runs, "german", 1, class_names=["Mantel", bag, "Sandale"])
    write_run(runs, "half", 1, class_names=["Mantel", bag, "Schuh"])
    write_run(runs, "own", 1, class_names=[coat, bag, sandal])
    write_run(runs, "pets", 1, class_names=["cat", "dog", "cow"])
    [nameless] = write_run(runs, "nameless", 1)
    config = EvaluateConfig(class_map=(f"Mantel={coat}", f"Sandale={sandal}"))
    pending = find_pending(str(runs), reports, config, manifest)
    assert [(target.run, target.columns) for target in pending.targets] == [("german", None), ("own", None)]
    assert pending.num_other_data == 1
    half, without_names = sorted(pending.left_out, key=lambda each: "nameless" in each.uri)
    assert "was not trained on the class 'Sandal' of the data" in str(half.error)
    assert without_names.uri == nameless
    assert "class_map needs a checkpoint, whose manifest names its classes" in str(without_names.error)
    finish(tmp_path, pending)
    write_run(runs, "new", 1, class_names=[coat, bag, sandal])
    again = find_pending(str(runs), reports, config, manifest)
    assert names(again) == [("new", 1)], "that no entry fits it is no mistake"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("Mntel=Coat", "'Mntel=Coat' names no class of any checkpoint"),
        ("Mantel=Caot", "'Mantel=Caot' names no class of the data: 'Caot'"),
    ],
)
def test_a_class_map_with_a_typing_error_is_refused(
    tmp_path: Path, manifest: Manifest, entry: str, message: str
) -> None:
    write_run(tmp_path / "runs", "german", 1, class_names=["Mantel", *manifest.class_names[1:]])
    write_run(tmp_path / "runs", "own", 1, class_names=list(manifest.class_names))
    for _ in range(2):
        with pytest.raises(ConfigError, match=message):
            find_pending(
                str(tmp_path / "runs"),
                str(tmp_path / "reports"),
                EvaluateConfig(class_map=(entry,)),
                manifest,
            )


def test_a_checkpoint_of_a_later_version_hides_no_other(tmp_path: Path, manifest: Manifest) -> None:
    write_run(tmp_path / "runs", "seed", 1)
    write_run(tmp_path / "runs", "deep", 1, pixel_range="0-65535")
    write_run(tmp_path / "runs", "odd", 1, outputs="votes")
    pending = find(tmp_path, manifest)
    assert names(pending) == [("seed", 1)]
    deep, odd = (str(each.error) for each in pending.left_out)
    assert "has pixel_range '0-65535'" in deep
    assert "has outputs 'votes'" in odd


def test_what_could_not_be_scored_is_remembered_for_these_bytes(tmp_path: Path, manifest: Manifest) -> None:
    [uri] = write_run(tmp_path / "runs", "seed", 1)
    first = find(tmp_path, manifest)
    reports = str(tmp_path / "reports")
    mark_left_out(reports, first.keys[uri], LeftOut(uri=uri, error=ModelError("its weights are NaN")))
    again = find(tmp_path, manifest)
    assert again.targets == []
    assert [(each.uri, str(each.error), each.remembered) for each in again.left_out] == [
        (uri, "its weights are NaN", True)
    ]
    assert names(find(tmp_path, manifest, retry=True)) == [("seed", 1)]
    files.write_bytes(f"{uri}/{layout.CHECKPOINT_MODEL}", b"repaired, with another size")
    assert names(find(tmp_path, manifest)) == [("seed", 1)]


@pytest.mark.parametrize("error", [CheckpointError("bytes"), AccessError("no permission")])
def test_an_error_that_may_pass_is_not_remembered(
    tmp_path: Path, manifest: Manifest, error: Exception
) -> None:
    [uri] = write_run(tmp_path / "runs", "seed", 1)
    key = find(tmp_path, manifest).keys[uri]
    mark_left_out(str(tmp_path / "reports"), key, LeftOut(uri=uri, error=error))  # type: ignore[arg-type]
    expected = [] if isinstance(error, CheckpointError) else [("seed", 1)]
    assert names(find(tmp_path, manifest)) == expected


def test_what_other_versions_could_not_score_is_tried_again(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    [uri] = write_run(tmp_path / "runs", "seed", 1)
    key = find(tmp_path, manifest).keys[uri]
    mark_left_out(str(tmp_path / "reports"), key, LeftOut(uri=uri, error=ModelError("an unknown layer")))
    monkeypatch.setattr("cnnlib.reports.result._find_version", lambda _: "9.9")
    assert names(find(tmp_path, manifest)) == [("seed", 1)]


def test_a_gate_is_for_the_last_and_the_best_checkpoint_of_each_run(
    tmp_path: Path, manifest: Manifest
) -> None:
    run = str(tmp_path / "runs" / "seed")
    write_run_record(run, TrainConfig(), "any")
    uris = [
        write_checkpoint_without_model(run, epoch, score) for epoch, score in enumerate((0.5, 0.9, 0.7), 1)
    ]
    assert find(tmp_path, manifest, gate="any").last_and_best == {uris[1], uris[2]}
