"""What the shoppers of a live shop did, by the version that ranked for them."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from endcap.client import Receipt
from endcap.simulation.live_shoppers import ListReaction


@dataclass
class VersionCounts:
    """What shoppers did with the rankings of one version.

    Attributes
    ----------
    rankings, clicks, carts, orders
        How many rankings were shown, and how many of them led to what.
    expected_clicks
        The sum of the rankings' true probabilities of a click.
    variance
        The variance of `clicks` around it: the sum of p (1 - p).
    """

    rankings: int = 0
    clicks: int = 0
    carts: int = 0
    orders: int = 0
    expected_clicks: float = 0.0
    variance: float = 0.0

    def add(self, reaction: ListReaction) -> None:
        """Add a ranking and what came of it."""
        self.rankings += 1
        self.clicks += reaction.clicked is not None
        self.carts += reaction.carts
        self.orders += reaction.buys
        self.expected_clicks += reaction.expected_clicks
        self.variance += reaction.expected_clicks * (1 - reaction.expected_clicks)


@dataclass
class LiveCounts:
    """What a live shop sent, and what was refused.

    Attributes
    ----------
    visits
        How many visits began.
    shoppers
        The ids of all who came.
    versions
        By the answer's variant and version (an empty text: none).
    failures
        Rankings that the service did not give, by the error's code.
    accepted, duplicates, rejected, lost
        Reported records by kind, such as ``impressions``: those that the intake wrote, had already and refused, and
        those whose call failed.
    reasons
        The codes of the errors behind rejected records and failed calls, by record.
    """

    visits: int = 0
    shoppers: set[str] = field(default_factory=set)
    versions: dict[tuple[str, str], VersionCounts] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rankings(self) -> int:
        """How many rankings were shown."""
        return sum(version.rankings for version in self.versions.values())

    @property
    def by_variant(self) -> Mapping[str, VersionCounts]:
        """The counts of each variant, over all its versions."""
        totals: dict[str, VersionCounts] = {}
        for (variant, _), counts in self.versions.items():
            total = totals.setdefault(variant, VersionCounts())
            for name, value in vars(counts).items():
                setattr(total, name, getattr(total, name) + value)
        return totals


class LiveTally:
    """Counts while shoppers come; any thread may read."""

    def __init__(self) -> None:
        self._counts = LiveCounts()
        self._lock = threading.Lock()

    def add_visit(self, shopper: str) -> None:
        """Count a visit of this shopper."""
        with self._lock:
            self._counts.visits += 1
            self._counts.shoppers.add(shopper)

    def add_ranking(self, variant: str, version: str, reaction: ListReaction) -> None:
        """Count a ranking and what a shopper did with it."""
        with self._lock:
            self._counts.versions.setdefault((variant, version), VersionCounts()).add(reaction)

    def add_failure(self, code: str) -> None:
        """Count a ranking that the service did not give."""
        with self._lock:
            self._counts.failures[code] += 1

    def add_receipt(self, kind: str, receipt: Receipt) -> None:
        """Count what the intake did with the records of a call."""
        with self._lock:
            self._counts.accepted[kind] += receipt.accepted
            self._counts.duplicates[kind] += receipt.duplicates
            self._counts.rejected[kind] += len(receipt.rejected)
            self._counts.reasons.update(str(record.get("code", "")) for record in receipt.rejected)

    def add_lost(self, kind: str, records: int, code: str) -> None:
        """Count the records of a call that failed."""
        with self._lock:
            self._counts.lost[kind] += records
            self._counts.reasons[code] += records

    def copy_counts(self) -> LiveCounts:
        """Return the counts of this moment."""
        with self._lock:
            return copy.deepcopy(self._counts)
