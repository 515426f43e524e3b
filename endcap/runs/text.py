"""Durations, times and results of runs as short texts."""

from __future__ import annotations

from datetime import datetime

_WIDEST = 60
"""Letters of the table's last column."""


def format_duration(seconds: float) -> str:
    """Format a duration: `7.2 s`, `3 min 12 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_step_seconds(seconds: float, reused: bool = False) -> str:
    """Format a step's duration; `found` for a result that existed before."""
    return f"{'found':>8}" if reused else f"{seconds:6.1f} s"


def format_time(moment: datetime | None) -> str:
    """Format a time in UTC, to the second; a dash if there is none."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def shorten(text: str) -> str:
    """Return the first line of a text, cut if it is long."""
    first = text.partition("\n")[0]
    return first if len(first) <= _WIDEST else f"{first[: _WIDEST - 1]}…"
