"""What a look tells of a running rollout: reports of the intake to evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time
from typing import Literal

import pyarrow as pa

from endcap.errors import EndcapError
from endcap.experiments.evidence import Comparator, GuardrailEvidence, RolloutEvidence
from endcap.experiments.exposures import ExposureReader
from endcap.experiments.metric_join import count_milliseconds
from endcap.experiments.metric_state import MetricState
from endcap.experiments.outcomes import read_outcomes
from endcap.experiments.ranking_token import TokenSigner
from endcap.experiments.rollout_state import RolloutState
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
        self._policy = policy
        self._against: Comparator = against
        # The baseline was there before the promotion, when another version was the stable one.
        moment = state.stepped if against == "baseline" else state.created
        signer = TokenSigner.from_environment(state.recommender)
        begins, history = count_milliseconds(moment), round(policy.history.total_seconds() * 1000)
        self._reader = ExposureReader(signer, state.arm, salt, against, begins, history)
        self._metrics = MetricState(policy, state.arm, against, begins=moment)
        self._feed = IntakeFeed(store, moment - policy.history, intake)
        self._mismatches = 0

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
        settled = now - find_lag(self._policy)
        try:
            for batch in self._feed.read_new(now):
                # Day by day, so that no more than a day's rows wait in memory, also where a loop starts anew.
                self._metrics.close(min(datetime.combine(batch.day, time(), UTC), settled))
                self._take(batch)
        except EndcapError as error:
            # What could not be read comes at the next look. Until then this moment is not complete.
            problems["intake"] = str(error)
        if "intake" not in problems:
            self._metrics.close(settled)
        return RolloutEvidence(
            until=now,
            arm=state.arm,
            version=state.version,
            effects=tuple(self._metrics.judge()),
            guardrails=tuple(guardrails),
            sample_ratio=self._metrics.sample_ratio,
            mismatches=self._mismatches,
            crossed=self._metrics.crossed,
            impressions_until=self._metrics.newest,
            problems=problems,
            refusals={str(reason): count for reason, count in self._metrics.refusals.items() if count},
            against=self._against,
        )

    def _take(self, batch: FeedBatch) -> None:
        exposures, refusals, audit = self._reader.read(batch.rows if batch.kind == "impressions" else NO_IMPRESSIONS)
        self._metrics.refusals.update(refusals)
        self._mismatches += audit.mismatches
        events = batch.rows if batch.kind == "events" else None
        orders = batch.rows if batch.kind == "orders" else None
        self._metrics.take(exposures, read_outcomes(self._reader, events, orders))
