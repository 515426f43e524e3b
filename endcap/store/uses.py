"""When an artifact was last used: what nobody has used for a while may be removed, beside runs that go on.

The use lies in the time of the manifest. Whoever finds or fetches an artifact whose manifest is old renews that time
first, or learns that the artifact is gone. In a folder a lock keeps this and a removal apart. In a bucket the renewal
carries the condition that the manifest is unchanged, and the removal looks at the time right before it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

NOTED_EVERY = timedelta(days=1)
"""A use is noted if the last noted one is this old. So an artifact may have been used so much later than is noted."""
LEAST_UNUSED = 2 * NOTED_EVERY
"""What was used later than this may be in use now. It is never removed."""


@dataclass(frozen=True)
class ArtifactUse:
    """An artifact and its last use.

    Attributes
    ----------
    address
        Its address.
    used
        When it was published or last found or fetched, UTC; up to `NOTED_EVERY` too early.
    bytes
        The size of its files.
    is_whole
        Whether it has a manifest. If not, a removal was cut off.
    """

    address: str
    used: datetime
    bytes: int
    is_whole: bool = True


def check_unused_since(moment: datetime) -> None:
    """Raise ValueError if what was not used since a moment may be in use now."""
    if datetime.now(UTC) - moment < LEAST_UNUSED:
        raise ValueError(f"what was used after {moment:%Y-%m-%d %H:%M} may be in use; allowed: {LEAST_UNUSED} ago")
