"""The error in what the command line printed."""

from __future__ import annotations

import json
import re
from typing import Any

_CODE = re.compile(r"\[([a-z]+\.[a-z0-9-]+)\]$")


def find_code(text: str) -> str:
    """The code in the line on standard error that begins with `error:`."""
    (line,) = [line for line in text.splitlines() if line.startswith("error:")]
    match = _CODE.search(line)
    assert match is not None, text
    return match[1]


def parse_error(text: str) -> dict[str, Any]:
    """The error that `--json` printed."""
    error: dict[str, Any] = json.loads(text)["error"]
    return error
