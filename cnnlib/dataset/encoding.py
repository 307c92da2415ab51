"""Image files as they are stored in shards, and how they become pixels: for datasets that keep JPEG or PNG files.

Such a dataset states the rules by which every image becomes pixels of one shape. Training and evaluation decode by the
same rules, so they see the same pixels.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cnnlib.dataset.decode import ImageRules, file_format, flatten_image

FileFormat = Literal["jpeg", "png"]
_JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class ImageEncoding:
    """How the images of a dataset are stored.

    Attributes:
        format: of every stored file.
        rules: by which a file becomes pixels.
    """

    format: FileFormat
    rules: ImageRules

    def to_document(self) -> dict[str, Any]:
        """Returns the encoding as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ImageEncoding:
        """Reads what `to_document` returned.

        Raises:
            ValueError: the format is unknown.
            TypeError, KeyError: an entry is missing or unknown.
        """
        rules = dict(document["rules"])
        for name in ("size", "background"):
            rules[name] = rules[name] and tuple(rules[name])
        if document["format"] not in ("jpeg", "png"):
            raise ValueError(f"the image format {document['format']!r}, expected jpeg or png")
        return cls(format=document["format"], rules=ImageRules(**rules))


def to_stored(data: bytes, encoding: ImageEncoding) -> bytes:
    """Returns the bytes under which an image file is stored.

    A file of the format stays as it is. Another one is turned upright, laid over the background and encoded, in its
    own size: PNG keeps every pixel, JPEG has the quality 95.

    Args:
        data: an image file that `decode_image` has read.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        if file_format(picture) == encoding.format.upper():
            return data
        flat = flatten_image(picture, encoding.rules)
    stored = io.BytesIO()
    options = {"quality": _JPEG_QUALITY} if encoding.format == "jpeg" else {}
    flat.save(stored, encoding.format.upper(), **options)
    return stored.getvalue()
