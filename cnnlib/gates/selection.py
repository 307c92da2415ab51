"""The selection of gates: the subjects of reports in, the gate of each report out, checked before any row is scored.

A gate comes from a TOML file, or from the recipe that trained the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cnnlib.errors import ConfigError, nearest
from cnnlib.gate_config import EARLIER, GateConfig, Limits, parse_gates
from cnnlib.gates.baseline import check_baseline
from cnnlib.log import log_event
from cnnlib.recipe_files import ENDING as RECIPE_FILE
from cnnlib.recipes import RECIPES, find_recipe
from cnnlib.reports.subject import ReportSubject, report_id
from cnnlib.slices.corruptions import CORRUPTIONS, STRENGTHS, slice_name
from cnnlib.slices.slicer import split_name
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import normalize_uri

RECIPE = "recipe"
_CORRUPTION = "corruption"


@dataclass(frozen=True, kw_only=True)
class MadeSlices:
    """The slices that an evaluation makes.

    Attributes:
        slice_by: what it slices by.
        corruptions: True if it makes slices of corrupted images.
        list_names: returns the names of the slices of each of some dimensions, None for one whose values are not
            known; it may read data.
    """

    slice_by: Sequence[str] = ()
    corruptions: bool = False
    list_names: Callable[[Sequence[str]], Mapping[str, Sequence[str] | None]] = dict.fromkeys

    def check(self, name: str, where: str) -> None:
        """Checks that a slice can exist.

        Args:
            name: of the slice.
            where: where the gate names it.

        Raises:
            ConfigError: the evaluation does not slice by that, or the data have no such value.
        """
        made = [*self.slice_by, *([_CORRUPTION] if self.corruptions else [])]
        parts = split_name(name)
        # source=web+brightness=q1 is made by source+brightness
        dimensions = [part.partition("=")[0] for part in parts]
        if "+".join(dimensions) not in made:
            raise ConfigError(
                f"{where}: the evaluation makes no slice {name!r}; it slices by "
                f"{', '.join(made) or 'nothing'}. Give --slice-by or --corruptions."
            )
        for dimension, part in zip(dimensions, parts, strict=True):
            known = self._names[dimension]
            if known is not None and part not in known:
                raise ConfigError(f"{where}: the data have no slice {part!r}. {nearest(part, known)}")

    @cached_property
    def _names(self) -> Mapping[str, Sequence[str] | None]:
        dimensions = list(dict.fromkeys(name for group in self.slice_by for name in group.split("+")))
        corrupted = [slice_name(kind, strength) for kind in CORRUPTIONS for strength in STRENGTHS]
        return {**(self.list_names(dimensions) if dimensions else {}), _CORRUPTION: corrupted}


def select_gates(
    name: str,
    subjects: Sequence[ReportSubject],
    reports_uri: str,
    *,
    made: MadeSlices,
    skip_unknown: bool = False,
) -> dict[str, GateConfig]:
    """Returns the gate of each report by report id, checked as far as that is possible before rows are scored.

    Args:
        name: URI of a TOML file (`cnnlib/gate_config.py` shows one), or `recipe`.
        subjects: the subjects of the reports.
        reports_uri: the folder of all reports, where the baselines are.
        made: the slices that the reports will have.
        skip_unknown: True: a run whose recipe is unknown or has no gate gets none, with a log line.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is wrong, or names a class or slice that the report will not have; or the recipe is
            unknown or has no gates.
        ReportError: there is no report with the id of the baseline.
    """
    file_gate = None if name == RECIPE else _read(name)
    if file_gate is not None and subjects:
        check_gates(file_gate, reports_uri, subjects[0].class_names, made, subjects)
    selected = {}
    for subject in subjects:
        try:
            gate = file_gate or _find_recipe_gate(subject)
        except ConfigError as err:
            if not skip_unknown:
                raise
            log_event("gate", checkpoint=subject.checkpoint_uri, note=f"not applied: {err}")
            continue
        if file_gate is None:
            check_gates(gate, reports_uri, subject.class_names, made, subjects)
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
    made: MadeSlices,
    subjects: Sequence[ReportSubject] = (),
) -> None:
    """Checks everything in a gate that can be checked before rows are scored.

    Args:
        class_names: the classes of the dataset.
        made: the slices that the evaluation makes.
        subjects: of the reports that are about to be written.

    Raises:
        ConfigError: the gate names a class that the data do not have, or a slice that the evaluation does not make;
            or no report is of the run that is the baseline.
        ReportError: no report has the id of the baseline, or several have.
    """
    for table in ("min_accuracy", "max_drop"):
        limits: Limits = getattr(gate, table)
        for name in limits.classes:
            if name not in class_names:
                raise ConfigError(
                    f"{table}.classes: no class {name!r} in the data. {nearest(name, class_names)}"
                )
        for name in limits.slices:
            made.check(name, f"{table}.slices")
    if gate.baseline not in EARLIER:
        check_baseline(reports_uri, gate.baseline, subjects)


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
    name = subject.recipe
    if name is None:
        raise ConfigError(
            f"{layout.run_record(run)} does not name the run's recipe. Give --gate a TOML file."
        )
    if name.endswith(RECIPE_FILE):
        raise ConfigError(
            f"{run} was trained with the recipe file {name}, and recipe files have no gates. Give --gate a TOML file."
        )
    gate = find_recipe(name).gates
    if gate is None:
        raise ConfigError(f"The recipe {name!r} of {run} has no gates. Give --gate a TOML file.")
    return gate
