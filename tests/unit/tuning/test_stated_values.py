"""What would let every trial with a value fail is refused before the search."""

from __future__ import annotations

import pytest

from cnnlib.config import TrainConfig
from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.errors import ConfigError, InputError
from cnnlib.tuning.ranges import parse_ranges
from cnnlib.tuning.stated import check_stated_values
from tests.datasets import write_dataset_without_ray

CONFIG = TrainConfig(batch_size=2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    uri = str(tmp_path_factory.mktemp("stated") / "data")
    write_dataset_without_ray(uri)
    return load_manifest(uri)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (["model.width=8..16"], r"seed-cnn has no such option\. Received --model\.width 8"),
        (["model=seed-cnn,nonsense"], "Unknown model 'nonsense'"),
        (["model=dnn,resnet", "model.kernel=3,5"], r"has no such option\. Received --model\.kernel 3"),
        (["model=resnet", "model.depth=20..32"], r"such as 21: .* be: model\.depth=20,26,32$"),
        (["batch-size=2,100000"], "batch_size=100000 is more than the [0-9]+ rows of 'train'"),
    ],
)
def test_a_value_that_works_in_no_trial_is_refused(
    manifest: Manifest, ranges: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_stated_values(CONFIG, parse_ranges(ranges, CONFIG), manifest)


@pytest.mark.parametrize(
    "ranges",
    [
        ["model.dropout=0..0.5", "batch-size=1,2"],
        ["model=seed-cnn,dnn", "model.units=32,64 32"],
        ["model=seed-cnn,resnet", "model.depth=none,20"],  # seed-cnn with none, resnet with both
        ["augment.shift=0..2", "model.width=4..9", "model=resnet,small-cnn"],
        ["model=my.models:build,dnn", "learning-rate=1e-3..1e-1"],
    ],
)
def test_values_that_work_in_some_trials_are_not_refused(manifest: Manifest, ranges: list[str]) -> None:
    check_stated_values(CONFIG, parse_ranges(ranges, CONFIG), manifest)


def test_batches_of_a_range_that_the_workers_cannot_share_are_refused(manifest: Manifest) -> None:
    config = TrainConfig(batch_size=2, workers=2)
    with pytest.raises(
        ConfigError, match=r"such as 3: batch_size must divide by workers.* be: batch_size=2,4$"
    ):
        check_stated_values(config, parse_ranges(["batch-size=2..4"], config), manifest)
    check_stated_values(config, parse_ranges(["batch-size=2,4"], config), manifest)
