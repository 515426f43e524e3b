"""A check of the machine's clock: it must not be before this release was made.

Nothing that must not be lost depends on the clock. Sequence numbers only grow, ids are remembered for 24 hours of an
intake's running time (known_ids.py), and segments are closed by the time since they were opened. But a record without a
time gets the clock's time, and a record with a time is compared with the clock. If the clock has not been set yet, both
would be wrong.
"""

from __future__ import annotations

import time

from endcap.errors import TransientError

RELEASED = 1_767_225_600
"""2026-01-01 in epoch seconds. No intake of this release ran before."""


def check_clock() -> TransientError | None:
    """Return an error if the clock is surely wrong; None if it may be right."""
    now = time.time()
    if now >= RELEASED:
        return None
    return TransientError(
        f"the machine's clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}, which is before this release was "
        "made; no record of this request was kept, send it again later; set the machine's clock",
        code="intake.clock-wrong",
        now=int(now),
        least=RELEASED,
    )
