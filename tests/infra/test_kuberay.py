"""Tests that the KubeRay manifests follow the rules of Kubernetes, of KubeRay 1.7 and of our jobs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml

FOLDER = Path(__file__).parents[2] / "infra" / "kuberay"
KUBERNETES = "1.34"
# A name is the prefix of other names, which are limited to the 63 characters of a DNS label: KubeRay's
# utils/constant.go.
MAX_NAME_LENGTH = {"RayCluster": 53, "RayJob": 47, "CronJob": 52}
JOBS = ["train-rayjob.yaml", "evaluate-rayjob.yaml"]
CLUSTERS = [*JOBS, "ray-cluster.yaml"]


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def cluster_spec(name: str) -> Any:
    spec = load(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def groups(name: str) -> list[Any]:
    spec = cluster_spec(name)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def flag(words: list[str], name: str, default: int = 0) -> int:
    return int(words[words.index(name) + 1]) if name in words else default


def count_resource(name: str, resource: str) -> int:
    """Counts a resource over all workers of a cluster. The head has none: see test_head_runs_no_workers."""
    return sum(
        group["replicas"]
        * int(group["template"]["spec"]["containers"][0]["resources"]["limits"].get(resource, 0))
        for group in cluster_spec(name)["workerGroupSpecs"]
    )


def test_no_manifest_is_forgotten() -> None:
    names = {file.name for file in FOLDER.glob("*.yaml")}
    assert names == {*CLUSTERS, "evaluate-cronjob.yaml", "kustomization.yaml"}


@pytest.mark.parametrize("name", [*CLUSTERS, "evaluate-cronjob.yaml"])
def test_name_is_short_enough(name: str) -> None:
    manifest = load(name)
    assert len(manifest["metadata"]["name"]) <= MAX_NAME_LENGTH[manifest["kind"]]
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_pod_is_a_valid_pod(name: str) -> None:
    checked = 0
    for group in groups(name):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x"},
            "spec": group["template"]["spec"],
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        checked += 1
    assert checked >= 2, "a cluster has a head and workers"


def test_pod_with_a_typo_is_not_valid() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "x", "imag": "x"}]},
    }
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_cron_job_is_valid_and_never_overlaps() -> None:
    manifest = load("evaluate-cronjob.yaml")
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    spec = manifest["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    # The controller checks every 10 s, so it may miss every start with a shorter deadline.
    assert spec["startingDeadlineSeconds"] >= 10


def test_cron_job_reaches_the_standing_cluster() -> None:
    cluster = load("ray-cluster.yaml")["metadata"]["name"]
    [container] = load("evaluate-cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "containers"
    ]
    words = container["command"]
    environment = {each["name"]: each for each in container["env"]}
    assert words[words.index("--address") + 1] == f"http://{cluster}-head-svc:8265"
    # KubeRay names the Secret of authOptions.mode=token after the cluster.
    assert environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {
        "name": cluster,
        "key": "auth_token",
    }
    assert environment["RAY_AUTH_MODE"]["value"] == "token"
    used = {name for word in words for name in re.findall(r"\$\((\w+)\)", word)}
    assert used == {"JOB_NAME"}
    assert used <= set(environment)


def test_cron_jobs_pod_outlives_the_timeout_of_its_job() -> None:
    job = load("evaluate-cronjob.yaml")["spec"]["jobTemplate"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    # Otherwise the pod ends first, and nothing stops the Ray job.
    assert job["activeDeadlineSeconds"] > flag(container["command"], "--timeout-s")


@pytest.mark.parametrize("name", CLUSTERS)
def test_cluster_requires_a_token_and_has_the_ray_version_of_the_image(name: str) -> None:
    spec = cluster_spec(name)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == ray.__version__


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_start_params_are_strings_that_ray_start_knows(name: str) -> None:
    from ray.scripts.scripts import start

    known = {option.removeprefix("--") for parameter in start.params for option in parameter.opts}
    assert {"num-cpus", "dashboard-host"} <= known
    for group in groups(name):
        assert set(group["rayStartParams"]) <= known
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.parametrize("name", CLUSTERS)
def test_replicas_lie_between_their_limits(name: str) -> None:
    for group in cluster_spec(name)["workerGroupSpecs"]:
        assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", group["groupName"])


@pytest.mark.parametrize("name", CLUSTERS)
def test_containers_request_what_they_may_use_and_are_not_root(name: str) -> None:
    for group in groups(name):
        spec = group["template"]["spec"]
        [container] = spec["containers"]
        # Ray schedules by the limits, but a pod with smaller requests may get less.
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert container["envFrom"] == [{"secretRef": {"name": "cnnlib-storage", "optional": True}}]


@pytest.mark.parametrize("name", CLUSTERS)
def test_head_runs_no_workers(name: str) -> None:
    assert cluster_spec(name)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_training_fits_its_cluster() -> None:
    words = shlex.split(load("train-rayjob.yaml")["spec"]["entrypoint"])
    workers, gpus = flag(words, "--workers"), flag(words, "--gpus-per-worker")
    assert workers * gpus == count_resource("train-rayjob.yaml", "nvidia.com/gpu") > 0
    # One CPU is left for reading the data: see cnnlib/cluster/connect.py.
    assert workers * flag(words, "--cluster.cpus-per-worker") < count_resource("train-rayjob.yaml", "cpu")


@pytest.mark.parametrize(
    ("name", "cluster"),
    [("evaluate-rayjob.yaml", "evaluate-rayjob.yaml"), ("evaluate-cronjob.yaml", "ray-cluster.yaml")],
)
def test_evaluation_fits_its_cluster(name: str, cluster: str) -> None:
    spec = load(name)["spec"]
    if "entrypoint" in spec:
        words = shlex.split(spec["entrypoint"])
    else:
        words = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert flag(words, "--actors", 1) * flag(words, "--cpus-per-actor") < count_resource(cluster, "cpu")


@pytest.mark.parametrize("name", JOBS)
def test_entrypoint_means_the_same_after_any_number_of_shells(name: str) -> None:
    entrypoint = load(name)["spec"]["entrypoint"]
    assert shlex.join(shlex.split(entrypoint)) == entrypoint


@pytest.mark.parametrize("name", JOBS)
def test_job_deletes_its_cluster(name: str) -> None:
    spec = load(name)["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    # KubeRay rejects both together.
    assert "deletionStrategy" not in spec
    assert spec["activeDeadlineSeconds"] > 0
    # KubeRay rejects a retry on an existing cluster.
    assert spec["backoffLimit"] >= 0
    assert "clusterSelector" not in spec


def test_kustomization_names_files_that_exist_and_the_image_they_use() -> None:
    kustomization = load("kustomization.yaml")
    assert set(kustomization["resources"]) == {"ray-cluster.yaml", "evaluate-cronjob.yaml"}
    [image] = kustomization["images"]
    for name in kustomization["resources"]:
        assert f"image: {image['name']}:{image['newTag']}" in (FOLDER / name).read_text()


def test_kustomization_renders_and_sets_every_image(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:  # a separate program: no Python package provides it
        pytest.skip("kubectl is not installed")
    for file in FOLDER.glob("*.yaml"):
        text = file.read_text().replace("newName: cnnlib", "newName: registry.example/team/cnnlib")
        (tmp_path / file.name).write_text(text)
    command = ["kubectl", "kustomize", str(tmp_path)]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    manifests = list(yaml.safe_load_all(rendered))
    assert [(each["kind"], each["metadata"]["namespace"]) for each in manifests] == [
        ("CronJob", "cnnlib"),
        ("RayCluster", "cnnlib"),
    ]
    images = re.findall(r"image: (\S+)", rendered)
    assert len(images) == 3
    assert {image.rpartition(":")[0] for image in images} == {"registry.example/team/cnnlib"}
