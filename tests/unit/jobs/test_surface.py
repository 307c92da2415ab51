"""Tests the surface that scripts rely on: flags, exit codes, object names. CHANGELOG lists every change of it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from cnnlib.storage import layout
from jobs import cli
from jobs.flags import LISTS

JOBS = Path(__file__).parents[3] / "jobs"

PREPARE_FLAGS = ["--output", "--shard-mib", "--json"]
IMAGE_FLAGS = [
    "--size",
    "--resize",
    "--channels",
    "--encoding",
    "--background",
    "--splits",
    "--class-names",
    "--max-images",
    "--max-bad",
    "--strict",
]
FLAGS = {
    "prepare fashion-mnist": [*PREPARE_FLAGS, "--source"],
    "prepare idx": [*PREPARE_FLAGS, "--class-names", "--first-label", "--prefix", "--transpose"],
    "prepare npz": [*PREPARE_FLAGS, "--class-names", "--first-label"],
    "prepare folders": [*PREPARE_FLAGS, *IMAGE_FLAGS],
    "prepare parquet": [
        *(*PREPARE_FLAGS, *IMAGE_FLAGS, "--label-column", "--first-label", "--image-column", "--split-column")
    ],
    "prepare webdataset": [*PREPARE_FLAGS, *IMAGE_FLAGS, "--label-column", "--first-label"],
    "prepare tfrecord": [
        *(*PREPARE_FLAGS, *IMAGE_FLAGS, "--label-column", "--first-label", "--image-column")
    ],
    "train seed": [
        "--data",
        "--runs",
        "--name",
        "--seeds",
        "--dry-run",
        "--json",
        "--model",
        "--weights",
        "--freeze",
        "--epochs",
        "--steps-per-epoch",
        "--batch-size",
        "--learning-rate",
        "--scale-learning-rate-from",
        "--sync-batch-norm",
        "--on-nan",
        "--seed",
        "--workers",
        "--min-workers",
        "--gpus-per-worker",
        "--split",
        "--validation-fraction",
        "--validation-split",
        "--min-crop-area",
        "--cache",
        "--model.filters",
        "--model.units",
        "--model.kernel",
        "--model.stride",
        "--model.padding",
        "--model.pooling",
        "--model.activation",
        "--model.batch-norm",
        "--model.width",
        "--model.depth",
        "--model.widen-factor",
        "--model.growth",
        "--model.compression",
        "--model.dropout",
        "--optimizer.name",
        "--optimizer.schedule",
        "--optimizer.step-every-epochs",
        "--optimizer.step-factor",
        "--optimizer.warmup-epochs",
        "--optimizer.momentum",
        "--optimizer.weight-decay",
        "--optimizer.decay-kernels-only",
        "--optimizer.clip-norm",
        "--optimizer.layer-decay",
        "--optimizer.ema-momentum",
        "--augment.flip",
        "--augment.shift",
        "--augment.rotate",
        "--augment.brightness",
        "--augment.contrast",
        "--augment.saturation",
        "--augment.rand-operations",
        "--augment.rand-magnitude",
        "--augment.erase",
        "--augment.mixup",
        "--augment.cutmix",
        "--loss.label-smoothing",
        "--loss.class-weights",
        "--early-stopping.patience",
        "--early-stopping.min-delta",
        "--loop.steps-per-call",
        "--loop.log-every-steps",
        "--loop.precision",
        "--loop.jit-compile",
        "--loop.micro-batches",
        "--loop.profile-steps",
        "--loop.tensorboard",
        "--loop.mlflow-uri",
        "--checkpoint.every-steps",
        "--checkpoint.every-minutes",
        "--checkpoint.keep",
        "--checkpoint.reports",
        "--cluster.cpus-per-worker",
        "--cluster.max-failures",
        "--cluster.hang-timeout-s",
        "--cluster.wait-for-resources-s",
        "--cluster.spread",
        "--cluster.wait-when-busy-s",
    ],
    "predict": [
        "--checkpoint",
        "--images",
        "--output",
        "--json",
        "--split",
        "--class-names",
        "--size",
        "--channels",
        "--resize",
        "--background",
        "--pixel-range",
        "--preprocess",
        "--outputs",
        "--tta",
        "--top-k",
        "--max-bad",
        "--batch-size",
        "--actors",
        "--gpus-per-actor",
        "--cpus-per-actor",
        "--wait-for-resources-s",
        "--wait-when-busy-s",
    ],
    "export": [
        "--checkpoint",
        "--data",
        "--output",
        "--json",
        "--format",
        "--split",
        "--images",
        "--tolerance",
        "--pixel-range",
        "--preprocess",
        "--outputs",
        "--cpus",
    ],
    "evaluate": [
        "--checkpoint",
        "--pending",
        "--predictions",
        "--data",
        "--reports",
        "--gate",
        "--gate-every",
        "--retry",
        "--json",
        "--split",
        "--pixel-range",
        "--preprocess",
        "--outputs",
        "--tta",
        "--class-map",
        "--top-k",
        "--batch-size",
        "--actors",
        "--gpus-per-actor",
        "--cpus-per-actor",
        "--wait-for-resources-s",
        "--wait-when-busy-s",
        "--no-predictions",
        "--slice-by",
        "--slice-quantiles",
        "--corruptions",
    ],
    "report": [
        "--limit",
        "--experiments",
        "--seeds",
        "--ladder",
        "--plot",
        "--prometheus",
        "--html",
        "--json",
    ],
    "submit": ["--address", "--submission-id", "--working-dir", "--timeout-s", "--env", "--json"],
    "bench": ["--pairs", "--batch-sizes", "--rows", "--cores", "--output", "--theme", "--json"],
}
MODEL, GROUPS = (FLAGS["train seed"].index(flag) for flag in ("--model", "--model.filters"))
FLAGS["learning_rate seed"] = [
    *("--data", "--output", "--json", *FLAGS["train seed"][MODEL:GROUPS]),
    *("--test.lowest", "--test.highest", "--test.steps", *FLAGS["train seed"][GROUPS:]),
]
FLAGS["largest_batch seed"] = [
    *("--data", "--json", "--memory-gib", "--highest", "--steps", *FLAGS["train seed"][MODEL:]),
]
FLAGS["tune seed"] = [
    *("--data", "--output", "--range", "--json", *FLAGS["train seed"][MODEL:GROUPS]),
    *("--tune.trials", "--tune.minutes", "--tune.first-epochs", "--tune.parallel", "--tune.seed"),
    *FLAGS["train seed"][GROUPS:],
]
REQUIRED = {
    "prepare fashion-mnist": {"--output"},
    "prepare idx": {"--output"},
    "prepare npz": {"--output"},
    "prepare folders": {"--output"},
    "prepare parquet": {"--output"},
    "prepare webdataset": {"--output"},
    "prepare tfrecord": {"--output"},
    "train seed": {"--data"},
    "learning_rate seed": {"--data"},
    "largest_batch seed": {"--data"},
    "tune seed": {"--data", "--output"},
    "evaluate": {"--data"},
    "predict": {"--checkpoint", "--images", "--output"},
    "export": {"--checkpoint", "--data", "--output"},
    "submit": {"--address"},
}
CHOICES = {
    "export": {"--format": "savedmodel,litert,onnx"},
    "train seed": {
        "--model.pooling": "None,max,average,none",
        "--model.batch-norm": "None,True,False",
        "--optimizer.name": "adam,adamw,sgd,rmsprop",
        "--optimizer.schedule": "constant,cosine,one-cycle,step",
        "--loop.precision": "auto,float32,mixed_bfloat16",
        "--loop.jit-compile": "None,True,False",
    },
    "evaluate": {"--pixel-range": "None,0-255,0-1,-1..1", "--outputs": "auto,probabilities,logits"},
}


def help_text(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    job, *words = command.split()
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"jobs.{job}").main([*words, "--help"])
    assert stopped.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def entries(text: str) -> dict[str, str]:
    """Splits a help page into the text of every flag: from one `--flag` to the next."""
    text = re.sub("[╭│╰─╮╯]", " ", text)
    parts = re.split(r"^ {1,3}(?:-h, )?(--[a-z][\w.-]*)", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert found.pop("--help").strip()
    return found


def test_jobs_are_those_that_were_promised() -> None:
    jobs = {path.stem for path in JOBS.glob("*.py") if "def main(" in path.read_text()}
    assert jobs == {command.split()[0] for command in FLAGS}


@pytest.mark.parametrize("command", FLAGS)
def test_flags_of_a_job_are_those_that_were_promised(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(entries(help_text(command, capsys))) == FLAGS[command]


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_is_required_or_shows_its_default(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {flag: " ".join(text.split()) for flag, text in entries(help_text(command, capsys)).items()}
    required = {flag for flag, text in texts.items() if "(required)" in text}
    assert required == REQUIRED.get(command, set())
    assert {
        flag for flag in set(texts) - required if not re.search(r"\(default:|\(repeatable\)", texts[flag])
    } == set()


def test_flags_of_several_values_may_be_given_several_times(capsys: pytest.CaptureFixture[str]) -> None:
    """argparse would take the values of the last one alone, and say nothing."""
    texts = [pair for command in FLAGS for pair in entries(help_text(command, capsys)).items()]
    assert {flag for flag, text in texts if "..." in text.split("\n")[0]} == LISTS
    assert {flag for flag, text in texts if "(repeatable)" in text} == {"--range"}


@pytest.mark.parametrize("command", CHOICES)
def test_flags_with_choices_list_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = entries(help_text(command, capsys))
    for flag, choices in CHOICES[command].items():
        assert texts[flag].lstrip().startswith(f"{{{choices}}}")


@pytest.mark.parametrize("recipe", ["seed", "demo", "dnn"])
def test_every_recipe_has_the_same_flags_with_its_own_defaults(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = entries(help_text(f"train {recipe}", capsys))
    assert list(texts) == FLAGS["train seed"]
    assert f"(default: {recipe})" in texts["--name"]


def test_help_of_training_lists_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text("train", capsys)
    assert re.findall(r"^ {2}(\w+) {2,}\S", text, re.MULTILINE)[:3] == ["seed", "demo", "dnn"]


def test_exit_codes_are_those_that_were_promised() -> None:
    codes = {name: value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    assert codes == {
        "EXIT_DONE": 0,
        "EXIT_FAILED": 1,
        "EXIT_BAD_INPUT": 2,
        "EXIT_GATE_FAILED": 3,
        "EXIT_GATE_INCONCLUSIVE": 4,
        "EXIT_LEFT_OUT": 5,
        "EXIT_INTERRUPTED": 130,
        "EXIT_TERMINATED": 143,
    }
    for code in codes.values():
        assert re.search(rf"^{code} ", cli.__doc__ or "", re.MULTILINE)


def test_objects_have_the_names_that_were_promised() -> None:
    run, checkpoint = layout.run_uri("s3://b/runs", "seed"), layout.checkpoint_uri("s3://b/runs/seed", 7)
    digest = "0123456789abcdef" * 4
    names = [
        layout.dataset_manifest("/data"),
        layout.dataset_preview("/data"),
        f"/data/{layout.shard_name('train', 3, digest)}",
        run,
        layout.run_record(run),
        layout.run_history(run),
        layout.run_learning_curves(run),
        layout.run_scalars(run, 7),
        layout.run_profile(run),
        layout.run_checkpoints(run),
        checkpoint,
        *(
            f"{checkpoint}/{name}"
            for name in (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_STATE, layout.MANIFEST)
        ),
        *(layout.report_table("/reports", table, "0a1b") for table in layout.REPORT_TABLES),
        layout.report_claim("/reports", "0a1b"),
        layout.report_gates("/reports"),
        layout.report_gates_table("/reports", "0a1b", "c2d3"),
        layout.report_page("/reports", "0a1b"),
        layout.history_page("/reports"),
        layout.report_manifests("/reports"),
        layout.report_manifest("/reports", "0a1b"),
        f"{layout.report_predictions('/reports', '0a1b')}/{layout.predictions_part(3, 12, digest)}",
        *(f"/export/{layout.exported_model(digest, suffix)}" for suffix in ("", ".tflite")),
        layout.export_manifest("/export"),
        layout.range_test("/rates/seed", digest),
        f"/rates/seed/{layout.range_test_picture(digest)}",
    ]
    assert names == [
        "/data/manifest.json",
        "/data/preview.png",
        "/data/train/part-00003-0123456789abcdef.parquet",
        "s3://b/runs/seed",
        "s3://b/runs/seed/run.json",
        "s3://b/runs/seed/history.parquet",
        "s3://b/runs/seed/learning-curves.png",
        "s3://b/runs/seed/tensorboard/events.out.tfevents.epoch-0007",
        "s3://b/runs/seed/profile",
        "s3://b/runs/seed/checkpoints",
        "s3://b/runs/seed/checkpoints/epoch-0007",
        "s3://b/runs/seed/checkpoints/epoch-0007/model.keras",
        "s3://b/runs/seed/checkpoints/epoch-0007/state.npz",
        "s3://b/runs/seed/checkpoints/epoch-0007/manifest.json",
        "/reports/overall/0a1b.parquet",
        "/reports/per_class/0a1b.parquet",
        "/reports/confusion/0a1b.parquet",
        "/reports/calibration/0a1b.parquet",
        "/reports/activations/0a1b.parquet",
        "/reports/claims/0a1b.zip",
        "/reports/gates",
        "/reports/gates/0a1b-c2d3.parquet",
        "/reports/pages/0a1b.html",
        "/reports/pages/index.html",
        "/reports/manifests",
        "/reports/manifests/0a1b.json",
        "/reports/predictions/report_id=0a1b/part-00003-000000000012-0123456789abcdef.parquet",
        "/export/model-0123456789abcdef",
        "/export/model-0123456789abcdef.tflite",
        "/export/manifest.json",
        "/rates/seed/learning-rates-0123456789abcdef.json",
        "/rates/seed/learning-rates-0123456789abcdef.png",
    ]
