"""1,000 classes on a real cluster: any number of predictors counts the same, and the page stays small."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tests.datasets import make_source, write_dataset_without_ray
from tests.integration.conftest import RunJob
from tests.models import build_linear

SHAPE, NUM_CLASSES, ROWS, SHARD_ROWS = (8, 8, 3), 1000, 300, 50


def test_a_thousand_classes_are_counted_the_same_by_any_number_of_predictors(
    tmp_path: Path, on_cluster: RunJob
) -> None:
    data, model = str(tmp_path / "data"), tmp_path / "linear.keras"
    names = tuple(f"class {index}" for index in range(NUM_CLASSES))
    source = make_source(train_rows=1, test_rows=ROWS, image_shape=SHAPE, class_names=names)
    write_dataset_without_ray(data, source, SHARD_ROWS)
    build_linear(SHAPE, NUM_CLASSES).save(model)
    pairs = []
    for actors in (1, 2):
        reports = tmp_path / f"by-{actors}"
        where = ["--checkpoint", model, "--data", data, "--reports", reports]
        on_cluster("evaluate", *where, "--slice-by", "brightness", "--actors", actors)
        pairs.append(pd.read_parquet(reports / "confusion").drop(columns="report_id"))
        classes = pd.read_parquet(reports / "per_class")
        assert len(classes) == NUM_CLASSES * (1 + 4)
        assert classes[classes["slice"].isna()]["support"].sum() == ROWS
        assert classes[classes["slice"].notna()]["support"].sum() == ROWS
        for page in (reports / "pages").iterdir():
            assert 10_000 < page.stat().st_size < 3_000_000
        predictions = pd.concat(map(pd.read_parquet, (reports / "predictions").rglob("*.parquet")))
        happened = predictions.groupby(["label", "prediction"]).size()
        counted = pairs[-1].set_index(["true", "predicted"])["count"]
        assert counted.sort_index().tolist() == happened.sort_index().tolist()
    pd.testing.assert_frame_equal(*pairs)
