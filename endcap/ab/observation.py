"""What a look tells of an A/B test: each challenger beside the stable version, from one reading of the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from endcap.experiments.ab_evidence import AbEvidence, ChallengerEvidence, Registered
from endcap.experiments.ab_state import AbChallenger, AbPolicy, AbState
from endcap.experiments.allocation import estimate_arm
from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.exposures import ExposureReader
from endcap.experiments.layout import KnownLayouts, Layout
from endcap.experiments.metric_join import count_milliseconds
from endcap.experiments.metric_state import MetricState
from endcap.experiments.ranking_token import TokenSigner
from endcap.rollout.arm_watch import ArmWatch, read_feed
from endcap.rollout.feed import IntakeFeed, IntakeOutput
from endcap.store import Store

_OTHERS = "other-arm"
"""Rankings of another challenger: each comparison leaves them out, and nothing is missing because of that."""


@dataclass(frozen=True)
class Surroundings:
    """What a look tells of a test besides what shoppers did.

    Attributes
    ----------
    guardrails
        By arm, what was measured of requests.
    registered
        By version, what the registry says of it.
    problems
        Sources that could not be read, with the reason.
    served, popularity_only, pinned
        As in `AbEvidence`.
    """

    guardrails: Mapping[str, tuple[GuardrailEvidence, ...]]
    registered: Mapping[str, Registered]
    problems: Mapping[str, str]
    served: str | None
    popularity_only: bool
    pinned: str


class AbObserver:
    """Watches one test from its begin on. What it knows follows from the files alone, so a new one knows the same.

    Parameters
    ----------
    state
        The test.
    policy
        By what it is run.
    store
        The store beside which the intake writes.
    intake
        Where the intake writes, and how soon; None: as beside `endcap serve`.

    Notes
    -----
    Effects are of the rankings of each moment, weighed by the probabilities of that moment (`EffectState`). So they are
    effects within epochs, and a share that moves between two epochs makes no difference appear.
    """

    def __init__(self, state: AbState, policy: AbPolicy, store: Store, intake: IntakeOutput | None = None) -> None:
        self._policy, self._store, self._intake = policy.rollout, store, intake
        self._layouts, self._layout_ids = KnownLayouts(()), set[str]()
        self._begin(state)

    def observe(self, state: AbState, layouts: Sequence[Layout], now: datetime, around: Surroundings) -> AbEvidence:
        """Read what is new, and return the evidence at a moment.

        Parameters
        ----------
        state
            Where the test stands.
        layouts
            All that it has had so far.
        now
            The moment of the look, UTC.
        around
            What else the look tells.
        """
        self._learn_layouts(state, layouts)
        # A challenger that has left is not looked at any more, and reads no more.
        watches = {each.arm: self._watches[each.arm] for each in state.taking_part}
        problems = dict(around.problems)
        if problem := read_feed(self._feed, list(watches.values()), self._policy, now):
            problems["intake"] = problem
        refusals: Counter[str] = Counter()
        for watch in watches.values():
            refusals |= watch.metrics.refusals
        newest = [watch.metrics.newest for watch in watches.values() if watch.metrics.newest is not None]
        return AbEvidence(
            until=now,
            challengers=tuple(self._judge(each, len(state.challengers), around) for each in state.taking_part),
            impressions_until=max(newest, default=None),
            problems=problems,
            refusals={str(reason): count for reason, count in refusals.items() if count and reason != _OTHERS},
            served=around.served,
            popularity_only=around.popularity_only,
            pinned=around.pinned,
        )

    def _judge(self, challenger: AbChallenger, count: int, around: Surroundings) -> ChallengerEvidence:
        watch = self._watches[challenger.arm]
        metrics, sums = watch.metrics, watch.metrics.deciding_sums
        better = self._policy.deciding_metric.direction == "up"
        return ChallengerEvidence(
            arm=challenger.arm,
            version=challenger.version,
            estimate=estimate_arm(sums, challenger.arm, better=better),
            registered=around.registered.get(challenger.version, ""),
            # Each version is called harmful by chance as seldom as in a rollout of its own. The best of several is
            # promoted, so they share the error of a promotion. One alone has half of it: a band has two sides.
            effects=tuple(metrics.judge(promotion_part=1 / max(2, count))),
            guardrails=around.guardrails.get(challenger.arm, ()),
            score=sums.score,
            information=sums.information,
            variance=sums.variance,
            stable_rate=sums.stable_outcomes / sums.stable_exposures if sums.stable_exposures else 0.0,
            sample_ratio=metrics.sample_ratio,
            mismatches=watch.mismatches,
            crossed=metrics.crossed,
        )

    def _begin(self, state: AbState) -> None:
        """Read everything anew."""
        begins = state.created - self._policy.history
        self._feed = IntakeFeed(self._store, begins, self._intake)
        self._watches = {
            each.arm: ArmWatch(
                self._make_reader(state, each),
                MetricState(self._policy, each.arm, begins=state.created, layouts=self._layouts),
                begins,
            )
            for each in state.challengers
        }

    def _learn_layouts(self, state: AbState, layouts: Sequence[Layout]) -> None:
        new = [layout for layout in layouts if layout.layout_id not in self._layout_ids]
        for layout in new:
            self._layouts.add(layout)
            self._layout_ids.add(layout.layout_id)
        if new and any(watch.metrics.refusals["unknown-layout"] for watch in self._watches.values()):
            # Another loop had moved shoppers already when rankings of them were read.
            self._begin(state)

    def _make_reader(self, state: AbState, challenger: AbChallenger) -> ExposureReader:
        """Make what reads the impressions of a challenger and of the stable version."""
        return ExposureReader(
            TokenSigner.from_environment(state.recommender),
            challenger.arm,
            state.salt,
            "stable",
            count_milliseconds(state.created),
            round(self._policy.history.total_seconds() * 1000),
            layouts=self._layouts,
        )
