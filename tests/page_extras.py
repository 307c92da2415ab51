"""Computes the optional tables of a report from real images and a real model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from scipy import ndimage

from cnnlib.dataset.source import SourceSplit
from cnnlib.metrics.sums.metric_sums import MetricSums
from cnnlib.reports.schema import table_schema

_CORRUPTIONS = ("noise", "blur", "shift", "rotation", "contrast", "occlusion")


def page_extras(model: Any, split: SourceSplit, top_k: int) -> dict[str, Any]:
    """Returns slices, corruptions, cost and activations, from the real images and the real model."""
    images = split.images[..., 0].astype(np.float64)

    def score(chosen: np.ndarray, pixels: np.ndarray) -> MetricSums:
        probabilities = model.predict_proba(pixels[chosen].reshape(chosen.sum(), -1) / 255.0)
        return MetricSums.from_probabilities(
            split.labels[chosen], probabilities.astype(np.float32), top_k=top_k
        )

    slices = {}
    for name, values in (("brightness", images.mean(axis=(1, 2))), ("contrast", images.std(axis=(1, 2)))):
        quarter = np.digitize(values, np.quantile(values, [0.25, 0.5, 0.75]))
        slices |= {f"{name}=q{part + 1}": score(quarter == part, images) for part in range(4)}
    every = np.ones(len(images), bool)
    for kind in _CORRUPTIONS:
        for strength in range(1, 6):
            slices[f"corruption={kind}/{strength}"] = score(every, _corrupt(images, kind, strength))
    return {
        "slices": slices,
        "parameters": sum(each.size for each in (*model.coefs_, *model.intercepts_)),
        "flops_per_image": 2 * sum(each.size for each in model.coefs_),
        "activations": _activations(images[0]),
    }


def _corrupt(images: np.ndarray, kind: str, strength: int) -> np.ndarray:
    match kind:
        case "noise":
            noise = np.random.default_rng(2).normal(0, 14 * strength, images.shape)
            return np.clip(images + noise, 0, 255)
        case "blur":
            return ndimage.gaussian_filter(images, (0, 0.5 * strength, 0.5 * strength))
        case "shift":
            return np.roll(images, strength, axis=2)
        case "rotation":
            return ndimage.rotate(images, 6 * strength, axes=(1, 2), reshape=False, order=1)
        case "contrast":
            return images * (1 - 0.17 * strength)
        case _:
            covered = images.copy()
            covered[:, 8 : 8 + 3 * strength, 8 : 8 + 3 * strength] = 0
            return covered


def _activations(image: np.ndarray) -> pa.Table:
    """Returns the table `activations` without `report_id`: an example image, edge kernels, and their activations."""
    rng, pixels = np.random.default_rng(3), image / 255.0
    edge = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 4
    rows = [_map_row(-1, "image", "image", 0, 1, pixels)]
    for index in range(16):
        kernel = np.rot90(edge, index % 4) + rng.normal(0, 0.2, (3, 3))
        activation = np.maximum(ndimage.convolve(pixels, kernel), 0)
        rows.append(_map_row(0, "conv2d", "kernel", index, 32, kernel))
        rows.append(_map_row(0, "conv2d", "activation", index, 32, activation[1:-1, 1:-1]))
    schema = table_schema("activations")
    return pa.Table.from_pylist(rows, schema=schema.remove(schema.get_field_index("report_id")))


def _map_row(
    layer_index: int, layer: str, kind: str, index: int, total: int, values: np.ndarray
) -> dict[str, Any]:
    return {
        "layer_index": layer_index,
        "layer": layer,
        "kind": kind,
        "map": index,
        "height": values.shape[0],
        "width": values.shape[1],
        "channels": 1,
        "values": values.ravel().tolist(),
        "example_id": 0,
        "total": total,
    }
