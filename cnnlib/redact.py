"""Hides secrets in texts that are written down: passwords in URIs, and the signatures of URIs that carry one."""

from __future__ import annotations

import re

HIDDEN = "***"
# The name and the password of scheme://name:password@host, as RFC 3986 allows them there; and with no password, a name
# that is a token.
_USER = re.compile(r"(?<=://)[^\s/?#@'\"]+@")
_PARAMETER = re.compile(
    r"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId|sig|token|password)=)[^&\s'\"]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Returns a text without the secrets of the URIs in it.

    >>> redact("MLflow at http://ann:pw@host:5000/a cannot be used")
    'MLflow at http://***@host:5000/a cannot be used'
    >>> redact("s3://bucket/a@b, https://host/a?X-Amz-Signature=0a1b&x=1")
    's3://bucket/a@b, https://host/a?X-Amz-Signature=***&x=1'
    """
    return _PARAMETER.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))
