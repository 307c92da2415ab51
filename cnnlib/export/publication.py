"""The files of an exported model in, a folder in storage out, whose manifest comes last and is written once.

The name of the model holds the digest of its files, so two exports at once, or one that was killed, never mix theirs:
the manifest names the model of one of them, and nobody reads the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlib.errors import ConflictError, ModelError, NotFoundError
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri


def find_export(output_uri: str, plan: str) -> dict[str, Any] | None:
    """Returns the manifest of an export that was published before; None if there is none.

    Args:
        plan: the digest that the manifest must state as its plan.

    Raises:
        ConflictError: another export is there.
        ModelError: a file of the export is missing, or has another size.
    """
    try:
        manifest = publish.read_manifest(layout.export_manifest(output_uri))
    except NotFoundError:
        return None
    if manifest.get("plan") != plan:
        raise ConflictError(
            f"{output_uri} already holds another export, of {manifest.get('checkpoint')} as {manifest.get('format')}. "
            "Choose another --output, or delete it."
        )
    for name, stated in manifest.get("files", {}).items():
        if files.find_size(join_uri(output_uri, name)) != stated["bytes"]:
            raise ModelError(
                f"{join_uri(output_uri, name)}, a file of the export, is missing or damaged. Delete "
                f"{layout.export_manifest(output_uri)}, and export again."
            )
    return manifest


def publish_export(output_uri: str, path: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Uploads an exported model, then writes its manifest.

    A crash between the two leaves files that no manifest names, and the same export begins anew.

    Args:
        path: the local file, or folder of files.
        document: what the manifest states beside the files; its `plan` is that of the export.

    Returns:
        The manifest: if the same export was published in the meantime, by another job, that one's.

    Raises:
        ConflictError: another export was published in the meantime.
    """
    local = {str(each.relative_to(path)): each for each in sorted(path.rglob("*")) if each.is_file()} or {
        "": path
    }
    described = {
        name: {"bytes": each.stat().st_size, "sha256": publish.sha256_of_file(each)}
        for name, each in local.items()
    }
    digest = publish.sha256_hex(publish.canonical_json(described))
    model = layout.exported_model(digest, path.suffix)
    uris = {name: join_uri(output_uri, model, name).rstrip("/") for name in local}
    for name, each in local.items():
        files.upload(each, uris[name])
    manifest = {
        **document,
        "model": model,
        "files": {uri.removeprefix(join_uri(output_uri, "")): described[name] for name, uri in uris.items()},
    }
    if files.create_bytes(layout.export_manifest(output_uri), publish.canonical_json(manifest)):
        return manifest
    theirs = find_export(output_uri, document["plan"])
    assert theirs is not None  # it was there a moment ago
    if theirs["model"] != model:
        for uri in uris.values():
            files.delete(uri)
    return theirs
