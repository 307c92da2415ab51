"""Lets an S3 client talk over paced sockets, by which a server that drips is given up.

botocore has no switch for its connections, so this file uses internals of the version in the lock files.
tests/integration/test_storage_faults.py fails when one of them moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from cnnlib.storage.pace import Pace, PacedSocket
from cnnlib.storage.patience import storage_least_bytes_per_s, storage_silence_s
from cnnlib.storage.s3_answers import ATTEMPTS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A time-out for each of `ATTEMPTS`, and pauses between them: together less than `storage_silence_s`.
_SHARE_OF_SILENCE = 0.9 / ATTEMPTS


def attempt_s() -> float:
    """Returns for how many seconds one attempt of an operation may wait for bytes."""
    return storage_silence_s() * _SHARE_OF_SILENCE


def pace_connections(client: S3Client) -> None:
    """Makes every connection that a new client opens a paced one."""
    session: Any = client._endpoint.http_session  # type: ignore[attr-defined]
    # A dictionary that all managers of the session share, also those of proxies.
    session._pool_classes_by_scheme.update({"http": _Pool, "https": _SecurePool})


class _Paced:
    """What a connection of botocore does in addition. Each direction has a pace of its own."""

    def __init__(self, *args: Any, **parts: Any) -> None:
        super().__init__(*args, **parts)
        grace_s, bytes_per_s = attempt_s(), storage_least_bytes_per_s()
        self._sending, self._receiving = Pace(grace_s, bytes_per_s), Pace(grace_s, bytes_per_s)

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sock: Any = PacedSocket(self.sock, self._sending, self._receiving)

    def request(self, *args: Any, **parts: Any) -> Any:
        self._sending.begin()
        self._receiving.begin()
        return super().request(*args, **parts)  # type: ignore[misc]


class _Connection(_Paced, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _SecureConnection(_Paced, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(AWSHTTPSConnectionPool):
    ConnectionCls = _SecureConnection
