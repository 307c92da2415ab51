"""A new run begins with the weights of a file, checked before any worker starts. One that goes on needs none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cnnlib.config import TrainConfig
from cnnlib.errors import ConfigError, ConflictError, DigestError, InputError, ModelError, NotFoundError
from cnnlib.model_options import ModelOptions
from cnnlib.models.zoo.entries import PHOTOGRAPH, ZOO
from cnnlib.models.zoo.photograph_weights import PHOTOGRAPH_WEIGHTS
from cnnlib.storage import publish
from cnnlib.training.first_weights import FirstWeights, check_weights_uri, take_first_weights
from cnnlib.training.launch import check_model
from cnnlib.training.plan import RunPlan, plan_run
from jobs import train
from tests.checkpoints import write_checkpoint_without_model, write_run_record
from tests.datasets import write_dataset_without_ray

CONFIG = TrainConfig(
    batch_size=8, epochs=2, model="seed-cnn", model_options=ModelOptions(filters=(4, 2), units=(5,))
)
BODY = 3  # layers with weights before the head


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A dataset of 8x8x1 in three classes."""
    write_dataset_without_ray(str(tmp_path / "data"))
    return str(tmp_path / "data")


@pytest.fixture
def weights(tmp_path: Path, strategy: object) -> str:
    """The file of a model like that of CONFIG, of four classes."""
    from cnnlib.models.registry import build_model

    path = tmp_path / "first.keras"
    build_model(CONFIG.model, (8, 8, 1), 4, CONFIG.model_options).save(path)
    return str(path)


def plan(data: str, config: TrainConfig, name: str = "run") -> RunPlan:
    return plan_run(config, data, str(Path(data).parent / "runs"), name)


def test_plan_states_the_digest_of_the_file_and_its_whole_path(
    data: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(weights).parent)
    planned = plan(data, dataclasses.replace(CONFIG, weights="first.keras"))
    digest = publish.sha256_of_file(Path(weights))
    assert planned.first_weights == FirstWeights(uri=weights, sha256=digest)
    assert planned.config.weights == weights
    assert plan(data, CONFIG).first_weights is None


def test_file_that_is_missing_is_refused_before_anything_starts(data: str) -> None:
    with pytest.raises(
        NotFoundError, match=r"There is no file of weights at /no/such\.keras, and the run has nothing"
    ):
        plan(data, dataclasses.replace(CONFIG, weights="/no/such.keras"))


def test_run_in_place_of_a_file_is_refused_and_the_file_is_named(data: str, tmp_path: Path) -> None:
    run = str(tmp_path / "runs" / "first")
    uris = [write_checkpoint_without_model(run, epoch, score=score) for epoch, score in ((1, 0.9), (2, 0.5))]
    for given, uri in ((run, uris[1]), (f"{run}@best", uris[0]), (uris[0], uris[0])):
        with pytest.raises(ConfigError, match=rf"Received {given}\. Its file is {uri}/model\.keras"):
            plan(data, dataclasses.replace(CONFIG, weights=given))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="A file and a folder are mixed up"):
        plan(data, dataclasses.replace(CONFIG, weights=str(tmp_path / "empty")))


def test_run_that_has_a_checkpoint_does_not_need_the_file_any_more(data: str, weights: str) -> None:
    config = dataclasses.replace(CONFIG, weights=weights)
    planned = plan(data, config)
    write_run_record(planned.run, planned.config, planned.manifest.fingerprint)
    write_checkpoint_without_model(planned.run, 1)
    Path(weights).unlink()
    again = plan(data, config)
    assert (again.done_epochs, again.first_weights) == (1, None)
    assert plan(data, dataclasses.replace(config, on_nan="rollback")).first_weights is None
    with pytest.raises(ConflictError, match=rf"weights: {weights} then, None now"):
        plan(data, CONFIG)


def test_run_that_may_go_back_to_its_beginning_takes_the_file_along(data: str, weights: str) -> None:
    config = dataclasses.replace(CONFIG, weights=weights, on_nan="rollback")
    planned = plan(data, config)
    write_run_record(planned.run, planned.config, planned.manifest.fingerprint)
    write_checkpoint_without_model(planned.run, 1)
    assert plan(data, config).first_weights == planned.first_weights


@pytest.mark.parametrize("given", ["imagenet", "https://host/w.h5", "hf://some/model"])
@pytest.mark.parametrize("model", ["resnet-50", "seed-cnn"])
def test_weights_of_a_hub_are_refused_and_the_file_to_bring_is_named(given: str, model: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_weights_uri(TrainConfig(model=model, weights=given))
    message = str(raised.value)
    assert message.startswith(
        f"weights must be a file: nothing is downloaded from a hub. Received {given!r}. Bring the "
    )
    assert ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5" in message) == (model == "resnet-50")
    assert ("https://keras.io/api/applications" in message) == (model == "resnet-50")


def test_every_model_for_photographs_has_a_file_to_bring() -> None:
    assert set(PHOTOGRAPH_WEIGHTS) == {name for name, each in ZOO.items() if each.image_shape == PHOTOGRAPH}


def test_dry_run_says_which_layers_are_taken_left_and_frozen(data: str, weights: str) -> None:
    checked = check_model(plan(data, dataclasses.replace(CONFIG, weights=weights, freeze="probabilities")))
    assert checked.weights is not None
    assert checked.frozen is not None
    assert len(checked.weights.taken) == BODY
    assert checked.weights.left == ("probabilities",)
    assert checked.frozen.layers == ("probabilities",)


@pytest.mark.usefixtures("strategy")
def test_names_to_freeze_are_those_of_a_new_process_whatever_was_built_before(data: str) -> None:
    planned = plan(data, dataclasses.replace(CONFIG, freeze="..conv2d_1"))
    for _ in range(2):
        frozen = check_model(planned).frozen
        assert frozen is not None
        assert frozen.layers == ("conv2d", "conv2d_1")


def test_dry_run_prints_the_layers_and_logs_how_many(
    data: str, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", data, "--runs", str(Path(data).parent / "runs"), "--name", "run", "--batch-size", "8"]
    flags = [*where, "--model.filters", "4", "2", "--model.units", "5", "--dry-run", "--json"]
    assert train.main(["seed", *flags, "--weights", weights, "--freeze", "probabilities"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert (len(result["weights_taken"]), result["weights_left"]) == (BODY, ["probabilities"])
    assert result["frozen"] == ["probabilities"]
    assert f"weights file={weights} taken=3 left=1 first_left=probabilities" in printed.err
    assert "freeze layers=1 parameters=18 first=probabilities last=probabilities" in printed.err
    assert train.main(["seed", *flags]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["weights_taken"], result["weights_left"], result["frozen"]) == (None, None, None)


def test_file_and_layers_that_do_not_fit_the_model_are_refused_by_a_dry_run(data: str, weights: str) -> None:
    wide = dataclasses.replace(
        CONFIG, weights=weights, model_options=ModelOptions(filters=(9, 9), units=(7,))
    )
    with pytest.raises(ModelError, match=rf"The weights of {weights} do not fit the model"):
        check_model(plan(data, wide))
    with pytest.raises(ModelError, match="seed-cnn has no layer 'nothing'"):
        check_model(plan(data, dataclasses.replace(CONFIG, freeze="nothing")))


@pytest.mark.usefixtures("strategy")
def test_worker_refuses_a_file_that_was_replaced_and_a_beginning_without_one(weights: str) -> None:
    from cnnlib.models.registry import build_model

    model = build_model(CONFIG.model, (8, 8, 1), 3, CONFIG.model_options)
    config = dataclasses.replace(CONFIG, weights=weights)
    assert take_first_weights(model, CONFIG, None) is None
    with pytest.raises(DigestError, match="does not match its manifest"):
        take_first_weights(model, config, FirstWeights(uri=weights, sha256="0" * 64))
    with pytest.raises(NotFoundError, match="There is no file of weights at"):
        take_first_weights(model, config, None)
