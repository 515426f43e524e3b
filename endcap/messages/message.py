"""A message: what happened to what, in numbers and words, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, Self

from endcap.redaction import redact_all

Kind = Literal[
    "rollout.begun",
    "rollout.raised",
    "rollout.changed",
    "rollout.promoted",
    "rollout.rolled-back",
    "rollout.attention",
    "ab.begun",
    "ab.moved",
    "ab.dropped",
    "ab.ended",
    "ab.attention",
    "gate.passed",
    "gate.failed",
    "gate.undecided",
    "run.failed",
]
Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True)
class Message:
    """What happened.

    Attributes
    ----------
    id
        The same each time that the same thing is told, also after a kill. Receivers and the outbox know it by that.
    kind
        What happened.
    time
        When, UTC.
    severity
        critical: shoppers notice; warning: a person should look.
    title, text
        One line, and a sentence or more.
    recommender
        Of what.
    version, run, dataset
        The model's version, the run, and the address of the data that it was made of; empty where there is none.
    metrics
        Numbers by name, such as ``{"ctr": 0.03}``.
    action
        What a person should do; empty for nothing.
    facts
        Further JSON values.
    """

    id: str
    kind: Kind
    time: datetime
    severity: Severity
    title: str
    text: str
    recommender: str
    version: str = ""
    run: str = ""
    dataset: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    action: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the message as JSON values, without secrets."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain = {"time": self.time.isoformat(), "metrics": dict(self.metrics), "facts": dict(self.facts)}
        shown: dict[str, Any] = redact_all({**document, **plain})
        return shown

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned; unknown keys are passed over."""
        known = {entry.name: document[entry.name] for entry in fields(cls) if entry.name in document}
        return cls(**{**known, "time": datetime.fromisoformat(document["time"])})
