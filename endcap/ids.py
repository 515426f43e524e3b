"""The one rule for ids of items, customers, sessions, events and orders.

An id is a text of 1 to `LONGEST` characters (Unicode code points) without control characters (U+0000 to U+001F, U+007F
to U+009F) and without halves of surrogate pairs. Ids are compared character by character: case, blanks and forms
of Unicode that look alike make different ids.

Ingest applies the rule in SQL (`endcap.sources.values.ids`), requests by pydantic (`PATTERN`), the intake and the
client by `find_id_fault`; a test holds them to each other. 1,024 is what requests always took; the intake took 256.
"""

from __future__ import annotations

import re
from typing import Literal

LONGEST = 1024
"""Characters."""
CONTROLS = r"\x00-\x1f\x7f-\x9f"
"""Of a character class, in Python, in pydantic's patterns and in ECMA's."""
PATTERN = f"^[^{CONTROLS}]*$"
ALLOWED = f"a text of 1 to {LONGEST:,} characters without control characters"
Fault = Literal["empty", "too-long", "control-character", "half-character"]
_CONTROL, _HALF = re.compile(f"[{CONTROLS}]"), re.compile("[\ud800-\udfff]")


def find_id_fault(text: str) -> Fault | None:
    """Return why a text cannot be an id; None if it can."""
    if not text:
        return "empty"
    if len(text) > LONGEST:
        return "too-long"
    # Quick, and too strict: it refuses some blanks too.
    if text.isprintable():
        return None
    if _CONTROL.search(text):
        return "control-character"
    return "half-character" if _HALF.search(text) else None
