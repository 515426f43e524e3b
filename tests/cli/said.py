"""What the command line says of an error."""

from __future__ import annotations

import json
import re
from typing import Any

_CODE = re.compile(r"\[([a-z]+\.[a-z0-9-]+)\]$")


def code_of(said: str) -> str:
    """The code in the line on standard error that begins with `error:`."""
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    found = _CODE.search(line)
    assert found is not None, said
    return found[1]


def error_in(shown: str) -> dict[str, Any]:
    """The error that `--json` printed."""
    error: dict[str, Any] = json.loads(shown)["error"]
    return error
