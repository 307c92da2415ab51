"""Writes small packed files of images: WebDataset, TFRecord and Parquet."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from tests.image_files import encode, noise

CLASSES = ("cat", "dog")


def picture(number: int, kind: str = "PNG") -> bytes:
    """Returns an image file of 8x8 grey noise, brighter for odd numbers."""
    return encode((noise(8, 8, 1, seed=number) // 8 + number % 2 * 200).astype("uint8"), kind)


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """Writes a tar file of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def samples(numbers: Sequence[int]) -> list[tuple[str, bytes]]:
    """Returns the members of samples with a name as label: of odd numbers dog."""
    return [
        member
        for number in numbers
        for member in (
            (f"{number:04d}.png", picture(number)),
            (f"{number:04d}.cls", CLASSES[number % 2].encode()),
        )
    ]


def masked(data: bytes) -> bytes:
    """Returns the masked checksum of TFRecord."""
    checksum = google_crc32c.value(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(data: bytes) -> bytes:
    """Returns a record of TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def example(features: Mapping[str, Any]) -> bytes:
    """Returns a serialised `tf.train.Example`, encoded here by the rules of Protocol Buffers."""
    body = b"".join(
        _tagged(1, _tagged(1, name.encode()) + _tagged(2, _feature(value)))
        for name, value in features.items()
    )
    return _tagged(1, body)


def _feature(value: Any) -> bytes:
    if isinstance(value, float):
        return _tagged(2, _tagged(1, struct.pack("<f", value)))
    if isinstance(value, int):
        return _tagged(3, _tagged(1, _varint(value)))
    return _tagged(1, _tagged(1, value.encode() if isinstance(value, str) else value))


def _tagged(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def record(number: int, **features: Any) -> bytes:
    """Returns a record with the features of TensorFlow's image datasets."""
    usual = {"image/encoded": picture(number), "image/class/label": number % 2, "image/width": 8}
    return example({**usual, **features})


def write_tfrecord(path: Path, records: Sequence[bytes]) -> Path:
    """Writes a TFRecord file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(frame, records)))
    return path


def write_hugging_face(path: Path, numbers: Sequence[int], **columns: Any) -> Path:
    """Writes a Parquet file as the package `datasets` writes one with an Image and a ClassLabel."""
    info = {
        "info": {
            "features": {
                "image": {"_type": "Image"},
                "label": {"names": list(CLASSES), "_type": "ClassLabel"},
            }
        }
    }
    images = pa.array(
        [{"bytes": picture(number), "path": f"{number}.png"} for number in numbers],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    labels = pa.array([number % 2 for number in numbers], pa.int64())
    table = pa.table({"image": images, "label": labels, **columns})
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {b"huggingface": json.dumps(info).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
    return path
