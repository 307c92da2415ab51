"""The only door to bytes: URIs and bytes in; bytes, sizes and listings out; local files and S3 alike.

What holds behind every function here:

- An object appears whole or not at all, and is replaced whole or not at all.
- A name that begins with a dot is an unfinished write or a probe: neither it nor what is below it is listed.
- Requests are repeated here and nowhere else; an error that comes out is final and one of `cnnlib.errors`.
- Endpoint, region and credentials come from the environment, and only boto3, in this file, reads them.
"""

from __future__ import annotations

import errno
import functools
import mimetypes
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from cnnlib.errors import AccessError, CnnlibError, InputError, NotFoundError, StorageError
from cnnlib.storage.uri import is_s3, join_uri, normalize_uri, split_s3

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pyarrow.fs
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

_MAX_ATTEMPTS = 5
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60
_DEFAULT_REGION = "us-east-1"


class StoredObject(NamedTuple):
    """An object that exists, and its size."""

    uri: str
    num_bytes: int


def read_bytes(uri: str) -> bytes:
    """Reads an object.

    Raises:
        NotFoundError: there is no such object.
    """
    with _open_place(uri) as place:
        return place.read_bytes()


def find_size(uri: str) -> int | None:
    """Returns an object's size in bytes; None where there is no object (a folder is none)."""
    with _open_place(uri) as place:
        return place.find_size()


def write_bytes(uri: str, data: bytes) -> None:
    """Writes an object, replacing one that exists: readers see the old bytes or the new, never a mixture."""
    with _open_place(uri) as place:
        place.write_bytes(data)


def create_bytes(uri: str, data: bytes) -> bool:
    """Writes an object unless one exists (put-if-absent); of several writers exactly one creates it.

    Returns:
        True if this call created the object. False if it existed, which includes the rare case that the
        answer to this call's own first attempt was lost: who must know compares the bytes.
    """
    with _open_place(uri) as place:
        return place.create_bytes(data)


def list_objects(folder_uri: str) -> list[StoredObject]:
    """Lists all objects below a folder, at any depth, sorted by URI; empty for a folder that does not exist.

    Symbolic links to folders are followed. A folder's own zero-byte marker (`folder/`) is not an object.
    """
    with _open_place(folder_uri) as place:
        return sorted(place.scan_objects())


def list_folders(folder_uri: str) -> list[str]:
    """Lists the names of the folders directly below a folder, sorted; empty if it does not exist."""
    with _open_place(folder_uri) as place:
        return sorted(place.scan_folders())


def delete(uri: str) -> None:
    """Deletes an object, not its local folder; an object that does not exist is as good as deleted."""
    with _open_place(uri) as place:
        place.delete()


def download(uri: str, path: Path) -> None:
    """Copies an object of any size into a local file and makes its folders; a crash may leave half a file."""
    with _local_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_place(uri) as place:
            place.download(path)


def upload(path: Path, uri: str) -> None:
    """Copies a local file of any size into an object, replacing one that exists.

    A crash on S3 leaves the parts sent so far: invisible, but paid for until the bucket's lifecycle rule
    for incomplete multipart uploads removes them.
    """
    with _local_errors(str(path)), _open_place(uri) as place:
        place.upload(path)


def check_writable(folder_uri: str) -> None:
    """Proves, by writing a probe and deleting it, that objects can be put-if-absent below a folder.

    Leaves nothing behind, neither the probe nor a local folder that did not exist. A crash in between leaves
    an object named `.probe-*`, which no listing shows.

    Raises:
        AccessError: the credentials, the user's permissions or the bucket do not allow it.
        StorageError: the storage cannot be reached, or overwrites where it was told to put-if-absent.
    """
    with _open_place(folder_uri) as folder, folder.restore_folders():
        probe = folder.child(f".probe-{secrets.token_hex(8)}")
        probe.create_bytes(b"probe")
        overwritten = probe.create_bytes(b"probe")
        probe.delete()
    if overwritten:
        raise StorageError(
            f"The storage behind {folder_uri} ignores put-if-absent (If-None-Match: *): it would overwrite "
            "results. Expected a server that honours it, as AWS S3 and SeaweedFS do. Update or replace it."
        )


def arrow_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Returns a pyarrow file system and the path in it, for those who open files themselves (Ray, pandas).

    It talks to the endpoint and region that boto3 found, also to an `endpoint_url` in `~/.aws/config`, which
    pyarrow does not read. Unlike boto3 it does not follow a bucket into another region: the region that is
    set must be the bucket's.
    """
    with _open_place(uri) as place:
        return place.arrow_filesystem()


@contextmanager
def _open_place(uri: str) -> Iterator[_LocalPlace | _S3Place]:
    """Yields the place behind a URI; what goes wrong there leaves as one of our errors."""
    uri = normalize_uri(uri)
    if is_s3(uri):
        with _s3_errors(uri):
            yield _S3Place(*split_s3(uri))
    else:
        with _local_errors(uri):
            yield _LocalPlace(Path(uri))


@dataclass(frozen=True)
class _LocalPlace:
    """A path on this machine. Writing is not atomic, so it goes through a temporary file beside it."""

    path: Path

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()

    def find_size(self) -> int | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def write_bytes(self, data: bytes) -> None:
        with self._temporary_file() as temporary:
            temporary.write_bytes(data)
            temporary.replace(self.path)

    def create_bytes(self, data: bytes) -> bool:
        with self._temporary_file() as temporary:
            temporary.write_bytes(data)
            try:
                # A link, because unlike a rename it refuses a name that is taken.
                self.path.hardlink_to(temporary)
            except FileExistsError:
                return False
            return True

    def scan_objects(self) -> Iterator[StoredObject]:
        for entry in _scan(self.path):
            if entry.is_dir():
                yield from _LocalPlace(Path(entry.path)).scan_objects()
            else:
                yield StoredObject(entry.path, entry.stat().st_size)

    def scan_folders(self) -> Iterator[str]:
        return (entry.name for entry in _scan(self.path) if entry.is_dir())

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)

    def download(self, path: Path) -> None:
        shutil.copyfile(self.path, path)

    def upload(self, path: Path) -> None:
        with self._temporary_file() as temporary:
            shutil.copyfile(path, temporary)
            temporary.replace(self.path)

    def child(self, name: str) -> _LocalPlace:
        return _LocalPlace(self.path / name)

    @contextmanager
    def restore_folders(self) -> Iterator[None]:
        absent = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            yield
        finally:
            for folder in absent:
                # Missing: it was never made. Not empty: another writer has moved in.
                with suppress(OSError):
                    folder.rmdir()

    def arrow_filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        import pyarrow.fs

        return pyarrow.fs.LocalFileSystem(), str(self.path)

    @contextmanager
    def _temporary_file(self) -> Iterator[Path]:
        """Yields a hidden name in the same folder and makes sure that nothing stays under it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Lists a folder's visible entries; none for a folder that does not exist."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []


@contextmanager
def _local_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise _explain_os_error(path, err) from err


def _explain_os_error(path: str, err: OSError) -> CnnlibError:
    if isinstance(err, FileNotFoundError):
        return NotFoundError(f"There is nothing at {err.filename}. Expected a file. Check the path.")
    if isinstance(err, PermissionError) or err.errno == errno.EROFS:
        return AccessError(
            f"Not permitted at {path}: {err}. Expected a path that this user (uid {os.geteuid()}) may use. "
            "Check the owner and mode of the file and its folders, and how the disk is mounted."
        )
    if isinstance(err, (IsADirectoryError, NotADirectoryError, FileExistsError)):
        return InputError(
            f"A file and a folder are mixed up at {path}: {err}. Expected a file where a file is read or "
            "written, and folders above it. Check the path."
        )
    return StorageError(f"The file system failed at {path}: {err}. Check the disk's health and free space.")


@dataclass(frozen=True)
class _S3Place:
    """A key in a bucket. It holds no client, so none is ever pickled or taken through a fork."""

    bucket: str
    key: str

    def read_bytes(self) -> bytes:
        from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

        attempt = 1
        while True:
            body = _s3_client().get_object(Bucket=self.bucket, Key=self.key)["Body"]
            try:
                return body.read()
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                # boto3 repeats requests, but not answers that break off halfway.
                if attempt == _MAX_ATTEMPTS:
                    raise
            attempt += 1

    def find_size(self) -> int | None:
        from botocore.exceptions import ClientError

        try:
            return _s3_client().head_object(Bucket=self.bucket, Key=self.key)["ContentLength"]
        except ClientError as err:
            if _http_status(err) == 404:
                return None
            raise

    def write_bytes(self, data: bytes) -> None:
        _s3_client().put_object(
            Bucket=self.bucket, Key=self.key, Body=data, ContentType=_content_type(self.key)
        )

    def create_bytes(self, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        for _ in range(_MAX_ATTEMPTS):
            try:
                _s3_client().put_object(
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
                # 412: it exists. 409: another request for this key came between, maybe a delete.
                if _http_status(err) == 412 or self.find_size() is not None:
                    return False
        raise StorageError(
            f"s3://{self.bucket}/{self.key} came and went during {_MAX_ATTEMPTS} attempts to create it. "
            "Expected nobody to delete it meanwhile. Check what else works on this prefix."
        )

    def scan_objects(self) -> Iterator[StoredObject]:
        paginator = _s3_client().get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self._prefix):
            for item in page.get("Contents", ()):
                name = item["Key"].removeprefix(self._prefix)
                if not name.endswith("/") and not any(part.startswith(".") for part in name.split("/")):
                    yield StoredObject(join_uri(f"s3://{self.bucket}", item["Key"]), item["Size"])

    def scan_folders(self) -> Iterator[str]:
        paginator = _s3_client().get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self._prefix, Delimiter="/"):
            for item in page.get("CommonPrefixes", ()):
                name = item["Prefix"].removeprefix(self._prefix).removesuffix("/")
                if not name.startswith("."):
                    yield name

    def delete(self) -> None:
        _s3_client().delete_object(Bucket=self.bucket, Key=self.key)

    def download(self, path: Path) -> None:
        _s3_client().download_file(self.bucket, self.key, str(path))

    def upload(self, path: Path) -> None:
        # Not upload_file: it buries the server's answer in the text of an exception of its own.
        with path.open("rb") as file:
            _s3_client().upload_fileobj(file, self.bucket, self.key)

    def child(self, name: str) -> _S3Place:
        return _S3Place(self.bucket, self._prefix + name)

    def restore_folders(self) -> AbstractContextManager[None]:
        return nullcontext()  # S3 has no folders to restore.

    def arrow_filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        import pyarrow.fs

        meta = _s3_client().meta
        endpoint = urlsplit(meta.endpoint_url)
        filesystem = pyarrow.fs.S3FileSystem(
            endpoint_override=endpoint.netloc,
            scheme=endpoint.scheme,
            region=meta.region_name,
            connect_timeout=_CONNECT_TIMEOUT_S,
            request_timeout=_READ_TIMEOUT_S,
            retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=_MAX_ATTEMPTS),
            **_keys_unknown_to_pyarrow(),
        )
        return filesystem, f"{self.bucket}/{self.key}".rstrip("/")

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""


def _content_type(key: str) -> str:
    """Guesses from the name what a browser should take an object for: a report's page opens as a page."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


@functools.cache
def _s3_client() -> S3Client:
    """Builds this process's client, which threads may share."""
    import boto3
    from botocore.config import Config

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
            "http://host:8333, and AWS_DEFAULT_REGION as in us-east-1. Check the environment, ~/.aws/config."
        ) from err


# Sockets do not survive a fork: parent and child would read each other's answers.
os.register_at_fork(after_in_child=_s3_client.cache_clear)


def _keys_unknown_to_pyarrow() -> dict[str, str | None]:
    """Returns the keys that boto3 found where pyarrow would find none, as behind an assumed role.

    Otherwise none: pyarrow finds and renews them itself, and they do not travel in a pickled file system.
    """
    import boto3
    from botocore.exceptions import NoCredentialsError

    found = boto3.Session().get_credentials()
    if found is None:
        raise NoCredentialsError
    if found.method in _METHODS_KNOWN_TO_PYARROW:
        return {}
    keys = found.get_frozen_credentials()
    return {"access_key": keys.access_key, "secret_key": keys.secret_key, "session_token": keys.token}


# botocore's names for where it found credentials.
_METHODS_KNOWN_TO_PYARROW = frozenset(
    {
        "env",
        "shared-credentials-file",
        "config-file",
        "custom-process",
        "assume-role-with-web-identity",
        "container-role",
        "iam-role",
    }
)


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as err:
        raise _explain_answer(uri, err) from err
    except (BotoCoreError, Boto3Error) as err:
        raise _explain_no_answer(uri, err) from err


def _explain_answer(uri: str, err: ClientError) -> CnnlibError:
    """Explains a server's answer that is an error."""
    endpoint = _s3_client().meta.endpoint_url
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
            f"{endpoint} refuses {err.operation_name} on {uri}: {answer}. Expected credentials that may do "
            "this. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, AWS_DEFAULT_REGION, and "
            "the bucket's policy (where listing is forbidden, an object that does not exist gives 403, too)."
        )
    return StorageError(
        f"{endpoint} failed at {err.operation_name} on {uri} after up to {_MAX_ATTEMPTS} attempts: {answer}. "
        "Check the storage server's health and its log."
    )


# Credentials and regions that AWS rejects with status 400. A HEAD has no body to say why, only "400".
_REJECTED_WITH_400 = frozenset(
    {"400", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
)


def _explain_no_answer(uri: str, err: Exception) -> CnnlibError:
    """Explains why a request was not sent, or not answered."""
    from botocore import exceptions as boto

    if isinstance(err, (boto.HTTPClientError, boto.ConnectionError)):
        return StorageError(
            f"No answer from {_s3_client().meta.endpoint_url} about {uri}: {err}. Tried {_MAX_ATTEMPTS} "
            f"times, waiting up to {_CONNECT_TIMEOUT_S} s to connect and {_READ_TIMEOUT_S} s for data. "
            "Expected a server that answers. Check AWS_ENDPOINT_URL, and that this machine can reach it."
        )
    if isinstance(err, boto.ParamValidationError):
        return InputError(f"{uri} is not a possible name: {err}. Expected s3://bucket/key.")
    credentials_errors = (
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
    if isinstance(err, credentials_errors):
        return AccessError(
            f"No usable credentials for {uri}: {err}. Expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or a machine with a role. Set them where this runs; on a cluster, on every node."
        )
    return StorageError(f"S3 failed at {uri}: {err}. Check the endpoint, the network and the server's log.")


def _http_status(err: ClientError) -> int:
    return err.response["ResponseMetadata"]["HTTPStatusCode"]
