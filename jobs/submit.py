"""Runs a job on a cluster and exits with that job's exit code, for schedulers.

python -m jobs.submit --address http://HEAD:8265 [flags] -- python -m jobs.evaluate --pending RUNS [flags]

The job's log goes to stderr. An interruption leaves the job running; the same --submission-id attaches to it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cnnlib.cluster.submit import Submission, find_environment, prefer_address, run_submission
from jobs.cli import Finished, exit_with, run_job
from jobs.flags import parse_args


@dataclass(frozen=True, kw_only=True)
class Args:
    """Where a command runs, and for how long. The command follows after `--`."""

    address: str
    """URL of the cluster's dashboard, http://HEAD:8265. RAY_AUTH_MODE and RAY_AUTH_TOKEN give its token."""
    submission_id: str | None = None
    """Id of the job, which runs once on this cluster: the same id again attaches to it. None: always a new job."""
    working_dir: str | None = None
    """Folder to upload and to run in; .gitignore and .rayignore apply. None: what is installed on the cluster."""
    timeout_s: float | None = None
    """Seconds after which the job is stopped and the exit code is 1. None: wait as long as the job runs."""
    env: tuple[str, ...] = ()
    """Environment variables of the job: NAME=VALUE, or NAME for its value here.
    Everyone who can open the dashboard can read them."""
    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, runs the job, and returns that job's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    args = parse_args(Args, words[:end], prog="python -m jobs.submit", description=__doc__)
    prefer_address(args.address)

    def submit() -> Finished:
        options = {name: getattr(args, name) for name in ("address", "submission_id", "working_dir")}
        submission = Submission(**options, command=tuple(words[end + 1 :]), env=find_environment(args.env))
        outcome = run_submission(submission, args.timeout_s)
        return Finished(result=dataclasses.asdict(outcome), exit_code=outcome.exit_code)

    return run_job(submit, json=args.json)


if __name__ == "__main__":
    exit_with(main())
