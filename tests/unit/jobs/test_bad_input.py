"""Bad input gives one clear message and exit code 2: no traceback, nothing is written, no cluster starts."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cnnlib.cluster import connect as cluster
from cnnlib.config import TrainConfig
from cnnlib.sources.idx_names import file_names
from jobs import bench, evaluate, prepare, report, train
from tests.checkpoints import write_checkpoint_without_model, write_run_record
from tests.datasets import make_source, write_dataset_without_ray
from tests.fashion import encode_idx


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that starts a cluster, because bad input must be refused before Ray starts."""

    @contextmanager
    def connect(*_: Any, **__: Any) -> Iterator[None]:
        pytest.fail("a cluster was started")
        yield

    monkeypatch.setattr(cluster, "connect", connect)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the command lines below name.

    data/: a dataset of 50 train and 23 test rows; damaged/: the same with one wrong and one missing shard; other/:
    another dataset; idx/: four IDX files; few/: the same with too few labels; torn/: the same with a truncated gzip
    file; full/: a text file; file: a file; runs/seed: a run of the seed recipe with batch 8 and one finished epoch;
    runs/old: a run that does not name its recipe; runs/dnn and runs/file: runs whose recipe has no gate;
    mine.keras: a file; and the files of GATES.
    """
    manifest = write_dataset_without_ray(str(tmp_path / "data"), shard_rows=25)
    write_dataset_without_ray(str(tmp_path / "damaged"), shard_rows=25)
    shard = tmp_path / "damaged" / "train" / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    test_shard = tmp_path / "damaged" / "test" / "part-00000.parquet"
    test_shard.unlink()
    write_dataset_without_ray(str(tmp_path / "other"), make_source(seed=1), shard_rows=25)
    for folder, labels in (("idx", 4), ("few", 3), ("torn", 4)):
        _write_idx(tmp_path / folder, labels)
    torn = tmp_path / "torn" / file_names()[0]
    torn.with_suffix(".gz").write_bytes(gzip.compress(torn.read_bytes())[:-5])
    torn.unlink()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("precious")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "mine.keras").write_bytes(b"never opened here")
    run = str(tmp_path / "runs" / "seed")
    write_run_record(run, TrainConfig(batch_size=8), manifest.fingerprint)
    write_checkpoint_without_model(run, 1)
    for name, recipe in (("old", None), ("dnn", "dnn"), ("file", "mine.toml")):
        other = str(tmp_path / "runs" / name)
        write_run_record(other, TrainConfig(), manifest.fingerprint, recipe)
        write_checkpoint_without_model(other, 1)
    for name, content in GATES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_idx(folder: Path, labels: int) -> None:
    folder.mkdir()
    for name in file_names():
        array = np.zeros((4, 28, 28) if "images" in name else (labels,), np.uint8)
        (folder / name).write_bytes(encode_idx(array + labels))


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def run(job: ModuleType, command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        code = job.main(command.split())
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


TRAIN = "seed --data data --runs runs --name new --batch-size 8"
EVALUATE = "--data data --reports reports"
GATED = f"{EVALUATE} --checkpoint mine.keras --gate"
GATES = {
    "typo.toml": b"[min_acuracy]\noverall = 0.9",
    "class.toml": b"[max_drop.classes]\nHat = 0.1",
    "slice.toml": b'[max_drop.slices]\n"source=web" = 0.1',
    "id.toml": b'baseline = "beef"\n[max_drop]\noverall = 0',
    "shard.toml": b"\xff\xfe",
}

TRAIN_CASES = [
    ("--data data seed", "The recipe comes first: python -m jobs.train RECIPE [flags]. Received '--data'."),
    ("sed --data data", "Unknown recipe 'sed'. Did you mean 'seed'? Known: "),
    (f"{TRAIN} --model smal-cnn", "Unknown model 'smal-cnn'. Did you mean 'small-cnn'?"),
    (f"{TRAIN} --data nothing", "No dataset at {world}/nothing: it has no manifest.json. Make one: "),
    (f"{TRAIN} --data idx", "No dataset at {world}/idx: it has no manifest.json."),
    (f"{TRAIN} --data file", "A file and a folder are mixed up at {world}/file"),
    (f"{TRAIN} --data damaged", "train/part-00001.parquet does not match its manifest"),
    (f"{TRAIN} --data gs://bucket/data", "Unknown scheme in 'gs://bucket/data'."),
    (f"{TRAIN} --data s3://bucket/data", "No usable credentials for s3://bucket/data/manifest.json"),
    (f"{TRAIN} --runs s3://bucket/runs", "No usable credentials for s3://bucket/runs/new/run.json"),
    (f"{TRAIN} --runs file", "A file and a folder are mixed up at {world}/file"),
    (f"{TRAIN} --batch-size 100 --workers 3", "batch_size must divide by workers."),
    (f"{TRAIN} --batch-size 100 --workers 3", "Try 99 or 102."),
    (f"{TRAIN} --batch-size 64", "batch_size=64 is more than the 50 training rows."),
    (f"{TRAIN} --steps-per-epoch 7", "steps_per_epoch=7 is more than the data gives"),
    (f"{TRAIN} --epochs 0", "epochs must be at least 1. Received 0."),
    (f"{TRAIN} --learning-rate nan", "learning_rate must be above 0. Received nan."),
    (f"{TRAIN} --loop.steps-per-call 0", "loop.steps_per_call must be at least 1."),
    (f"{TRAIN} --split tset", "The dataset has no split 'tset'. Did you mean 'test'?"),
    (f"{TRAIN} --name ../up", "A run's name must begin with a letter or a digit, consist of letters, digits"),
    (f"{TRAIN} --name epoch-0001", "and not be the name of a checkpoint. Received 'epoch-0001'."),
    (
        f"{TRAIN} --optimizer.momentum 0.5",
        "optimizer.momentum is for sgd and rmsprop. Received 0.5 with adam.",
    ),
    (
        f"{TRAIN} --loss.class-weights 1 2",
        "loss.class_weights must be one per class. Received 2, expected 3.",
    ),
    (
        f"{TRAIN} --name seed --seed 1",
        "The run {world}/runs/seed exists with another config (seed: 0 then, 1 now).",
    ),
    (f"{TRAIN} --name seed --data other", "exists with another config (the dataset differs)."),
]
EVALUATE_CASES = [
    (EVALUATE, "Expected one of --checkpoint, --pending, --predictions. Received none of them."),
    (f"{EVALUATE} --pending nowhere", "nowhere holds no run."),
    (
        f"{EVALUATE} --checkpoint runs/seed --pending runs",
        "Expected one of --checkpoint, --pending, --predictions. Received --checkpoint and --pending.",
    ),
    (f"{EVALUATE} --checkpoint runs/sed", "{world}/runs/sed has no checkpoint. Expected a run (RUNS/NAME)"),
    (
        f"{EVALUATE} --checkpoint runs/seed@7",
        "has no checkpoint '7'. Expected last, best or one of the epochs 1.",
    ),
    (f"{EVALUATE} --checkpoint runs/seed/checkpoints/epoch-0002", "epoch-0002 is not a complete checkpoint"),
    (f"{EVALUATE} --checkpoint yours.keras", "There is nothing at {world}/yours.keras."),
    (
        f"{EVALUATE} --checkpoint mine.keras --preprocess imagenet",
        "--preprocess imagenet is for images of three channels. The images of {world}/data have 1.",
    ),
    (f"{EVALUATE} --checkpoint mine.keras --data nothing", "No dataset at {world}/nothing"),
    (
        f"{EVALUATE} --checkpoint mine.keras --data damaged",
        "test/part-00000.parquet is in the manifest but not in",
    ),
    (
        f"{EVALUATE} --checkpoint mine.keras --split tst",
        "The dataset has no split 'tst'. Did you mean 'test'?",
    ),
    (
        f"{EVALUATE} --checkpoint mine.keras --reports s3://bucket/r",
        "No usable credentials for s3://bucket/r:",
    ),
    (
        f"{EVALUATE} --checkpoint mine.keras --reports file",
        "A file and a folder are mixed up at {world}/file",
    ),
    (f"{EVALUATE} --checkpoint mine.keras --top-k 0", "top_k must be at least 1. Received 0."),
    (
        f"{EVALUATE} --checkpoint mine.keras --slice-by brightnes",
        "slice_by has no dimension 'brightnes'. Did you mean 'brightness'? "
        "Known: brightness, contrast, near-duplicate,",
    ),
    (f"{EVALUATE} --checkpoint mine.keras --slice-by source", "The dataset's own columns: none."),
    (
        f"{EVALUATE} --checkpoint mine.keras --slice-by near-duplicate --split train",
        "Received split='train' itself.",
    ),
    (
        f"{EVALUATE} --checkpoint mine.keras --slice-by size --slice-quantiles 1",
        "slice_quantiles must be at least 2. Received 1.",
    ),
    (f"{GATED} nothing.toml", "There is nothing at {world}/nothing.toml."),
    (f"{GATED} typo.toml", "typo.toml: Unknown key 'min_acuracy' in the file. Did you mean 'min_accuracy'?"),
    (f"{GATED} class.toml", "max_drop.classes: no class 'Hat' in the data."),
    (
        f"{GATED} slice.toml",
        "max_drop.slices: the evaluation makes no slice 'source=web'; it slices by nothing.",
    ),
    (f"{GATED} id.toml", "No report 'beef' in {world}/reports. It holds none."),
    (f"{GATED} shard.toml", "shard.toml is not a text file. Expected gates in TOML."),
    (
        f"{GATED} recipe",
        "{world}/mine.keras belongs to no run, so its recipe is unknown. Give --gate a TOML file.",
    ),
    (f"{EVALUATE} --checkpoint runs/old --gate recipe", "old/run.json does not name the run's recipe."),
    (f"{EVALUATE} --checkpoint runs/dnn --gate recipe", "The recipe 'dnn' of {world}/runs/dnn has no gates."),
    (
        f"{EVALUATE} --checkpoint runs/file --gate recipe",
        "{world}/runs/file was trained with the recipe file mine.toml, and recipe files have no gates.",
    ),
]
PREPARE_CASES = [
    ("fashion-mnist --output new --source nothing", "{world}/nothing has neither train-images-idx3-ubyte.gz nor"),
    ("fashion-mnist --output new --source idx", "of {world}/idx is not Fashion-MNIST's."),
    ("idx nothing --output new", "{world}/nothing has neither train-images-idx3-ubyte.gz nor"),
    ("idx few --output new", "Expected (n, height, width[, channels]) and (n,)."),
    ("idx torn --output new", "train-images-idx3-ubyte.gz is a damaged gzip file"),
    ("idx idx --output new --class-names Coat Bag", "/idx go up to 4, but there are 2 class names: Coat, Bag. Give"),
    ("idx idx --output new --class-names a b c b e", "one name. Received 'b' for class 1 and 'b' for class 3."),
    ("idx idx --output full", "{world}/full already holds something else: {world}/full/notes.txt. Choose an empty"),
    ("idx idx --output data", "{world}/data already holds another dataset (made up for a test)."),
    ("idx idx --output file", "A file and a folder are mixed up at {world}/file"),
    ("idx idx --output s3://bucket/new", "No usable credentials for s3://bucket/new/manifest.json"),
    ("idx idx --output ftp://host/new", "Unknown scheme in 'ftp://host/new'."),
    ("idx idx --output new --shard-mib 0", "shard_mib must be at least 1. Received 0."),
    ("idx idx --output new --shard-mib -1", "shard_mib must be at least 1. Received -1."),
]  # fmt: skip
CASES = [
    (job, command, message)
    for job, cases in ((train, TRAIN_CASES), (evaluate, EVALUATE_CASES), (prepare, PREPARE_CASES))
    for command, message in cases
]


@pytest.mark.parametrize(
    ("job", "command", "message"), CASES, ids=[f"{job.__name__}-{command}" for job, command, _ in CASES]
)
def test_bad_input_is_one_line_and_nothing_is_written(
    world: Path, capsys: pytest.CaptureFixture[str], job: ModuleType, command: str, message: str
) -> None:
    before = contents(world)
    code, out, err = run(job, command, capsys)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message.format(world=world) in err
    assert contents(world) == before


@pytest.mark.parametrize(
    ("job", "command"),
    [
        (train, f"{TRAIN} --data URI"),
        (train, f"{TRAIN} --runs URI"),
        (evaluate, f"{EVALUATE} --checkpoint URI"),
        (evaluate, f"{EVALUATE} --checkpoint URI@best"),
        (evaluate, f"{EVALUATE} --checkpoint URI.keras"),
        (evaluate, f"{EVALUATE} --pending URI"),
        (evaluate, f"{GATED} URI"),
        (evaluate, "--checkpoint mine.keras --data URI"),
        (evaluate, "--checkpoint mine.keras --data data --reports URI"),
        (prepare, "idx idx --output URI"),
        (prepare, "idx URI --output new"),
        (prepare, "fashion-mnist --output new --source URI"),
        (report, "URI"),
        (report, "reports --experiments --plot URI"),
        (report, "reports --prometheus URI"),
        (report, "reports --html URI"),
        (bench, "step --output URI"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_mistyped_uri_of_any_flag_makes_no_folder_and_names_what_was_meant(
    world: Path, capsys: pytest.CaptureFixture[str], job: ModuleType, command: str
) -> None:
    before = contents(world)
    code, out, err = run(job, command.replace("URI", "s3:/bucket/x"), capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Did you mean s3://bucket/x" in err
    assert contents(world) == before


@pytest.mark.parametrize(
    ("job", "command", "nearest"),
    [
        (train, f"{TRAIN} --modle dnn", "--model"),
        (train, f"{TRAIN} --batchsize 8", "--batch-size"),
        (train, f"{TRAIN} --loop.step-per-call 2", "--loop.steps-per-call"),
        (train, f"{TRAIN} --epochs many", "--epochs"),
        (train, f"{TRAIN} --optimizer.name adma", "'adam'"),
        (train, "seed --runs runs", "--data"),
        (evaluate, f"{EVALUATE} --checkpont mine.keras", "--checkpoint"),
        (evaluate, f"{EVALUATE} --pixel-range 0-2", "'0-255'"),
        (evaluate, "--checkpoint mine.keras", "--data"),
        (prepare, "idx idx --outptu new", "--output"),
        (prepare, "idx idx", "--output"),
        (prepare, "idx --output new", "DIR"),
        (prepare, "fashion-mnits --output new", "fashion-mnist"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_unknown_or_missing_flag_names_the_one_that_was_meant(
    world: Path, capsys: pytest.CaptureFixture[str], job: ModuleType, command: str, nearest: str
) -> None:
    before = contents(world)
    code, out, err = run(job, command, capsys)
    assert (code, out) == (2, "")
    assert nearest in err
    assert "Traceback" not in err
    assert contents(world) == before


def test_json_changes_nothing_of_an_error(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(train, f"{TRAIN} --data nothing --json", capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: No dataset at ")


def test_training_without_a_recipe_lists_them(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(train, "", capsys)
    assert (code, out) == (2, "")
    assert err.startswith("usage: python -m jobs.train RECIPE [flags]")
    for recipe in ("seed", "demo", "dnn"):
        assert f"\n  {recipe} " in err


def test_finished_run_needs_no_cluster_and_exits_zero(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(world)
    code, _, err = run(train, f"{TRAIN} --name seed --epochs 1", capsys)
    assert code == 0
    assert "finished already; nothing to train" in err
    assert contents(world) == before


def test_data_set_that_is_already_there_needs_no_cluster_and_exits_zero(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare.Idx, "load", lambda self: make_source())
    before = contents(world)
    code, out, _ = run(prepare, "idx idx --output data --json", capsys)
    assert code == 0
    assert '"rows": {"test": 23, "train": 50}' in out
    assert contents(world) == before


def test_nothing_pending_needs_no_cluster_and_exits_zero(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A run before its first checkpoint.
    write_run_record(str(world / "started" / "first"), TrainConfig(), "0" * 64)
    code, out, err = run(evaluate, f"{EVALUATE} --pending started --json", capsys)
    assert code == 0
    assert '"reports": []' in out
    assert "checkpoints=0 to_score=0" in err
