"""Runs a job on a Ray cluster from outside it: submits or attaches, follows the log, returns the job's exit code.

Adds what a scheduler needs and `ray job submit` lacks: the job's own exit code (also for a stopped job, for which
`ray job submit` exits with 0), a timeout, an id that runs once however often it is submitted, and retries after a
lost connection.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnnlib.cluster.local import ADDRESS_VARIABLE
from cnnlib.errors import AccessError, CnnlibError, ConfigError, ConflictError, ResourceError
from cnnlib.log import log_event

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_POLL_S = 1.0
_REQUEST_TIMEOUT_S = 60.0
_LOST_AFTER_S = 120.0  # a head that restarts, or a port-forward that is reopened, needs a minute
_STOP_S = 20.0  # Ray kills a job that has not stopped after 3 s
_LOST = (OSError, RuntimeError)  # raised by Ray's client without an answer, or for an answer that is an error
_SHELL_SIGNAL_BASE = 128


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A command to run on a cluster.

    Attributes:
        address: the dashboard's URL, http://host:8265.
        command: the words of the command.
        submission_id: an id that runs once per cluster, however often it is submitted; None lets Ray choose a new id.
        working_dir: a folder to upload and run in; None runs what is installed on the cluster.
        env: environment variables of the job. Everyone who can open the dashboard can read them.
    """

    address: str
    command: tuple[str, ...]
    submission_id: str | None = None
    working_dir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not re.match("https?://", self.address):
            raise ConfigError(
                f"Expected the URL of a dashboard, http://HEAD:8265. Received {self.address!r}."
            )
        if not self.command:
            raise ConfigError("No command to run. Give it after --, as in: -- python -m jobs.evaluate --help")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: SUCCEEDED, FAILED or STOPPED.
        exit_code: the job's own exit code; 1 for a job that has none because it never started or was stopped.
    """

    submission_id: str
    status: str
    exit_code: int


def prefer_address(address: str) -> None:
    """Replaces the addresses in the environment, which Ray would prefer, by the given one.

    Call it first: a job without an address in its environment generates an authentication token of its own.
    """
    os.environ |= {ADDRESS_VARIABLE: address, "RAY_API_SERVER_ADDRESS": address}


def find_environment(pairs: Sequence[str]) -> dict[str, str]:
    """Parses pairs NAME=VALUE; a NAME alone takes its value from this process.

    Raises:
        ConfigError: a pair is neither. The message does not show the pair, because a value may be secret.

    >>> find_environment(["AWS_REGION=eu-central-1", "EMPTY="])
    {'AWS_REGION': 'eu-central-1', 'EMPTY': ''}
    """
    found = {}
    for number, pair in enumerate(pairs, start=1):
        name, given, value = pair.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or not (given or name in os.environ):
            raise ConfigError(
                f"Expected NAME=VALUE, or a NAME that is set here. Received something else as --env number {number}."
            )
        found[name] = value if given else os.environ[name]
    return found


def run_submission(submission: Submission, timeout_s: float | None) -> Outcome:
    """Submits a job, copies its log to stderr and waits until it ends.

    An interruption leaves the job running; the same call with the same id attaches to it.

    Args:
        timeout_s: seconds after which the job is stopped; None: wait as long as it runs.

    Raises:
        InputError: there is no cluster at the address, it rejects the token, the folder cannot be uploaded, or the
            id belongs to another command.
        CnnlibError: the job exceeds the timeout, the connection to the cluster is lost, or it rejects the job.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise ConfigError(f"timeout_s must be above 0. Received {timeout_s}.")
    client = _connect(submission.address)
    submission_id = _submit_or_attach(client, submission)
    return asyncio.run(_wait(client, submission_id, timeout_s))


def find_exit_code(status: str, driver_exit_code: int | None) -> int:
    """Returns the exit code for a scheduler: the job's own, as a shell reports it, or 1 where it has none.

    >>> find_exit_code("SUCCEEDED", 0), find_exit_code("FAILED", 2), find_exit_code("FAILED", -9)
    (0, 2, 137)
    >>> find_exit_code("FAILED", None), find_exit_code("STOPPED", None)
    (1, 1)
    """
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED" or not driver_exit_code:
        return 1
    return driver_exit_code if driver_exit_code > 0 else _SHELL_SIGNAL_BASE - driver_exit_code


def _connect(address: str) -> JobSubmissionClient:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]
        """Ray's client with a timeout: without one, a head that hangs would block a scheduler's slot forever."""

        def _do_request(self, *args: Any, **kwargs: Any) -> Any:
            return super()._do_request(*args, timeout=_REQUEST_TIMEOUT_S, **kwargs)

    address_without_password = re.sub(r"//[^/@]*@", "//", address)
    try:
        return Client(address)
    except AuthenticationError as err:
        raise AccessError(
            f"The cluster at {address_without_password} requires another token. Expected RAY_AUTH_MODE=token and the "
            "cluster's token in RAY_AUTH_TOKEN, or in the file that RAY_AUTH_TOKEN_PATH names."
        ) from err
    except _LOST as err:
        raise ResourceError(
            f"No Ray dashboard answers at {address_without_password} ({type(err).__name__}). Expected http://HEAD:8265 "
            "of a running cluster."
        ) from err


def _submit_or_attach(client: JobSubmissionClient, submission: Submission) -> str:
    entrypoint = shlex.join(submission.command)
    runtime_env: dict[str, object] = {"env_vars": dict(submission.env)} if submission.env else {}
    if submission.working_dir is not None:
        runtime_env["working_dir"] = submission.working_dir
    try:
        submission_id = str(
            client.submit_job(
                entrypoint=entrypoint, submission_id=submission.submission_id, runtime_env=runtime_env
            )
        )
    except ValueError as err:
        raise ConfigError(f"--working-dir cannot be uploaded: {err}.") from err
    except _LOST as err:
        # The id is not looked up beforehand: two submissions at the same time would both find it free.
        existing = submission.submission_id and _find_entrypoint(client, submission.submission_id)
        if not existing:
            raise CnnlibError(f"The cluster rejected the job: {_last_line(err)}") from err
        if existing != entrypoint:
            raise ConflictError(
                f"The cluster already has a job {submission.submission_id} with another command. Choose another "
                "--submission-id."
            ) from err
        log_event("job", submission_id=submission.submission_id, note="exists already; attached to it")
        return str(submission.submission_id)
    log_event("job", submission_id=submission_id, note="submitted")
    return submission_id


def _find_entrypoint(client: JobSubmissionClient, submission_id: str) -> str | None:
    with suppress(*_LOST):
        return str(client.get_job_info(submission_id).entrypoint)
    return None


async def _wait(client: JobSubmissionClient, submission_id: str, timeout_s: float | None) -> Outcome:
    log = _Log(client, submission_id)
    following = asyncio.create_task(log.follow())
    try:
        async with asyncio.timeout(timeout_s):
            info = await _poll_until_done(client, submission_id)
    except TimeoutError:
        await _stop(client, submission_id)
        raise CnnlibError(
            f"The job {submission_id} did not end within {timeout_s:g} s and was stopped."
        ) from None
    finally:
        following.cancel()
    await log.finish()
    status = str(info.status)
    code = find_exit_code(status, info.driver_exit_code)
    log_event("job", submission_id=submission_id, status=status, exit_code=code)
    return Outcome(submission_id=submission_id, status=status, exit_code=code)


async def _poll_until_done(client: JobSubmissionClient, submission_id: str) -> JobDetails:
    answered = time.monotonic()
    while True:
        try:
            info = await asyncio.to_thread(client.get_job_info, submission_id)
            answered = time.monotonic()
            if info.status.is_terminal():
                return info
        except _LOST as err:
            if time.monotonic() - answered > _LOST_AFTER_S:
                raise CnnlibError(
                    f"The cluster has not answered for {_LOST_AFTER_S:g} s: {_last_line(err)} The job "
                    f"{submission_id} may still run: the same command with --submission-id attaches to it."
                ) from err
        await asyncio.sleep(_POLL_S)


async def _stop(client: JobSubmissionClient, submission_id: str) -> None:
    """Stops the job and waits a while for its end, so that the next job finds its machines free."""
    with suppress(*_LOST):
        await asyncio.to_thread(client.stop_job, submission_id)
        async with asyncio.timeout(_STOP_S):
            await _poll_until_done(client, submission_id)


class _Log:
    """Copies a job's log to stderr, each character once, over connections that may break."""

    def __init__(self, client: JobSubmissionClient, submission_id: str) -> None:
        self._client = client
        self._submission_id = submission_id
        self._shown = 0  # characters

    async def follow(self) -> None:
        """Shows new text until it is cancelled; `finish` shows the end of the log."""
        import aiohttp

        while True:
            offset = 0
            with suppress(*_LOST, aiohttp.ClientError):
                # Each connection sends the log from its beginning.
                async for text in self._client.tail_job_logs(self._submission_id):
                    self._show(text, offset)
                    offset += len(text)
            await asyncio.sleep(_POLL_S)

    async def finish(self) -> None:
        """Shows the text that `follow` has not shown."""
        with suppress(*_LOST):
            self._show(await asyncio.to_thread(self._client.get_job_logs, self._submission_id), 0)

    def _show(self, text: str, offset: int) -> None:
        fresh = text[max(0, self._shown - offset) :]
        sys.stderr.write(fresh)
        sys.stderr.flush()
        self._shown = max(self._shown, offset + len(text))


def _last_line(err: Exception) -> str:
    # The server answers with a traceback.
    lines = str(err).split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip(". \t")), type(err).__name__)
