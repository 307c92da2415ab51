"""Tests that a folder which another machine does not see is an error that names the machine, before work starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnlib.cluster import machines
from cnnlib.errors import ConfigError
from cnnlib.feed import shared
from cnnlib.feed.shared import check_seen, check_shared_folders
from cnnlib.storage import files

Look = Callable[[], list[str]]


def on_two_machines(hidden: Path) -> Callable[[Look], dict[str, list[str]]]:
    """Calls a function on a machine with the disk of this one, and on one where a folder is not mounted."""

    def ask(look: Look) -> dict[str, list[str]]:
        with_all = look()
        hidden.rename(hidden.with_name("elsewhere"))
        try:
            return {"10.0.0.1": with_all, "10.0.0.2": look()}
        finally:
            hidden.with_name("elsewhere").rename(hidden)

    return ask


def test_machine_that_does_not_see_an_object_is_named_with_the_flag(tmp_path: Path) -> None:
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "object").write_text("here")
    objects = {"--data": str(tmp_path / "data" / "object"), "--runs": str(tmp_path / "runs" / "object")}
    with pytest.raises(ConfigError) as raised:
        check_seen(objects, on_two_machines(tmp_path / "runs"))
    assert str(raised.value).startswith(
        f"--runs: the machine 10.0.0.2 does not see {objects['--runs']}, which is on this one."
    )
    check_seen({"--data": objects["--data"]}, on_two_machines(tmp_path / "runs"))


def test_folders_are_looked_at_with_a_probe_that_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    seen: list[list[str]] = []

    def ask(look: Look) -> dict[str, list[str]]:
        seen.append([path.parent.name for path in tmp_path.rglob(".probe-*")])
        return {"10.0.0.2": look()}

    monkeypatch.setattr(shared, "count_other_machines", lambda: 1)
    monkeypatch.setattr(shared, "ask_other_machines", ask)
    check_shared_folders(
        {"--data": str(tmp_path / "manifest.json")}, {"--runs": str(tmp_path / "runs" / "a")}
    )
    assert seen == [["a"]]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    with pytest.raises(ConfigError, match=r"^--data: the machine 10\.0\.0\.2 does not see .*gone"):
        check_shared_folders({"--data": str(tmp_path / "gone")}, {})


@pytest.mark.parametrize(("others", "folder"), [(0, "runs"), (3, "s3://bucket/runs")])
def test_one_machine_and_object_storage_need_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int, folder: str
) -> None:
    monkeypatch.setattr(shared, "count_other_machines", lambda: others)
    monkeypatch.setattr(shared, "ask_other_machines", lambda _: pytest.fail("a machine was asked"))
    monkeypatch.setattr(files, "hold_probe", lambda _: pytest.fail("a probe was written"))
    check_shared_folders({}, {"--runs": folder if folder.startswith("s3:") else str(tmp_path / folder)})


def test_other_machines_are_those_that_are_alive_and_have_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        def get_node_id(self) -> str:
            return "here"

    nodes = [
        {"NodeID": name, "Alive": alive, "Resources": resources}
        for name, alive, resources in [
            ("here", True, {"CPU": 2}),
            ("worker", True, {"CPU": 2}),
            ("lost", False, {"CPU": 2}),
            ("head", True, {}),
        ]
    ]
    monkeypatch.setattr(machines.ray, "get_runtime_context", Context)
    monkeypatch.setattr(machines.ray, "nodes", lambda: nodes)
    assert machines.count_other_machines() == 1
