"""`python -m jobs.prepare` as a command of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from cnnlib.data.manifest import load_manifest
from cnnlib.data.sources.idx import file_names
from tests.fashion import encode_idx

REPOSITORY = Path(__file__).parents[3]


def test_preparing_loads_nothing_that_takes_longer_than_the_work(tmp_path: Path) -> None:
    for name in file_names():
        array = np.zeros((4, 28, 28) if "images" in name else (4,), np.uint8)
        (tmp_path / name).write_bytes(encode_idx(array))
    program = (
        "import sys; from jobs.prepare import main; code = main(sys.argv[1:]);"
        "print({'pandas', 'matplotlib', 'scipy', 'boto3', 'ray', 'tensorflow'} & set(sys.modules)); sys.exit(code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, "idx", str(tmp_path), "--output", str(tmp_path / "data")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "set()\n"), ran.stderr
    assert load_manifest(str(tmp_path / "data")).splits["test"].rows == 4
