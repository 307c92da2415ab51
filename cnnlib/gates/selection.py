"""Which gates each report of an evaluation must pass: those of a file, or of the recipe that trained the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnlib.errors import ConfigError
from cnnlib.gate_config import GateConfig, parse_gates
from cnnlib.gates.apply import GateResult, check_gates
from cnnlib.gates.verdicts import worst
from cnnlib.recipes import find_recipe
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.runs.record import find_run_record
from cnnlib.storage import files, layout
from cnnlib.storage.uri import normalize_uri

RECIPE = "recipe"


def find_gates(
    name: str,
    subjects: Iterable[ReportSubject],
    reports_uri: str,
    *,
    slice_by: Sequence[str] = (),
    corruptions: bool = False,
) -> dict[str, GateConfig]:
    """The gates of each report by its id, checked as far as they can be before anything is scored.

    Args:
        name: URI of a TOML file (`cnnlib/gate_config.py` shows one), or `recipe`.
        subjects: what the reports are about.
        reports_uri: where the baselines are.
        slice_by: the slices that the reports will have.
        corruptions: True if they will have slices of corrupted images.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file's content, or a class or a slice in it; or there is no recipe known, or no gates in it.
        ReportError: there is no report of the id that is the baseline.
    """
    of_file = None if name == RECIPE else _read(name)
    found = {}
    for subject in subjects:
        gates = of_file or _of_recipe(subject)
        check_gates(gates, reports_uri, subject.class_names, slice_by=slice_by, corruptions=corruptions)
        found[report_id(subject)] = gates
    return found


def exit_code(results: Sequence[GateResult]) -> int:
    """What the worst of some results exits with; 0 without any."""
    verdict = worst(result.verdict for result in results)
    return max((result.exit_code for result in results if result.verdict == verdict), default=0)


def _read(uri: str) -> GateConfig:
    data = files.read_bytes(normalize_uri(uri))
    try:
        return parse_gates(data.decode(), uri)
    except UnicodeDecodeError as err:
        raise ConfigError(f"{uri} is not a text file. Expected gates in TOML.") from err


def _of_recipe(subject: ReportSubject) -> GateConfig:
    if subject.run is None:
        raise ConfigError(
            f"{subject.checkpoint_uri} is a file, and no run says its recipe. Give --gate a TOML file."
        )
    run = layout.run_of_checkpoint(subject.checkpoint_uri)
    record = find_run_record(run)
    name = None if record is None else record.get("recipe")
    if name is None:
        raise ConfigError(
            f"{layout.run_record(run)} does not name the run's recipe. Give --gate a TOML file."
        )
    gates = find_recipe(name).gates
    if gates is None:
        raise ConfigError(f"The recipe {name!r} of {run} has no gates. Give --gate a TOML file.")
    return gates
