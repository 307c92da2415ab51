"""An event is one line on stderr."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlib.log import format_event, log_event, log_text


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "train"),
        ({"step": 200, "loss": 0.41234567}, "train step=200 loss=0.41235"),
        ({"images_per_s": 8120.4}, "train images_per_s=8120"),
        ({"images_per_s": 999.94}, "train images_per_s=999.94"),
        ({"loss": np.float64(0.25), "rows": np.int64(3)}, "train loss=0.25 rows=3"),
        ({"loss": float("nan")}, "train loss=nan"),
        ({"loss": float("-inf")}, "train loss=-inf"),
        ({"small": 1e-7}, "train small=1e-07"),
        ({"live": True, "score": None}, "train live=True score=None"),
        ({"uri": "s3://bucket/runs"}, "train uri=s3://bucket/runs"),
        ({"note": "two words"}, 'train note="two words"'),
        ({"note": ""}, 'train note=""'),
        ({"note": "first\nsecond"}, 'train note="first second"'),
    ],
)
def test_line_of_an_event(fields: dict[str, object], line: str) -> None:
    assert format_event("train", **fields) == line


def test_fields_keep_their_order() -> None:
    assert format_event("e", z=1, a=2, m=3) == "e z=1 a=2 m=3"


def test_events_go_to_stderr_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    log_event("run", workers=2)
    log_event("run", note="line\r\nbreak")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == 'run workers=2\nrun note="line break"\n'


def test_text_goes_to_stderr_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log_text("┏━━┓\n┗━━┛\n\n")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "┏━━┓\n┗━━┛\n")
