"""One A/B test as its log tells it: steps in words, and epochs with what each version did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from endcap.ab.messages import describe_step, list_shares
from endcap.experiments.ab_evidence import AbEvidence, ChallengerEvidence
from endcap.experiments.ab_log import AbLog, AbLogEntry
from endcap.experiments.ab_state import AbPolicy, AbState
from endcap.experiments.decision_parts import Number
from endcap.rollout.history import Mood

_MOODS: Mapping[str, Mood] = {"move": "good", "promote": "good", "drop": "bad", "stop": "warn"}
_NORMAL = 1.959964
"""The half width of a normal band of 95 %, in standard deviations."""


@dataclass(frozen=True)
class AbStep:
    """One step of a test, or looks in a row that held for the same reason.

    Attributes
    ----------
    first, last
        The entries: the same one, or the first and the last look of the row.
    looks
        How many entries it stands for.
    title
        What happened: `begin`, `move`, `hold`, `drop`, `end`, or a command's name.
    """

    first: AbLogEntry
    last: AbLogEntry
    looks: int
    title: str

    @property
    def reason(self) -> str:
        """The reason code, as docs/ab-reference.md lists them."""
        return self.last.after.reason

    @property
    def sentence(self) -> str:
        """The reason in words, with the numbers of the last look."""
        return describe_step(self.last)

    @property
    def numbers(self) -> Mapping[str, Number]:
        """What the reason rests on."""
        return {} if self.last.decision is None else self.last.decision.numbers

    @property
    def mood(self) -> Mood:
        """Whether the step is good or bad news, or something to look at."""
        if self.title == "end":
            return "good" if self.last.after.winner else "plain"
        if self.title == "hold" and self.last.after.phase == "holding":
            return "warn"
        return _MOODS.get(self.title, "plain")

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        state, command = self.last.after, self.last.command
        return {
            "number": self.last.number,
            "time": self.last.time.isoformat(),
            "since": self.first.time.isoformat(),
            "looks": self.looks,
            "step": self.title,
            "phase": state.phase,
            "epoch": state.epoch,
            "shares": list_shares(state),
            "reason": self.reason,
            "sentence": self.sentence,
            "numbers": dict(self.numbers),
            "by": (self.last.by or None) if command is None else command.by,
        }


@dataclass(frozen=True)
class EpochEffect:
    """What a challenger did in one epoch.

    Attributes
    ----------
    effect
        On the deciding metric, relative to the stable version in the same epoch.
    lower, upper
        A band of 95 % for this epoch alone. Infinite where nothing is known.
    """

    effect: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Epoch:
    """One epoch of a test.

    Attributes
    ----------
    number
        From 1 on.
    begins, ends
        UTC. The end of the last one is its last look.
    shares
        Of each version that shoppers met at its begin, 0 to 1, the stable one among them.
    best
        How probable each version was the best at its end, by what was known then; empty before the first look.
    effects
        By version, of the visits that were over within the epoch.
    is_over
        Whether the next one has begun, or the test has ended.
    """

    number: int
    begins: datetime
    ends: datetime
    shares: Mapping[str, float]
    best: Mapping[str, float]
    effects: Mapping[str, EpochEffect]
    is_over: bool


@dataclass(frozen=True)
class AbHistory:
    """One test.

    Attributes
    ----------
    entries
        All of its entries, oldest first. The first one began it.
    policies
        The policies that entries name, by their digest.
    """

    entries: Sequence[AbLogEntry]
    policies: Mapping[str, AbPolicy]

    @property
    def last(self) -> AbLogEntry:
        """The newest entry."""
        return self.entries[-1]

    @property
    def state(self) -> AbState:
        """Where the test stands."""
        return self.last.after

    @property
    def policy(self) -> AbPolicy:
        """The policy of the newest entry."""
        return self.policies[self.last.policy]

    @property
    def looks(self) -> list[AbLogEntry]:
        """The entries that have evidence."""
        return [entry for entry in self.entries if entry.evidence is not None]

    @property
    def evidence(self) -> AbEvidence | None:
        """The newest evidence; None before the first look."""
        return next((entry.evidence for entry in reversed(self.entries) if entry.evidence is not None), None)

    @property
    def best(self) -> Mapping[str, float]:
        """How probable each version is the best, by the newest look that could tell."""
        return next((entry.best for entry in reversed(self.entries) if entry.best), {})

    @property
    def steps(self) -> list[AbStep]:
        """The steps, oldest first. Looks in a row that hold for the same reason are one step."""
        return merge_steps(self.entries)

    @property
    def share_changes(self) -> list[tuple[datetime, dict[str, float]]]:
        """When shoppers met which versions with which shares, oldest first."""
        changes = [(self.entries[0].time, list_shares(self.entries[0].after))]
        for entry in self.entries[1:]:
            shares = list_shares(entry.after)
            if shares != changes[-1][1]:
                changes.append((entry.time, shares))
        return changes

    @property
    def epochs(self) -> list[Epoch]:
        """The epochs, oldest first."""
        epochs: list[Epoch] = []
        sums: dict[str, ChallengerEvidence] = {}
        group: list[AbLogEntry] = []
        for entry in self.entries:
            group.append(entry)
            number = entry.after.epoch if entry.before is None or entry is self.entries[0] else entry.before.epoch
            is_over = entry.after.is_over or entry.after.epoch > number
            if is_over or entry is self.last:
                epochs.append(_make_epoch(number + 1, group, sums, is_over=is_over))
                latest = next((each.evidence for each in reversed(group) if each.evidence is not None), None)
                sums = sums if latest is None else {each.version: each for each in latest.challengers}
                group = [entry] if not entry.after.is_over else []
            if entry.after.is_over:
                break
        return epochs


def read_history(log: AbLog) -> AbHistory:
    """Read the latest test. Raises UserError if there was never one, and IntegrityError for a damaged log."""
    entries = log.read_test()
    return AbHistory(entries, {digest: log.read_policy(digest) for digest in {entry.policy for entry in entries}})


def merge_steps(entries: Sequence[AbLogEntry], *, merge: bool = True) -> list[AbStep]:
    """Return entries as steps, oldest first. merge: looks in a row that hold for the same reason are one step."""
    steps: list[AbStep] = []
    for entry in entries:
        step = AbStep(entry, entry, 1, _name_step(entry))
        previous = steps[-1] if steps else None
        if merge and previous is not None and _is_the_same(previous, step):
            steps[-1] = replace(previous, last=entry, looks=previous.looks + 1)
        else:
            steps.append(step)
    return steps


def _make_epoch(
    number: int, group: Sequence[AbLogEntry], before: Mapping[str, ChallengerEvidence], *, is_over: bool
) -> Epoch:
    evidence = next((entry.evidence for entry in reversed(group) if entry.evidence is not None), None)
    chances = (entry.best for entry in reversed(group) if entry.best)
    return Epoch(
        number,
        group[0].time,
        group[-1].time,
        list_shares(group[0].after),
        next(chances, {}),
        {}
        if evidence is None
        else {each.version: _compare_sums(each, before.get(each.version)) for each in evidence.challengers},
        is_over,
    )


def _compare_sums(after: ChallengerEvidence, before: ChallengerEvidence | None) -> EpochEffect:
    """Return the effect of the visits between two looks.

    Notes
    -----
    The effect is the score's increment over that of the information, times the stable version's rate (`EffectState`).
    The increment of the variance bounds the variance of the score's increment from above: a shopper's visits of both
    epochs are positively correlated.
    """
    score = after.score - (before.score if before else 0.0)
    information = after.information - (before.information if before else 0.0)
    variance = after.variance - (before.variance if before else 0.0)
    scale = information * abs(after.stable_rate)
    if scale <= 0 or variance <= 0:
        return EpochEffect(0.0, -math.inf, math.inf)
    effect, half = score / scale, _NORMAL * math.sqrt(variance) / scale
    return EpochEffect(effect, max(-1.0, effect - half), effect + half)


def _name_step(entry: AbLogEntry) -> str:
    if entry.decision is not None:
        return entry.decision.action
    return entry.kind if entry.command is None else entry.command.action


def _is_the_same(before: AbStep, after: AbStep) -> bool:
    states = before.last.after, after.last.after
    is_quiet = (states[0].phase, states[0].epoch) == (states[1].phase, states[1].epoch)
    return after.title == "hold" == before.title and before.reason == after.reason and is_quiet
