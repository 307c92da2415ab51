"""Implements `Place` for S3: requests, their retries, and clear errors.

Importing this module loads boto3, so `files` imports it with the first `s3://` URI and not before: a job on local
paths does not pay for it. Endpoint, region and credentials come from the environment, which boto3 reads.
"""

from __future__ import annotations

import functools
import mimetypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.exceptions as boto
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cnnlib.errors import AccessError, CnnlibError, InputError, NotFoundError, StorageError
from cnnlib.storage.place import StoredObject
from cnnlib.storage.uri import join_uri, split_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MAX_ATTEMPTS = 5
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60
_DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True)
class S3Place:
    """A key in a bucket. It holds no client, so that none is ever pickled or shared across a fork."""

    bucket: str
    key: str

    def read_bytes(self) -> bytes:
        attempt = 1
        while True:
            body = _client().get_object(Bucket=self.bucket, Key=self.key)["Body"]
            try:
                return body.read()
            except (boto.IncompleteReadError, boto.ReadTimeoutError, boto.ResponseStreamingError):
                # boto3 repeats requests, but not an answer whose body breaks off.
                if attempt == _MAX_ATTEMPTS:
                    raise
            attempt += 1

    def find_size(self) -> int | None:
        try:
            return _client().head_object(Bucket=self.bucket, Key=self.key)["ContentLength"]
        except ClientError as err:
            if _http_status(err) == 404:
                return None
            raise

    def write_bytes(self, data: bytes) -> None:
        _client().put_object(Bucket=self.bucket, Key=self.key, Body=data, ContentType=_content_type(self.key))

    def create_bytes(self, data: bytes) -> bool:
        for _ in range(_MAX_ATTEMPTS):
            try:
                _client().put_object(
                    Bucket=self.bucket,
                    Key=self.key,
                    Body=data,
                    ContentType=_content_type(self.key),
                    IfNoneMatch="*",
                )
                return True
            except ClientError as err:
                if _http_status(err) not in (409, 412):
                    raise
                # 412: the object exists. 409: another request for this key came between, maybe a delete.
                if _http_status(err) == 412 or self.find_size() is not None:
                    return False
        raise StorageError(
            f"s3://{self.bucket}/{self.key} appeared and disappeared during {_MAX_ATTEMPTS} attempts to create it. "
            "Expected no other process to delete it meanwhile. Check what else writes below this prefix."
        )

    def scan_objects(self) -> Iterator[StoredObject]:
        paginator = _client().get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self._prefix):
            for item in page.get("Contents", ()):
                name = item["Key"].removeprefix(self._prefix)
                if not name.endswith("/") and not any(part.startswith(".") for part in name.split("/")):
                    yield StoredObject(join_uri(f"s3://{self.bucket}", item["Key"]), item["Size"])

    def scan_folders(self) -> Iterator[str]:
        paginator = _client().get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self._prefix, Delimiter="/"):
            for item in page.get("CommonPrefixes", ()):
                name = item["Prefix"].removeprefix(self._prefix).removesuffix("/")
                if not name.startswith("."):
                    yield name

    def delete(self) -> None:
        _client().delete_object(Bucket=self.bucket, Key=self.key)

    def download(self, path: Path) -> None:
        _client().download_file(self.bucket, self.key, str(path))

    def upload(self, path: Path) -> None:
        # Not upload_file: it hides the server's answer in the text of an exception of its own.
        with path.open("rb") as file:
            _client().upload_fileobj(file, self.bucket, self.key)

    def child(self, name: str) -> S3Place:
        return S3Place(self.bucket, self._prefix + name)

    def restore_folders(self) -> AbstractContextManager[None]:
        return nullcontext()  # S3 has no folders to remove.

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Translates boto3's exceptions into `cnnlib.errors` that name the URI."""
    try:
        yield
    except ClientError as err:
        raise _explain_answer(uri, err) from err
    except (BotoCoreError, Boto3Error) as err:
        raise _explain_no_answer(uri, err) from err


@functools.cache
def _client() -> S3Client:
    """Builds this process's client, which its threads share."""
    # A session of its own: boto3's default session is not thread-safe.
    session = boto3.Session()
    try:
        return session.client(
            "s3",
            region_name=session.region_name or _DEFAULT_REGION,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS},
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
            ),
        )
    except ValueError as err:
        raise InputError(
            f"The settings for S3 cannot work: {err}. Expected AWS_ENDPOINT_URL with its scheme, as in "
            "http://host:8333, and AWS_DEFAULT_REGION as in us-east-1. Check the environment and ~/.aws/config."
        ) from err


# Sockets do not survive a fork: parent and child would read each other's answers.
os.register_at_fork(after_in_child=_client.cache_clear)


def _content_type(key: str) -> str:
    """Guesses an object's media type from its name, so that a browser opens a report's page as a page."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


# Credentials and regions that AWS rejects with status 400. A HEAD has no body that gives the reason, only "400".
_REJECTED_WITH_400 = frozenset(
    {"400", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
)


def _explain_answer(uri: str, err: ClientError) -> CnnlibError:
    """Explains an error that the server answered with."""
    endpoint = _client().meta.endpoint_url
    code = err.response["Error"]["Code"]
    answer = f"{code} {err.response['Error'].get('Message', '')}".strip()
    if code == "NoSuchBucket":
        return AccessError(
            f"There is no bucket {split_s3(uri).bucket!r} at {endpoint}, needed for {uri}. "
            "Check the bucket's name and AWS_ENDPOINT_URL, or create the bucket."
        )
    if _http_status(err) == 404:
        return NotFoundError(f"There is no object {uri} at {endpoint}. Check the bucket and the key.")
    if _http_status(err) in (401, 403) or code in _REJECTED_WITH_400:
        return AccessError(
            f"{endpoint} refuses {err.operation_name} on {uri}: {answer}. Expected credentials that permit it. "
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, AWS_DEFAULT_REGION, and the bucket's "
            "policy (without the permission to list, an object that does not exist gives 403 too)."
        )
    return StorageError(
        f"{endpoint} failed at {err.operation_name} on {uri} after up to {_MAX_ATTEMPTS} attempts: {answer}. "
        "Check the storage server's health and its log."
    )


_CREDENTIALS_ERRORS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.ConfigParseError,
    boto.InvalidConfigError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)


def _explain_no_answer(uri: str, err: Exception) -> CnnlibError:
    """Explains why a request was not sent, or was not answered."""
    if isinstance(err, (boto.HTTPClientError, boto.ConnectionError)):
        return StorageError(
            f"No answer from {_client().meta.endpoint_url} about {uri}: {err}. Tried {_MAX_ATTEMPTS} "
            f"times, waiting up to {_CONNECT_TIMEOUT_S} s to connect and {_READ_TIMEOUT_S} s for data. "
            "Expected a server that answers. Check AWS_ENDPOINT_URL, and that this machine can reach it."
        )
    if isinstance(err, boto.ParamValidationError):
        return InputError(f"{uri} is not a possible name: {err}. Expected s3://bucket/key.")
    if isinstance(err, _CREDENTIALS_ERRORS):
        return AccessError(
            f"No usable credentials for {uri}: {err}. Expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or a machine with a role. Set them where this runs; on a cluster, on every node."
        )
    return StorageError(f"S3 failed at {uri}: {err}. Check the endpoint, the network and the server's log.")


def _http_status(err: ClientError) -> int:
    return err.response["ResponseMetadata"]["HTTPStatusCode"]
