"""What a replay found: outcomes, counted, with examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from endcap.replay.reasons import EQUAL, FROM_REQUEST, UNEXPLAINED
from endcap.samples import SampledRequest

EXAMPLES = 5
"""Rankings that are named of each outcome."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """A ranking with an outcome. detail: what differs or is missing, in a few words."""

    ranking_id: str
    version: str
    time: int
    detail: str

    def to_json(self) -> Json:
        """Return the example as JSON values; the time in ISO 8601."""
        moment = datetime.fromtimestamp(self.time / 1000, UTC).isoformat(timespec="milliseconds")
        return {"ranking_id": self.ranking_id, "version": self.version, "time": moment, "detail": self.detail}


@dataclass
class Check:
    """The outcomes of one comparison.

    Attributes
    ----------
    answers
        How many answers have each outcome.
    changed
        For how many of them the shopper would have got another answer.
    examples
        The first answers of each outcome that is worth a look.
    """

    answers: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, sample: SampledRequest, outcome: str, detail: str = "", *, is_changed: bool = False) -> None:
        """Count an answer. is_changed: whether the shopper would have got another one."""
        self.answers[outcome] += 1
        self.changed[outcome] += is_changed
        if outcome in (EQUAL, FROM_REQUEST):
            return
        examples = self.examples.setdefault(outcome, [])
        if len(examples) < EXAMPLES:
            examples.append(Example(sample.ranking_id, sample.version, sample.time, detail))

    def to_json(self) -> Json:
        """Return the counts and the examples as JSON values."""
        examples = {
            outcome: [example.to_json() for example in self.examples[outcome]] for outcome in sorted(self.examples)
        }
        return {
            "answers": dict(sorted(self.answers.items())),
            "changed": {outcome: count for outcome, count in sorted(self.changed.items()) if count},
            "examples": examples,
        }


@dataclass(frozen=True)
class ReplayReport:
    """The result of a replay.

    Attributes
    ----------
    recommender
        The recommender.
    since, until
        Which rankings were computed again: those from `since` on and before `until`.
    answers
        How many.
    versions
        How many of each version.
    checks
        By name, the comparisons that were made.
    ended
        When the replay ended.
    seconds
        How long it took.
    """

    recommender: str
    since: datetime
    until: datetime
    answers: int
    versions: Mapping[str, int]
    checks: Mapping[str, Check]
    ended: datetime
    seconds: float

    @property
    def unexplained(self) -> int:
        """How many differences nothing explains, in the check that has most."""
        return max((check.answers[UNEXPLAINED] for check in self.checks.values()), default=0)

    @property
    def unexplained_share(self) -> float:
        """`unexplained` as a share of the answers."""
        return self.unexplained / self.answers if self.answers else 0.0

    def to_json(self) -> Json:
        """Return the result as JSON values."""
        return {
            "recommender": self.recommender,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "answers": self.answers,
            "versions": dict(sorted(self.versions.items())),
            "checks": {name: check.to_json() for name, check in self.checks.items()},
            "unexplained": self.unexplained,
            "ended": self.ended.isoformat(),
            "seconds": round(self.seconds, 3),
        }
