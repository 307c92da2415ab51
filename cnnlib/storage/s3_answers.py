"""Judges what S3 answered, or that it did not: an outage, outdated credentials, or an error in plain words."""

from __future__ import annotations

import re

import botocore.exceptions as boto
from boto3.exceptions import RetriesExceededError
from botocore.exceptions import ClientError

from cnnlib.errors import AccessError, CnnlibError, InputError, NotFoundError, StorageError
from cnnlib.storage.pace import TooSlowError
from cnnlib.storage.patience import (
    LEAST_RATE_VARIABLE,
    SILENCE_VARIABLE,
    WAIT_VARIABLE,
    Outage,
    storage_least_bytes_per_s,
    storage_silence_s,
    storage_wait_s,
)
from cnnlib.storage.uri import split_s3

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
# Credentials and regions that AWS rejects with status 400. A HEAD has no body that gives the reason, only "400".
_REJECTED_WITH_400 = _EXPIRED | {"400", "AuthorizationHeaderMalformed", "InvalidToken"}
_BUSY = frozenset(
    {
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
_NO_CONNECTION = (
    boto.ConnectionError,
    boto.ConnectionClosedError,
    boto.IncompleteReadError,
    boto.ReadTimeoutError,
    boto.ResponseStreamingError,
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
ATTEMPTS = 3
"""How often an operation is tried whose bytes come damaged, or whose server is silent."""
# What a store answers whose bytes are not those that were sent, or that computes checksums of its own.
_DAMAGED = frozenset({"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})
_WRITES = frozenset({"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"})
_CHECKSUM_CODES = frozenset(
    {
        "BadDigest",
        "InvalidDigest",
        "MissingContentLength",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
_CHECKSUM_WORDS = re.compile(
    r"checksum|crc32|trailer|aws-chunked|content-sha256|transfer-encoding", re.IGNORECASE
)


def http_status(err: ClientError) -> int:
    """Returns the HTTP status of an answer."""
    return err.response["ResponseMetadata"]["HTTPStatusCode"]


def find_outage(err: Exception) -> Outage | None:
    """Says why an error may pass if the request is repeated later; None for any other error."""
    if isinstance(err, ClientError):
        code, status = err.response["Error"]["Code"], http_status(err)
        if code in _EXPIRED:
            return Outage(f"{code}: the credentials have expired")
        if code in _BUSY or status == 429 or (status >= 500 and status != 501):
            return Outage(f"{status} {code}" if str(status) != code else code)
        return Outage(f"{status} {code}: the bytes were damaged", ATTEMPTS) if code in _DAMAGED else None
    if isinstance(err, boto.SSLError):
        return None  # a certificate does not become valid by waiting
    if isinstance(err, boto.FlexibleChecksumError):
        return Outage("the bytes were damaged", ATTEMPTS)
    if is_silence(err):
        # A download has repeated it already.
        return Outage(
            "too slow" if is_too_slow(err) else "no answer",
            1 if isinstance(err, RetriesExceededError) else ATTEMPTS,
        )
    if isinstance(err, (*_NO_CONNECTION, boto.CredentialRetrievalError, RetriesExceededError)):
        return Outage(type(err).__name__)
    return None


def is_silence(err: object) -> bool:
    """Returns whether a server took a connection and then neither read nor sent for as long as a time-out."""
    if isinstance(err, RetriesExceededError):
        return is_silence(getattr(err, "last_exception", None))  # boto3's types lack it
    if isinstance(err, boto.ConnectionClosedError):  # so botocore calls a time-out of sending
        cause = err.kwargs.get("error")
        return isinstance(cause, Exception) and any(isinstance(each, TimeoutError) for each in cause.args)
    return isinstance(err, boto.ReadTimeoutError)


def is_too_slow(err: BaseException | None) -> bool:
    """Returns whether a server moved bytes, but fewer than it must."""
    if isinstance(err, RetriesExceededError):
        return is_too_slow(getattr(err, "last_exception", None))
    while err is not None and not isinstance(err, TooSlowError):
        err = err.__cause__ or err.__context__
    return err is not None


def is_rejected(err: ClientError) -> bool:
    """Returns whether the server rejected the credentials, which may have been renewed since the client was built."""
    code = err.response["Error"]["Code"]
    return http_status(err) in (401, 403) or code in _REJECTED_WITH_400


def is_unexplained(err: ClientError) -> bool:
    """Returns whether the server rejected a request without a reason, as it must where the answer has no body (HEAD).

    Credentials that have expired are then an outage that passes, like with any other request; that takes their code.
    """
    return err.operation_name == "HeadObject" and is_rejected(err) and err.response["Error"]["Code"].isdigit()


def explain(uri: str, endpoint: str, err: Exception) -> CnnlibError:
    """Returns the error of this project that says what happened to a request about a URI, and what to do."""
    if isinstance(err, ClientError):
        return _explain_answer(uri, endpoint, err)
    return _explain_no_answer(uri, endpoint, err)


def _explain_answer(uri: str, endpoint: str, err: ClientError) -> CnnlibError:
    status, code = http_status(err), err.response["Error"]["Code"]
    answer = f"{code} {err.response['Error'].get('Message', '')}".strip()
    if code == "NoSuchBucket":
        return AccessError(
            f"There is no bucket {split_s3(uri).bucket!r} at {endpoint}, needed for {uri}. "
            "Check the bucket's name and AWS_ENDPOINT_URL, or create the bucket."
        )
    if status == 404:
        return NotFoundError(f"There is no object {uri} at {endpoint}. Check the bucket and the key.")
    if err.operation_name in _WRITES and _is_about_checksums(status, code, answer):
        return StorageError(
            f"{endpoint} refuses the checksum that is sent with {uri}: {answer}. Expected a store that takes the "
            "checksums of today's S3. Set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, on every node, or update "
            "the store."
        )
    if status == 501:
        return StorageError(
            f"{endpoint} does not implement what {err.operation_name} on {uri} needs: {answer}. Expected a store with "
            "put-if-absent (If-None-Match: *), as AWS S3 and SeaweedFS have it. Update or replace it; if it only "
            "refuses checksums, set AWS_REQUEST_CHECKSUM_CALCULATION=when_required."
        )
    if code == "RequestTimeTooSkewed":
        return AccessError(
            f"{endpoint} refuses {err.operation_name} on {uri}: {answer}. Expected a clock that agrees with the "
            "server's within minutes. Set the clock of this machine, or of the server (NTP)."
        )
    if status in (401, 403) or code in _REJECTED_WITH_400:
        return AccessError(
            f"{endpoint} refuses {err.operation_name} on {uri}: {answer}. Expected credentials that permit it. "
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, AWS_DEFAULT_REGION, and the bucket's "
            "policy (without the permission to list, an object that does not exist gives 403 too)."
        )
    return StorageError(
        f"{endpoint} failed at {err.operation_name} on {uri}{_for_how_long(err)}: {answer}. "
        "Check the storage server's health and its log, and that AWS_ENDPOINT_URL is its S3 port."
    )


def _is_about_checksums(status: int, code: str, answer: str) -> bool:
    return code in _CHECKSUM_CODES or (
        status in (400, 411, 501) and _CHECKSUM_WORDS.search(answer) is not None
    )


def _explain_no_answer(uri: str, endpoint: str, err: Exception) -> CnnlibError:
    if is_silence(err) and is_too_slow(err):
        least = f"{storage_least_bytes_per_s() / 1000:g} kB a second ({LEAST_RATE_VARIABLE})"
        return StorageError(
            f"{endpoint} is too slow about {uri}: it moved fewer than {least}{_for_how_long(err)}. Check the server "
            f"and the network. On a line that is so slow, lower {LEAST_RATE_VARIABLE} on every node; 0: any rate."
        )
    if isinstance(
        err, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, RetriesExceededError)
    ):
        return StorageError(
            f"No answer from {endpoint} about {uri}{_for_how_long(err)}: {err}. Expected a server that answers. Check "
            "AWS_ENDPOINT_URL, and that this machine can reach it."
        )
    if isinstance(err, boto.FlexibleChecksumError):
        return StorageError(
            f"The checksum that {endpoint} sent with {uri} is not that of its bytes: {err} Check the store and the "
            "network. If the store computes other checksums, set AWS_RESPONSE_CHECKSUM_VALIDATION=when_required."
        )
    if isinstance(err, boto.ParamValidationError):
        return InputError(f"{uri} is not a possible name: {err}. Expected s3://bucket/key.")
    if isinstance(err, _CREDENTIALS_ERRORS):
        return AccessError(
            f"No usable credentials for {uri}: {err}. Expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or a machine with a role. Set them where this runs; on a cluster, on every node."
        )
    return StorageError(f"S3 failed at {uri}: {err}. Check the endpoint, the network and the server's log.")


def _for_how_long(err: Exception) -> str:
    """Says how long a request was repeated, for an error that is repeated at all."""
    outage = find_outage(err)
    if outage is None:
        return ""
    if is_silence(err):
        return f" for up to {storage_silence_s():.0f} s ({SILENCE_VARIABLE})"
    return f" for {storage_wait_s():.0f} s ({WAIT_VARIABLE})"
