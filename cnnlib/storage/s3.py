"""Implements `Place` for S3: requests, which are repeated while an outage lasts, with credentials as they are now.

Importing this module loads boto3, so `files` imports it with the first `s3://` URI and not before: a job on local
paths does not pay for it. Endpoint, region and credentials come from the environment, which boto3 reads.
"""

from __future__ import annotations

import functools
import io
import mimetypes
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cnnlib.errors import InputError, StorageError
from cnnlib.redact import redact
from cnnlib.storage.patience import keep_trying
from cnnlib.storage.place import StoredObject
from cnnlib.storage.s3_answers import (
    ATTEMPTS,
    explain,
    find_outage,
    http_status,
    is_rejected,
    is_silence,
    is_unexplained,
)
from cnnlib.storage.s3_connections import attempt_s, pace_connections
from cnnlib.storage.uri import join_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

_MAX_ATTEMPTS = 3  # of boto3, within one attempt of ours
# Also how long sending may stand still: urllib3 has no time-out of its own for it.
_CONNECT_TIMEOUT_S = 10
_CREATE_ATTEMPTS = 5
_WHOLE = 200  # the HTTP status of an answer with the whole object; 206 is that of a part
_DEFAULT_REGION = "us-east-1"
# User metadata of an object that was put if absent: which call of `create_bytes` created it.
_CREATOR = "cnnlib-creator"

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")


def _patient(
    method: Callable[Concatenate[S3Place, ArgumentsT], ResultT],
) -> Callable[Concatenate[S3Place, ArgumentsT], ResultT]:
    """Repeats a method of a place while an outage lasts, and once if the credentials may have been renewed."""

    @functools.wraps(method)
    def repeat(place: S3Place, /, *args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs) -> ResultT:
        def attempt() -> ResultT:
            client = _client()
            try:
                return method(place, *args, **kwargs)
            except ClientError as err:
                if not is_rejected(err):
                    raise
            _renew(client)
            try:
                return method(place, *args, **kwargs)
            except ClientError as err:
                if not is_unexplained(err):
                    raise
            place.raise_reason()
            return method(place, *args, **kwargs)  # it was permitted meanwhile

        return keep_trying(attempt, find_outage)

    return repeat


@dataclass(frozen=True)
class S3Place:
    """A key in a bucket. It holds no client, so that none is ever pickled or shared across a fork."""

    bucket: str
    key: str

    @_patient
    def read_bytes(self) -> bytes:
        return _client().get_object(Bucket=self.bucket, Key=self.key)["Body"].read()

    @_patient
    def read_range(self, first: int, num_bytes: int) -> bytes:
        asked = f"bytes={first}-{first + num_bytes - 1}"
        answer = _client().get_object(Bucket=self.bucket, Key=self.key, Range=asked)
        data: bytes = answer["Body"].read()
        if (
            answer["ResponseMetadata"]["HTTPStatusCode"] == _WHOLE
        ):  # a server, or a cache before it, that ignores ranges
            return data[first : first + num_bytes]
        given = answer.get("ContentRange", "")
        if given and not given.startswith(f"bytes {first}-"):
            raise StorageError(
                f"s3://{self.bucket}/{self.key}: the server sent other bytes than were asked for. Received {given}, "
                f"expected {asked}."
            )
        return data

    @_patient
    def find_size(self) -> int | None:
        head = self._find_head()
        return None if head is None else head["ContentLength"]

    @_patient
    def find_version(self) -> str | None:
        head = self._find_head()
        return None if head is None else head["ETag"]

    # Bodies are files: bytes would be sent in one piece, which a slow line cannot within one time-out.
    @_patient
    def write_bytes(self, data: bytes) -> None:
        _client().put_object(
            Bucket=self.bucket, Key=self.key, Body=io.BytesIO(data), ContentType=_content_type(self.key)
        )

    def create_bytes(self, data: bytes) -> bool:
        # One name for all attempts: if the answer to the first is lost, the second finds the object that it created.
        return self._create_bytes(data, creator=secrets.token_hex(8))

    @_patient
    def _create_bytes(self, data: bytes, *, creator: str) -> bool:
        for _ in range(_CREATE_ATTEMPTS):
            try:
                _client().put_object(
                    Bucket=self.bucket,
                    Key=self.key,
                    Body=io.BytesIO(data),
                    ContentType=_content_type(self.key),
                    IfNoneMatch="*",
                    Metadata={_CREATOR: creator},
                )
                return True
            except ClientError as err:
                # 412: the object exists, which some stores say with 304. 409: another request for this key came
                # between, maybe a delete.
                if http_status(err) not in (304, 409, 412):
                    raise
                answer = err
            head = self._find_head()
            if head is not None:
                return head["Metadata"].get(_CREATOR) == creator
        raise StorageError(
            f"s3://{self.bucket}/{self.key} cannot be created if absent: {_CREATE_ATTEMPTS} attempts were answered "
            f"with {http_status(answer)}, as if it existed, and each time there was no such object. Expected a store "
            "with put-if-absent, and no other process that deletes the object meanwhile. Check what else writes below "
            "this prefix, and update the store."
        )

    def scan_objects(self, *, hidden: bool = False) -> Iterator[StoredObject]:
        return iter(self._list_objects(hidden=hidden))

    @_patient
    def _list_objects(self, *, hidden: bool) -> list[StoredObject]:
        found = []
        paginator = _client().get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self._prefix):
            for item in page.get("Contents", ()):
                name = item["Key"].removeprefix(self._prefix)
                is_hidden = any(part.startswith(".") for part in name.split("/"))
                if not name.endswith("/") and (hidden or not is_hidden):
                    found.append(
                        StoredObject(
                            join_uri(f"s3://{self.bucket}", item["Key"]), item["Size"], item.get("ETag", "")
                        )
                    )
        return found

    def scan_files(self) -> Iterator[str]:
        return iter(self._list_level()[0])

    def scan_folders(self) -> Iterator[str]:
        return iter(self._list_level()[1])

    @_patient
    def _list_level(self) -> tuple[list[str], list[str]]:
        """Returns the names of the visible objects and folders directly below this place."""
        keys, prefixes = [], []
        paginator = _client().get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self._prefix, Delimiter="/"):
            keys += [item["Key"] for item in page.get("Contents", ())]
            prefixes += [item["Prefix"].removesuffix("/") for item in page.get("CommonPrefixes", ())]
        names, folders = ([each.removeprefix(self._prefix) for each in found] for found in (keys, prefixes))
        return _visible(names), _visible(folders)

    @_patient
    def delete(self) -> None:
        _client().delete_object(Bucket=self.bucket, Key=self.key)

    @_patient
    def download(self, path: Path) -> None:
        _client().download_file(
            self.bucket, self.key, str(path), Config=TransferConfig(num_download_attempts=ATTEMPTS)
        )

    @_patient
    def upload(self, path: Path) -> None:
        # Not upload_file: it hides the server's answer in the text of an exception of its own.
        with path.open("rb") as file:
            _client().upload_fileobj(file, self.bucket, self.key)

    def child(self, name: str) -> S3Place:
        return S3Place(self.bucket, self._prefix + name)

    def delete_leftovers(self) -> None:
        pass  # S3 shows no half objects; a rule of the bucket deletes the parts of uploads that were cut off.

    def restore_folders(self) -> AbstractContextManager[None]:
        return nullcontext()  # S3 has no folders to remove.

    def raise_reason(self) -> None:
        """Raises the error that S3 has for a request for the object's first byte; returns if there is none."""
        _client().get_object(Bucket=self.bucket, Key=self.key, Range="bytes=0-0")["Body"].close()

    def _find_head(self) -> HeadObjectOutputTypeDef | None:
        try:
            return _client().head_object(Bucket=self.bucket, Key=self.key)
        except ClientError as err:
            if http_status(err) == 404:
                return None
            raise

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Translates boto3's exceptions into `cnnlib.errors` that name the URI."""
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as err:
        raise explain(uri, _endpoint(), err) from err


@functools.cache
def _client() -> S3Client:
    """Builds this process's client, which its threads share."""
    # A session of its own: boto3's default session is not thread-safe.
    session = boto3.Session()
    timeout_s = attempt_s()
    try:
        client = session.client(
            "s3",
            region_name=session.region_name or _DEFAULT_REGION,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS},
                connect_timeout=min(_CONNECT_TIMEOUT_S, timeout_s),
                read_timeout=timeout_s,
            ),
        )
    except ValueError as err:
        raise InputError(
            f"The settings for S3 cannot work: {err}. Expected AWS_ENDPOINT_URL with its scheme, as in "
            "http://host:8333, and AWS_DEFAULT_REGION as in us-east-1. Check the environment and ~/.aws/config."
        ) from err
    client.meta.events.register("needs-retry.s3", _leave_silence_to_us)
    pace_connections(client)
    return client


def _leave_silence_to_us(caught_exception: Exception | None = None, **_: object) -> None:
    """Keeps boto3 from repeating a request to a silent server, which would multiply the time until it is noticed."""
    if caught_exception is not None and is_silence(caught_exception):
        raise caught_exception


def _endpoint() -> str:
    try:
        return redact(_client().meta.endpoint_url)
    except BotoCoreError:  # such as an unknown profile
        return "S3"


_renewal = threading.Lock()


def _renew(outdated: S3Client) -> None:
    """Makes the next request build a client, which reads the credentials again, unless another thread did so."""
    with _renewal:
        if _client() is outdated:
            _client.cache_clear()


# Sockets do not survive a fork: parent and child would read each other's answers.
os.register_at_fork(after_in_child=_client.cache_clear)


def _content_type(key: str) -> str:
    """Guesses an object's media type from its name, so that a browser opens a report's page as a page."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def _visible(names: list[str]) -> list[str]:
    return [name for name in names if name and not name.startswith(".")]
