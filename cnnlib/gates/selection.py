"""The selection of gates: the subjects of reports in, the gate of each report out, checked before any row is scored.

A gate comes from a TOML file, or from the recipe that trained the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnlib.errors import ConfigError, nearest
from cnnlib.gate_config import EARLIER, GateConfig, Limits, parse_gates
from cnnlib.log import log_event
from cnnlib.recipes import RECIPES, find_recipe
from cnnlib.reports.read import resolve
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.runs.record import find_run_record
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import normalize_uri

RECIPE = "recipe"


def select_gates(
    name: str,
    subjects: Iterable[ReportSubject],
    reports_uri: str,
    *,
    slice_by: Sequence[str] = (),
    corruptions: bool = False,
    skip_unknown: bool = False,
) -> dict[str, GateConfig]:
    """Returns the gate of each report by report id, checked as far as that is possible before rows are scored.

    Args:
        name: URI of a TOML file (`cnnlib/gate_config.py` shows one), or `recipe`.
        subjects: the subjects of the reports.
        reports_uri: the folder of all reports, where the baselines are.
        slice_by: the slices that the reports will have.
        corruptions: True if the reports will have slices of corrupted images.
        skip_unknown: True: a run whose recipe is unknown or has no gate gets none, with a log line.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is wrong, or names a class or slice that the report will not have; or the recipe is
            unknown or has no gates.
        ReportError: there is no report with the id of the baseline.
    """
    file_gate = None if name == RECIPE else _read(name)
    selected = {}
    for subject in subjects:
        try:
            gate = file_gate or _find_recipe_gate(subject)
        except ConfigError as err:
            if not skip_unknown:
                raise
            log_event("gate", checkpoint=subject.checkpoint_uri, note=f"not applied: {err}")
            continue
        check_gates(gate, reports_uri, subject.class_names, slice_by=slice_by, corruptions=corruptions)
        selected[report_id(subject)] = gate
    return selected


def describe_gate(name: str) -> str:
    """Returns a text that is the same for the same gate, and another one for every other gate.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is wrong.
    """
    if name != RECIPE:
        return publish.canonical_json(_read(name).to_dict()).decode()
    gates = {recipe: each.gates.to_dict() for recipe, each in RECIPES.items() if each.gates is not None}
    return publish.canonical_json({RECIPE: gates}).decode()


def check_gates(
    gate: GateConfig,
    reports_uri: str,
    class_names: Sequence[str],
    *,
    slice_by: Sequence[str],
    corruptions: bool,
) -> None:
    """Checks everything in a gate that can be checked before rows are scored.

    Args:
        class_names: the classes of the dataset.
        slice_by: what the evaluation slices by.
        corruptions: whether the evaluation scores corrupted images too.

    Raises:
        ConfigError: the gate names a class that the data do not have, or a slice that the evaluation does not make.
        ReportError: no report has the id of the baseline, or several have.
    """
    made = [*slice_by, *(["corruption"] if corruptions else [])]
    for table in ("min_accuracy", "max_drop"):
        limits: Limits = getattr(gate, table)
        for name in limits.classes:
            if name not in class_names:
                raise ConfigError(
                    f"{table}.classes: no class {name!r} in the data. {nearest(name, class_names)}"
                )
        for name in limits.slices:
            # source=web+brightness=q1 is made by source+brightness
            key = "+".join(part.partition("=")[0] for part in name.split("+"))
            if key not in made:
                raise ConfigError(
                    f"{table}.slices: the evaluation makes no slice {name!r}; it slices by "
                    f"{', '.join(made) or 'nothing'}. Give --slice-by or --corruptions."
                )
    if gate.baseline not in EARLIER:
        resolve(reports_uri, gate.baseline)


def _read(uri: str) -> GateConfig:
    data = files.read_bytes(normalize_uri(uri))
    try:
        return parse_gates(data.decode(), uri)
    except UnicodeDecodeError as err:
        raise ConfigError(f"{uri} is not a text file. Expected gates in TOML.") from err


def _find_recipe_gate(subject: ReportSubject) -> GateConfig:
    if subject.run is None:
        raise ConfigError(
            f"{subject.checkpoint_uri} belongs to no run, so its recipe is unknown. Give --gate a TOML file."
        )
    run = layout.run_of_checkpoint(subject.checkpoint_uri)
    record = find_run_record(run)
    name = None if record is None else record.get("recipe")
    if name is None:
        raise ConfigError(
            f"{layout.run_record(run)} does not name the run's recipe. Give --gate a TOML file."
        )
    gate = find_recipe(name).gates
    if gate is None:
        raise ConfigError(f"The recipe {name!r} of {run} has no gates. Give --gate a TOML file.")
    return gate
