"""Datasets that keep image files: what is stored, and that everybody sees the same pixels."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cnnlib.dataset.decode import ImageRules, decode_image
from cnnlib.dataset.encoding import FileFormat, ImageEncoding, to_stored
from cnnlib.dataset.manifest import Manifest, load_manifest
from cnnlib.dataset.reader import read_positions
from cnnlib.dataset.record import IMAGE, decode_shard, encode_file_shard, open_shard
from cnnlib.dataset.stream_writer import StreamOptions, run_in_threads, write_streamed
from cnnlib.dataset.streamed import StreamedSource, row_id
from cnnlib.dataset.verify import verify_dataset
from cnnlib.errors import ConflictError, DatasetError
from cnnlib.sources.folders import load_folders
from cnnlib.storage import files
from tests.image_files import encode, noise, write_folders

RULES = ImageRules(size=(12, 10), channels=3)


def smooth(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Returns an image that JPEG hardly changes, uint8 [height, width, 3]."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 4, columns * 4, rows + columns], axis=-1).astype(np.uint8)


def prepare(source: StreamedSource, output: str, encoding: ImageEncoding | None) -> Manifest:
    options = StreamOptions(shard_bytes=12 * 10 * 3 * 10, encoding=encoding)
    return write_streamed(source, output, options, run_in_threads).manifest


def stored_files(output: str, manifest: Manifest) -> dict[int, bytes]:
    tables = [
        open_shard(files.read_bytes(f"{output}/{shard.name}"), shard.name)
        for split in manifest.splits.values()
        for shard in split.shards
    ]
    return {row["id"]: row[IMAGE] for table in tables for row in table.to_pylist()}


def pixels_by_id(output: str, manifest: Manifest) -> dict[int, npt.NDArray[np.uint8]]:
    found = {}
    for split in manifest.splits.values():
        rows = read_positions(output, manifest, split, np.arange(split.rows))
        found |= dict(zip(rows.ids.tolist(), rows.images, strict=True))
    return found


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_files_of_the_format_stay_as_they_came(tmp_path: Path, kind: FileFormat) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(15):
            data = encode(noise(20 + number, 30, 3, seed=number), kind.upper())
            (tmp_path / "images" / label / f"{number}.{kind}").write_bytes(data)
    source = load_folders(str(tmp_path / "images"), RULES)
    output = str(tmp_path / "data")
    manifest = prepare(source, output, ImageEncoding(format=kind, rules=RULES))
    assert load_manifest(output) == manifest
    stored, pixels = stored_files(output, manifest), pixels_by_id(output, manifest)
    assert len(stored) == 30
    for candidate in source.candidates:
        original = (tmp_path / "images" / candidate.key).read_bytes()
        assert stored[row_id(candidate.key)] == original
        np.testing.assert_array_equal(pixels[row_id(candidate.key)], decode_image(original, RULES))
    assert verify_dataset(output, manifest) == {name: each.rows for name, each in manifest.splits.items()}


def test_png_files_give_the_very_pixels_of_a_dataset_of_pixels(tmp_path: Path) -> None:
    source = load_folders(str(write_folders(tmp_path / "images", rows=25, side=31)), RULES)
    raw = prepare(source, str(tmp_path / "raw"), None)
    png = prepare(source, str(tmp_path / "png"), ImageEncoding(format="png", rules=RULES))
    assert raw.fingerprint != png.fingerprint
    assert raw.source_digest != png.source_digest
    expected, found = pixels_by_id(str(tmp_path / "raw"), raw), pixels_by_id(str(tmp_path / "png"), png)
    assert expected.keys() == found.keys()
    for number, image in expected.items():
        np.testing.assert_array_equal(found[number], image)


@pytest.mark.parametrize(
    ("kind", "picture", "options", "tolerance"),
    [
        ("png", noise(9, 7, 3), {}, 0),
        ("png", noise(9, 7, 1), {}, 0),
        ("png", Image.fromarray(noise(9, 7, 4), "RGBA"), {"lossless": True}, 0),
        ("jpeg", smooth(40, 30), {}, 6),
    ],
)
def test_other_files_are_encoded_in_their_own_size(
    kind: FileFormat, picture: object, options: dict[str, object], tolerance: int
) -> None:
    original = encode(picture, "WEBP", lossless=True) if options else encode(picture, "BMP")  # type: ignore[arg-type]
    rules = ImageRules(channels=3)
    stored = to_stored(original, ImageEncoding(format=kind, rules=rules))
    with Image.open(io.BytesIO(stored)) as opened:
        assert opened.format == kind.upper()
    before, after = decode_image(original, rules).astype(int), decode_image(stored, rules).astype(int)
    assert before.shape == after.shape
    assert np.abs(before - after).max() <= tolerance


def test_the_encoding_belongs_to_what_a_dataset_is(tmp_path: Path) -> None:
    source = load_folders(str(write_folders(tmp_path / "images", rows=15)), RULES)
    output = str(tmp_path / "data")
    png = ImageEncoding(format="png", rules=RULES)
    manifest = prepare(source, output, png)
    assert prepare(source, output, png).fingerprint == manifest.fingerprint
    for other in (None, ImageEncoding(format="jpeg", rules=RULES)):
        with pytest.raises(ConflictError, match="already holds another dataset"):
            prepare(source, output, other)


def test_a_document_gives_the_encoding_again() -> None:
    for size in ((5, 6), None):
        encoding = ImageEncoding(
            format="jpeg", rules=ImageRules(size=size, resize="fit", background=(1, 2, 3))
        )
        assert ImageEncoding.from_document(encoding.to_document()) == encoding
    with pytest.raises(ValueError, match="image format 'bmp', expected jpeg or png"):
        ImageEncoding.from_document({**encoding.to_document(), "format": "bmp"})


@pytest.mark.parametrize(
    "damaged", [b"no image", encode(noise(20, 20, 3), "PNG")[:-60], encode(noise(1, 1, 3))]
)
def test_a_damaged_file_in_a_shard_is_an_error_that_names_the_row(damaged: bytes) -> None:
    encoding = ImageEncoding(format="png", rules=ImageRules(channels=3))  # of a fixed size, 20x20
    good = encode(noise(20, 20, 3), "PNG")
    data = encode_file_shard(
        np.array([4, 77]),
        np.zeros(2, np.int32),
        [good, damaged],
        {},
        image_shape=(20, 20, 3),
        encoding=encoding,
    )
    with pytest.raises(DatasetError, match=r"part-0: the image file of the row 77 cannot be read: "):
        decode_shard(data, "part-0")


def test_a_manifest_with_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    source = load_folders(str(write_folders(tmp_path / "images", rows=15)), RULES)
    manifest = prepare(source, str(tmp_path / "data"), ImageEncoding(format="png", rules=RULES))
    from cnnlib.dataset.manifest import _parse

    document = manifest.to_json()
    for change in ({"format": "tiff"}, {"rules": {"size": [0, 4]}}, {"rules": {"colour": 1}}):
        with pytest.raises(DatasetError, match="missing or invalid entry"):
            _parse({**document, "encoding": {**document["encoding"], **change}}, "data")
    assert dataclasses.replace(manifest, encoding=None).fingerprint != manifest.fingerprint


def test_a_jpeg_with_a_second_picture_in_it_stays_as_it_came() -> None:
    first, second = (Image.fromarray(smooth(40, 60)) for _ in range(2))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second], quality=80)
    with Image.open(io.BytesIO(file.getvalue())) as picture:
        assert picture.format == "MPO"
    encoding = ImageEncoding(format="jpeg", rules=ImageRules(size=(8, 8)))
    assert to_stored(file.getvalue(), encoding) == file.getvalue()
