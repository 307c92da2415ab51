"""What an export is: its model, the images of its check and its output, checked before TensorFlow is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cnnlib.dataset.manifest import Manifest, load_manifest, shard_ranges
from cnnlib.dataset.reader import read_range
from cnnlib.dataset.record import Rows
from cnnlib.errors import DatasetError
from cnnlib.evaluation.target import Target, find_target
from cnnlib.export.publication import find_export
from cnnlib.export_config import ExportConfig
from cnnlib.storage import files, publish

EXPORT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """An export whose model, images and output have been checked.

    Attributes:
        class_names: of the model's outputs: those of the checkpoint; for a model file, those of the dataset.
        num_images: images of the check.
        plan: a digest of what makes this export another one than others; its manifest states it.
        done: the manifest, if the same export was published before.
    """

    config: ExportConfig
    target: Target
    dataset_uri: str
    manifest: Manifest
    class_names: tuple[str, ...]
    num_images: int
    output_uri: str
    plan: str
    done: dict[str, Any] | None

    def read_rows(self, num_rows: int, rows_at_a_time: int) -> Iterator[Rows]:
        """Yields the first rows of the split; reads one shard at a time.

        Raises:
            DatasetError: the bytes of a shard are not those of the manifest.
        """
        shards = self.manifest.split(self.config.split).shards
        for each in shard_ranges(shards, 0, num_rows):
            rows = read_range(self.dataset_uri, self.manifest, each)
            for first in range(0, len(rows), rows_at_a_time):
                yield rows.slice(first, first + rows_at_a_time)


def plan_export(config: ExportConfig, checkpoint: str, dataset_uri: str, output_uri: str) -> ExportPlan:
    """Checks everything that can be checked without loading the model.

    Raises:
        InputError: the model, the images or the output cannot work.
    """
    target = find_target(checkpoint, config.preprocess or config.pixel_range)
    manifest = load_manifest(dataset_uri)
    num_images = min(config.images, manifest.split(config.split).rows)
    if not num_images:
        raise DatasetError(
            f"The split {config.split!r} of {dataset_uri} has no rows. Expected images for the check of the export."
        )
    identity = {
        "export_version": EXPORT_VERSION,
        "format": config.format,
        "checkpoint_digest": target.digest,
        "pixel_range": target.pixel_range or "auto",
        "outputs": config.outputs,
        "dataset_fingerprint": manifest.fingerprint,
        "split": config.split,
        "images": num_images,
        "tolerance": config.tolerance,
    }
    plan = publish.sha256_hex(publish.canonical_json(identity))
    done = find_export(output_uri, plan)
    if done is None:
        files.check_writable(output_uri)
    return ExportPlan(
        config=config,
        target=target,
        dataset_uri=dataset_uri,
        manifest=manifest,
        class_names=target.class_names or manifest.class_names,
        num_images=num_images,
        output_uri=output_uri,
        plan=plan,
        done=done,
    )
