"""Views in, HTML out: one file with its style, script and pictures in it, and a policy that lets nothing else run.

All text that is not of a template's own is escaped: class names, run names and paths are whatever someone chose.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cnnlib.reports.percent import format_percent
from cnnlib.views.page import formatting

if TYPE_CHECKING:
    from cnnlib.views.page.history_view import HistoryView
    from cnnlib.views.page.report_view import ReportView


def render_report_page(view: ReportView) -> str:
    """The page of a report."""
    return _render("report.html", view)


def render_history_page(view: HistoryView) -> str:
    """The page of a folder of reports."""
    return _render("history.html", view)


def content_security_policy(style: str, script: str) -> str:
    """The policy of a page: this style and this script, pictures that are in the page, and nothing else at all."""
    return (
        f"default-src 'none'; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _render(template: str, view: object) -> str:
    environment = _environment()
    style, script = (_source(environment, name) for name in ("page.css", "page.js"))
    # Markup, so that it is not escaped: a hash is of the text between the tags as it stands there.
    return environment.get_template(template).render(
        page=view,
        style=Markup(style),
        script=Markup(script),
        policy=content_security_policy(style, script),
    )


@cache
def _environment() -> Environment:
    # A package loader finds the templates beside the code wherever that was copied to, also by Ray.
    environment = Environment(
        loader=PackageLoader("cnnlib.views.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = format_percent
    for function in (
        formatting.percent_range,
        formatting.number,
        formatting.number_range,
        formatting.count,
        formatting.large_count,
        formatting.date_time,
        formatting.plural,
    ):
        environment.filters[function.__name__] = function
    return environment


def _source(environment: Environment, name: str) -> str:
    loader = environment.loader
    assert loader is not None
    return loader.get_source(environment, name)[0]


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
