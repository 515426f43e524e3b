"""What a look tells of a running rollout: reports of the intake to evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Literal

import pyarrow as pa

from endcap.errors import EndcapError
from endcap.experiments.evidence import GuardrailEvidence, RolloutEvidence
from endcap.experiments.exposures import ExposureReader
from endcap.experiments.metric_join import count_milliseconds
from endcap.experiments.metric_state import MetricState
from endcap.experiments.outcomes import read_outcomes
from endcap.experiments.ranking_token import TokenSigner
from endcap.experiments.refresh_check import find_budget_parts
from endcap.experiments.rollout_state import GUARDED, RolloutState
from endcap.rollout.feed import FeedBatch, IntakeFeed, find_lag
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

NO_IMPRESSIONS = pa.schema(
    {
        "ranking_id": pa.string(),
        "item": pa.string(),
        "position": pa.int32(),
        "received": pa.timestamp("ms", "UTC"),
    }
).empty_table()


class _ShopperWatch:
    """Reads what shoppers did in a rollout from a moment on.

    history: how long before the moment rankings tell what is expected of a shopper.
    """

    def __init__(
        self,
        state: RolloutState,
        against: Literal["stable", "previous", "baseline"],
        policy: RolloutSpec,
        feed: IntakeFeed,
        salt: str,
        begins: datetime,
        history: timedelta = timedelta(0),
    ) -> None:
        signer = TokenSigner.from_environment(state.recommender)
        moment, before = count_milliseconds(begins), round(history.total_seconds() * 1000)
        self._policy, self._feed, self._since = policy, feed, moment - before
        self._reader = ExposureReader(signer, state.arm, salt, against, moment, before)
        self.metrics = MetricState(policy, state.arm, against, begins=begins)
        self.mismatches = 0

    def read(self, now: datetime) -> str:
        """Read what is new. Returns why something could not be read; empty if all was."""
        settled = now - find_lag(self._policy)
        try:
            for batch in self._feed.read_new(now):
                # Day by day, so that no more than a day's rows wait in memory, also where a loop starts anew.
                self.metrics.close(min(datetime.combine(batch.day, time(), UTC), settled))
                self._take(batch)
        except EndcapError as error:
            # What could not be read comes at the next look. Until then this moment is not complete.
            return str(error)
        self.metrics.close(settled)
        return ""

    def _take(self, batch: FeedBatch) -> None:
        exposures, refusals, audit = self._reader.read(batch.rows if batch.kind == "impressions" else NO_IMPRESSIONS)
        self.metrics.refusals.update(refusals)
        self.mismatches += audit.mismatches
        events = batch.rows if batch.kind == "events" else None
        orders = batch.rows if batch.kind == "orders" else None
        # An older version of the same rollout has the same salt.
        counted = exposures.select(exposures.time >= self._since)
        self.metrics.take(counted, read_outcomes(self._reader, events, orders))


class RolloutObserver:
    """Watches one rollout from its begin on. What it knows follows from the files alone, so a new one knows the same.

    Parameters
    ----------
    state
        The rollout.
    against
        What the version is compared with: `stable`, and after its promotion another arm of the same time.
    policy
        Its policy.
    store
        The store beside which the intake writes.
    salt
        The salt of the rollout, as the gateway has it.
    intake
        Where the intake writes, if not beside the store (`IntakeFeed`).
    """

    def __init__(
        self,
        state: RolloutState,
        against: Literal["stable", "previous", "baseline"],
        policy: RolloutSpec,
        store: Store,
        salt: str,
        intake: str | None = None,
    ) -> None:
        self._policy, self._store, self._salt, self._intake = policy, store, salt, intake
        self._against: Literal["stable", "previous", "baseline"] = against
        # The baseline was there before the promotion, when another version was the stable one.
        moment = state.stepped if against == "baseline" else state.created
        feed = IntakeFeed(store, moment - policy.history, intake)
        self._watch = _ShopperWatch(state, against, policy, feed, salt, moment, policy.history)
        self._fresh: tuple[datetime, _ShopperWatch] | None = None

    def observe(
        self,
        state: RolloutState,
        now: datetime,
        guardrails: Iterable[GuardrailEvidence] = (),
        problems: Mapping[str, str] | None = None,
    ) -> RolloutEvidence:
        """Read what is new, and return the evidence at a moment.

        Parameters
        ----------
        state
            The rollout's state.
        now
            The moment of the look, UTC.
        guardrails, problems
            What was measured of requests, and what could not be.
        """
        problems = dict(problems or {})
        fresh, metrics = self._find_fresh(state), self._watch.metrics
        for watch in (self._watch, fresh):
            if watch is not None and (problem := watch.read(now)):
                problems["intake"] = problem
        kept_part, fresh_part = find_budget_parts(self._policy, state)
        return RolloutEvidence(
            until=now,
            arm=state.arm,
            version=state.version,
            effects=tuple(metrics.judge(part=kept_part)),
            fresh=() if fresh is None else tuple(fresh.metrics.judge(part=fresh_part)),
            guardrails=tuple(guardrails),
            sample_ratio=metrics.sample_ratio,
            mismatches=self._watch.mismatches,
            crossed=metrics.crossed,
            impressions_until=metrics.newest,
            problems=problems,
            refusals={str(reason): count for reason, count in metrics.refusals.items() if count},
            against=self._against,
            history=tuple(metrics.judge_history(state.stepped)) if state.phase in GUARDED else (),
        )

    def _find_fresh(self, state: RolloutState) -> _ShopperWatch | None:
        """Return what watches the exposures since the version took a running one's place; None without a refresh."""
        since = state.refreshed_at
        if since is None or not find_budget_parts(self._policy, state)[1]:
            return None
        if self._fresh is None or self._fresh[0] != since:
            # It reads the files again: an earlier look may have read some of those since the refresh. What is expected
            # of a shopper it does not learn from the rollout, where an older version had a part in it.
            feed = IntakeFeed(self._store, since, self._intake)
            self._fresh = since, _ShopperWatch(state, self._against, self._policy, feed, self._salt, since)
        return self._fresh[1]
