"""What a verdict judged on, in one line: as the command line, a notebook and the report say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe_queries(facts: Mapping[str, Any]) -> str:
    """Of a verdict's facts; those of older ones say less."""
    predictions, targets = facts["predictions"], facts.get("targets", facts["predictions"])
    parts = [f"{predictions:,} predictions of {facts['sessions']:,} test sessions"]
    if targets != predictions:
        parts.append(f"{targets:,} items")
    if facts.get("equal_times", {}).get("equal"):
        order = facts["protocol"] if facts["protocol"] == "basket" else f"order: {facts['order']}"
        parts.append(
            f"{format_share(facts['equal_times']['share'])} of the test's transitions at equal times ({order})"
        )
    return ", ".join(parts)


def format_share(share: float) -> str:
    """Never 0 % of something."""
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"
