"""Durations on a command line."""

from __future__ import annotations

import argparse
import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(text: str) -> float:
    """Parse a duration such as 30s, 5m or 7d to seconds. Raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a duration such as 30s, 5m or 7d")
    return float(match[1]) * _UNITS[match[2]]
