"""Whether a model has seen what a test asks about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from endcap.features.view import View


@dataclass(frozen=True)
class Leakage:
    """How far a model's training reaches into a test.

    `leaked` of the `events` that are predicted are not later than the last event that the model learnt from. `until` is
    that event's time, epoch ms; None: it was not recorded, and the model counts as having seen all.
    """

    leaked: int
    events: int
    until: int | None

    @classmethod
    def of(cls, view: View, until: int | None) -> Leakage:
        times = view.test.times[view.predictions("test").events]
        return cls(len(times) if until is None else int((times <= until).sum()), len(times), until)

    def __str__(self) -> str:
        if self.until is None:
            return "its package does not tell until when it learnt"
        moment = datetime.fromtimestamp(self.until / 1000, UTC).isoformat(timespec="seconds")
        overlap = f"{self.leaked:,} of {self.events:,} predicted events are not after that"
        return f"its package learnt from events until {moment}, and {overlap}"
