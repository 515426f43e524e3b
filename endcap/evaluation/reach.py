"""Whether a model has seen what a test asks about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from endcap.features.view import View


@dataclass(frozen=True)
class Reach:
    """How far a model's training reaches into a test. seen: of the `tests` sessions (by leave-one-out: of their last
    events) those that begin before the training ended. until: epoch ms of the last event that the model learnt from;
    None: nobody noted it, and the model counts as having seen all."""

    seen: int
    tests: int
    until: int | None
    what: str

    @classmethod
    def of(cls, view: View, until: int | None) -> Reach:
        last_only = view.protocol == "leave-one-out"
        begins = view.test.times[view.test.offsets[1:] - 1 if last_only else view.test.offsets[:-1]]
        seen = len(begins) if until is None else int((begins <= until).sum())
        return cls(seen, len(begins), until, "events are" if last_only else "sessions begin")

    def __str__(self) -> str:
        if self.until is None:
            return "its package does not tell until when it learnt"
        moment = datetime.fromtimestamp(self.until / 1000, UTC).isoformat(timespec="seconds")
        seen = f"{self.seen:,} of {self.tests:,} test {self.what} before that"
        return f"its package learnt from events until {moment}, and {seen}"
