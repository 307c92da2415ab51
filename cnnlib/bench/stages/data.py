"""Defines the stages that move data and train nothing: `ingest` and `prepare`."""

from __future__ import annotations

from cnnlib.bench.harness import Comparison
from cnnlib.bench.programs import Program, reported, whole_command
from cnnlib.bench.stages.contenders import our_ingest, tfrecord_iterate
from cnnlib.bench.stages.setting import Setting

_ALL_ROWS = 60_000
_TEST_ROWS = 10_000
# Shards of `jobs.prepare` have at least 4 MiB of pixels: see cnnlib/dataset/writer.py.
_SHARD_PIXELS = 4 * 2**20
_IMAGE_PIXELS = 28 * 28
_PHOTOS, _PHOTO_SIDE = 5_000, 224
_INGESTED_PHOTOS, _PHOTO_BATCH, _CROP_AREA = 2_000, 32, "0.08"
_MOST_SHARD_PIXELS = 16 * 2**20


def build_ingest(setting: Setting) -> list[Comparison]:
    """Returns the comparisons of the second pass from Parquet shards, or TFRecord files, to tensors."""
    rows, threads = setting.rows or _ALL_ROWS, str(setting.threads)
    comparisons = []
    for batch_size in setting.batch_sizes:
        ours = our_ingest(rows, batch_size, setting.threads)
        peers = [
            (_ray_iterate("to_tf", rows, batch_size, threads), 10.0),
            (_ray_iterate("iter_tf_batches", rows, batch_size, threads), 10.0),
            (tfrecord_iterate(rows, batch_size, setting.threads), 1.0),
        ]
        comparisons += [
            Comparison(
                stage="ingest",
                case=f"batch {batch_size}, second pass over {rows} images",
                ours=ours,
                peer=peer,
                unit="images/s",
                target=target,
            )
            for peer, target in peers
        ]
    return comparisons


def build_ingest_images(setting: Setting) -> list[Comparison]:
    """Returns the comparisons of the second pass over JPEG files, to batches of random crops."""
    rows, threads = setting.rows or _INGESTED_PHOTOS, str(setting.threads)
    photos, batch_size = f"{{photos:{rows}}}", str(_PHOTO_BATCH)
    cropped = (photos, batch_size, threads, str(_PHOTO_SIDE), _CROP_AREA)
    ours = ("-m", "cnnlib.bench.ours.ingest", f"{{jpeg_dataset:{rows}}}", batch_size, threads, _CROP_AREA)
    peers = [
        (
            "libjpeg-turbo (Pillow), whole files, decoding alone",
            ("-m", "cnnlib.bench.peers.jpeg.decode", photos, threads),
            0.7,
        ),
        ("tf.data, decode_and_crop_jpeg", ("-m", "cnnlib.bench.peers.jpeg.tf_data", *cropped), 1.0),
        (
            "Ray Data read_images, map, iter_batches",
            ("-m", "cnnlib.bench.peers.jpeg.ray_data", *cropped),
            3.0,
        ),
    ]
    measurement = reported("images_per_s")
    return [
        Comparison(
            stage="ingest-images",
            case=f"{rows} JPEG files of 500x375, random crops to {_PHOTO_SIDE}x{_PHOTO_SIDE}, second pass",
            ours=Program(name="ours", arguments=ours, measurement=measurement),
            peer=Program(name=name, arguments=arguments, measurement=measurement),
            unit="images/s",
            target=target,
        )
        for name, arguments, target in peers
    ]


def build_prepare(setting: Setting) -> list[Comparison]:
    """Returns the comparison of the whole command that converts IDX files to shards."""
    rows = setting.rows or _ALL_ROWS
    shards = [str(_num_shards(count)) for count in (rows, min(rows, _TEST_ROWS))]
    source = f"{{idx:{rows}}}"
    return [
        Comparison(
            stage="prepare",
            case=f"{rows} images to {shards[0]} + {shards[1]} shards, from command to exit",
            ours=Program(
                name="ours",
                arguments=("-m", "jobs.prepare", "idx", source, "--output", "{fresh}"),
                measurement=whole_command,
            ),
            peer=Program(
                name="a straight loop with pyarrow",
                arguments=("-m", "cnnlib.bench.peers.pyarrow_prepare", source, "{fresh}", *shards),
                measurement=whole_command,
            ),
            unit="s",
            target=1.0,
        )
    ]


def build_prepare_images(setting: Setting) -> list[Comparison]:
    """Returns the comparisons of the whole command that converts JPEG files to shards of small images."""
    rows = setting.rows or _PHOTOS
    source, side = f"{{photos:{rows}}}", str(_PHOTO_SIDE)
    shard_rows = str(_MOST_SHARD_PIXELS // (_PHOTO_SIDE**2 * 3))
    ours = (
        "-m",
        "jobs.prepare",
        "folders",
        source,
        "--size",
        side,
        "--splits",
        "train=1",
        "--output",
        "{fresh}",
    )
    peers = [
        (
            "a straight loop with Pillow",
            ("-m", "cnnlib.bench.peers.pillow_prepare", source, "{fresh}", side, shard_rows),
            3.0,
        ),
        (
            "Ray Data read_images, write_parquet",
            ("-m", "cnnlib.bench.peers.ray.read_images", source, "{fresh}", side),
            2.0,
        ),
    ]
    return [
        Comparison(
            stage="prepare-images",
            case=f"{rows} JPEG files of 500x375 to {side}x{side}, from command to exit",
            ours=Program(name="ours", arguments=ours, measurement=whole_command),
            peer=Program(name=name, arguments=arguments, measurement=whole_command),
            unit="s",
            target=target,
        )
        for name, arguments, target in peers
    ]


def _ray_iterate(method: str, rows: int, batch_size: int, threads: str) -> Program:
    return Program(
        name=f"Ray Data {method}",
        arguments=(
            *("-m", "cnnlib.bench.peers.ray.iterate", method, f"{{ray_parquet:{rows}}}"),
            *(str(batch_size), threads),
        ),
        measurement=reported("images_per_s"),
    )


def _num_shards(rows: int) -> int:
    return -(-rows * _IMAGE_PIXELS // _SHARD_PIXELS)
