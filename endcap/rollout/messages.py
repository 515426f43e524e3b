"""Messages about a rollout, from the entries of its log."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from endcap.errors import EndcapError
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.messages import Message
from endcap.messages.message import Kind, Severity
from endcap.store import Store


@dataclass(frozen=True)
class RolloutMessage:
    """What happened to a rollout.

    Attributes
    ----------
    recommender, version
        What is rolled out.
    number
        The log's entry. A message that is sent again after a kill has the same number.
    phase, share, reason
        As in the state after the entry.
    sentence
        For a person.
    alert
        Whether a person should look.
    kind, time
        What happened, and when.
    package
        The address of the version's package.
    metrics
        The effect on each metric with its bounds, as far as they are known.
    """

    recommender: str
    version: str
    number: int
    phase: str
    share: float
    reason: str
    sentence: str
    alert: bool
    kind: Kind
    time: datetime
    package: str
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"rollout of {self.recommender} version {self.version}: {self.sentence}"

    def to_message(self, store: Store) -> Message:
        """Return the message that is sent. store: holds the package, which names its data."""
        try:
            dataset = str(store.manifest(self.package)["facts"].get("dataset", ""))
        except EndcapError:
            dataset = ""
        return Message(
            id=f"rollout/{self.recommender}/{self.number}/{self.time:%Y%m%dT%H%M%S}",
            kind=self.kind,
            time=self.time,
            severity=_SEVERITIES.get(self.kind, "info"),
            title=f"{self.recommender} version {self.version}: {_TITLES[self.kind]}",
            text=self.sentence,
            recommender=self.recommender,
            version=self.version,
            dataset=dataset,
            metrics=self.metrics,
            action=_describe_action(self),
            facts={"phase": self.phase, "share": self.share, "reason": self.reason, "entry": self.number},
        )


Notify = Callable[[RolloutMessage], None]
_SEVERITIES: Mapping[Kind, Severity] = {"rollout.rolled-back": "warning", "rollout.attention": "warning"}
_TITLES: Mapping[Kind, str] = {
    "rollout.begun": "the rollout begins",
    "rollout.raised": "the share rises",
    "rollout.changed": "the rollout has changed",
    "rollout.promoted": "promoted",
    "rollout.rolled-back": "taken back",
    "rollout.attention": "a person should look",
}


def describe_entry(entry: RolloutLogEntry) -> RolloutMessage | None:
    """Return the message of a log's entry; None where nothing changed that anyone must know."""
    before, after = entry.before, entry.after
    is_same = before is not None and (before.version, before.phase, before.share) == (
        after.version,
        after.phase,
        after.share,
    )
    alert = entry.decision is not None and entry.decision.alert
    if is_same and not alert:
        return None
    if entry.decision is not None:
        sentence = entry.decision.sentence
    elif entry.command is not None:
        why = f" ({entry.command.why})" if entry.command.why else ""
        sentence = f"{entry.command.action} by {entry.command.by}{why}."
    else:
        sentence = "The rollout begins."
    sentence = f"{sentence} It is {after.phase}, with {100 * after.share:.4g} % of the shoppers."
    return RolloutMessage(
        after.recommender,
        after.version,
        entry.number,
        after.phase,
        after.share,
        after.reason,
        sentence,
        alert,
        _find_kind(entry, is_same),
        entry.time,
        after.package,
        _list_metrics(entry),
    )


def _find_kind(entry: RolloutLogEntry, is_same: bool) -> Kind:
    after = entry.after
    if entry.kind == "begin":
        return "rollout.begun"
    if after.is_over:
        return "rollout.rolled-back"
    if is_same:
        return "rollout.attention"
    if after.phase == "guarding" or (entry.before is not None and entry.before.share < after.share == 1):
        return "rollout.promoted"
    if entry.before is not None and after.share > entry.before.share:
        return "rollout.raised"
    return "rollout.changed"


def _list_metrics(entry: RolloutLogEntry) -> dict[str, float]:
    if entry.evidence is None:
        return {}
    numbers = {
        name: value
        for effect in entry.evidence.effects
        for name, value in (
            (effect.metric, effect.effect),
            (f"{effect.metric} at worst", effect.lower),
            (f"{effect.metric} at best", effect.upper),
        )
    }
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _describe_action(message: RolloutMessage) -> str:
    if message.phase == "waiting-approval":
        return f"Decide: endcap rollout approve {message.recommender}, or endcap rollout abort {message.recommender}"
    if message.kind == "rollout.rolled-back":
        return f"Nothing for shoppers. Read why: endcap rollout history {message.recommender}"
    if message.alert:
        return f"Look at it: endcap rollout status {message.recommender}"
    return ""
