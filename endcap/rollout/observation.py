"""What a look tells of a running rollout: reports of the intake to evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from endcap.experiments.evidence import GuardrailEvidence, RolloutEvidence
from endcap.experiments.exposures import ExposureReader
from endcap.experiments.metric_join import count_milliseconds
from endcap.experiments.metric_state import MetricState
from endcap.experiments.ranking_token import TokenSigner
from endcap.experiments.refresh_check import find_budget_parts
from endcap.experiments.rollout_state import GUARDED, RolloutState
from endcap.rollout.arm_watch import ArmWatch, read_feed
from endcap.rollout.feed import IntakeFeed, IntakeOutput
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store


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
        reader = ExposureReader(signer, state.arm, salt, against, moment, before)
        self.metrics = MetricState(policy, state.arm, against, begins=begins)
        self._policy, self._feed = policy, feed
        self._arm = ArmWatch(reader, self.metrics, begins - history)

    @property
    def mismatches(self) -> int:
        return self._arm.mismatches

    def read(self, now: datetime) -> str:
        """Read what is new. Returns why something could not be read; empty if all was."""
        return read_feed(self._feed, [self._arm], self._policy, now)


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
        Where the intake writes, and how soon, if not as beside `endcap serve`.
    """

    def __init__(
        self,
        state: RolloutState,
        against: Literal["stable", "previous", "baseline"],
        policy: RolloutSpec,
        store: Store,
        salt: str,
        intake: IntakeOutput | None = None,
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
