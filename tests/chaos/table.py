"""What came of the attacks, as a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """A row an attack."""
    lines = ["| attack | attempts | violations | seconds | measured |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        measured = "; ".join(f"{name} {_shown(value)}" for name, value in result["figures"].items())
        if result["not_run"]:
            lines.append(f"| {result['name']}: {result['title']} | not run: {result['not_run']} | | | |")
            continue
        numbers = f"{result['attempts']:,} | {result['wrong']:,} | {result['seconds']:.0f}"
        lines.append(f"| {result['name']}: {result['title']} | {numbers} | {measured} |")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
