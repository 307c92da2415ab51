"""Predicts unlabelled images on the driver: lists them, lets predictors store parts, and writes the manifest last.

OUTPUT/part-00000-<plan>.parquet, one for each chunk of images, then OUTPUT/_manifest.json. The plan is a digest of
the model, the images and the settings. A job that was killed leaves parts without a manifest; the same job again keeps
them, and predicts what is missing.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy, DataContext

from cnnlib.cluster import connect as cluster
from cnnlib.dataset.decode import ImageRules
from cnnlib.errors import (
    CnnlibError,
    ConfigError,
    ConflictError,
    DatasetError,
    EvaluationError,
)
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.foreign.parts import find_predictions_manifest
from cnnlib.evaluation.ray_data import RESTARTS, inside, quiet_ray_data
from cnnlib.evaluation.target import Target, find_target
from cnnlib.log import log_event
from cnnlib.predict_config import PredictConfig
from cnnlib.prediction.chunks import find_manifest, list_files, list_shards
from cnnlib.prediction.predictor import ImagePredictor, ImagePredictorTask, Part
from cnnlib.runs.checkpoints import find_checkpoint
from cnnlib.shapes import ImageShape
from cnnlib.sources.image_files import describe_rules, parse_colour, parse_size
from cnnlib.storage import files, layout, publish
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import join_uri, uri_name

_VERSION = 1
_PLAN_DIGITS = 16
_IMAGE_OPTIONS = ("size", "channels", "resize", "background")
_IF_KILLED = (
    "Try a smaller --batch-size, fewer predictors (--actors), or machines with more memory. Parts that were stored are "
    "kept: the same command continues."
)
_PART = re.compile(r"part-\d{5,}-[0-9a-f]{16}\.parquet")


class PredictResult(TypedDict):
    """What was predicted, as `--json` shows it."""

    output: str
    images: int
    unreadable: int
    new_images: int
    finished_before: bool


@dataclass(frozen=True, kw_only=True)
class PredictPlan:
    """A prediction whose model, images and output have been checked.

    Attributes:
        parts: all chunks of images with the objects that hold their predictions.
        missing: those that are not stored yet.
        document: what the manifest states beside the parts.
        done: True if the manifest is there.
    """

    config: PredictConfig
    target: Target
    image_shape: ImageShape
    class_names: tuple[str, ...]
    output_uri: str
    parts: tuple[Part, ...]
    missing: tuple[Part, ...]
    document: dict[str, Any]
    done: bool

    @property
    def num_images(self) -> int:
        """The number of images."""
        return sum(len(part.chunk) for part in self.parts)


def plan_prediction(config: PredictConfig, checkpoint: str, images_uri: str, output_uri: str) -> PredictPlan:
    """Checks everything that can be checked without loading the model.

    Raises:
        InputError: the model, the images or the output cannot work.
    """
    target = find_target(checkpoint, config.preprocess or config.pixel_range)
    names, trained_shape = _describe_model(target, config)
    manifest = find_manifest(images_uri)
    if manifest is not None:
        _check_no_image_options(config, images_uri)
        shape, chunks, rules_text = (
            manifest.image_shape,
            list_shards(images_uri, manifest, config.split, len(names)),
            "rows",
        )
    else:
        rules = _find_rules(target, config, trained_shape)
        assert rules.size is not None
        shape, chunks, rules_text = (
            (*rules.size, rules.channels),
            list_files(images_uri, rules, len(names)),
            describe_rules(rules),
        )
    settings = {
        "pixel_range": target.pixel_range,
        "outputs": config.outputs,
        "tta": config.tta,
        "top_k": config.top_k,
        "images": rules_text,
    }
    identity = (target.digest, names, settings, [chunk.identity() for chunk in chunks])
    plan = publish.sha256_hex(repr(identity).encode())
    parts = tuple(
        Part(chunk=chunk, uri=join_uri(output_uri, f"part-{index:05d}-{plan[:_PLAN_DIGITS]}.parquet"))
        for index, chunk in enumerate(chunks)
    )
    done = _find_done(output_uri, plan)
    if not done:
        files.check_writable(output_uri)
    stored = set(files.list_files(output_uri))
    _check_strangers(output_uri, stored)
    lost = [part.uri for part in parts if uri_name(part.uri) not in stored]
    if done and lost:
        raise DatasetError(
            f"{lost[0]}, a part of finished predictions, is missing. Delete the manifest "
            f"{layout.PREDICTIONS_MANIFEST} of {output_uri} and run again: the parts that are there are kept."
        )
    return PredictPlan(
        config=config,
        target=target,
        image_shape=shape,
        class_names=names,
        output_uri=output_uri,
        parts=parts,
        missing=() if done else tuple(part for part in parts if uri_name(part.uri) not in stored),
        document={
            "predictions_version": _VERSION,
            "plan": plan,
            "checkpoint": target.uri,
            "checkpoint_digest": target.digest,
            "class_names": list(names),
            "source": images_uri,
            "settings": settings,
        },
        done=done,
    )


def predict(plan: PredictPlan) -> PredictResult:
    """Predicts the images that are not predicted yet, on the cluster at RAY_ADDRESS or on this machine.

    Raises:
        ResourceError: the cluster can never hold the predictors.
        ModelError: the model cannot be opened, or does not take such images.
        DatasetError: too many images cannot be read, or a part that is stored is damaged.
        EvaluationError: fewer or more rows were stored than there are images.
    """
    new = sum(len(part.chunk) for part in plan.missing)
    log_event("predict", images=plan.num_images, to_predict=new, checkpoint=plan.target.uri)
    if plan.missing:
        _run(plan)
    _check_not_overtaken(plan)
    described = map_threads(_describe, plan.parts)
    rows, bad = (sum(each[name] for each in described) for name in ("rows", "unreadable"))
    if rows != plan.num_images:
        raise EvaluationError(
            f"{rows} rows were predicted, expected {plan.num_images}. Delete {plan.output_uri}."
        )
    _check_bad(plan, described, bad)
    if not plan.done:
        document = {**plan.document, "images": rows, "unreadable": bad, "parts": described}
        try:
            publish.write_manifest(join_uri(plan.output_uri, layout.PREDICTIONS_MANIFEST), document)
        except ConflictError:
            _check_not_overtaken(plan)
            raise
    _delete_other_parts(plan)
    log_event("predictions", uri=plan.output_uri, images=rows, unreadable=bad)
    return {
        "output": plan.output_uri,
        "images": rows,
        "unreadable": bad,
        "new_images": new,
        "finished_before": plan.done,
    }


def _run(plan: PredictPlan) -> None:
    config = plan.config
    cpus = cluster.divide_cores(config.actors, config.cpus_per_actor)
    request = cluster.ResourceRequest(
        what="predictors", count=config.actors, cpus=cpus, gpus=config.gpus_per_actor
    )
    task = ImagePredictorTask(
        target=plan.target,
        config=EvaluateConfig(
            outputs=config.outputs,
            top_k=config.top_k,
            tta=config.tta,
            batch_size=config.batch_size,
            gpus_per_actor=config.gpus_per_actor,
        ),
        image_shape=plan.image_shape,
        class_names=plan.class_names,
        cpus=cpus,
    )
    with (
        cluster.connect(request, config.wait_for_resources_s),
        cluster.reserve(request, config.wait_when_busy_s) as reserved,
        inside(reserved),
        cluster.explaining_deaths("A predictor", _IF_KILLED),
    ):
        quiet_ray_data()
        DataContext.get_current().execution_options.preserve_order = True
        items = [{"part": pickle.dumps(part)} for part in plan.missing]
        outcomes = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            ImagePredictor,
            fn_constructor_args=(task,),
            batch_size=1,
            compute=ActorPoolStrategy(size=config.actors),
            num_cpus=cpus,
            num_gpus=config.gpus_per_actor,
            **RESTARTS,
        )
        done = 0
        for part, row in zip(plan.missing, outcomes.iter_rows(), strict=True):
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, CnnlibError):
                raise outcome
            done += len(part.chunk)
            log_event("predicted", images=done, of=sum(len(each.chunk) for each in plan.missing))


def _describe_model(target: Target, config: PredictConfig) -> tuple[tuple[str, ...], ImageShape | None]:
    """Returns the class names, and the shape of the images that a checkpoint was trained on."""
    checkpoint = find_checkpoint(target.uri) if target.run is not None else None
    known = target.class_names or ()
    if config.class_names and known and tuple(config.class_names) != known:
        raise ConfigError(
            f"class_names are for a model file. The classes of {target.uri} are {', '.join(known[:5])}, …"
        )
    names = known or tuple(config.class_names)
    if len(names) < 2:
        raise ConfigError(
            f"{target.uri} does not state its classes. Give --class-names, in the order of its outputs."
        )
    shape = checkpoint.image_shape if checkpoint is not None else None
    if checkpoint is None and target.pixel_range is None:
        raise ConfigError(f"{target.uri} does not state what it takes. Give --pixel-range or --preprocess.")
    return names, None if shape is None else (shape[0], shape[1], shape[2])


def _find_rules(target: Target, config: PredictConfig, trained: ImageShape | None) -> ImageRules:
    size = parse_size(config.size) or (None if trained is None else trained[:2])
    if size is None:
        raise ConfigError(f"{target.uri} does not state the size of its images. Give --size.")
    channels = config.channels or (3 if trained is None else trained[2])
    if channels not in (1, 3):
        raise ConfigError(f"{target.uri} takes images of {channels} channels; image files have 1 or 3.")
    return ImageRules(
        size=size,
        resize=config.resize,
        channels=1 if channels == 1 else 3,
        background=parse_colour(config.background),
    )


def _check_no_image_options(config: PredictConfig, dataset_uri: str) -> None:
    plain = PredictConfig()
    given = [name for name in _IMAGE_OPTIONS if getattr(config, name) != getattr(plain, name)]
    if given:
        raise ConfigError(
            f"{', '.join(given)} say how image files are read. Received {dataset_uri}, a dataset, whose images have "
            "been read. Leave them out."
        )


def _find_done(output_uri: str, plan: str) -> bool:
    manifest = find_predictions_manifest(output_uri)
    if manifest is None:
        return False
    if manifest.get("plan") != plan:
        raise ConflictError(
            f"{output_uri} already holds other predictions, of {manifest.get('checkpoint')} and "
            f"{manifest.get('source')}, or with other settings. Choose another --output, or delete them."
        )
    return True


def _check_not_overtaken(plan: PredictPlan) -> None:
    """Checks that nobody has published other predictions here meanwhile, else takes the own parts away.

    Whoever did has deleted the parts that were there then. People read the folder as it is.
    """
    try:
        _find_done(plan.output_uri, plan.document["plan"])
    except ConflictError:
        map_threads(lambda part: files.delete(part.uri), plan.parts)
        raise


def _check_strangers(output_uri: str, stored: set[str]) -> None:
    """Checks that people who read all Parquet files of the output get predictions only."""
    strangers = sorted(name for name in stored if name.endswith(".parquet") and not _PART.fullmatch(name))
    if strangers:
        raise ConfigError(
            f"{output_uri} holds other Parquet files: {', '.join(strangers[:3])}. Choose another --output."
        )


def _delete_other_parts(plan: PredictPlan) -> None:
    """Deletes what unfinished predictions of other images or models have left: people read the folder as it is."""
    own = {uri_name(part.uri) for part in plan.parts}
    for name in files.list_files(plan.output_uri):
        if _PART.fullmatch(name) and name not in own:
            files.delete(join_uri(plan.output_uri, name))


def _describe(part: Part) -> dict[str, Any]:
    """Returns the entry of a stored part in the manifest."""
    data = files.read_bytes(part.uri)
    try:
        table = pq.read_table(io.BytesIO(data), columns=["problem"])
    except (OSError, ValueError) as err:
        raise DatasetError(
            f"{part.uri} is damaged: {str(err).splitlines()[0]}. Delete it and run again."
        ) from err
    return {
        "name": uri_name(part.uri),
        "rows": table.num_rows,
        "unreadable": table.num_rows - table["problem"].null_count,
        "bytes": len(data),
        "sha256": publish.sha256_hex(data),
    }


def _check_bad(plan: PredictPlan, described: Sequence[dict[str, Any]], bad: int) -> None:
    if bad <= plan.config.max_bad * plan.num_images:
        return
    first = next(part for part, each in zip(plan.parts, described, strict=True) if each["unreadable"])
    table = pq.read_table(io.BytesIO(files.read_bytes(first.uri)), columns=["path", "problem"])
    row = next(row for row in table.to_pylist() if row["problem"])
    raise DatasetError(
        f"{bad} of the {plan.num_images} images cannot be read; at most {plan.config.max_bad:.2%} may. First: "
        f"{row['path']}: {row['problem']}. Correct them, or give a larger --max-bad. Nothing was published."
    )
