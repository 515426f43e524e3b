"""Metrics of shoppers, look by look: exposures joined to outcomes, and each visit judged once, when its window is over.

A record counts by what it says and by when the intake took it, never by when it is read. So the order of files and the
number of looks change nothing: after any looks the state equals that of one look at everything, to the last bit. The
one condition is that a look has all records up to `until`; what comes later is refused, and counted as `behind`.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import numpy as np

from endcap.experiments.effect_state import EffectSums
from endcap.experiments.elsewhere import FirstElsewhere
from endcap.experiments.evidence import EffectEvidence, HistoryEvidence
from endcap.experiments.exposures import Exposures, Refusal, find_changes
from endcap.experiments.key_index import KeyIndex
from endcap.experiments.layout import KnownLayouts, covary_arms
from endcap.experiments.metric_join import (
    MetricJoin,
    SeenRankings,
    count_milliseconds,
    group_surfaces,
)
from endcap.experiments.outcomes import Outcomes
from endcap.experiments.sample_ratio import SampleRatioState
from endcap.experiments.splits import Arm
from endcap.experiments.statistics import judge_effect
from endcap.spec.rollout import RolloutSpec


class MetricState:
    """All metrics of one arm's rollout.

    Parameters
    ----------
    policy
        The rollout's metrics and limits.
    arm, against
        The arm that is judged, and the one that it is compared with.
    begins
        When the rollout began, UTC. Rankings from before tell what is expected of each shopper, and count for nothing
        else. None: there are none.
    layouts
        The layouts of an A/B test, which its reader of exposures has too; None: there is no test.

    Attributes
    ----------
    refusals
        How many reports of impressions of the rollout were refused, by the reason. `over-cap` counts rankings.
    until
        The moment of the last look; None before the first.
    newest
        When the newest report was received; None without any.
    """

    def __init__(
        self,
        policy: RolloutSpec,
        arm: Arm,
        against: Arm = "stable",
        begins: datetime | None = None,
        layouts: KnownLayouts | None = None,
    ) -> None:
        self._policy, self._arm, self._against = policy, arm, against
        self._begins = count_milliseconds(begins) if begins is not None else 0
        self._layouts = layouts
        covary = None if layouts is None else self._covary
        self._joins = [MetricJoin(metric, policy.rankings_per_day, self._begins, covary) for metric in policy.metrics]
        self._item_span = max(join.settle for join in self._joins if join.counts_items or join is self._joins[0])
        self._waiting: Exposures | None = None
        """Reports that a later look may take."""
        self._shown: Exposures | None = None
        """Items of rankings, for as long as a click on them, or a repeated report, may come in time."""
        self._rankings: SeenRankings | None = None
        self._outcomes: Outcomes | None = None
        self._people = KeyIndex()
        self._ratio = SampleRatioState()
        self._elsewhere = FirstElsewhere(min(join.settle for join in self._joins))
        self._last_times = np.zeros(0, np.int64)
        self._last_arms = np.zeros(0, np.bool_)
        self._customers = np.zeros((0, 2), np.uint64)
        """Pairs of a customer and the number of a shopper id, each once."""
        self.refusals: Counter[Refusal] = Counter()
        self.until: datetime | None = None
        self.newest: datetime | None = None

    def take(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Take new records, in any order.

        Raises
        ------
        DataError
            Exposures are of an A/B test, and the state does not know its layouts (``experiments.other-layout``).
        """
        for number in np.unique(exposures.layout[exposures.layout > 0]).tolist():
            (self._layouts or KnownLayouts(())).find_number(number)
        received = exposures.received[exposures.time >= self._begins]
        if len(received):
            newest = datetime.fromtimestamp(int(received.max()) / 1000, UTC)
            self.newest = newest if self.newest is None else max(newest, self.newest)
        if self.until is not None:
            passed = count_milliseconds(self.until)
            is_behind = exposures.received <= passed
            self.refusals["behind"] += int(is_behind.sum())
            exposures, outcomes = exposures.select(~is_behind), outcomes.select(outcomes.received > passed)
        self._waiting = exposures if self._waiting is None else self._waiting.join(exposures)
        self._outcomes = outcomes if self._outcomes is None else self._outcomes.join(outcomes)

    def close(self, until: datetime) -> None:
        """Judge all visits whose windows are over at `until`. All records that were received by then must be here.

        A moment that is not after the last one changes nothing: a clock may jump.
        """
        if self.until is not None and until <= self.until:
            return
        self.until = until
        if self._waiting is None or self._outcomes is None:
            return
        moment = count_milliseconds(until)
        is_ready = self._waiting.received <= moment
        ready, self._waiting = self._waiting.select(is_ready), self._waiting.select(~is_ready)
        self._elsewhere.note(ready.select(ready.is_elsewhere), self._people)
        ready = ready.select(~ready.is_elsewhere)
        shown, rankings = self._admit(ready)
        outcomes = self._outcomes.keep_first_reports()
        known = outcomes.select(outcomes.received <= moment)
        for number, join in enumerate(self._joins):
            closed, over_cap = join.close(moment, rankings, shown, known, self._people, self._elsewhere)
            if number == 0:
                own = closed.select(closed.time >= self._begins)
                self._ratio.add(
                    own.shopper, own.treated, own.probability, ~self._elsewhere.is_before(own.shopper, own.time)
                )
                self.refusals["over-cap"] += over_cap
        # What no open window can need any more is dropped.
        longest = max(join.settle for join in self._joins)
        self._shown = shown.select(shown.time > moment - self._item_span)
        self._rankings = rankings.select(rankings.time > moment - longest)
        self._outcomes = outcomes.select(outcomes.time > moment - longest - MetricJoin.early)

    def judge(self, planned: float = 125_000.0, part: float = 1.0, promotion_part: float = 1.0) -> list[EffectEvidence]:
        """Return the evidence of each metric, in the order of the policy.

        planned: as in `judge_effect`; part, promotion_part: of each metric's error budget, and of the error of a
        promotion, above 0 to 1.
        """
        budgets = self._policy.metric_budgets
        return [
            judge_effect(
                join.effect.sums,
                metric=join.metric.name,
                arm=self._arm,
                against=self._against,
                better=join.effect.better,
                budget=part * budgets[join.metric.name],
                promotion_budget=promotion_part * self._policy.promotion_error,
                planned=planned,
                complete_until=None if self.until is None else self.until - join.metric.settles_after,
            )
            for join in self._joins
        ]

    def judge_history(self, since: datetime) -> list[HistoryEvidence]:
        """Return each metric of the arm since a moment beside the shop's past (`ChampionHistory`)."""
        if self.until is None:
            return []
        begin, until = count_milliseconds(since), count_milliseconds(self.until)
        return [
            join.past.judge(join.metric.name, begin, until - join.settle, better=join.effect.better)
            for join in self._joins
        ]

    @property
    def deciding_sums(self) -> EffectSums:
        """The sums of the metric that decides."""
        name = self._policy.deciding_metric.name
        return next(join.effect.sums for join in self._joins if join.metric.name == name)

    @property
    def sample_ratio(self) -> float:
        """The e-value against "shoppers came to the arms as the split says"."""
        return self._ratio.e_value

    @property
    def crossed(self) -> float:
        """The share of customers whose shopper ids lie in both arms, of all customers who were named: 0 to 1."""
        if not len(self._customers):
            return 0.0
        # Pairs are in the order of customers.
        starts = np.flatnonzero(find_changes(self._customers[:, 0]))
        arms = self._last_arms[self._customers[:, 1].astype(np.int64)]
        is_crossed = np.logical_or.reduceat(arms, starts) & np.logical_or.reduceat(~arms, starts)
        return float(is_crossed.mean())

    def _admit(self, ready: Exposures) -> tuple[Exposures, SeenRankings]:
        """Take the reports of a look: each item of a ranking once, as it was reported first."""
        is_late = ready.received > ready.time + self._joins[0].settle
        self.refusals["late"] += int((is_late & (ready.time >= self._begins)).sum())
        reports = ready if self._shown is None else self._shown.join(ready)
        is_first = reports.find_first_reports()
        is_in_time = reports.received <= reports.time + self._joins[0].settle
        self.refusals["duplicate"] += int((~is_first & is_in_time & (reports.time >= self._begins)).sum())
        shown = reports.select(is_first)
        order = np.lexsort((ready.received, ready.ranking, ready.time))
        first = order[find_changes(ready.ranking[order])]
        new = SeenRankings(
            time=ready.time[first],
            ranking=ready.ranking[first],
            shopper=self._people.number(ready.shopper[first]),
            received=ready.received[first],
            treated=ready.treated[first],
            probability=ready.probability[first],
            group=group_surfaces(ready.surface[first]),
            layout=ready.layout[first],
        )
        self._note_arms(new)
        named = ready.select((ready.customer != 0) & (ready.time >= self._begins))
        pairs = np.stack([named.customer, self._people.find(named.shopper).astype(np.uint64)], axis=1)
        self._customers = np.unique(np.concatenate([self._customers, pairs]), axis=0)
        return shown, new if self._rankings is None else self._rankings.merge(new)

    def _covary(self, first: float, second: float) -> float:
        """Return the covariance of a shopper's arms under two layouts, by their numbers."""
        layouts = self._layouts or KnownLayouts(())
        return covary_arms(layouts.find_number(first), layouts.find_number(second), self._arm, self._against)

    def _note_arms(self, new: SeenRankings) -> None:
        """Keep the arm that each shopper met last."""
        room = len(self._people) - len(self._last_times)
        self._last_times = np.append(self._last_times, np.full(room, np.iinfo(np.int64).min))
        self._last_arms = np.append(self._last_arms, np.zeros(room, np.bool_))
        newer = new.select(new.time >= self._last_times[new.shopper])
        # They are in the order of time, so the last of each shopper is the one that stays.
        self._last_times[newer.shopper], self._last_arms[newer.shopper] = newer.time, newer.treated
