"""Tests that Ray, EC2 and our image accept the `ray up` file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import ray
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[2] / "infra" / "aws" / "ray-cluster.yaml"


@pytest.fixture
def config() -> Any:
    return yaml.safe_load(FILE.read_text())


def test_ray_accepts_the_file(config: Any) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["cluster_name"] == config["cluster_name"]
    assert set(config["available_node_types"]) <= set(prepared["available_node_types"])


def test_provider_has_no_key_that_ray_does_not_know(config: Any) -> None:
    # Ray's schema allows any key here, and Ray ignores unknown keys.
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    assert set(config["provider"]) <= set(schema["properties"]["provider"]["properties"])


def test_numbers_of_workers_are_possible(config: Any) -> None:
    types = config["available_node_types"]
    workers = [kind for name, kind in types.items() if name != config["head_node_type"]]
    assert config["head_node_type"] in types
    assert workers
    for kind in workers:
        assert 0 <= kind["min_workers"] <= kind["max_workers"] <= config["max_workers"]
    assert sum(kind["min_workers"] for kind in workers) <= config["max_workers"]
    assert config["idle_timeout_minutes"] > 0


def test_ec2_knows_every_key_of_the_machines(config: Any) -> None:
    shape = (
        botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    )
    for kind in config["available_node_types"].values():
        request = {**kind["node_config"], "MinCount": 1, "MaxCount": 1}
        # botocore checks types and missing keys only, so unknown keys are checked here.
        assert set(request) <= set(shape.members)
        assert ParamValidator().validate(request, shape).generate_report() == ""


def test_every_machine_reaches_s3_by_its_role(config: Any) -> None:
    for kind in config["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"]["Name"]
    assert "AWS_SECRET_ACCESS_KEY" not in FILE.read_text()


def test_every_machine_requires_the_token(config: Any) -> None:
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    [start] = [command for command in config["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in start


def test_nothing_is_installed_over_the_image(config: Any) -> None:
    prepared = prepare_config(config)
    # Ray's defaults install a nightly build of Ray.
    assert [
        prepared[name] for name in ("setup_commands", "head_setup_commands", "worker_setup_commands")
    ] == [[], [], []]
