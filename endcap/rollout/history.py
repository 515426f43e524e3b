"""One rollout as its log tells it: steps in words, and how its numbers moved. A screen and a report show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.decision_parts import Number, format_share
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import GUARDED, RolloutState
from endcap.spec.rollout import RolloutSpec

Mood = Literal["good", "bad", "warn", "plain"]
_MOODS: Mapping[str, Mood] = {
    "raise": "good",
    "promote": "good",
    "roll back": "bad",
    "abort": "bad",
    "rollback": "bad",
    "pause": "warn",
    "supersede": "warn",
}
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@dataclass(frozen=True)
class HistoryStep:
    """One step of a rollout, or looks in a row that held for the same reason.

    Attributes
    ----------
    first, last
        The entries: the same one, or the first and the last look of the row.
    looks
        How many entries it stands for.
    title
        What happened, in one or two words: `begin`, `raise`, `hold`, `roll back`, `promote`, or a command's name.
    """

    first: RolloutLogEntry
    last: RolloutLogEntry
    looks: int
    title: str

    @property
    def reason(self) -> str:
        """The reason code, as docs/rollout-reference.md lists them."""
        return self.last.after.reason

    @property
    def sentence(self) -> str:
        """The reason in words, with the numbers of the last look."""
        entry = self.last
        if entry.decision is not None:
            return entry.decision.sentence
        if entry.command is not None:
            request = f"{entry.command.by} asked for it" if entry.command.by else "Someone asked for it"
            return f"{request}: {entry.command.why}" if entry.command.why else f"{request}."
        state = entry.after
        if state.started is None:
            begin = "copies of requests" if state.phase == "shadow" else "a person's approval"
        else:
            begin = f"{format_share(state.share)} of the shoppers"
        return f"Version {state.version} begins with {begin}. Version {state.previous_version} serves the others."

    @property
    def numbers(self) -> Mapping[str, Number]:
        """What the reason rests on."""
        return {} if self.last.decision is None else self.last.decision.numbers

    @property
    def shares(self) -> tuple[float, float]:
        """The share before and after."""
        return 0.0 if self.first.before is None else self.first.before.share, self.last.after.share

    @property
    def mood(self) -> Mood:
        """Whether the step is good or bad news for the version, or something to look at."""
        if self.title == "hold":
            is_loud = self.last.after.phase == "holding" or any(
                entry.decision is not None and entry.decision.alert for entry in (self.first, self.last)
            )
            return "warn" if is_loud else "plain"
        return _MOODS.get(self.title, "plain")

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        before, after = self.shares
        command = self.last.command
        return {
            "number": self.last.number,
            "time": self.last.time.isoformat(),
            "since": self.first.time.isoformat(),
            "looks": self.looks,
            "step": self.title.replace(" ", "_"),
            "version": self.last.after.version,
            "phase": self.last.after.phase,
            "share_before": before,
            "share": after,
            "reason": self.reason,
            "sentence": self.sentence,
            "numbers": dict(self.numbers),
            "by": None if command is None else command.by,
        }


@dataclass(frozen=True)
class RolloutHistory:
    """One rollout.

    Attributes
    ----------
    entries
        All of its entries, oldest first. The first one began it.
    policies
        The policies that entries name, by their digest.
    """

    entries: Sequence[RolloutLogEntry]
    policies: Mapping[str, RolloutSpec]

    @property
    def last(self) -> RolloutLogEntry:
        """The newest entry."""
        return self.entries[-1]

    @property
    def state(self) -> RolloutState:
        """Where the rollout stands."""
        return self.last.after

    @property
    def policy(self) -> RolloutSpec:
        """The policy of the newest entry."""
        return self.policies[self.last.policy]

    @property
    def looks(self) -> list[RolloutLogEntry]:
        """The entries that have evidence."""
        return [entry for entry in self.entries if entry.evidence is not None]

    @property
    def evidence(self) -> RolloutEvidence | None:
        """The newest evidence; None before the first look."""
        return next((entry.evidence for entry in reversed(self.entries) if entry.evidence is not None), None)

    @property
    def steps(self) -> list[HistoryStep]:
        """The steps, oldest first. Looks in a row that hold for the same reason are one step."""
        return merge_steps(self.entries)

    @property
    def share_changes(self) -> list[tuple[datetime, float]]:
        """When the version got which share, oldest first; its first one at the begin."""
        changes = [(self.entries[0].time, self.entries[0].after.share)]
        for entry in self.entries[1:]:
            if entry.after.share != changes[-1][1]:
                changes.append((entry.time, entry.after.share))
        return changes

    def measure_information(self, until: datetime) -> float:
        """Return how much the arms could tell of each other so far: the sum of p (1 - p) over time, in seconds."""
        total = 0.0
        for entry, following in pairwise(self.entries):
            share = entry.after.share
            if entry.after.started is not None and entry.after.phase not in GUARDED:
                seconds = (min(following.time, until) - entry.time).total_seconds()
                total += share * (1 - share) * max(0.0, seconds)
        return total


def read_history(log: DecisionLog, version: str = "") -> RolloutHistory:
    """Read one rollout.

    Parameters
    ----------
    log
        The recommender's log.
    version
        One of its versions; empty: the latest rollout.

    Raises
    ------
    UserError
        There was no such rollout.
    IntegrityError
        The log is damaged.
    """
    entries = log.read_rollout(version)
    return RolloutHistory(entries, {digest: log.read_policy(digest) for digest in {entry.policy for entry in entries}})


def merge_steps(entries: Sequence[RolloutLogEntry], *, merge: bool = True) -> list[HistoryStep]:
    """Return entries as steps, oldest first.

    Parameters
    ----------
    entries
        In their order.
    merge
        Whether looks in a row that hold for the same reason, at the same share, are one step.
    """
    steps: list[HistoryStep] = []
    for entry in entries:
        step = HistoryStep(entry, entry, 1, _name_step(entry))
        previous = steps[-1] if steps else None
        if merge and previous is not None and _is_the_same(previous, step):
            steps[-1] = replace(previous, last=entry, looks=previous.looks + 1)
        else:
            steps.append(step)
    return steps


def format_span(seconds: float) -> str:
    """Return a length of time for a person, by its two largest units: `2 d 3 h`, `45 min`."""
    parts: list[str] = []
    left = max(0, round(seconds))
    for unit, length in _UNITS:
        if left >= length or parts:
            count, left = divmod(left, length)
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"


def format_minute(moment: datetime) -> str:
    """Return a moment to the minute, UTC."""
    return f"{moment:%Y-%m-%d %H:%M}"


def format_second(moment: datetime) -> str:
    """Return a moment to the second, UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def describe_share(state: RolloutState) -> str:
    """Return who meets the version, in words."""
    if state.phase in GUARDED:
        return "everyone has it" if state.phase == "promoted" else "everyone has it but the guard's shoppers"
    return "nobody has it" if state.share <= 0 else f"{format_share(state.share)} of the shoppers have it"


def _name_step(entry: RolloutLogEntry) -> str:
    if entry.decision is not None:
        return entry.decision.action.replace("_", " ")
    return entry.kind if entry.command is None else entry.command.action


def _is_the_same(before: HistoryStep, after: HistoryStep) -> bool:
    same_state = before.last.after.phase == after.last.after.phase and before.shares[1] == after.shares[1]
    same_words = (before.title, before.reason) == (after.title, after.reason)
    return after.title == "hold" and same_words and same_state and before.first.kind == "decision"
