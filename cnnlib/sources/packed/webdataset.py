"""Lists the images of WebDataset: tar files in which the members of a sample share their name up to the first dot.

`dog/0001.jpg` and `dog/0001.cls` are one sample, `dog/0001`. Its label is what `.cls` holds, a number or a name, else a
field of `.json`, whose other values are metadata. Format: https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import IO, Any

from cnnlib.dataset.decode import EXTENSIONS
from cnnlib.dataset.streamed import StreamedSource
from cnnlib.errors import DatasetError
from cnnlib.sources.columns import LABEL_NAMES
from cnnlib.sources.packed.find import PackedFile, find_packed_files
from cnnlib.sources.packed.records import PackedOptions, Record, Records, Span, build_packed_source
from cnnlib.sources.second_column import to_label
from cnnlib.storage.range_file import open_range_file
from cnnlib.storage.threads import map_threads

_LABEL_BYTES = 2**20
_BLOCK = 512
_CLS = "cls"
_DIGITS = re.compile("0|-?[1-9][0-9]{0,17}")
_SHOWN = 5


@dataclass(kw_only=True)
class _Sample:
    spans: list[Span] = field(default_factory=list)
    label: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    problem: str = ""


def load_webdataset(pattern_uri: str, options: PackedOptions) -> StreamedSource:
    """Lists the samples of tar files. Reads their headers and labels, but no image.

    Args:
        pattern_uri: a pattern such as `DIR/train-*.tar`, a file, or a folder with tar files.
        options: `label_column` names the field of `.json` with the label.

    Raises:
        NotFoundError: there is no such file.
        DatasetError: a file is no tar file, is damaged or cut off, or there is no label.
        ConfigError: class names, splits or the label's field cannot work.
    """
    packed = find_packed_files(pattern_uri, (".tar",))
    endings: set[str] = set()
    listed = map_threads(lambda file: _list_samples(file, options.label_column, endings), packed)
    has_labels = any(record.label is not None for of_file in listed for record in of_file)
    has_images = any(record.span for of_file in listed for record in of_file)
    if not (has_labels or options.label_column) or not has_images:
        records = [record for of_file in listed for record in of_file]
        if records and all(each.problem for each in records):
            first = f"{records[0].key}: {records[0].problem}"
            raise DatasetError(f"WebDataset {pattern_uri}: no sample can be used. First: {first}.")
        what = "image" if not records or (has_labels and not has_images) else "label"
        raise _nothing_found(what, endings, f"WebDataset {pattern_uri}")
    if _are_numbers(record.label for of_file in listed for record in of_file):
        listed = [Records(map(_to_number, of_file)) for of_file in listed]
    return build_packed_source(list(zip(packed, listed, strict=True)), options, f"WebDataset {pattern_uri}")


def _nothing_found(what: str, endings: Collection[str], description: str) -> DatasetError:
    shown = ", ".join(f".{each}" for each in sorted(endings)[:_SHOWN]) or "nothing: it has none"
    return DatasetError(
        f"{description}: no sample has {'an image' if what == 'image' else 'a label'}. Its members end in "
        f"{shown}{', …' if len(endings) > _SHOWN else ''}. Expected KEY.jpg or KEY.png with KEY.cls, or "
        f"with KEY.json and a field {', '.join(LABEL_NAMES)} (another: --label-column). A key ends at the first dot."
    )


def _are_numbers(labels: Iterable[Any]) -> bool:
    """Returns whether all labels that are texts are the decimal digits of a number, as Python writes it."""
    texts = {label for label in labels if isinstance(label, str)}
    return all(_DIGITS.fullmatch(text) for text in texts)


def _to_number(record: Record) -> Record:
    return replace(record, label=int(record.label)) if isinstance(record.label, str) else record


def _list_samples(file: PackedFile, label_field: str | None, endings: set[str]) -> Records:
    """Lists the samples of a file, and adds the endings of its members to `endings`."""
    samples: dict[str, _Sample] = {}
    with open_range_file(file.uri, file.num_bytes) as opened:
        for member, stream in _members(file, opened):
            folder, _, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            endings.add(ending.lower())
            sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, _Sample())
            if f".{ending.lower()}" in EXTENSIONS:
                sample.spans.append(Span(file.uri, member.offset_data, member.size))
            elif ending.lower() in (_CLS, "json"):
                _read_label(sample, ending.lower(), member, stream)
    records = (_to_record(file, key, sample, label_field) for key, sample in samples.items())
    # A sample of neither an image nor a label is something else, such as a licence.
    return Records(
        each for each in records if each.span is not None or each.label is not None or each.problem
    )


def _members(file: PackedFile, opened: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yields the files in a tar file; makes sure that it is read to its end, which Python's module does not."""
    try:
        with tarfile.open(fileobj=opened, mode="r:") as archive:
            for member in archive:
                if member.offset_data + member.size > file.num_bytes:
                    raise DatasetError(f"{file.uri} is cut off in {member.name}. Copy it again.")
                if member.isfile() and not member.name.rpartition("/")[2].startswith("."):
                    stream = archive.extractfile(member)
                    assert stream is not None
                    yield member, stream
            end = archive.offset
    except tarfile.TarError as err:
        raise DatasetError(
            f"{file.uri} cannot be read as a tar file: {err}. Expected a tar file without compression."
        ) from err
    if file.num_bytes - end < _BLOCK:
        raise DatasetError(f"{file.uri} is cut off after its byte {end}: it has no end mark. Copy it again.")
    opened.seek(end)
    while block := opened.read(2**20):
        if block.strip(b"\0"):
            raise DatasetError(f"{file.uri} is damaged, or more than one tar file, after its byte {end}.")


def _read_label(sample: _Sample, ending: str, member: tarfile.TarInfo, stream: IO[bytes]) -> None:
    if ending in sample.read:
        sample.problem = f"several .{ending} of one name"
    sample.read.add(ending)
    try:
        text = stream.read(_LABEL_BYTES).decode("utf-8-sig")
        if ending == _CLS:
            sample.label = text.strip()
        else:
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise ValueError(f"{member.name} is no object")
            sample.fields = fields
    except ValueError:
        sample.problem = f".{ending} cannot be read"


def _to_record(file: PackedFile, key: str, sample: _Sample, label_field: str | None) -> Record:
    fields = dict(sample.fields)
    value: Any = sample.label
    name = label_field or _CLS
    if value is None or name != _CLS:
        name = label_field or next((each for each in (*LABEL_NAMES, _CLS) if each in fields), "")
        value = fields.pop(name, None)
    label = None if isinstance(value, list | dict) else to_label(value)
    problem = (
        sample.problem
        or ("several images of one name" if len(sample.spans) > 1 else "")
        or ("the label is no name or number" if isinstance(value, list | dict) else "")
    )
    return Record(
        key=f"{file.name}/{key}",
        span=sample.spans[0] if len(sample.spans) == 1 else None,
        label=label,
        label_field=name,
        problem=problem,
        metadata={
            name: value for name, value in fields.items() if isinstance(value, bool | int | float | str)
        },
    )
