"""How `make docs` makes the site of the pages, which read well without it too."""

from __future__ import annotations

import hashlib
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import endcap

ROOT = Path(__file__).parents[2]

project = "Endcap"
author = "The Endcap contributors"
project_copyright = "The Endcap contributors, Apache License 2.0"
release = version = endcap.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "docs/api/*.md"]
exclude_patterns = [".*", "build", "dist", "docs/examples"]

myst_heading_anchors = 4
myst_fence_as_directive = {"mermaid"}
suppress_warnings = ["misc.highlighting_failure"]  # an example may leave something out by an ellipsis

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # numpydoc's sections say the types
numpydoc_show_class_members = False
default_role = "literal"

html_theme = "furo"
html_title = f"Endcap {release}"
html_show_sourcelink = False
html_copy_source = False


class Mermaid(SphinxDirective):
    """A diagram, shown as the image that `docs/site/diagrams.py` has drawn: a page then needs no network."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        source = "\n".join(self.content)
        image = ROOT / "docs" / "images" / f"diagram-{hashlib.sha256(source.encode()).hexdigest()[:12]}.svg"
        if not image.exists():
            raise self.error(f"{image.relative_to(ROOT)} is missing: run `python docs/site/diagrams.py`")
        return [nodes.image(uri=f"/{image.relative_to(ROOT)}", alt="diagram", align="center")]


def open_at_index(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        target = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">'
        Path(app.outdir, "index.html").write_text(f"<!doctype html>{target}\n", encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.add_directive("mermaid", Mermaid)
    app.connect("build-finished", open_at_index)
