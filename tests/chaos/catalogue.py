"""All attacks, in the order in which they are made."""

from __future__ import annotations

from typing import Any

from tests.chaos import (
    disks,
    floods,
    hostile,
    intake_frames,
    intake_kills,
    messages,
    races,
    redis_faults,
    registrations,
    sources,
    specs,
    step_kills,
    stopped,
    tampered,
)
from tests.chaos.attack import Attack

_MODULES = (
    hostile,
    floods,
    intake_kills,
    intake_frames,
    redis_faults,
    races,
    registrations,
    disks,
    stopped,
    tampered,
    specs,
    sources,
    messages,
    step_kills,
)
ATTACKS: dict[str, Attack[Any]] = {module.ATTACK.name: module.ATTACK for module in _MODULES}
