"""What earlier versions of this project stored is still read: a dataset, a run, and a report of each version.

`tests/examples/report-N` was written by the last commit with reports of version N: 30 and 12 images of 4x4 in three
classes, one epoch of one dense layer, and its report.
"""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
