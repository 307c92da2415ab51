"""All objects of a report as one: a zip archive, so that whoever stores it first has decided about all of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time a zip can tell: the same objects give the same bytes
_UNIX = 3


def pack_claim(objects: Mapping[str, bytes]) -> bytes:
    """The archive of some objects by name. They are stored as they are: Parquet is compressed already."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as claim:
        for name, data in objects.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            claim.writestr(entry, data)
    return archive.getvalue()


def unpack_claim(archive: bytes) -> dict[str, bytes]:
    """The objects of an archive, by name."""
    with zipfile.ZipFile(io.BytesIO(archive)) as claim:
        return {name: claim.read(name) for name in claim.namelist()}
