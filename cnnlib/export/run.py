"""Exports a model in this process: opens, converts, checks the answers of its files, and publishes them. Needs no Ray.

OUTPUT/model-<digest>, a folder or a file with the suffix of its format, then OUTPUT/manifest.json, which names it.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from cnnlib.cores import num_cores
from cnnlib.errors import CnnlibError, ModelError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.loaded_model import LoadedModel, load_model
from cnnlib.evaluation.pixel_range import Sample
from cnnlib.export import formats
from cnnlib.export.check import CHECK_ROWS, check_answers, compare_models, measure_batches
from cnnlib.export.plan import EXPORT_VERSION, ExportPlan
from cnnlib.export.publication import publish_export
from cnnlib.log import log_event
from cnnlib.models.batches import fit_batch
from cnnlib.models.keras_errors import short_text
from cnnlib.models.runtime import cpu_name, load_tensorflow
from cnnlib.reports.result import installed_versions

_SAMPLE_ROWS = 600  # by which the range of the pixels is checked that a model file takes


class ExportResult(TypedDict):
    """What was exported, as `--json` shows it.

    Attributes:
        model: the name of the exported file or folder, below the output.
        images, same_class, largest_difference: see `Agreement`.
        latency: see `measure_batches`.
        finished_before: True if the same export was there already.
    """

    output: str
    model: str
    format: str
    images: int
    same_class: int
    largest_difference: float
    latency: list[dict[str, Any]]
    finished_before: bool


def export(plan: ExportPlan) -> ExportResult:
    """Exports the model, unless the same export was published before.

    Raises:
        ModelError: the model cannot be opened or converted, or its files give other answers. Nothing is published.
        DatasetError: the images of the check cannot be read.
        ConflictError: another export was published in the meantime.
    """
    manifest = plan.done
    if manifest is None:
        log_event("export", format=plan.config.format, checkpoint=plan.target.uri, images=plan.num_images)
        manifest = _export(plan)
    log_event("exported", uri=plan.output_uri, model=manifest["model"])
    return {
        "output": plan.output_uri,
        "model": manifest["model"],
        "format": manifest["format"],
        "images": manifest["check"]["images"],
        "same_class": manifest["check"]["same_class"],
        "largest_difference": manifest["check"]["largest_difference"],
        "latency": manifest["latency"]["batches"],
        "finished_before": plan.done is not None,
    }


def _export(plan: ExportPlan) -> dict[str, Any]:
    format = plan.config.format
    cpus = plan.config.cpus or num_cores()
    load_tensorflow(cpus)
    ours = _load(plan)
    trained, precision = ours, formats.find_mixed_precision(ours.model)
    if precision is not None and format in formats.ONLY_FLOAT32:
        ours = _load(plan)
        formats.compute_in_float32(ours.model)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"model{formats.SUFFIXES[format]}")
        formats.write_model(ours.model, ours.input_shape, format, path)
        exported = formats.open_exported(format, path, cpus)
        agreement = check_answers(plan, exported, ours)
        log_event("checked", **asdict(agreement))
        document = {
            **_describe(plan, ours, exported),
            "check": {
                "dataset": plan.dataset_uri,
                "dataset_fingerprint": plan.manifest.fingerprint,
                "split": plan.config.split,
                "tolerance": plan.config.tolerance,
                **asdict(agreement),
            },
            "latency": {"cpu": cpu_name(), "cpus": cpus, "batches": measure_batches(plan, exported, ours)},
        }
        if trained is not ours:
            of_trained = asdict(compare_models(plan, exported, trained))
            log_event("compared_with_trained_precision", precision=precision, **of_trained)
            document["trained_precision"] = {"precision": precision, **of_trained}
        return publish_export(plan.output_uri, path, document)


def _load(plan: ExportPlan) -> LoadedModel:
    shape = plan.manifest.image_shape
    try:
        return load_model(
            plan.target,
            EvaluateConfig(outputs=plan.config.outputs),
            image_shape=shape,
            num_classes=len(plan.class_names),
            batch_rows=fit_batch(CHECK_ROWS, shape),
            chunks=1,
            sample=_read_sample(plan) if plan.target.pixel_range is None else None,
        )
    except CnnlibError:
        raise
    except Exception as err:  # from code of Keras, TensorFlow or the model's author
        raise ModelError(f"{plan.target.uri} cannot be used: {short_text(err)}") from err


def _read_sample(plan: ExportPlan) -> Sample:
    rows = next(plan.read_rows(plan.num_images, _SAMPLE_ROWS))
    return Sample(rows.images, rows.labels)


def _describe(plan: ExportPlan, ours: LoadedModel, exported: formats.ExportedModel) -> dict[str, Any]:
    """Returns what a program needs to know to call the exported model, and where the model comes from."""
    return {
        "export_version": EXPORT_VERSION,
        "plan": plan.plan,
        "format": plan.config.format,
        "checkpoint": plan.target.uri,
        "checkpoint_digest": plan.target.digest,
        "class_names": list(plan.class_names),
        "image_shape": list(plan.manifest.image_shape),
        "input": {
            "name": formats.INPUT_NAME,
            "dtype": formats.input_dtype(ours.model),
            "shape": [None, *ours.input_shape],
            "pixels": ours.pixel_range,
        },
        "output": {
            "name": exported.output_name,
            "shape": [None, len(plan.class_names)],
            "values": ours.outputs,
        },
        "precision": formats.find_mixed_precision(ours.model) or "float32",
        "versions": asdict(installed_versions()),
    }
