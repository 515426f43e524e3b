"""The state of one rollout: plain values, which only decisions and commands replace by new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, Self, get_args

from endcap.errors import UserError
from endcap.experiments.splits import Arm
from endcap.spec.rollout import RolloutSpec

Phase = Literal[
    "shadow",
    "waiting-approval",
    "rising",
    "holding",
    "paused",
    "guarding",
    "promoted",
    "rolled-back",
    "aborted",
    "superseded",
]
PHASES: tuple[Phase, ...] = get_args(Phase)
ENDED: frozenset[Phase] = frozenset({"rolled-back", "aborted", "superseded"})
"""The rollout is over, and its version serves nobody."""
GUARDED: frozenset[Phase] = frozenset({"guarding", "promoted"})
"""The version serves everyone and is watched."""
Approval = Literal["start", "promotion"]
Action = Literal["approve", "pause", "resume", "promote", "abort", "supersede", "refresh", "rollback"]
_TIMES = ("created", "started", "stepped", "looked", "refreshed_at", "checked_at")


@dataclass(frozen=True)
class RolloutState:
    """Where a rollout stands.

    Attributes
    ----------
    recommender, version, package
        What is rolled out: the registered version and the address of its package.
    previous_version, previous_package
        What served everyone before, and comes back if the version is taken back after its promotion.
    arm
        The arm that the version has: `canary`, and after its promotion `stable`.
    phase
        See `PHASES`.
    share
        The version's share of the shoppers, 0 to 1. After the promotion it is 1: everyone whom no other arm has.
    created, started, stepped, looked
        When the rollout was made, when the version got its first share (None: not yet), when share or phase last
        changed, and when the last look was. UTC.
    steps
        How often the share has risen, the first share included.
    reason
        The reason code of the last decision or command.
    approved
        What a person has agreed to.
    resumes
        The phase that `resume` leads back to, while the rollout is paused.
    refreshed
        The versions whose place this one took with their evidence, oldest first.
    refreshed_at, checked_at
        When the version took the place of a running one, and when it had excluded a large loss by itself
        (`refresh_check`). None: not so, or not yet. UTC.
    returns_to
        The share before that, which comes back after the check, 0 to 1.
    """

    recommender: str
    version: str
    package: str
    previous_version: str
    previous_package: str
    created: datetime
    stepped: datetime
    arm: Arm = "canary"
    phase: Phase = "rising"
    share: float = 0.0
    started: datetime | None = None
    looked: datetime | None = None
    steps: int = 0
    reason: str = "started"
    approved: tuple[Approval, ...] = ()
    resumes: Phase | None = None
    refreshed: tuple[str, ...] = ()
    refreshed_at: datetime | None = None
    checked_at: datetime | None = None
    returns_to: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the version serves nobody any more."""
        return self.phase in ENDED

    @property
    def is_checking(self) -> bool:
        """Whether the version took a running one's place, and must still show by itself that it does no large harm."""
        return self.refreshed_at is not None and self.checked_at is None and self.phase not in GUARDED

    @property
    def awaited(self) -> Approval:
        """What a person's agreement would be for now."""
        return "start" if self.started is None else "promotion"

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values; times as ISO 8601 text."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        times = {name: document[name].isoformat() for name in _TIMES if document[name] is not None}
        return {**document, **times, "approved": list(self.approved), "refreshed": list(self.refreshed)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned; unknown keys are passed over."""
        known = {entry.name: document[entry.name] for entry in fields(cls) if entry.name in document}
        times = {name: datetime.fromisoformat(known[name]) for name in _TIMES if known.get(name) is not None}
        lists = {name: tuple(known.get(name, ())) for name in ("approved", "refreshed")}
        return cls(**{**known, **times, **lists})


@dataclass(frozen=True)
class RolloutCommand:
    """What a person, or a newer version, asks of a rollout.

    Attributes
    ----------
    action
        What is asked.
    by, why
        Who asks, and the reason.
    version, package
        Of `refresh`: the newer version of the same recipe. Of `rollback`: the version that comes back.
    """

    action: Action
    by: str
    why: str = ""
    version: str = ""
    package: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the command as JSON values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(**{entry.name: document[entry.name] for entry in fields(cls) if entry.name in document})


def begin_rollout(
    recommender: str,
    version: str,
    package: str,
    previous_version: str,
    previous_package: str,
    policy: RolloutSpec,
    now: datetime,
) -> RolloutState:
    """Return the first state of a rollout.

    Parameters
    ----------
    recommender, version, package, previous_version, previous_package
        As in `RolloutState`.
    policy
        Says whether a shadow, or a person's approval, comes before the first share.
    now
        UTC.
    """
    state = RolloutState(recommender, version, package, previous_version, previous_package, created=now, stepped=now)
    if policy.shadow is not None:
        return replace(state, phase="shadow")
    if policy.approval == "start":
        return replace(state, phase="waiting-approval")
    return replace(state, share=policy.first_share, started=now, steps=1)


def apply_command(state: RolloutState, command: RolloutCommand, policy: RolloutSpec, now: datetime) -> RolloutState:
    """Return the state after a command.

    Parameters
    ----------
    state
        The state before.
    command
        What is asked.
    policy
        Says which shares follow.
    now
        UTC.

    Raises
    ------
    UserError
        The command does not fit the state: the rollout is over, is not paused, or awaits no approval.
    """
    _check_fits(state, command)
    after = replace(state, reason=_REASONS[command.action], stepped=now)
    match command.action:
        case "approve":
            return replace(after, approved=(*state.approved, state.awaited), stepped=state.stepped)
        case "pause":
            return replace(after, phase="paused", resumes=state.phase)
        case "resume":
            # A share that a person set to 0 paused the rollout: it begins again with the first share.
            share = policy.first_share if state.started is not None and state.share <= 0 else state.share
            return replace(after, phase=state.resumes or "rising", share=share, resumes=None)
        case "promote":
            return promote_state(after, policy, now)
        case "refresh":
            return _refresh(after, command, policy, now)
        case "abort":
            return replace(after, phase="aborted", share=0.0, resumes=None)
        case "supersede":
            return replace(after, phase="superseded", share=0.0, resumes=None)
        case "rollback":
            raise AssertionError("a rollback is no command to a rollout that runs")


def _refresh(state: RolloutState, command: RolloutCommand, policy: RolloutSpec, now: datetime) -> RolloutState:
    """Return the state in which a newer version has the place of the running one, and is checked first."""
    after = replace(
        state, version=command.version, package=command.package, refreshed=(*state.refreshed, state.version)
    )
    if state.started is None:
        # No shopper met the version before, so there is nothing to keep.
        return after
    return replace(
        after,
        share=min(policy.first_share, state.share),
        returns_to=state.returns_to if state.is_checking else state.share,
        phase="paused" if state.phase == "paused" else "rising",
        # Who agreed to the promotion agreed to the version before.
        approved=tuple(entry for entry in state.approved if entry != "promotion"),
        refreshed_at=now,
        checked_at=None,
    )


def roll_back_champion(
    recommender: str, before: RolloutState | None, champion: tuple[str, str], command: RolloutCommand, now: datetime
) -> RolloutState:
    """Return the state in which the champion serves nobody and another version is back in its place.

    Parameters
    ----------
    recommender
        Its name.
    before
        The state of the last rollout, which is over or guarded; None: there was never one.
    champion
        The champion's version and package.
    command
        A `rollback` with the version that comes back.
    now
        UTC.

    Returns
    -------
    RolloutState
        If the last rollout promoted the champion, that rollout ends. Else the rollback stands for itself.
    """
    if before is None or before.is_over or before.version != champion[0]:
        before = RolloutState(recommender, *champion, command.version, command.package, created=now, stepped=now)
    return replace(
        before,
        previous_version=command.version,
        previous_package=command.package,
        phase="rolled-back",
        arm="stable",
        share=0.0,
        stepped=now,
        resumes=None,
        reason=_REASONS["rollback"],
    )


def promote_state(state: RolloutState, policy: RolloutSpec, now: datetime) -> RolloutState:
    """Return the state in which the version serves everyone, under guard if the policy keeps the previous version."""
    phase: Phase = "guarding" if policy.guard.previous_share > 0 else "promoted"
    return replace(state, arm="stable", phase=phase, share=1.0, stepped=now, resumes=None)


_REASONS: dict[Action, str] = {
    "approve": "approved",
    "pause": "paused",
    "resume": "resumed",
    "promote": "promoted-by-command",
    "abort": "aborted",
    "supersede": "superseded",
    "refresh": "refreshed",
    "rollback": "rolled-back-by-command",
}


def _check_fits(state: RolloutState, command: RolloutCommand) -> None:
    allowed = _list_allowed(state)
    if command.action not in allowed:
        raise UserError(
            f"rollout of version {state.version} of {state.recommender}: {command.action} does not fit, since the "
            f"rollout is {state.phase}; allowed now: {', '.join(allowed) or 'nothing, it is over'}",
            code="experiments.command-does-not-fit",
            recommender=state.recommender,
            version=state.version,
            action=command.action,
            phase=state.phase,
            allowed=allowed,
        )


def _list_allowed(state: RolloutState) -> list[Action]:
    if state.is_over:
        return []
    if state.phase in GUARDED:
        return ["abort"]
    allowed: list[Action] = ["resume"] if state.phase == "paused" else ["pause"]
    if state.phase == "waiting-approval" and state.awaited not in state.approved:
        allowed.append("approve")
    if state.started is not None:
        allowed.append("promote")
    return [*allowed, "abort", "supersede", "refresh"]
