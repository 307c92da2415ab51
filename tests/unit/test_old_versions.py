"""What earlier versions of this project stored is still read: a dataset, a run, and a report of each version.

`tests/examples/report-N` was written by the last commit with reports of version N: 30 and 12 images of 4x4 in three
classes, one epoch of one dense layer, and its report.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlib.config import TrainConfig, from_record
from cnnlib.dataset.manifest import load_manifest, whole_shard
from cnnlib.dataset.reader import read_range
from cnnlib.evaluate_config import EvaluateConfig
from cnnlib.evaluation.loaded_model import load_model
from cnnlib.evaluation.target import find_target
from cnnlib.reports.manifest import read_record
from cnnlib.reports.read import list_reports, read_report
from cnnlib.runs.checkpoints import list_checkpoints, resolve_checkpoint
from cnnlib.runs.history import load_history
from cnnlib.runs.record import find_run_record

EXAMPLES = Path(__file__).parents[1] / "examples"
