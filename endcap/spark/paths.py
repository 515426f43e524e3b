"""Paths of files as Spark takes them."""

from __future__ import annotations

import re
from pathlib import Path


def write_path(file: Path) -> str:
    """Write a path as Hadoop reads it: without escapes of URLs, and with some of its own."""
    return "file://" + re.sub(r"([\\{}\[\]*?])", r"\\\1", str(file.absolute()))
