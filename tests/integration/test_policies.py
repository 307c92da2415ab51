"""Each job works with the rights of its policy in `infra/aws/policies`, on a real S3 server, and can do no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.local_s3 import LocalS3Server
from tests.conftest import POLICY_BUCKET, USERS
from tests.fashion import write_tiny_idx
from tests.integration.conftest import run_job

_POLICIES = Path(__file__).parents[2] / "infra/aws/policies"
_BASE = f"s3://{POLICY_BUCKET}"


def client(server: LocalS3Server, user: str | None = None) -> Any:
    environment = server.environment(user)
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )


@pytest.fixture(scope="module")
def server(s3_server: LocalS3Server) -> LocalS3Server:
    """A bucket whose policy grants each user what the user's file states, and nothing else."""
    statements = [
        {
            **statement,
            "Sid": f"{user}{statement['Sid']}".replace("-", ""),
            "Principal": {"AWS": f"arn:aws:iam::000000000000:user/{user}"},
        }
        for user in USERS
        for statement in json.loads((_POLICIES / f"{user}.json").read_text())["Statement"]
    ]
    policy = {"Version": "2012-10-17", "Statement": statements}
    client(s3_server).put_bucket_policy(Bucket=POLICY_BUCKET, Policy=json.dumps(policy))
    return s3_server


@pytest.fixture(scope="module")
def key_of(server: LocalS3Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Runs every job with its own rights; returns a function that finds an object whose key has a text in it."""
    base = tmp_path_factory.mktemp("policies")
    idx = write_tiny_idx(base / "idx")
    data, runs, reports = (f"{_BASE}/{name}" for name in ("data/tiny", "runs", "reports"))
    size = ["--epochs", 2, "--steps-per-epoch", 2, "--batch-size", 32, "--checkpoint.keep", 1]
    for user, job, arguments in (
        ("prepare", "prepare", ["idx", idx, "--output", data]),
        ("train", "train", ["dnn", "--data", data, "--runs", runs, "--name", "a", *size]),
        ("evaluate", "evaluate", ["--pending", runs, "--data", data, "--reports", reports]),
        ("read-reports", "report", [reports]),
    ):
        done = run_job(
            job, arguments, {**server.environment(user), "HOME": str(base), "RAY_AUTH_MODE": "disabled"}
        )
        assert done.code == 0, (user, done.stderr[-3000:])
        assert "scored without a lease" not in done.stderr
    listed = client(server).list_objects_v2(Bucket=POLICY_BUCKET)["Contents"]
    keys = [each["Key"] for each in listed]

    def find(text: str) -> str:
        return next(key for key in keys if text in key)

    return find


def is_refused(call: Callable[..., Any], **arguments: Any) -> bool:
    try:
        call(Bucket=POLICY_BUCKET, **arguments)
    except ClientError as err:
        code: str = err.response["Error"]["Code"]
        return code == "AccessDenied"
    return False


@pytest.mark.parametrize(
    ("user", "kept"),
    [
        ("evaluate", ["data/tiny/manifest.json", "model.keras", "run.json"]),
        (
            "read-reports",
            ["data/tiny/manifest.json", "model.keras", "reports/manifests/", "reports/overall/"],
        ),
        ("train", ["data/tiny/manifest.json", "reports/manifests/"]),
        ("prepare", ["model.keras", "reports/overall/"]),
    ],
)
def test_a_job_can_neither_delete_nor_overwrite_what_is_not_its_own(
    server: LocalS3Server, key_of: Callable[[str], str], user: str, kept: list[str]
) -> None:
    theirs = client(server, user)
    for key in map(key_of, kept):
        assert is_refused(theirs.delete_object, Key=key), key
        assert is_refused(theirs.put_object, Key=key, Body=b"mine"), key
        assert client(server).get_object(Bucket=POLICY_BUCKET, Key=key)["Body"].read() != b"mine"


def test_an_evaluation_cannot_delete_a_report(server: LocalS3Server, key_of: Callable[[str], str]) -> None:
    theirs = client(server, "evaluate")
    for table in ("manifests", "overall", "per_class", "confusion", "claims"):
        assert is_refused(theirs.delete_object, Key=key_of(f"reports/{table}/")), table


def test_who_reads_reports_reads_neither_images_nor_models(
    server: LocalS3Server, key_of: Callable[[str], str]
) -> None:
    theirs = client(server, "read-reports")
    for key in (key_of("data/tiny/test/"), key_of("model.keras")):
        assert is_refused(theirs.get_object, Key=key)
    assert not is_refused(theirs.get_object, Key=key_of("reports/overall/"))


def test_a_job_with_the_rights_of_another_says_what_is_not_permitted(
    server: LocalS3Server, key_of: Callable[[str], str], tmp_path: Path
) -> None:
    environment = {**server.environment("read-reports"), "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    arguments = [
        "--pending",
        f"{_BASE}/runs",
        "--data",
        f"{_BASE}/data/tiny",
        "--reports",
        f"{_BASE}/reports",
    ]
    done = run_job("evaluate", arguments, environment)
    assert done.code == 2
    assert "Traceback" not in done.stderr
    assert f"{_BASE}/data/tiny" in done.stderr
