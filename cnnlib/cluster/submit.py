"""A job on a Ray cluster, seen from outside it: submit it or attach to it, follow its log, tell how it ended.

What a scheduler needs and `ray job submit` lacks: the job's own exit code (also for a stopped job, which counts
as 0 there), a timeout, an id that runs once however often it is submitted, and patience with a lost connection.
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
from typing import Any

from cnnlib.cluster.local import ADDRESS_VARIABLE
from cnnlib.errors import AccessError, CnnlibError, ConfigError, ConflictError, ResourceError
from cnnlib.log import log_event

_POLL_S = 1.0
_REQUEST_TIMEOUT_S = 60.0
_LOST_AFTER_S = 120.0  # a head that restarts, or a port-forward that is opened again, needs a minute
_STOP_S = 20.0  # Ray kills a job that has not stopped after 3 s
_LOST = (OSError, RuntimeError)  # what Ray's client raises where there is no answer, or a refusal
_SHELL_SIGNAL_BASE = 128


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A command for a cluster.

    Attributes:
        address: the dashboard, http://host:8265.
        command: the words of the command.
        submission_id: runs once per cluster, however often it is submitted; None lets Ray choose a new one.
        working_dir: is uploaded and becomes the job's folder; None runs what is installed on the cluster.
        env: environment variables of the job. Whoever may open the dashboard can read them.
    """

    address: str
    command: tuple[str, ...]
    submission_id: str | None = None
    working_dir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not re.match("https?://", self.address):
            raise ConfigError(f"Expected a dashboard's address, http://HEAD:8265. Received {self.address!r}.")
        if not self.command:
            raise ConfigError("No command to run. Give it after --, as in: -- python -m jobs.evaluate --help")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: SUCCEEDED, FAILED or STOPPED.
        exit_code: the job's own; 1 for a job that has none because it never started or was stopped.
    """

    submission_id: str
    status: str
    exit_code: int


def prefer_address(address: str) -> None:
    """Makes the address that is given win over those in the environment, which Ray would prefer.

    Call it before anything else: a job that knows no address makes an authentication token of its own.
    """
    os.environ |= {ADDRESS_VARIABLE: address, "RAY_API_SERVER_ADDRESS": address}


def find_environment(pairs: Sequence[str]) -> dict[str, str]:
    """Reads NAME=VALUE, and NAME for the value it has in this process. A message never shows a value.

    >>> find_environment(["AWS_REGION=eu-central-1", "EMPTY="])
    {'AWS_REGION': 'eu-central-1', 'EMPTY': ''}
    """
    found = {}
    for number, pair in enumerate(pairs, start=1):
        name, given, value = pair.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or not (given or name in os.environ):
            raise ConfigError(
                f"Expected NAME=VALUE, or a NAME that is set here. Received another --env, number {number}."
            )
        found[name] = value if given else os.environ[name]
    return found


def run_submission(submission: Submission, timeout_s: float | None) -> Outcome:
    """Submits, copies the job's log to stderr, waits for its end.

    An interruption leaves the job running; the same call with the same id attaches to it.

    Args:
        timeout_s: seconds after which the job is stopped; None waits as long as it runs.

    Raises:
        InputError: no cluster there, a token it refuses, a folder that cannot be uploaded, or an id that
            stands for another command.
        CnnlibError: the timeout, a cluster that is lost on the way, or that refuses the job.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise ConfigError(f"timeout_s must be above 0. Received {timeout_s}.")
    client = _connect(submission.address)
    submission_id = _submit_or_attach(client, submission)
    return asyncio.run(_wait(client, submission_id, timeout_s))


def find_exit_code(status: str, driver_exit_code: int | None) -> int:
    """The exit code that tells a scheduler how a job ended.

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


def _connect(address: str) -> Any:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]
        """Ray's client, which has no timeout: a head that hangs would hold a scheduler's slot for ever."""

        def _do_request(self, *args: Any, **kwargs: Any) -> Any:
            return super()._do_request(*args, timeout=_REQUEST_TIMEOUT_S, **kwargs)

    place = re.sub(r"//[^/@]*@", "//", address)
    try:
        return Client(address)
    except AuthenticationError as err:
        raise AccessError(
            f"The cluster at {place} asks for another token. Expected RAY_AUTH_MODE=token and its token in "
            "RAY_AUTH_TOKEN, or in the file that RAY_AUTH_TOKEN_PATH names."
        ) from err
    except _LOST as err:
        raise ResourceError(
            f"No Ray dashboard answers at {place} ({type(err).__name__}). Expected http://HEAD:8265 of a "
            "cluster that runs."
        ) from err


def _submit_or_attach(client: Any, submission: Submission) -> str:
    entrypoint = shlex.join(submission.command)
    runtime_env: dict[str, Any] = {"env_vars": dict(submission.env)} if submission.env else {}
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
        # Not asked beforehand whether the id exists: two that start at once would both hear no.
        existing = submission.submission_id and _find_entrypoint(client, submission.submission_id)
        if not existing:
            raise CnnlibError(f"The cluster did not take the job: {_last_line(err)}") from err
        if existing != entrypoint:
            raise ConflictError(
                f"The cluster has a job {submission.submission_id} with another command. Choose another "
                "--submission-id."
            ) from err
        log_event("job", submission_id=submission.submission_id, note="exists already; attached to it")
        return str(submission.submission_id)
    log_event("job", submission_id=submission_id, note="submitted")
    return submission_id


def _find_entrypoint(client: Any, submission_id: str) -> str | None:
    with suppress(*_LOST):
        return str(client.get_job_info(submission_id).entrypoint)
    return None


async def _wait(client: Any, submission_id: str, timeout_s: float | None) -> Outcome:
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


async def _poll_until_done(client: Any, submission_id: str) -> Any:
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


async def _stop(client: Any, submission_id: str) -> None:
    """Stops the job and gives it time to go, so that the next one finds its machines free."""
    with suppress(*_LOST):
        await asyncio.to_thread(client.stop_job, submission_id)
        async with asyncio.timeout(_STOP_S):
            await _poll_until_done(client, submission_id)


class _Log:
    """Copies a job's log to stderr, once, over connections that may break."""

    def __init__(self, client: Any, submission_id: str) -> None:
        self._client = client
        self._submission_id = submission_id
        self._shown = 0  # characters

    async def follow(self) -> None:
        """Shows what comes, until it is cancelled. The end of the log is left to `finish`."""
        import aiohttp

        while True:
            offset = 0
            with suppress(*_LOST, aiohttp.ClientError):
                # Each connection tells the log from its beginning.
                async for text in self._client.tail_job_logs(self._submission_id):
                    self._show(text, offset)
                    offset += len(text)
            await asyncio.sleep(_POLL_S)

    async def finish(self) -> None:
        """Shows what `follow` has not."""
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
