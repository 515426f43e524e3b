"""One HTML document of sections and charts, which needs no server, no network and no fonts of its own.

The page's policy forbids every request, and runs no script but its own two, which it names by their hashes. So a title
that looks like a script stays text. Links within the page are followed by script, because Kubeflow Pipelines shows the
page in a sandboxed frame whose addresses are not its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from endcap.report.chart import Figure, Section

ASSETS = ("base.html", "parts.html", "steps.html", "report.html", "comparison.html", "report.css", "report.js")


def render_document(template: str, sections: Sequence[Section], *, style: str = "", **values: Any) -> str:
    """Render a template as one HTML document of about 5 MB, nearly all of it Plotly's script.

    Parameters
    ----------
    template
        A Jinja2 template that extends `base.html`. All values are escaped.
    sections
        What `parts.html` shows; their charts are embedded as data.
    style
        CSS that follows that of all documents.
    values
        What the template needs besides `sections`.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    charts = {chart.name: chart.figure for section in sections for chart in section.charts}
    scripts = [_read_plotly(), read_asset("report.js")]
    environment = Environment(
        loader=FunctionLoader(read_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(template).render(
        sections=sections,
        style=read_asset("report.css") + style,
        scripts=scripts,
        policy=_build_policy(scripts),
        charts=_embed_charts(charts),
        **values,
    )


def read_asset(name: str) -> str:
    """Read one of the documents' own files."""
    return files("endcap.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _read_plotly() -> str:
    from plotly.offline import get_plotlyjs

    # Inside a script element, these would end it or begin a comment.
    script: str = get_plotlyjs()
    return script.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--").strip()


def _build_policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'"
    )


def _embed_charts(charts: Mapping[str, Figure]) -> str:
    """Encode charts as JSON that may stand in an element of the page: no character of it can end that element."""
    text = json.dumps(charts, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
