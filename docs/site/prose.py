"""Run proselint on the prose of the pages, without their code: `python docs/site/prose.py`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from proselint.checks import __register__
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/api/*.md"))]
CODE = re.compile(r"^( *)```.*?^\1```$|`[^`\n]+`|\]\([^)\n]+\)|^#+ .*?$", re.MULTILINE | re.DOTALL)
"""What is no prose: code, addresses of links, and headings (a text may begin with its heading's words)."""
OFF = {
    "typography": False,  # straight quotes are what markdown has
    "spelling.able_atable": False,  # Kubernetes says "allocatable"
    "weasel_words.very": False,  # it can be judged by a reader alone
}
CONFIG = Config(
    max_errors=1000, checks={**OFF, **{name: on for name, on in DEFAULT["checks"].items() if name not in OFF}}
)


def blanked(match: re.Match[str]) -> str:
    """A line of code stays a line, so that positions are those of the page."""
    return re.sub(r"[^\n]", "·", match[0])


def main() -> int:
    CheckRegistry().register_many(__register__)
    count = 0
    for page in PAGES:
        prose = CODE.sub(blanked, page.read_text(encoding="utf-8"))
        for result in LintFile(str(page), prose).lint(CONFIG):
            line, column = result.pos
            message = " ".join(result.check_result.message.split())
            print(f"{page.relative_to(ROOT)}:{line}:{column}: {result.check_result.check_path}: {message}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
