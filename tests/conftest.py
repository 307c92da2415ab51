"""Provides a clean environment for every test, and a real S3 server for those that ask for one."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cnnlib.storage import s3
from infra.local_s3 import LocalS3Server, run_local_s3

_BUCKET = "tests"
POLICY_BUCKET = "my-bucket"
"""The bucket that the policies in `infra/aws/policies` name."""
USERS = ("prepare", "train", "evaluate", "read-reports")
"""Users of the S3 server who may do what a policy of a bucket allows, and else nothing."""


def pytest_configure() -> None:
    """Gives random cases enough time, and turns SIGTERM into a regular end, which stops the servers of the tests."""
    # The duration of a random case says nothing on a busy machine.
    settings.register_profile(
        "unhurried", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("unhurried")
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the developer's own AWS settings, and drops the S3 client that an earlier test's settings built."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3._client.cache_clear()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[LocalS3Server]:
    """A real S3 server, which starts for the first test that needs it."""
    with run_local_s3(buckets=[_BUCKET, POLICY_BUCKET], users=USERS) as server:
        yield server


@pytest.fixture
def s3_uri(s3_server: LocalS3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of this test's own on the S3 server; the environment points to that server."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{_BUCKET}/{secrets.token_hex(4)}"


@pytest.fixture(params=["local", "s3"])
def base_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that does not exist yet, once on the local disk and once on S3."""
    if request.param == "local":
        return str(tmp_path / "storage")
    return str(request.getfixturevalue("s3_uri"))
