"""The lift over popularity, look by look, for as long as there is a baseline: a document that screens and reports read.

It is about one champion. When another version becomes the stable one, what the one before brought is kept beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from typing import Any, Self

from endcap.deploy.state import Deployment, find_state
from endcap.errors import EndcapError
from endcap.experiments.decision_parts import format_change
from endcap.experiments.exposures import ExposureReader
from endcap.experiments.lift import Lift, LiftState, LiftTable
from endcap.experiments.outcomes import read_outcomes
from endcap.experiments.ranking_token import TokenSigner
from endcap.registry.package import read_recommender
from endcap.rollout.arm_watch import NO_IMPRESSIONS
from endcap.rollout.feed import FeedBatch, IntakeFeed, IntakeOutput
from endcap.rollout.messages import Notify, RolloutMessage
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

MOST_PAST = 20
"""Champions before the present one whose lift is kept."""


@dataclass(frozen=True)
class ChampionLift:
    """What one champion brings over popularity.

    Attributes
    ----------
    version
        The champion.
    since, until
        From when on it is measured, and when the last look was; None before the first. UTC.
    table
        The lifts at that moment.
    mismatches
        Exposures whose arm is not the one that the shopper's hash gives. Above 0 the numbers cannot be trusted.
    problem
        Why the last look could not read everything; empty: it could.
    past
        What the champions before brought, the newest first, each without a `past` of its own.
    """

    version: str
    since: datetime
    until: datetime | None = None
    table: LiftTable = field(default_factory=LiftTable)
    mismatches: int = 0
    problem: str = ""
    past: Sequence[ChampionLift] = ()

    @property
    def losses(self) -> list[Lift]:
        """The metrics on which the champion is shown to be worse than popularity."""
        return [] if self.mismatches else [lift for lift in self.table.metrics if lift.is_below]

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "version": self.version,
            "since": self.since.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "lifts": self.table.to_json(),
            "mismatches": self.mismatches,
            "problem": self.problem,
            "past": [{key: value for key, value in lift.to_json().items() if key != "past"} for lift in self.past],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(
            version=document["version"],
            since=datetime.fromisoformat(document["since"]),
            until=None if document["until"] is None else datetime.fromisoformat(document["until"]),
            table=LiftTable.from_json(document["lifts"]),
            mismatches=document["mismatches"],
            problem=document["problem"],
            past=tuple(cls.from_json(past) for past in document.get("past", ())),
        )

    def is_same(self, other: ChampionLift | None) -> bool:
        """Whether both are about the same champion since the same time."""
        return other is not None and (self.version, self.since) == (other.version, other.since)


def read_lift(recommender: str, store: Store) -> ChampionLift | None:
    """Read the newest lift of a recommender; None if none was ever measured. Raises IntegrityError."""
    document = store.read_document(_name_document(recommender))
    return None if document is None else ChampionLift.from_json(document)


class LiftWatcher:
    """Measures the lift of a recommender's champion, as often as its policy says.

    What it knows follows from the intake's files and from the document's `since`, so a new one knows the same.

    Parameters
    ----------
    store, recommender
        What is served.
    notify
        Who is told once if the champion is shown to be worse than popularity.
    read_clock
        Returns the present moment, UTC.
    intake
        Where the intake writes, and how soon, if not as beside `endcap serve`.
    """

    def __init__(
        self,
        store: Store,
        recommender: str,
        *,
        notify: Sequence[Notify] = (),
        read_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        intake: IntakeOutput | None = None,
    ) -> None:
        self._store, self._recommender = store, recommender
        self._notify, self._read_clock, self._intake = notify, read_clock, intake
        self._policies: dict[str, RolloutSpec | None] = {}
        self._observer: _LiftObserver | None = None

    def look_if_due(self) -> ChampionLift | None:
        """Look if the last look is older than `look_every`.

        Returns
        -------
        ChampionLift or None
            What was written; None if there is no baseline, or it was too early.

        Raises
        ------
        EndcapError
            The desired state, the package or the document cannot be read.
        """
        desired = find_state(self._recommender, self._store)
        if desired is None or desired.baseline is None:
            return None
        policy, now = self._read_policy(desired), self._read_clock()
        before = read_lift(self._recommender, self._store)
        lift = _begin(before, desired.stable.version, now)
        if lift.until is not None and now - lift.until < (policy or RolloutSpec()).look_every:
            return None
        if self._observer is None or not lift.is_same(self._observer.lift):
            self._observer = _LiftObserver(lift, self._recommender, policy, self._store, self._intake)
        after = replace(self._observer.observe(now), past=lift.past)
        written = self._store.update_document(_name_document(self._recommender), lambda stored: _choose(stored, after))
        if after.losses and not lift.losses and written == after.to_json():
            self._tell(after, desired.stable.package, now)
        return after

    def _read_policy(self, desired: Deployment) -> RolloutSpec | None:
        package = desired.stable.package
        if package not in self._policies:
            self._policies = {package: read_recommender(self._store.fetch(package)).rollout}
        return self._policies[package]

    def _tell(self, lift: ChampionLift, package: str, now: datetime) -> None:
        losses = ", ".join(f"{loss.metric} {format_change(loss.effect)}" for loss in lift.losses)
        sentence = (
            f"Popularity does better than the champion: {losses}. To give it to everyone: endcap deploy "
            f"{self._recommender} --popularity"
        )
        message = RolloutMessage(
            self._recommender,
            lift.version,
            0,
            "below-baseline",
            1.0,
            "below-baseline",
            sentence,
            alert=True,
            kind="rollout.attention",
            time=now,
            package=package,
            metrics={loss.metric: loss.effect for loss in lift.losses},
        )
        for send in self._notify:
            send(message)


class _LiftObserver:
    """Reads what shoppers did since a champion is the stable version."""

    def __init__(
        self,
        lift: ChampionLift,
        recommender: str,
        policy: RolloutSpec | None,
        store: Store,
        intake: IntakeOutput | None,
    ) -> None:
        self.lift = lift
        self._reader = ExposureReader(TokenSigner.from_environment(recommender), "baseline", None, "stable")
        self._state = LiftState(policy or RolloutSpec(), lift.since)
        self._feed = IntakeFeed(store, lift.since, intake)
        self._lag = self._feed.intake.find_lag(policy)
        self._mismatches = 0

    def observe(self, now: datetime) -> ChampionLift:
        """Read what is new, and return the lift of the moment."""
        problem, settled = "", now - self._lag
        try:
            for batch in self._feed.read_new(now):
                # Day by day, so that no more than a day's rows wait in memory, also where a loop starts anew.
                self._state.close(min(datetime.combine(batch.day, time(), UTC), settled))
                self._take(batch)
        except EndcapError as error:
            # What could not be read comes at the next look. Until then this moment is not complete.
            problem = str(error)
        else:
            self._state.close(settled)
        return ChampionLift(self.lift.version, self.lift.since, now, self._state.judge(), self._mismatches, problem)

    def _take(self, batch: FeedBatch) -> None:
        rows = batch.rows if batch.kind == "impressions" else NO_IMPRESSIONS
        exposures, _, audit = self._reader.read(rows)
        self._mismatches += audit.mismatches
        events = batch.rows if batch.kind == "events" else None
        orders = batch.rows if batch.kind == "orders" else None
        names = rows.column("surface").unique().to_pylist() if "surface" in rows.column_names else ()
        outcomes = read_outcomes(self._reader, events, orders)
        self._state.take(exposures, outcomes, (name for name in names if name is not None))


def _begin(before: ChampionLift | None, version: str, now: datetime) -> ChampionLift:
    """Return what goes on: the champion's lift until now, or that of a new one with the earlier ones behind it."""
    if before is not None and before.version == version:
        return before
    past = () if before is None else (replace(before, past=()), *before.past)[:MOST_PAST]
    return ChampionLift(version, now, past=past)


def _choose(stored: Mapping[str, Any] | None, after: ChampionLift) -> dict[str, Any]:
    """Return the document to keep. Another loop may have begun this champion's, and then its moment counts."""
    other = None if stored is None else ChampionLift.from_json(stored)
    if stored is not None and other is not None and other.version == after.version and other.since != after.since:
        return dict(stored)
    return after.to_json()


def _name_document(recommender: str) -> str:
    return f"rollouts/{recommender}/lift"
