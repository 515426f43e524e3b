"""Draw each page's Mermaid diagrams as `docs/images/diagram-*.svg`: `python docs/site/diagrams.py`.

It needs npm (for Mermaid's script) and Chromium. The site shows the drawings; a forge draws the diagrams by itself.
"""

from __future__ import annotations

import hashlib
import html
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
MERMAID = "mermaid@11.16.0"
PAGE = """<!doctype html><meta charset="utf-8"><pre class="mermaid">{source}</pre><script src="mermaid.min.js"></script>
<script>mermaid.initialize({{
  startOnLoad: true, deterministicIds: true, htmlLabels: false, flowchart: {{htmlLabels: false}}
}})</script>"""


def diagrams() -> dict[Path, str]:
    """The image of each diagram in the pages, and the diagram."""
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    sources = [
        source for page in pages for source in re.findall(r"^```mermaid\n(.*?)\n```$", page.read_text(), re.M | re.S)
    ]
    return {IMAGES / f"diagram-{hashlib.sha256(each.encode()).hexdigest()[:12]}.svg": each for each in sources}


def draw(source: str, folder: Path) -> str:
    page = folder / "page.html"
    page.write_text(PAGE.format(source=html.escape(source)), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    document = subprocess.run([*command, page.as_uri()], check=True, capture_output=True, text=True).stdout
    match = re.search(r"<svg.*?</svg>", document, re.S)
    if match is None or "Syntax error" in match[0]:
        raise SystemExit(f"Mermaid did not draw\n{source}")
    return match[0] + "\n"


def main() -> None:
    wanted = diagrams()
    for image in set(IMAGES.glob("diagram-*.svg")) - set(wanted):
        image.unlink()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["npm", "pack", "--silent", MERMAID], cwd=folder, check=True)
        archive = next(folder.glob("mermaid-*.tgz"))
        subprocess.run(
            ["tar", "-xf", archive, "--strip-components=2", "package/dist/mermaid.min.js"], cwd=folder, check=True
        )
        for image, source in wanted.items():
            image.write_text(draw(source, folder), encoding="utf-8")
            print(image.relative_to(ROOT))


if __name__ == "__main__":
    main()
