"""Provides folders of small reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import Reports, write_small_reports


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return write_small_reports(tmp_path_factory.mktemp("small"))


@pytest.fixture
def own_reports(tmp_path: Path) -> Reports:
    return write_small_reports(tmp_path)
