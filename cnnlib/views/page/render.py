"""Views in, HTML out: one file with style, script and pictures, and a policy that allows nothing else.

Jinja escapes every value: class names, run names and paths may contain markup.
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
    """Returns the page of a report as HTML."""
    return _render("report.html", view)


def render_history_page(view: HistoryView) -> str:
    """Returns the page of a folder of reports as HTML."""
    return _render("history.html", view)


def content_security_policy(style: str, script: str) -> str:
    """Returns a policy that allows this style, this script and pictures in data URIs, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _render(template: str, view: object) -> str:
    environment = _environment()
    style, script = (_source(environment, name) for name in ("page.css", "page.js"))
    # Markup is not escaped: the hashes in the policy are those of the text between the tags.
    return environment.get_template(template).render(
        page=view,
        style=Markup(style),
        script=Markup(script),
        policy=content_security_policy(style, script),
    )


@cache
def _environment() -> Environment:
    # A package loader finds the templates beside the code, also where Ray has copied it.
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
