"""Tests that every message which docs/what-can-go-wrong.md quotes is a message of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/what-can-go-wrong.md"
# What a page shows for the part of a message that differs from case to case.
VARIABLE = "…"
MESSAGE = re.compile(r"`([^`]+)`")


def read_messages() -> list[str]:
    """Returns the messages in the second column of the page's tables."""
    return [
        message
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
        for message in MESSAGE.findall(line.split(" | ")[1])
    ]


def to_template(node: ast.expr) -> str:
    """Returns the text of a string or f-string, with `…` for what is filled in, or an empty text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(to_template(part) or VARIABLE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return f"{to_template(node.left) or VARIABLE}{to_template(node.right) or VARIABLE}"
    return ""


def find_templates(source: str) -> Iterator[str]:
    """Yields the text of each string of a module, white space as one space, as an error is printed."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.expr) and (template := to_template(node)):
            yield " ".join(template.split())


@cache
def read_templates() -> frozenset[str]:
    files = [path for folder in ("cnnlib", "jobs") for path in (REPOSITORY / folder).rglob("*.py")]
    return frozenset(template for path in files for template in find_templates(path.read_text()))


@pytest.mark.parametrize("message", read_messages())
def test_a_message_of_the_page_is_a_message_of_the_code(message: str) -> None:
    assert any(message in template for template in read_templates()), (
        f"No string of cnnlib or jobs has {message!r}. Write {VARIABLE} for each part that is filled in."
    )


def test_the_page_quotes_whole_messages() -> None:
    messages = read_messages()
    assert len(messages) >= 40
    assert [message for message in messages if len(message.replace(VARIABLE, "")) < 14] == []


def test_a_message_that_the_code_does_not_have_is_found() -> None:
    source = 'raise ValueError(f"{count} rows are left over. " "Expected none.")'
    templates = list(find_templates(source))
    assert f"{VARIABLE} rows are left over. Expected none." in templates
    assert not any("rows were lost" in template for template in templates)
