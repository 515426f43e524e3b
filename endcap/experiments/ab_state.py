"""The state of one A/B test: plain values, which only decisions and commands replace by new ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, Self, get_args

from endcap.errors import UserError
from endcap.experiments.layout import Layout
from endcap.experiments.splits import CHALLENGERS, TOTAL_WEIGHT, Arm
from endcap.spec.ab import AbSpec
from endcap.spec.rollout import RolloutSpec
from endcap.store import fingerprint

AbPhase = Literal["running", "holding", "promoted", "kept"]
AB_PHASES: tuple[AbPhase, ...] = get_args(AbPhase)
AB_ENDED: frozenset[AbPhase] = frozenset({"promoted", "kept"})
"""The test is over: a challenger serves everyone, or the stable version goes on."""
AbAction = Literal["drop", "stop", "promote"]
_TIMES = ("created", "stepped", "epoch_began", "looked")


@dataclass(frozen=True)
class AbPolicy:
    """By what a test is run.

    Attributes
    ----------
    ab
        The section `ab:` of the newest challenger's spec.
    rollout
        Its section `rollout:`, for metrics, guardrails and limits.
    """

    ab: AbSpec
    rollout: RolloutSpec

    def to_json(self) -> dict[str, Any]:
        """Return the policy as JSON values."""
        return {"ab": self.ab.model_dump(mode="json"), "rollout": self.rollout.model_dump(mode="json")}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned. Raises ValueError or KeyError for anything else."""
        return cls(AbSpec.model_validate(document["ab"]), RolloutSpec.model_validate(document["rollout"]))

    @property
    def digest(self) -> str:
        """20 hexadecimal digits, the same for the same policy."""
        return fingerprint(self.to_json())


@dataclass(frozen=True)
class AbChallenger:
    """A version of a test beside the stable one.

    Attributes
    ----------
    arm
        Its arm, for the whole test.
    version, package
        The registered version and the address of its package.
    left
        The reason why it serves nobody any more; empty while it takes part.
    """

    arm: Arm
    version: str
    package: str
    left: str = ""


@dataclass(frozen=True)
class AbState:
    """Where an A/B test stands.

    Attributes
    ----------
    recommender
        Its name.
    stable_version, stable_package
        The champion that the challengers are compared with.
    challengers
        All that began, by their arms.
    layout
        Who meets which arm.
    created, stepped, epoch_began, looked
        When the test began, when layout or phase last changed, when the present epoch began, and when the last look
        was (None: not yet). UTC.
    epoch
        The number of the present epoch, from 0 on. The layout of an epoch changes only if a challenger leaves.
    layouts
        How many layouts the test has had.
    phase
        See `AB_PHASES`.
    reason
        The reason code of the last decision or command.
    winner
        The version that serves everyone since the test ended; empty: the stable one, or the test runs.
    """

    recommender: str
    stable_version: str
    stable_package: str
    challengers: tuple[AbChallenger, ...]
    layout: Layout
    created: datetime
    stepped: datetime
    epoch_began: datetime
    epoch: int = 0
    layouts: int = 1
    phase: AbPhase = "running"
    reason: str = "begun"
    winner: str = ""
    looked: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether the test has ended."""
        return self.phase in AB_ENDED

    @property
    def taking_part(self) -> tuple[AbChallenger, ...]:
        """The challengers that have shoppers."""
        return tuple(challenger for challenger in self.challengers if not challenger.left)

    @property
    def weights(self) -> dict[Arm, int]:
        """The weights of the stable version and of the challengers that take part, of `TOTAL_WEIGHT`."""
        arms: list[Arm] = ["stable", *(challenger.arm for challenger in self.taking_part)]
        return {arm: self.layout.weigh(arm) for arm in arms}

    @property
    def salt(self) -> str:
        """What the hash of the shopper's id begins with during the test; another test has another."""
        return fingerprint("ab", self.recommender, self.created.isoformat())

    @property
    def seed(self) -> int:
        """The seed of the draws at the end of the present epoch."""
        return int(fingerprint("ab", self.recommender, self.created.isoformat(), str(self.epoch))[:12], 16)

    def find_challenger(self, version: str) -> AbChallenger | None:
        """Return the challenger with a version; None if none has it."""
        return next((challenger for challenger in self.challengers if challenger.version == version), None)

    def name_version(self, arm: str) -> str:
        """Return the version of an arm."""
        versions = {challenger.arm: challenger.version for challenger in self.challengers}
        return self.stable_version if arm == "stable" else versions[arm]  # type: ignore[index]

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values; times as ISO 8601 text."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        times = {name: document[name].isoformat() for name in _TIMES if document[name] is not None}
        challengers = [dict(vars(challenger)) for challenger in self.challengers]
        return {**document, **times, "challengers": challengers, "layout": self.layout.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned; unknown keys are passed over."""
        known = {entry.name: document[entry.name] for entry in fields(cls) if entry.name in document}
        times = {name: datetime.fromisoformat(known[name]) for name in _TIMES if known.get(name) is not None}
        challengers = tuple(AbChallenger(**challenger) for challenger in document["challengers"])
        return cls(**{**known, **times, "challengers": challengers, "layout": Layout.from_json(document["layout"])})


@dataclass(frozen=True)
class AbCommand:
    """What a person asks of a test.

    Attributes
    ----------
    action
        drop: a challenger leaves; stop: the stable version goes on alone; promote: a challenger serves everyone.
    by, why
        Who asks, and the reason.
    version
        Of `drop` and `promote`.
    """

    action: AbAction
    by: str
    why: str = ""
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the command as JSON values."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(**{entry.name: document[entry.name] for entry in fields(cls) if entry.name in document})


_REASONS: Mapping[AbAction, str] = {
    "drop": "dropped-by-command",
    "stop": "stopped-by-command",
    "promote": "promoted-by-command",
}


def begin_test(
    recommender: str, stable: tuple[str, str], challengers: Sequence[tuple[str, str]], now: datetime
) -> AbState:
    """Return the first state of a test: all arms have equally many shoppers.

    Parameters
    ----------
    recommender
        Its name.
    stable, challengers
        Version and package of each. One to seven challengers.
    now
        UTC.
    """
    arms = tuple(
        AbChallenger(arm, version, package) for arm, (version, package) in zip(CHALLENGERS, challengers, strict=False)
    )
    equal = TOTAL_WEIGHT // (1 + len(arms))
    weights: dict[Arm, int] = {"stable": TOTAL_WEIGHT - equal * len(arms), **{each.arm: equal for each in arms}}
    return AbState(recommender, *stable, arms, Layout.begin(weights), created=now, stepped=now, epoch_began=now)


def apply_ab_command(state: AbState, command: AbCommand, now: datetime) -> AbState:
    """Return the state after a command.

    Raises
    ------
    UserError
        The test is over (``experiments.no-test-runs``), or the version takes no part in it
        (``experiments.no-challenger``).
    """
    if state.is_over:
        raise UserError(
            f"the A/B test of {state.recommender} is over, so {command.action} does not fit. To begin another: "
            f"endcap ab start {state.recommender} VERSION",
            code="experiments.no-test-runs",
            recommender=state.recommender,
            action=command.action,
        )
    reason = _REASONS[command.action]
    if command.action == "stop":
        return end_test(state, "", reason, now)
    challenger = state.find_challenger(command.version)
    if challenger is None or challenger.left:
        allowed = [each.version for each in state.taking_part]
        raise UserError(
            f"version {command.version} takes no part in the A/B test of {state.recommender}; allowed: "
            f"{', '.join(allowed)}",
            code="experiments.no-challenger",
            recommender=state.recommender,
            version=command.version,
            allowed=allowed,
        )
    if command.action == "promote":
        return end_test(state, challenger.version, reason, now)
    return drop_challengers(state, {challenger.arm: reason}, reason, now)


def drop_challengers(state: AbState, leaving: Mapping[Arm, str], reason: str, now: datetime) -> AbState:
    """Return the state without some challengers.

    Parameters
    ----------
    state
        The test.
    leaving
        Why each challenger leaves, by its arm.
    reason
        The reason code of the step.
    now
        UTC.

    Returns
    -------
    AbState
        The leaving challengers' shoppers go to the others, in proportion to their shares, and nobody else moves. If
        nobody is left, the test has ended.
    """
    challengers = tuple(
        replace(challenger, left=leaving[challenger.arm]) if challenger.arm in leaving else challenger
        for challenger in state.challengers
    )
    after = replace(state, challengers=challengers, reason=reason, stepped=now)
    if not after.taking_part:
        return end_test(after, "", reason, now)
    layout = state.layout.change(share_out(state.weights, leaving))
    return replace(after, layout=layout, layouts=state.layouts + 1)


def end_test(state: AbState, winner: str, reason: str, now: datetime) -> AbState:
    """Return the state after the end. winner: the version that serves everyone; empty: the stable one."""
    phase: AbPhase = "promoted" if winner else "kept"
    return replace(state, phase=phase, reason=reason, winner=winner, stepped=now)


def share_out(weights: Mapping[Arm, int], leaving: Collection[Arm]) -> dict[Arm, int]:
    """Return the weights after some arms have left: what they had goes to the others in proportion to their weights.

    Parameters
    ----------
    weights
        Whole numbers that sum to `TOTAL_WEIGHT`.
    leaving
        The arms that leave. At least one arm with a weight stays.

    Returns
    -------
    dict
        Of the arms that stay. Rounded so that the sum is the same: the largest remainders get what is left over.
    """
    staying = {arm: weight for arm, weight in weights.items() if arm not in leaving}
    kept = sum(staying.values())
    free = sum(weights.values()) - kept
    shares = {arm: divmod(free * weight, kept) for arm, weight in staying.items()}
    after = {arm: weight + shares[arm][0] for arm, weight in staying.items()}
    left = sum(weights.values()) - sum(after.values())
    for arm in sorted(staying, key=lambda arm: (-shares[arm][1], list(weights).index(arm)))[:left]:
        after[arm] += 1
    return after
