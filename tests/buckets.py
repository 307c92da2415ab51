"""An S3 bucket for DuckDB."""

from __future__ import annotations

from fsspec.implementations.arrow import ArrowFSWrapper


class BucketForDuckdb(ArrowFSWrapper):
    """pyarrow's S3 for DuckDB, whose own S3 reader is an extension that it downloads."""

    protocol = "bucket"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("bucket://")
