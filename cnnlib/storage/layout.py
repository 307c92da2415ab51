"""Names every object that this project reads or writes, in functions of a base URI.

DATASET/manifest.json, preview.png, quarantine.parquet, <split>/part-00000-<digest>.parquet
DATASET/progress/<plan>-00000.json (while it is prepared)
RUNS/NAME/run.json, history.parquet, learning-curves.png, lease.json (while it is trained)
RUNS/NAME/augmented.png (with --augment)
RUNS/NAME/rollbacks.json (once it has diverged, with --on-nan rollback)
RUNS/NAME/tensorboard/events.out.tfevents.epoch-0001, profile/plugins/profile/<time>/<host>.xplane.pb (on request)
RUNS/NAME/checkpoints/epoch-0001/{model.keras, state.npz, manifest.json}
RUNS/NAME/resume-points/step-000001250-0a1b2c3d.{npz, json} (inside an epoch)
REPORTS/claims/<report_id>.zip
REPORTS/{overall, per_class, confusion, calibration, activations}/<report_id>.parquet
REPORTS/predictions/report_id=<report_id>/part-00000-000000000000-<digest>.parquet
REPORTS/manifests/<report_id>.json
REPORTS/manifests/checkpoints/<key>.<outcome>.mark
REPORTS/leases/<report_id>.json (while it is scored)
REPORTS/gates/<report_id>-<digest>.parquet
REPORTS/pages/<report_id>.html, index.html
RATES/RECIPE/learning-rates-<digest>.png, learning-rates-<plan>.json
SEARCH/search.json, runs/<trial>, ray/search, logs/<trial>.{toml, log}; then trials.parquet, recipe.toml
EXPORT/model-<digest>, a folder, or model-<digest>.tflite; then manifest.json
PREDICTIONS/part-00000-<plan>.parquet; then _manifest.json

Every function returns the URI or name that its docstring shows.
"""

from __future__ import annotations

import re

from cnnlib.storage.uri import join_uri

CHECKPOINT_MODEL = "model.keras"
CHECKPOINT_STATE = "state.npz"
MANIFEST = "manifest.json"
PREDICTIONS_MANIFEST = "_manifest.json"
"""Readers of a folder of Parquet files, such as pandas and Spark, pass over names with this beginning."""
REPORT_TABLES = ("overall", "per_class", "confusion", "calibration", "activations")

_MARK_SUFFIX = ".mark"
_EPOCH = re.compile(r"^epoch-(\d{4,})$")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_SEED = re.compile(r"(.+)-seed-(\d+)")
_STEP = re.compile(r"^step-(\d{9,})-[0-9a-f]+\.(npz|json)$")
_DIGEST_DIGITS = 16
_SHARD = re.compile(rf"[^/]+/part-\d{{5,}}(-[0-9a-f]{{{_DIGEST_DIGITS}}})?\.parquet")


def dataset_manifest(dataset_uri: str) -> str:
    """`DATASET/manifest.json`."""
    return join_uri(dataset_uri, MANIFEST)


def dataset_preview(dataset_uri: str) -> str:
    """`DATASET/preview.png`."""
    return join_uri(dataset_uri, "preview.png")


def shard_name(split: str, index: int, sha256: str) -> str:
    """`<split>/part-00000-0123456789abcdef.parquet`, relative to the dataset, with the start of the bytes' digest.

    Shards of different bytes have different names, so of several attempts none overwrites a shard of another.
    """
    return f"{split}/part-{index:05d}-{sha256[:_DIGEST_DIGITS]}.parquet"


def strip_digest(shard: str) -> str:
    """Returns a shard's name without the digest: what the name tells besides the bytes.

    >>> strip_digest("train/part-00000-0123456789abcdef.parquet")
    'train/part-00000.parquet'
    """
    match = _SHARD.fullmatch(shard)
    return shard.replace(match[1], "") if match and match[1] else shard


def is_shard(name: str) -> bool:
    """Returns whether a name relative to the dataset may be that of a shard; earlier versions left out the digest.

    >>> is_shard("train/part-00000-0123456789abcdef.parquet"), is_shard("train/part-00000-c000.snappy.parquet")
    (True, False)
    """
    return _SHARD.fullmatch(name) is not None


def prepare_marks(dataset_uri: str) -> str:
    """`DATASET/progress`: what an attempt to prepare it has finished; deleted when the manifest is written."""
    return join_uri(dataset_uri, "progress")


def prepare_mark(dataset_uri: str, plan: str, index: int) -> str:
    """`DATASET/progress/<plan>-00000.json`: the shards of a part of the source; the plan is a digest."""
    return join_uri(prepare_marks(dataset_uri), f"{plan[:_DIGEST_DIGITS]}-{index:05d}.json")


def prepare_copy(dataset_uri: str, digest: str) -> str:
    """`DATASET/progress/images-<digest>`: images of a source that cannot be read one by one; the digest is theirs."""
    return join_uri(prepare_marks(dataset_uri), f"images-{digest[:_DIGEST_DIGITS]}")


def dataset_quarantine(dataset_uri: str) -> str:
    """`DATASET/quarantine.parquet`: the images that became no row, and why."""
    return join_uri(dataset_uri, "quarantine.parquet")


def run_uri(runs_uri: str, name: str) -> str:
    """`RUNS/NAME`."""
    return join_uri(runs_uri, name)


def run_name(text: str) -> str:
    """Returns a name that a run may have, for one that is made from another name.

    >>> run_name("my recipe.toml"), run_name("_best.toml"), run_name("seed")
    ('my-recipe.toml', 'best.toml', 'seed')
    """
    return _NOT_IN_NAMES.sub("-", text).lstrip("._-") or "run"


def seed_run(name: str, seed: int) -> str:
    """`NAME-seed-3`: the name of one of several runs that differ in their seed."""
    return f"{name}-seed-{seed}"


def find_seed(run_name: str) -> tuple[str, int] | None:
    """Returns name and seed of a run that `seed_run` named; None for other names.

    >>> find_seed("small-seed-3"), find_seed("seed-3"), find_seed("seed")
    (('small', 3), None, None)
    """
    match = _SEED.fullmatch(run_name)
    return (match[1], int(match[2])) if match else None


def run_record(run: str) -> str:
    """`RUNS/NAME/run.json`: the recipe, config and dataset of the run."""
    return join_uri(run, "run.json")


def run_lease(run: str) -> str:
    """`RUNS/NAME/lease.json`: which job trains the run now; deleted at its end."""
    return join_uri(run, "lease.json")


def run_augmented(run: str) -> str:
    """`RUNS/NAME/augmented.png`: some training images as the first steps changed them."""
    return join_uri(run, "augmented.png")


def run_rollbacks(run: str) -> str:
    """`RUNS/NAME/rollbacks.json`: how often the run diverged and went on with a smaller learning rate."""
    return join_uri(run, "rollbacks.json")


def run_history(run: str) -> str:
    """`RUNS/NAME/history.parquet`: one record per epoch."""
    return join_uri(run, "history.parquet")


def run_learning_curves(run: str) -> str:
    """`RUNS/NAME/learning-curves.png`."""
    return join_uri(run, "learning-curves.png")


def run_scalars(run: str, epoch: int) -> str:
    """`RUNS/NAME/tensorboard/events.out.tfevents.epoch-0001`: TensorBoard reads files with `tfevents` in the name."""
    return join_uri(run, "tensorboard", f"events.out.tfevents.epoch-{epoch:04d}")


def run_profile(run: str) -> str:
    """`RUNS/NAME/profile`: a trace, under the names that TensorBoard's profiler reads."""
    return join_uri(run, "profile")


def run_checkpoints(run: str) -> str:
    """`RUNS/NAME/checkpoints`."""
    return join_uri(run, "checkpoints")


def checkpoint_uri(run: str, epoch: int) -> str:
    """`RUNS/NAME/checkpoints/epoch-0001`."""
    return join_uri(run_checkpoints(run), f"epoch-{epoch:04d}")


def run_of_checkpoint(checkpoint: str) -> str:
    """`RUNS/NAME` of `RUNS/NAME/checkpoints/epoch-0001`.

    >>> run_of_checkpoint("s3://bucket/runs/seed/checkpoints/epoch-0001")
    's3://bucket/runs/seed'
    """
    return checkpoint.rsplit("/", 2)[0]


def find_epoch(checkpoint_name: str) -> int | None:
    """Returns the epoch in the name of a checkpoint folder; None for any other name.

    >>> find_epoch("epoch-0007")
    7
    """
    match = _EPOCH.match(checkpoint_name)
    return int(match.group(1)) if match else None


def run_resume_points(run: str) -> str:
    """`RUNS/NAME/resume-points`."""
    return join_uri(run, "resume-points")


def resume_point(run: str, step: int, attempt: str) -> str:
    """`RUNS/NAME/resume-points/step-000001250-0a1b2c3d.json`; the attempt is a random text of hexadecimal digits."""
    return join_uri(run_resume_points(run), f"step-{step:09d}-{attempt}.json")


def resume_point_state(resume_point: str) -> str:
    """`RUNS/NAME/resume-points/step-000001250-0a1b2c3d.npz`, beside the manifest of this name."""
    return f"{resume_point.removesuffix('.json')}.npz"


def find_step(name: str) -> int | None:
    """Returns the step in the name of a resume point's manifest or state; None for any other name.

    >>> find_step("step-000001250-0a1b2c3d.json")
    1250
    """
    match = _STEP.match(name)
    return int(match.group(1)) if match else None


def report_table(reports_uri: str, table: str, report_id: str) -> str:
    """`REPORTS/<table>/<report_id>.parquet`."""
    return join_uri(reports_uri, table, f"{report_id}.parquet")


def report_predictions(reports_uri: str, report_id: str) -> str:
    """`REPORTS/predictions/report_id=<report_id>`, a folder of Parquet files.

    The name is that of a Hive partition: a reader of the folder above finds a column `report_id`, which is not stored
    in any file.
    """
    return join_uri(reports_uri, "predictions", f"report_id={report_id}")


def predictions_part(shard_index: int, first_id: int, sha256: str) -> str:
    """`part-<shard>-<first row id>-<start of the digest>.parquet`.

    Parts of different bytes have different names, so the predictions of two attempts never mix.
    """
    return f"part-{shard_index:05d}-{first_id:012d}-{sha256[:_DIGEST_DIGITS]}.parquet"


def shard_of_predictions(part: str) -> int:
    """Returns the index of the shard whose rows are in an object that `predictions_part` named, or earlier versions.

    >>> shard_of_predictions("predictions/report_id=ab/part-00012-000000000300-0123456789abcdef.parquet")
    12
    """
    return int(part.rpartition("/")[2].removesuffix(".parquet").split("-")[1])


def report_claim(reports_uri: str, report_id: str) -> str:
    """`REPORTS/claims/<report_id>.zip`: all tables of a report in one object, which is written first."""
    return join_uri(reports_uri, "claims", f"{report_id}.zip")


def report_gates(reports_uri: str) -> str:
    """`REPORTS/gates`."""
    return join_uri(reports_uri, "gates")


def report_gates_table(reports_uri: str, report_id: str, digest: str) -> str:
    """`REPORTS/gates/<report_id>-<digest>.parquet`: the digest is that of the gate."""
    return join_uri(report_gates(reports_uri), f"{report_id}-{digest}.parquet")


def report_page(reports_uri: str, report_id: str) -> str:
    """`REPORTS/pages/<report_id>.html`: rendered from the report whenever it is requested."""
    return join_uri(reports_uri, "pages", f"{report_id}.html")


def history_page(reports_uri: str) -> str:
    """`REPORTS/pages/index.html`: the page of all reports in the folder."""
    return join_uri(reports_uri, "pages", "index.html")


def report_manifests(reports_uri: str) -> str:
    """`REPORTS/manifests`."""
    return join_uri(reports_uri, "manifests")


def checkpoint_mark(reports_uri: str, key: str, outcome: str) -> str:
    """`REPORTS/manifests/checkpoints/<key>.<outcome>.mark`: what `jobs.evaluate --pending` did with a checkpoint.

    It lies below the manifests, so that one listing shows both.
    """
    return join_uri(report_manifests(reports_uri), "checkpoints", f"{key}.{outcome}{_MARK_SUFFIX}")


def find_mark(name: str) -> tuple[str, str] | None:
    """Returns the key and the outcome in the name of a mark; None for any other name.

    >>> find_mark("0a1b.other-data.mark")
    ('0a1b', 'other-data')
    """
    if not name.endswith(_MARK_SUFFIX):
        return None
    key, _, outcome = name.removesuffix(_MARK_SUFFIX).partition(".")
    return key, outcome


def report_manifest(reports_uri: str, report_id: str) -> str:
    """`REPORTS/manifests/<report_id>.json`, which is written last: a report without it does not exist."""
    return join_uri(report_manifests(reports_uri), f"{report_id}.json")


def report_leases(reports_uri: str) -> str:
    """`REPORTS/leases`."""
    return join_uri(reports_uri, "leases")


def report_lease(reports_uri: str, report_id: str) -> str:
    """`REPORTS/leases/<report_id>.json`: which job scores what the report is about; deleted at its end."""
    return join_uri(report_leases(reports_uri), f"{report_id}.json")


def exported_model(digest: str, suffix: str) -> str:
    """`model-0123456789abcdef.tflite`, relative to the folder of the export; without a suffix it is a folder itself.

    Exports of different bytes have different names, so of two attempts none overwrites a file of the other.
    """
    return f"model-{digest[:_DIGEST_DIGITS]}{suffix}"


def export_manifest(export_uri: str) -> str:
    """`EXPORT/manifest.json`."""
    return join_uri(export_uri, MANIFEST)


def range_test(folder_uri: str, plan: str) -> str:
    """`FOLDER/learning-rates-<plan>.json`: the result of a learning-rate range test; the plan is a digest."""
    return join_uri(folder_uri, f"learning-rates-{plan[:_DIGEST_DIGITS]}.json")


def range_test_picture(digest: str) -> str:
    """`learning-rates-<digest>.png`, relative to the folder of the result; the digest is that of its bytes."""
    return f"learning-rates-{digest[:_DIGEST_DIGITS]}.png"


def search_settings(search_uri: str) -> str:
    """`SEARCH/search.json`: what a search searches."""
    return join_uri(search_uri, "search.json")


def search_runs(search_uri: str) -> str:
    """`SEARCH/runs`: the trainings of its trials."""
    return join_uri(search_uri, "runs")


def search_state(search_uri: str) -> str:
    """`SEARCH/ray`: the state of Ray Tune."""
    return join_uri(search_uri, "ray")


def search_logs(search_uri: str) -> str:
    """`SEARCH/logs`: a recipe file and the output of each trial."""
    return join_uri(search_uri, "logs")


def search_trials(search_uri: str) -> str:
    """`SEARCH/trials.parquet`: every trial with its values and its score."""
    return join_uri(search_uri, "trials.parquet")


def search_recipe(search_uri: str) -> str:
    """`SEARCH/recipe.toml`: the recipe of the best trial."""
    return join_uri(search_uri, "recipe.toml")
