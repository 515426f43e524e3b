"""What shoppers did with one arm beside another: reports of the intake to metrics, audit and sample ratio."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time

import pyarrow as pa

from endcap.errors import EndcapError
from endcap.experiments.exposures import ExposureReader
from endcap.experiments.metric_join import count_milliseconds
from endcap.experiments.metric_state import MetricState
from endcap.experiments.outcomes import read_outcomes
from endcap.rollout.feed import FeedBatch, IntakeFeed
from endcap.spec.rollout import RolloutSpec

NO_IMPRESSIONS = pa.schema(
    {
        "ranking_id": pa.string(),
        "item": pa.string(),
        "position": pa.int32(),
        "received": pa.timestamp("ms", "UTC"),
    }
).empty_table()


class ArmWatch:
    """What is known of one arm against another since a moment.

    Parameters
    ----------
    reader
        Reads the impressions of the two arms.
    metrics
        Their metrics.
    since
        Rankings of earlier moments count for nothing, not even for what is expected of a shopper. UTC.

    Attributes
    ----------
    mismatches
        Exposures whose arm is not the one that salt and shopper give.
    """

    def __init__(self, reader: ExposureReader, metrics: MetricState, since: datetime) -> None:
        self._reader, self._since = reader, count_milliseconds(since)
        self.metrics = metrics
        self.mismatches = 0

    def take(self, batch: FeedBatch) -> None:
        """Take a file's rows."""
        exposures, refusals, audit = self._reader.read(batch.rows if batch.kind == "impressions" else NO_IMPRESSIONS)
        self.metrics.refusals.update(refusals)
        self.mismatches += audit.mismatches
        events = batch.rows if batch.kind == "events" else None
        orders = batch.rows if batch.kind == "orders" else None
        # An older version of the same rollout has the same salt.
        counted = exposures.select(exposures.time >= self._since)
        self.metrics.take(counted, read_outcomes(self._reader, events, orders))


def read_feed(feed: IntakeFeed, watches: Sequence[ArmWatch], policy: RolloutSpec, now: datetime) -> str:
    """Read what is new once, for all watches. Returns why something could not be read; empty if all was.

    Parameters
    ----------
    feed
        The intake's files.
    watches
        Each takes all rows.
    policy
        Says how often is looked.
    now
        The moment of the look, UTC.
    """
    settled = now - feed.intake.find_lag(policy)
    try:
        for batch in feed.read_new(now):
            # Day by day, so that no more than a day's rows wait in memory, also where a loop starts anew.
            _close(watches, min(datetime.combine(batch.day, time(), UTC), settled))
            for watch in watches:
                watch.take(batch)
    except EndcapError as error:
        # What could not be read comes at the next look. Until then this moment is not complete.
        return str(error)
    _close(watches, settled)
    return ""


def _close(watches: Sequence[ArmWatch], until: datetime) -> None:
    for watch in watches:
        watch.metrics.close(until)
