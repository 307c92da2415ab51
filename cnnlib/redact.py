"""Hides secrets in texts that are written down: passwords in URIs, and the signatures of URIs that carry one."""

from __future__ import annotations

import re

HIDDEN = "***"
# A quotation mark inside a word may be a password's; one that ends a word ends a URI.
_QUOTE = r"\"(?![\s,:;)\]}]|$)"
# The name and the password of scheme://name:password@host; and with no password, a name that is a token. People do not
# encode what RFC 3986 forbids there: all up to the last @ of the authority is theirs.
_USER = re.compile(rf"(?<=://)(?:[^\s/?#\"]|{_QUOTE})+@")
# A password with / ? or #, which SQLAlchemy takes as it is: what is behind the colon is no port.
_PASSWORD = re.compile(rf"(?<=://)[^\s/?#@:\"\[]+:(?!\d*(?:[^\w]|$))(?:[^\s\"]|{_QUOTE})+@")
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
    for pattern in (_USER, _PASSWORD):
        text = pattern.sub(f"{HIDDEN}@", text)
    return _PARAMETER.sub(rf"\1{HIDDEN}", text)
