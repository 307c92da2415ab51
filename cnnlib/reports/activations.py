"""The layer maps of one image in, the table `activations` of a report out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from cnnlib.models.activations import LayerMaps
from cnnlib.reports.schema import table_schema


def activations_table(example_id: int, layers: Iterable[LayerMaps]) -> pa.Table:
    """Builds the table `activations` without its `report_id`: one row per map, in the order of the layers and maps.

    Args:
        example_id: id of the row whose image went through the model.
        layers: what `record_activations` returned; no layers make an empty table.
    """
    schema = table_schema("activations")
    without_id = schema.remove(schema.get_field_index("report_id"))
    return pa.Table.from_pylist(
        [{"example_id": example_id} | row for layer in layers for row in _rows(layer)], schema=without_id
    )


def _rows(layer: LayerMaps) -> Iterable[dict[str, Any]]:
    _, height, width, channels = layer.maps.shape
    for index, values in enumerate(layer.maps):
        yield {
            "layer_index": layer.layer_index,
            "layer": layer.layer,
            "kind": layer.kind,
            "map": index,
            "height": height,
            "width": width,
            "channels": channels,
            "values": values.ravel(),
            "total": layer.total,
        }
