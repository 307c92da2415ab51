"""A report for which there is no room, or which a folder refuses, is none; those before it can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnlib.errors import AccessError, StorageError
from cnnlib.reports.manifest import find_manifest
from cnnlib.reports.read import list_reports, read_report
from cnnlib.reports.write import write_report
from cnnlib.storage import files, layout
from tests.full_disk import files_of_at_most, folder_for_all, read_only


def test_a_report_for_which_there_is_no_room_is_none_and_the_same_call_completes_it(
    tmp_path: Path, make_result: Any
) -> None:
    uri = str(tmp_path / "reports")
    before, result = write_report(uri, make_result()), make_result(checkpoint_digest="another")
    sizes = {Path(each.uri).relative_to(uri).parts[0]: each.num_bytes for each in files.list_objects(uri)}
    assert max(sizes, key=sizes.__getitem__) == "claims", "so it is the first to fail"
    with files_of_at_most(sizes["claims"] - 1), pytest.raises(StorageError, match=f"failed at {uri}/claims/"):
        write_report(uri, result)
    # A claim that a killed writer left: the tables have less room than it had.
    files.create_bytes(layout.report_claim(uri, result.report_id), _claim_of(result, tmp_path))
    with files_of_at_most(sizes["overall"] - 1), pytest.raises(StorageError, match=f"failed at {uri}/"):
        write_report(uri, result)
    assert find_manifest(uri, result.report_id) is None
    assert [each.report_id for each in list_reports(uri)] == [before.report_id]
    assert read_report(uri, before.report_id).record.to_row()["correct"] == 17
    assert write_report(uri, result).created
    assert read_report(uri, result.report_id).record.to_row()["correct"] == 17
    assert not list(Path(uri).rglob(".*"))


def test_a_folder_of_reports_that_refuses_is_named_and_can_still_be_read(make_result: Any) -> None:
    another = make_result(checkpoint_digest="another")
    with folder_for_all() as folder:
        uri = str(folder / "reports")
        before = write_report(uri, make_result())
        with read_only(folder / "reports"):
            with pytest.raises(AccessError, match=f"Not permitted at {uri}/claims/"):
                write_report(uri, another)
            assert read_report(uri, before.report_id).record.to_row()["correct"] == 17
        assert write_report(uri, another).created


def _claim_of(result: Any, tmp_path: Path) -> bytes:
    elsewhere = str(tmp_path / "elsewhere")
    write_report(elsewhere, result)
    return files.read_bytes(layout.report_claim(elsewhere, result.report_id))
