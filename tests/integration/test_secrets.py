"""No secret is written anywhere: not by a training, an evaluation or a report, not when they fail, not by Ray."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.local_s3 import LocalS3Server
from tests.integration.conftest import JobResult, run_job
from tests.s3_server import Answer, ScriptedServer, run_scripted_server

PASSWORD, TOKEN = "canary-7f3a-password", "canary-91bc-token"
_RUN = {"info": {"run_id": "r1", "experiment_id": "1", "status": "RUNNING", "run_name": "seed"}, "data": {}}
_ANSWERS = {
    "experiments/get-by-name": {"experiment": {"experiment_id": "1", "name": "cnnlib"}},
    "runs/search": {"runs": []},
    "runs/create": {"run": _RUN},
}


@pytest.fixture
def mlflow() -> Iterator[ScriptedServer]:
    """Answers like an MLflow server."""
    with run_scripted_server() as server:

        def answer() -> Answer:
            path = server.requests[-1].path.partition("?")[0]
            found = next((each for name, each in _ANSWERS.items() if path.endswith(name)), {})
            return Answer(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

        server.answers.append(answer)
        yield server


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder for Ray, whose sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        yield folder


def all_bytes(folder: Path) -> dict[str, bytes]:
    """Returns what the files of a folder hold; tables also as their values, because their bytes are compressed."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[str(path)] = data = path.read_bytes()
            if path.suffix == ".parquet":
                table: pa.Table = pq.read_table(io.BytesIO(data))
                found[f"{path} as values"] = repr((table.schema.metadata, table.to_pylist())).encode()
    return found


def assert_no_secret(folders: list[Path], *done: JobResult, secrets: list[str]) -> None:
    texts = {"stdout": "", "stderr": ""}
    for each in done:
        texts = {"stdout": texts["stdout"] + each.stdout, "stderr": texts["stderr"] + each.stderr}
    found = {name: text.encode() for name, text in texts.items()}
    for folder in folders:
        found |= all_bytes(folder)
    assert len(found) > 2
    leaks = [name for name, data in found.items() if any(secret.encode() in data for secret in secrets)]
    assert leaks == []


def test_a_password_in_the_uri_of_mlflow_serves_the_training_and_stays_unwritten(
    tiny_idx: Path, mlflow: ScriptedServer, tmp_path: Path, short_folder: str
) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    environment = {"HOME": str(home), "RAY_TMPDIR": short_folder}
    data = run_job("prepare", ["idx", tiny_idx, "--output", out / "data"], environment)
    uri = mlflow.url.replace("://", f"://ann:{PASSWORD}@")
    train = ["dnn", "--data", out / "data", "--runs", out / "runs", "--name", "seed", "--epochs", 1]
    trained = run_job("train", [*train, "--loop.mlflow-uri", uri], environment)
    assert trained.code == 0, trained.stderr[-3000:]
    assert any(request.path.endswith("log-metric") for request in mlflow.requests), "the server was used"
    given = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    assert mlflow.requests[0].headers["Authorization"] == f"Basic {given}"
    again = run_job("train", [*train, "--epochs", 2, "--loop.mlflow-uri", uri], environment)
    assert again.code == 0, again.stderr[-3000:]
    evaluated = run_job(
        "evaluate",
        ["--checkpoint", out / "runs/seed", "--data", out / "data", "--reports", out / "reports"],
        environment,
    )
    assert evaluated.code == 0, evaluated.stderr[-3000:]
    run = json.loads((out / "runs/seed/run.json").read_text())
    assert run["config"]["loop"]["mlflow_uri"].startswith("http://***@127.0.0.1:")
    logs = [path for path in Path(short_folder).rglob("logs") if path.is_dir()]
    assert_no_secret([out, home, *logs], data, trained, again, evaluated, secrets=[PASSWORD])


def test_a_server_that_refuses_is_named_without_the_password(tiny_idx: Path, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    run_job("prepare", ["idx", tiny_idx, "--output", tmp_path / "data"], environment)
    train = ["dnn", "--data", tmp_path / "data", "--runs", tmp_path / "runs", "--epochs", 1]
    failed = run_job("train", [*train, "--loop.mlflow-uri", f"http://{TOKEN}@127.0.0.1:9/"], environment)
    assert failed.code == 2
    assert "error: MLflow at http://***@127.0.0.1:9/ cannot be used" in failed.stderr
    assert_no_secret([tmp_path / "runs"], failed, secrets=[TOKEN])


def test_the_keys_of_s3_stay_in_the_environment(
    tiny_idx: Path, s3_server: LocalS3Server, s3_uri: str, tmp_path: Path
) -> None:
    environment = {**s3_server.environment(), "HOME": str(tmp_path)}
    done = [run_job("prepare", ["idx", tiny_idx, "--output", f"{s3_uri}/data"], environment)]
    train = ["dnn", "--data", f"{s3_uri}/data", "--runs", f"{s3_uri}/runs", "--name", "a", "--epochs", 1]
    done.append(run_job("train", train, environment))
    wrong = {**environment, "AWS_SECRET_ACCESS_KEY": PASSWORD}
    done.append(run_job("train", [*train, "--name", "b"], wrong))
    assert [each.code for each in done] == [0, 0, 2], done[-1].stderr[-3000:]
    refused = environment | {
        "AWS_ENDPOINT_URL": f"http://ann:{PASSWORD}@127.0.0.1:9",
        "CNNLIB_STORAGE_WAIT_S": "1",
    }
    done.append(run_job("train", [*train, "--name", "c"], refused))
    assert done[-1].code in (1, 2)
    assert_no_secret([tmp_path], *done, secrets=[PASSWORD, s3_server.secret_key])
