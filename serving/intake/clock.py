"""What the intake asks of the machine's clock, which may be wrong: that it is not before the intake itself was made.

Nothing that must not be lost depends on it: sequence numbers only grow, ids are known for 24 hours of an intake's
running (seen.py), and segments are closed by the time since they were opened. But a record that says no time gets the
clock's, and one that says its time is held against it. Of a clock that has not been set yet both would be wrong.
"""

from __future__ import annotations

import time

from endcap.errors import TransientError

MADE = 1_767_225_600
"""2026-01-01, epoch seconds: no intake of this release ran before."""


def check_clock() -> TransientError | None:
    """Why no record is taken, where the clock is surely wrong."""
    now = time.time()
    if now >= MADE:
        return None
    return TransientError(
        f"the machine's clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}, which is before this release was "
        "made; nothing of this request was kept, send it again later",
        code="intake.clock-wrong",
        now=int(now),
        least=MADE,
    )
