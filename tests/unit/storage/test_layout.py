"""Object names are a promise: data written by one version must be found by the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlib.storage import layout
from cnnlib.storage.uri import uri_name

DIGEST = "0123456789abcdef" * 4


def test_dataset_names_are_as_promised() -> None:
    assert layout.dataset_manifest("s3://b/fashion") == "s3://b/fashion/manifest.json"
    assert layout.dataset_preview("s3://b/fashion") == "s3://b/fashion/preview.png"
    assert layout.shard_name("train", 7, DIGEST) == "train/part-00007-0123456789abcdef.parquet"


def test_shards_of_this_and_earlier_versions_are_told_from_other_files() -> None:
    for name in ("train/part-00007.parquet", layout.shard_name("train", 7, DIGEST)):
        assert layout.is_shard(name)
        assert layout.strip_digest(name) == "train/part-00007.parquet"
    for name in ("part-00007.parquet", "a/train/part-00007.parquet", "train/part-00007-tid-1-c000.parquet"):
        assert not layout.is_shard(name)
        assert layout.strip_digest(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("my recipe.toml", "my-recipe.toml"),
        ("_best.toml", "best.toml"),
        ("größe (1).toml", "gr-e-1-.toml"),
        ("é", "run"),
    ],
)
def test_a_run_gets_a_name_that_it_may_have_from_any_name_of_a_recipe(text: str, name: str) -> None:
    assert layout.run_name(text) == name
    assert layout.run_name(name) == name


def test_run_names_are_as_promised() -> None:
    run = layout.run_uri("/runs", "seed")
    assert run == "/runs/seed"
    assert layout.run_record(run) == "/runs/seed/run.json"
    assert layout.run_history(run) == "/runs/seed/history.parquet"
    assert layout.run_learning_curves(run) == "/runs/seed/learning-curves.png"
    assert layout.run_checkpoints(run) == "/runs/seed/checkpoints"
    assert layout.checkpoint_uri(run, 1) == "/runs/seed/checkpoints/epoch-0001"
    assert (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_STATE, layout.MANIFEST) == (
        "model.keras",
        "state.npz",
        "manifest.json",
    )


def test_report_names_are_as_promised() -> None:
    assert layout.REPORT_TABLES == ("overall", "per_class", "confusion", "calibration", "activations")
    assert layout.report_table("/r", "overall", "ab12") == "/r/overall/ab12.parquet"
    assert layout.report_leases("/r") == "/r/leases"
    assert layout.report_lease("/r", "ab12") == "/r/leases/ab12.json"
    assert layout.report_predictions("/r", "ab12") == "/r/predictions/report_id=ab12"
    assert layout.predictions_part(3, 40_000, DIGEST) == "part-00003-000000040000-0123456789abcdef.parquet"
    assert layout.report_claim("/r", "ab12") == "/r/claims/ab12.zip"
    assert layout.report_manifests("/r") == "/r/manifests"
    assert layout.report_manifest("/r", "ab12") == "/r/manifests/ab12.json"


@given(epoch=st.integers(0, 10**6))
def test_epoch_is_found_again_in_the_name_of_its_checkpoint(epoch: int) -> None:
    assert layout.find_epoch(uri_name(layout.checkpoint_uri("/runs/seed", epoch))) == epoch


@pytest.mark.parametrize("name", ["epoch-1", "epoch-0001.tmp", "xepoch-0001", "latest", ""])
def test_name_that_no_checkpoint_has_holds_no_epoch(name: str) -> None:
    assert layout.find_epoch(name) is None


@given(index=st.integers(0, 99_998))
def test_shard_names_sort_in_the_order_of_their_index(index: int) -> None:
    assert layout.shard_name("train", index, "f" * 64) < layout.shard_name("train", index + 1, "0" * 64)


def test_names_of_a_search() -> None:
    assert layout.search_settings("s3://b/s") == "s3://b/s/search.json"
    assert layout.search_runs("/s") == "/s/runs"
    assert layout.search_state("/s") == "/s/ray"
    assert layout.search_logs("/s") == "/s/logs"
    assert layout.search_trials("/s") == "/s/trials.parquet"
    assert layout.search_recipe("/s") == "/s/recipe.toml"
