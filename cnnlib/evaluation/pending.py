"""The checkpoints of a folder of runs for which something is left to do, found with two listings.

A scheduler looks every few minutes, and mostly there is nothing to do. So the evaluation leaves a mark, an object, for
every checkpoint with which it is done: its name is the key of the checkpoint, its data and the settings, and the
outcome. A mark is only written after everything else, so after a crash at any line the next look repeats what is
missing, and finds the parts that exist. The key covers size and version of the checkpoint's objects, as the listing
shows them: a checkpoint that is replaced has no mark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from cnnlib.dataset.manifest import Manifest
from cnnlib.errors import CheckpointError, CnnlibError, ConfigError, DigestError, InputError, ModelError
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.class_map import select_entries
from cnnlib.evaluation.outcome import LeftOut
from cnnlib.evaluation.target import Target, fit_classes, target_of_checkpoint
from cnnlib.reports.result import installed_versions
from cnnlib.runs.checkpoints import (
    Checkpoint,
    FoundCheckpoint,
    find_checkpoint,
    last_and_best,
    scan_runs,
)
from cnnlib.storage import files, layout, publish
from cnnlib.storage.threads import map_threads
from cnnlib.storage.uri import uri_name

_KEY_DIGITS = 24
_OTHER_DATA, _LEFT_OUT = "other-data", "left-out"
# What the bytes of a checkpoint decide. Other errors, such as a refused access, may be gone at the next attempt.
_DECIDED_BY_BYTES = (ModelError, CheckpointError, DigestError)


@dataclass(frozen=True, kw_only=True)
class PendingTargets:
    """The checkpoints below a folder of runs.

    Attributes:
        targets: those with which the evaluation is not done, their outputs mapped to the data's classes; they may have
            a report.
        left_out: those that cannot be scored.
        keys: the key of each target's and each left-out checkpoint, by its URI.
        num_done: how many are done.
        num_other_data: how many were trained on other classes or images than those of the data set.
        last_and_best: the URIs of the last and the best checkpoint of each run that has targets.
    """

    targets: Sequence[Target]
    left_out: Sequence[LeftOut]
    keys: Mapping[str, str]
    num_done: int
    num_other_data: int
    last_and_best: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class _Marks:
    report_ids: frozenset[str]
    outcomes: Mapping[str, str] = field(default_factory=dict)


def find_pending(
    runs_uri: str,
    reports_uri: str,
    config: EvaluateConfig,
    manifest: Manifest,
    *,
    gate: str = "",
    retry: bool = False,
) -> PendingTargets:
    """Finds the checkpoints with which the evaluation is not done.

    Args:
        runs_uri: the folder of all runs.
        reports_uri: the folder of all reports.
        config: how they are evaluated.
        manifest: of the data set. A checkpoint of other classes or images does not belong to it.
        gate: a text that tells this gate from others: what is done under one gate is not done under another.
        retry: True: also returns the checkpoints that an earlier evaluation could not score.

    Raises:
        NotFoundError: there is no run below the folder.
        ConfigError: an entry of the class map names no class of the data, or of no checkpoint.
    """
    found = scan_runs(runs_uri)
    marks = _read_marks(reports_uri)
    # A gate judges the last checkpoint of a run. If that one is deleted, another is the last, and not done.
    of_run = {each.run: each.uri for each in sorted(found, key=lambda each: each.epoch)}
    last = frozenset(of_run.values()) if gate else frozenset()
    keys = {
        each.uri: _build_key(each, config, manifest, f"{gate} last" if each.uri in last else gate)
        for each in found
    }
    outcomes = {uri: marks.outcomes.get(key) for uri, key in keys.items()}
    left_out: list[LeftOut] = []
    unknown: list[FoundCheckpoint] = []
    num_done = 0
    for each in found:
        outcome = outcomes[each.uri]
        if outcome in marks.report_ids:
            num_done += 1
        elif outcome == _LEFT_OUT and not retry:
            remembered = _read_left_out(reports_uri, each.uri, keys[each.uri])
            left_out += [remembered] if remembered else []
            unknown += [] if remembered else [each]
        elif outcome != _OTHER_DATA:
            unknown.append(each)
    targets: list[Target] = []
    strangers: list[str] = []
    results = map_threads(_try_read, unknown)
    maps = _select_maps(results, config.class_map, manifest, seen=any(outcomes.values()))
    for each, result in zip(unknown, results, strict=True):
        if isinstance(result, CnnlibError):
            left_out.append(LeftOut(uri=each.uri, error=result))
        elif result is not None and not _is_of_data(result, manifest, maps[each.uri]):
            strangers.append(keys[each.uri])
        elif result is not None:
            try:
                target = target_of_checkpoint(result, config.model_inputs)
                targets.append(fit_classes(target, maps[each.uri], manifest))
            except InputError as err:
                left_out.append(LeftOut(uri=each.uri, error=err))
    map_threads(lambda key: _write_mark(reports_uri, key, _OTHER_DATA), strangers)
    return PendingTargets(
        targets=targets,
        left_out=left_out,
        keys=keys,
        num_done=num_done,
        num_other_data=len(strangers) + list(outcomes.values()).count(_OTHER_DATA),
        last_and_best=_find_last_and_best(found, targets) if gate else frozenset(),
    )


def mark_done(reports_uri: str, key: str, report_id: str) -> None:
    """Notes that nothing is left to do for a checkpoint: its report, and the verdict of its gate, are stored."""
    _write_mark(reports_uri, key, report_id)


def mark_left_out(reports_uri: str, key: str, left_out: LeftOut) -> None:
    """Notes that a checkpoint cannot be scored, if its bytes decide that, so that it is not tried again."""
    if left_out.remembered or not isinstance(left_out.error, _DECIDED_BY_BYTES):
        return
    document = {
        "checkpoint": left_out.uri,
        "reason": str(left_out.error),
        "versions": asdict(installed_versions()),
    }
    uri = layout.checkpoint_mark(reports_uri, key, _LEFT_OUT)
    files.write_bytes(uri, publish.canonical_json(document))  # replaces one of an earlier version


def _find_last_and_best(found: Sequence[FoundCheckpoint], targets: Sequence[Target]) -> frozenset[str]:
    runs = {layout.run_of_checkpoint(target.uri) for target in targets}
    by_run: dict[str, list[Checkpoint]] = {run: [] for run in runs}
    read = map_threads(_try_read, [each for each in found if each.run in runs])
    for checkpoint in read:
        if isinstance(checkpoint, Checkpoint):
            by_run[layout.run_of_checkpoint(checkpoint.uri)].append(checkpoint)
    selected = [
        each.uri for checkpoints in by_run.values() if checkpoints for each in last_and_best(checkpoints)
    ]
    return frozenset(selected)


def _read_marks(reports_uri: str) -> _Marks:
    names = [uri_name(stored.uri) for stored in files.list_objects(layout.report_manifests(reports_uri))]
    marks = [mark for name in names if (mark := layout.find_mark(name))]
    # Several marks of one key are possible: a checkpoint may be scored after it was left out.
    outcomes = dict(sorted(marks, key=lambda mark: mark[1] != _LEFT_OUT))
    report_ids = frozenset(name.removesuffix(".json") for name in names if name.endswith(".json"))
    return _Marks(report_ids=report_ids, outcomes=outcomes)


def _write_mark(reports_uri: str, key: str, outcome: str) -> None:
    files.create_bytes(layout.checkpoint_mark(reports_uri, key, outcome), b"")


def _build_key(checkpoint: FoundCheckpoint, config: EvaluateConfig, manifest: Manifest, gate: str) -> str:
    key = {
        "checkpoint": checkpoint.uri,
        "version": checkpoint.version,
        "dataset": manifest.fingerprint,
        "settings": [
            config.split,
            config.model_inputs,
            config.outputs,
            list(config.class_map),
            config.top_k,
            list(config.slice_by),
            config.slice_quantiles,
            config.corruptions,
            *([] if config.tta == "none" else [config.tta]),
        ],
        "gate": gate,
    }
    return publish.sha256_hex(publish.canonical_json(key))[:_KEY_DIGITS]


def _read_left_out(reports_uri: str, checkpoint: str, key: str) -> LeftOut | None:
    """Returns a checkpoint that an earlier evaluation left out; None if other versions may be able to score it."""
    try:
        document = json.loads(files.read_bytes(layout.checkpoint_mark(reports_uri, key, _LEFT_OUT)))
        reason, versions = document["reason"], document["versions"]
    except (InputError, ValueError, KeyError, TypeError):  # a damaged mark is as good as none
        return None
    if versions != asdict(installed_versions()):
        return None
    return LeftOut(uri=checkpoint, error=ModelError(reason), remembered=True)


def _try_read(found: FoundCheckpoint) -> Checkpoint | CnnlibError | None:
    if not found.has_model:
        return CheckpointError(
            f"{found.uri} has a manifest but no {layout.CHECKPOINT_MODEL}: it was deleted in part."
        )
    try:
        return find_checkpoint(found.uri)
    except InputError as err:
        return err


def _select_maps(
    results: Sequence[Checkpoint | CnnlibError | None],
    class_map: Sequence[str],
    manifest: Manifest,
    *,
    seen: bool,
) -> dict[str, tuple[str, ...]]:
    """Returns the entries of the class map that are for each checkpoint, by its URI.

    A folder holds runs of other names and runs of the data's own names, so an entry need not fit all of them. If it
    fits none in a look that finds everything (`seen` is False), it is a mistake.
    """
    maps: dict[str, tuple[str, ...]] = {}
    for each in results:
        if isinstance(each, Checkpoint):
            known = each.class_names
            fitting = class_map if known is None else select_entries(known, manifest.class_names, class_map)
            maps[each.uri] = tuple(fitting)
    unused = [entry for entry in class_map if not any(entry in entries for entries in maps.values())]
    if unused and maps and not seen:
        raise ConfigError(f"class_map: {unused[0]!r} names no class of any checkpoint. Correct or omit it.")
    return maps


def _is_of_data(checkpoint: Checkpoint, manifest: Manifest, class_map: Sequence[str]) -> bool:
    """Returns whether a checkpoint was trained on the classes, in any order, and the image shape of a data set.

    Args:
        class_map: the entries for this checkpoint; with one, its classes are checked when they are mapped.
    """
    names, shape = checkpoint.class_names, checkpoint.image_shape
    ours = set(manifest.class_names)
    return (names is None or bool(class_map) or set(names) == ours) and (
        shape is None or shape == tuple(manifest.image_shape)
    )
