"""Secrets are hidden, and what is none stays as it is."""

from __future__ import annotations

import pytest

from cnnlib.config import LoopConfig, TrainConfig, to_dict
from cnnlib.log import log_event, log_text
from cnnlib.redact import redact
from jobs.cli import print_error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://u:p@h/x", "http://***@h/x"),
        ("see https://token@h:1, and http://a:b%40c@h2.", "see https://***@h:1, and http://***@h2."),
        ("'postgresql+psycopg2://u:p@h/db'", "'postgresql+psycopg2://***@h/db'"),
        ("http://ann:p@ss@host/x@7", "http://***@host/x@7"),
        ("at 'http://ann:it's@host'", "at 'http://***@host'"),
        ('{"uri":"http://ann:say"no"@host","to":"a@b"}', '{"uri":"http://***@host","to":"a@b"}'),
        ("postgresql://u:p/w?x#1@h/db", "postgresql://***@h/db"),
        ("http://u:80a/w@h:80/db, http://u:p@h", "http://***@h:80/db, http://***@h"),
        (
            "https://h/a?X-Amz-Credential=AK&X-Amz-Signature=00ff",
            "https://h/a?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("https://h/a?x=1&sig=s3cret", "https://h/a?x=1&sig=***"),
    ],
)
def test_secrets_are_hidden(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/runs/seed@best", "https://host:5000/path@7", "mail a@b.c", "runs/seed@best", "file:///a@b",
        "http://h/?q=ann@host", "http://h:80?q=ann@host", "http://[::1]:80/a@b", '["http://h:80","a@b"]',
        "train step=200 loss=0.4",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_log_lines_errors_and_stored_configs_show_none(capsys: pytest.CaptureFixture[str]) -> None:
    uri = "http://ann:pw@host"
    log_event("a", uri=uri)
    log_text(f"text {uri}")
    print_error(f"at {uri}")
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "a uri=http://***@host",
        "text http://***@host",
        "error: at http://***@host",
    ]
    assert to_dict(TrainConfig(loop=LoopConfig(mlflow_uri=uri)))["loop"]["mlflow_uri"] == "http://***@host"
