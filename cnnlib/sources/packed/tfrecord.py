"""Lists the images of TFRecord files of `tf.train.Example`, without TensorFlow.

A record is its length (uint64), a checksum of that, the data, and a checksum of them, as
https://www.tensorflow.org/tutorials/load_data/tfrecord describes. The features are those of TensorFlow's image
datasets, unless others are named: `image/encoded`, `image/class/label`, and `image/class/text` for the names of these.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import google_crc32c

from cnnlib.dataset.streamed import StreamedSource
from cnnlib.errors import ConfigError, DatasetError
from cnnlib.sources.columns import LABEL_NAMES
from cnnlib.sources.packed.example import parse_example
from cnnlib.sources.packed.find import PackedFile, find_packed_files
from cnnlib.sources.packed.records import PackedOptions, Record, Records, Span, build_packed_source
from cnnlib.sources.second_column import to_label
from cnnlib.storage.range_file import open_range_file
from cnnlib.storage.threads import DECODE_THREADS, map_threads

_ENDINGS = (".tfrecord", ".tfrecords", ".tfrec")
_IMAGES = ("image/encoded", "image", "image_raw", "encoded", "jpeg", "png")
_LABELS = ("image/class/label", "image/class/text", *LABEL_NAMES)
_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK = 0xA282EAD8
_BUFFER_BYTES = 4 * 2**20
_TEXT_BYTES = 1024  # a longer feature is data, not metadata


def load_tfrecord(pattern_uri: str, options: PackedOptions) -> StreamedSource:
    """Lists the images of TFRecord files. Reads the files once, because a label is beside its image.

    Args:
        pattern_uri: a pattern such as `DIR/train-*`, a file, or a folder with files that end in `.tfrecord`.
        options: `image_column` and `label_column` name the features.

    Raises:
        NotFoundError: there is no such file.
        DatasetError: a file is no TFRecord file, is compressed, damaged or cut off, or there is no label.
        ConfigError: class names or splits cannot work, or no record has such features.
    """
    packed = find_packed_files(pattern_uri, _ENDINGS)
    listed = map_threads(lambda file: _list_records(file, options), packed, threads=DECODE_THREADS)
    return build_packed_source(list(zip(packed, listed, strict=True)), options, f"TFRecord {pattern_uri}")


def _list_records(file: PackedFile, options: PackedOptions) -> Records:
    records, seen = Records(), set[str]()
    with open_range_file(file.uri, file.num_bytes, _BUFFER_BYTES) as opened:
        for number, (first, data) in enumerate(_read_records(file, opened)):
            records.append(_to_record(f"{file.name}#{number}", Span(file.uri, first, 0), data, options, seen))
    for given, usual, flag in (
        (options.image_column, _IMAGES, "image-column"),
        (options.label_column, _LABELS, "label-column"),
    ):
        if seen and given is None and seen.isdisjoint(usual):
            raise ConfigError(
                f"{file.uri} has only records without a feature called {', '.join(usual)}. It has "
                f"{', '.join(sorted(seen))}. Give --{flag}."
            )
    return records


def _read_records(file: PackedFile, opened: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yields the place and the data of every record; None for data whose checksum is wrong."""
    place = 0
    while place < file.num_bytes:
        header = opened.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise _cut_off(file, place)
        length, checksum = _HEADER.unpack(header)
        if _masked(header[:8]) != checksum:
            if header[:2] == b"\x1f\x8b":
                raise DatasetError(f"{file.uri} is compressed. Decompress it first, for example with gunzip.")
            raise DatasetError(
                f"{file.uri} is no TFRecord file, or damaged: the checksum at its byte {place} is wrong."
            )
        if place + _HEADER.size + length + _CHECKSUM.size > file.num_bytes:
            raise _cut_off(file, place)
        data = opened.read(length)
        (checksum,) = _CHECKSUM.unpack(opened.read(_CHECKSUM.size))
        yield place + _HEADER.size, data if _masked(data) == checksum else None
        place += _HEADER.size + length + _CHECKSUM.size


def _to_record(key: str, place: Span, data: bytes | None, options: PackedOptions, seen: set[str]) -> Record:
    """Returns a record, and adds the names of its features to `seen`."""
    if data is None:
        return Record(key=key, span=None, label=None, problem="the record's checksum is wrong")
    try:
        features = parse_example(data)
    except ValueError:
        return Record(key=key, span=None, label=None, problem="the record is no tf.train.Example")
    seen.update(features)
    image_name = options.image_column or _find(features, _IMAGES)
    label_name = options.label_column or _find(features, _LABELS)
    images = features.get(image_name, []) if image_name else []
    image = images[0] if len(images) == 1 and isinstance(images[0], bytes) else None
    labels = [_to_text(each) for each in features.get(label_name, [])] if label_name else []
    return Record(
        key=key,
        # The bytes of the image stand in the record as they are.
        span=None if image is None else Span(place.uri, place.first + data.index(image), len(image)),
        label=to_label(labels[0]) if len(labels) == 1 else None,
        label_field=label_name or "",
        metadata={
            name: _to_text(values[0])
            for name, values in features.items()
            if name not in (image_name, label_name) and len(values) == 1 and _is_short(values[0])
        },
    )


def _find(features: Mapping[str, Sequence[Any]], usual: Sequence[str]) -> str | None:
    """Returns the first feature with a usual name that is not empty; None if there is none."""
    return next(
        (name for name in usual if any(value not in (b"", b" ") for value in features.get(name, ()))), None
    )


def _to_text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _is_short(value: Any) -> bool:
    return not isinstance(value, bytes) or (len(value) <= _TEXT_BYTES and _to_text(value) is not None)


def _masked(data: bytes) -> int:
    checksum: int = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF


def _cut_off(file: PackedFile, place: int) -> DatasetError:
    return DatasetError(f"{file.uri} is cut off in the record at its byte {place}. Copy it again.")
