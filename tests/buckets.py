"""Opens an S3 bucket in pyarrow and DuckDB."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import S3FileSystem

from cnnlib.storage.uri import split_s3


class BucketForDuckdb(ArrowFSWrapper):
    """pyarrow's S3 for DuckDB, whose own S3 reader is an extension that it downloads."""

    protocol = "bucket"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("bucket://")


def open_in_arrow(uri: str) -> tuple[S3FileSystem, str]:
    """Returns pyarrow's file system of the S3 server in the environment, and the path of a URI in it.

    pyarrow finds the keys in the environment itself, but not the endpoint.
    """
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    filesystem = S3FileSystem(
        endpoint_override=endpoint.netloc, scheme=endpoint.scheme, region=os.environ["AWS_DEFAULT_REGION"]
    )
    bucket, key = split_s3(uri)
    return filesystem, f"{bucket}/{key}"
