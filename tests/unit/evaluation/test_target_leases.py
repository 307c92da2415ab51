"""Of several evaluations of one target one scores it; the others take what is left, or wait for its report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnlib.errors import AccessError
from cnnlib.evaluation import leases as target_leases
from cnnlib.evaluation.leases import TargetLeases
from cnnlib.storage import files, layout
from cnnlib.storage.lease import Lease, encode_lease


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_leases, "_LOOK_S", 0.001)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The ids of the reports that exist."""
    reported: set[str] = set()
    monkeypatch.setattr(
        target_leases, "find_manifest", lambda _, report_id: report_id if report_id in reported else None
    )
    return reported


def plan(folder: Path, names: str) -> Any:
    targets = [SimpleNamespace(uri=name) for name in names]
    return SimpleNamespace(
        missing=targets, reports_uri=str(folder), report_id=lambda target: f"id-{target.uri}"
    )


def names(targets: Any) -> str:
    return "".join(target.uri for target in targets)


def lease_of(folder: Path, name: str) -> str:
    return layout.report_lease(str(folder), f"id-{name}")


@pytest.mark.usefixtures("reported")
def test_a_job_alone_scores_all_in_passes_and_leaves_no_lease(tmp_path: Path) -> None:
    leases, seen = TargetLeases(plan(tmp_path, "abcde")), []
    while True:
        with leases.next_pass(2) as targets:
            assert len(files.list_files(str(tmp_path / "leases"))) == len(targets)
            seen.append(names(targets))
        if not targets:
            break
    assert seen == ["ab", "cd", "e", ""]
    assert not leases.wait_for_others()
    assert files.list_files(str(tmp_path / "leases")) == []


def test_two_jobs_share_the_targets_and_wait_for_the_other_ones(tmp_path: Path, reported: set[str]) -> None:
    one, other = TargetLeases(plan(tmp_path, "abcd")), TargetLeases(plan(tmp_path, "abcd"))
    with one.next_pass(2) as first:
        with other.next_pass(4) as second:
            assert (names(first), names(second)) == ("ab", "cd")
            reported |= {"id-c", "id-d"}
        with other.next_pass(4) as nothing:
            assert names(nothing) == "", "a and b are being scored"
        reported |= {"id-a", "id-b"}
        assert other.wait_for_others()
    with other.next_pass(4) as nothing, one.next_pass(4) as also_nothing:
        assert names(nothing) == names(also_nothing) == ""
    assert not other.wait_for_others()
    assert not one.wait_for_others()


@pytest.mark.usefixtures("reported")
def test_what_another_job_gave_up_is_scored_here(tmp_path: Path) -> None:
    one, other = TargetLeases(plan(tmp_path, "a")), TargetLeases(plan(tmp_path, "a"))
    with one.next_pass(1) as first, other.next_pass(1) as nothing:
        assert (names(first), names(nothing)) == ("a", "")
    assert other.wait_for_others()
    with other.next_pass(1) as second:
        assert names(second) == "a"


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize(
    "left", [encode_lease("killed", 3), b"", b"{ no JSON"], ids=["whole", "empty", "damaged"]
)
def test_the_targets_of_a_killed_job_are_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes
) -> None:
    monkeypatch.setattr(target_leases, "Lease", partial(Lease, beat_s=0.05))
    files.write_bytes(lease_of(tmp_path, "a"), left)
    leases = TargetLeases(plan(tmp_path, "ab"))
    with leases.next_pass(2) as targets:
        assert names(targets) == "b"
    assert leases.wait_for_others()
    with leases.next_pass(2) as targets:
        assert names(targets) == "a"
    assert files.list_files(str(tmp_path / "leases")) == []


@pytest.mark.usefixtures("reported")
def test_without_permission_for_leases_all_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(uri: str, data: bytes) -> bool:
        raise AccessError("not permitted")

    monkeypatch.setattr(files, "create_bytes", refuse)
    with TargetLeases(plan(tmp_path, "ab")).next_pass(8) as targets:
        assert names(targets) == "ab"
    assert "scored without a lease: not permitted" in capsys.readouterr().err


def test_what_killed_evaluations_left_goes_once_there_is_a_report(tmp_path: Path, reported: set[str]) -> None:
    reported.add("id-a")
    for name in "ab":
        files.write_bytes(lease_of(tmp_path, name), encode_lease("killed", 3))
    TargetLeases(plan(tmp_path, "c")).tidy()
    assert files.list_files(str(tmp_path / "leases")) == ["id-b.json"], "b may be scored at this moment"
    TargetLeases(plan(tmp_path / "nothing", "c")).tidy()
