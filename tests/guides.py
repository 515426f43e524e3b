"""What the guides show as YAML, for tests that hold the guides to what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parents[1] / "docs"


def specs(page: str) -> Iterator[dict[str, Any]]:
    """Every spec that a page shows as YAML."""
    for block in (DOCS / page).read_text(encoding="utf-8").split("```yaml\n")[1:]:
        for document in yaml.safe_load_all(block.split("```")[0]):
            if isinstance(document, dict) and "kind" in document:
                yield document
