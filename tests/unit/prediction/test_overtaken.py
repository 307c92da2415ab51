"""Of two predictions of different models into one folder, the second is refused and leaves no part of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnlib.config import TrainConfig
from cnnlib.errors import ConflictError, DatasetError
from cnnlib.predict_config import PredictConfig
from cnnlib.prediction import chunks, run
from cnnlib.prediction.predictor import Part, build_table
from cnnlib.prediction.run import PredictPlan, plan_prediction, predict
from cnnlib.storage import files, publish
from cnnlib.storage.parquet import parquet_bytes
from tests.checkpoints import write_checkpoint_without_model, write_run_record
from tests.image_files import write_folders


def store(parts: tuple[Part, ...]) -> None:
    """Stores what the predictors do, without a model."""
    for part in parts:
        read = part.chunk.read()
        probabilities = np.tile(np.float32([[0.3, 0.7]]), (len(read.images), 1))
        files.create_bytes(part.uri, parquet_bytes(build_table(read, probabilities, ("cat", "dog"), 2)))


def test_finished_predictions_that_lost_a_part_say_how_to_get_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_IMAGES", 4)
    monkeypatch.setattr(run, "_run", lambda plan: store(plan.missing))
    images, output, folder = (
        write_folders(tmp_path / "images", rows=8),
        tmp_path / "out",
        tmp_path / "runs" / "a",
    )
    write_run_record(str(folder), TrainConfig(), "any")
    write_checkpoint_without_model(str(folder), 1, class_names=["cat", "dog"], image_shape=[8, 8, 1])

    def plan() -> PredictPlan:
        return plan_prediction(PredictConfig(), str(folder), str(images), str(output))

    predict(plan())
    assert predict(plan())["finished_before"]
    part = sorted(output.glob("part-*"))[1]
    part.unlink()
    with pytest.raises(
        DatasetError, match=rf"{part.name}, a part of finished .* Delete the manifest _manifest\.json"
    ):
        plan()
    (output / "_manifest.json").unlink()
    assert predict(plan())["new_images"] == 4
    assert part.exists()


@pytest.mark.parametrize("published_at", ["while the other predicts", "when the other publishes"])
def test_the_slower_one_takes_its_parts_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published_at: str
) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_IMAGES", 4)
    images, output = write_folders(tmp_path / "images", rows=8), tmp_path / "out"
    plans: dict[str, PredictPlan] = {}
    for name in ("quick", "slow"):
        folder = str(tmp_path / "runs" / name)
        write_run_record(folder, TrainConfig(), "any")
        write_checkpoint_without_model(folder, 1, class_names=["cat", "dog"], image_shape=[8, 8, 1])
        plans[name] = plan_prediction(PredictConfig(), folder, str(images), str(output))
    real_write = publish.write_manifest

    def overtake() -> None:
        monkeypatch.setattr(publish, "write_manifest", real_write)
        monkeypatch.setattr(run, "_run", lambda plan: store(plan.missing))
        assert predict(plans["quick"])["images"] == 16

    def run_slowly(plan: PredictPlan) -> None:
        store(plan.missing[:2])
        if published_at == "while the other predicts":
            overtake()
        store(plan.missing[2:])

    def write_late(uri: str, document: dict[str, object]) -> bool:
        overtake()
        store(plans["slow"].missing)  # as far as its predictors are still at work
        return real_write(uri, document)

    monkeypatch.setattr(run, "_run", run_slowly)
    if published_at == "when the other publishes":
        monkeypatch.setattr(publish, "write_manifest", write_late)
    with pytest.raises(ConflictError, match=r"already holds other predictions, of .*/runs/quick"):
        predict(plans["slow"])
    own = {Path(part.uri).name for part in plans["quick"].parts}
    assert {path.name for path in output.iterdir()} == {"_manifest.json", *own}
