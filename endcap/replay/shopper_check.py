"""Compares what a predictor knew of a shopper with what the event log says of that moment, and names the reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from endcap.errors import NotFoundError
from endcap.features.publishing import build_customer_rows
from endcap.online import RecentEvent, ShopperReader, Visits, name_feature_table, name_session_owner
from endcap.online.key_names import name_customer_owner
from endcap.pseudonyms import Pseudonymiser
from endcap.ranking import RankRequest, ShopperContext
from endcap.registry.online_features import needs_shopper_data
from endcap.registry.package import LoadedPackage
from endcap.replay.event_log import EventLog
from endcap.replay.past_store import PastStore, PastView
from endcap.replay.reasons import (
    CLOCK_AHEAD,
    EQUAL,
    EXPIRED,
    FROM_REQUEST,
    IN_FLIGHT,
    KEY_DIFFERS,
    LATE_EVENT,
    LOG_BEHIND,
    LOG_GONE,
    STORE_UNAVAILABLE,
    UNEXPLAINED,
)
from endcap.samples import SampledRequest
from endcap.store import Store

IN_FLIGHT_WITHIN = timedelta(seconds=5)
"""How far apart the intake's clock and the predictor's may be, with the time that the intake takes to write."""
MOST_ARRIVALS = 50
"""Moments around a request that are tried as the border of what the online store had."""
_HISTORY = "history"


class Knowledge(NamedTuple):
    """What is known of a shopper: recent events, owned items, and whether the shopper is known at all."""

    events: Sequence[RecentEvent]
    owned: frozenset[str]
    is_known: bool


@dataclass(frozen=True)
class ShopperOutcome:
    """What a comparison gave.

    Attributes
    ----------
    reason
        A name of `endcap.replay.reasons`.
    detail
        What differs, in a few words.
    context
        What the ranking would have been made with by the log of events that had happened. None: nothing differs, or the
        log does not say.
    """

    reason: str
    detail: str = ""
    context: ShopperContext | None = None


class ShopperCheck:
    """Compares samples with the event log.

    Parameters
    ----------
    log
        The records of the samples' shoppers.
    store
        The store that has the datasets, whose customers' histories predictors know.
    pseudonymiser
        Makes the pseudonyms of the log and of the datasets. None: there is no key.
    in_flight
        See `IN_FLIGHT_WITHIN`.
    """

    def __init__(
        self,
        log: EventLog,
        store: Store,
        pseudonymiser: Pseudonymiser | None,
        in_flight: timedelta = IN_FLIGHT_WITHIN,
    ) -> None:
        self._log, self._store, self._pseudonymiser = log, store, pseudonymiser
        self._window = in_flight // timedelta(milliseconds=1)
        self._shoppers: dict[str, _PastShoppers] = {}

    def compare(
        self, sample: SampledRequest, request: RankRequest, package: LoadedPackage, *, owned: bool
    ) -> ShopperOutcome:
        """Compare what a ranking was made with, with what the log says.

        Parameters
        ----------
        sample
            The sample.
        request
            Its request.
        package
            The package of its version.
        owned
            Whether the rules of then ask what a customer owns.
        """
        if not needs_shopper_data(request, owned=owned):
            return ShopperOutcome(FROM_REQUEST)
        key = "" if self._pseudonymiser is None else self._pseudonymiser.key_id
        if sample.pseudonym_key != key:
            return ShopperOutcome(KEY_DIFFERS, f"key {sample.pseudonym_key}, here {key or 'none'}")
        past = self._get_shoppers(package)
        return _Comparison(sample, request, past, self._log, self._window, owned=owned).explain()

    def _get_shoppers(self, package: LoadedPackage) -> _PastShoppers:
        dataset = str(package.info.get("dataset") or "")
        key = f"{dataset} {package.event_types} {package.session_gap} {package.recommender.serving.recent_events}"
        if key not in self._shoppers:
            self._shoppers[key] = _PastShoppers(package, dataset, self._log, self._read_histories(package, dataset))
        return self._shoppers[key]

    def _read_histories(self, package: LoadedPackage, dataset: str) -> dict[str, bytes] | None:
        """Return the histories of the log's customers and of those whom samples name; None if the dataset is gone."""
        if not dataset:
            return {}
        assert self._pseudonymiser is not None
        try:
            folder = self._store.fetch(dataset)
        except NotFoundError:
            return None
        rules = package.ranker.rulebook.rules
        rows = build_customer_rows(folder, owned=rules.owned, by_gap=package.session_gap is not None)
        pseudonymise = self._pseudonymiser.pseudonymise
        return {pseudonymise(customer): row for customer, row in rows}


class _PastShoppers:
    """What an online store would have said, for the versions of one dataset. histories: None if the dataset is gone."""

    def __init__(self, package: LoadedPackage, dataset: str, log: EventLog, histories: dict[str, bytes] | None) -> None:
        self.has_histories = histories is not None
        self.dataset = dataset
        self._most = package.recommender.serving.recent_events
        self._source = PastStore(log, histories or {})
        table = name_feature_table("customers", dataset) if dataset else None
        visits = Visits(package.event_types, package.session_gap)
        self._reader = ShopperReader(self._source, history=table, visits=visits)

    def look_up(self, sample: SampledRequest, view: PastView, cutoff: int | None = None) -> Knowledge:
        """Return what would have been said. cutoff: None for the sample's time."""
        self._source.set_moment(view, sample.time, cutoff)
        return self._look_up(sample)

    def look_up_around(
        self, sample: SampledRequest, view: PastView, window: int, also: Collection[RecentEvent | str]
    ) -> Knowledge:
        """Return what would have been said if only those records of the moments around it counted that were used."""
        begin, end = sample.time - window, sample.time + window
        self._source.set_moment(view, sample.time, begin, later=end, also=also)
        return self._look_up(sample)

    def _look_up(self, sample: SampledRequest) -> Knowledge:
        data = self._reader.look_up([sample.customer], [sample.session], self._most, now=sample.time)
        return Knowledge(data.events[0], frozenset(data.owned[0]), data.recognised[0])

    def list_arrivals(self, sample: SampledRequest, window: int) -> list[int]:
        """List when records of the sample's shopper were received, within a window around its time."""
        owners = [] if sample.customer is None else [name_customer_owner(sample.customer)]
        if sample.session is not None:
            owners += [name_session_owner(sample.session, customer) for customer in {sample.customer, None}]
        begin = sample.time - window
        arrivals = self._source.list_arrivals(owners, begin, sample.time + window)
        nearest = sorted(arrivals, key=lambda received: abs(received - sample.time))[:MOST_ARRIVALS]
        return [begin, *nearest]


class _Comparison:
    """One sample and the log."""

    def __init__(
        self,
        sample: SampledRequest,
        request: RankRequest,
        past: _PastShoppers,
        log: EventLog,
        window: int,
        *,
        owned: bool,
    ) -> None:
        self._sample, self._past, self._log, self._window = sample, past, log, window
        self._has_events, self._has_owned = request.needs_stored_events, owned and request.customer is not None
        self._used = self._reduce(Knowledge(list(sample.events), frozenset(sample.owned), sample.is_known))

    def explain(self) -> ShopperOutcome:
        """Say whether the log has what was used, and if not, why."""
        happened = self._look_up(PastView.HAPPENED)
        if happened == self._used:
            return ShopperOutcome(EQUAL)
        reason = self._find_reason(happened)
        stored = self._sample.stored_list
        context = ShopperContext(happened.events, happened.owned, stored, happened.is_known)
        gone = reason in (LOG_BEHIND, LOG_GONE)
        return ShopperOutcome(reason, self._describe(happened), None if gone else context)

    def _find_reason(self, happened: Knowledge) -> str:
        if self._sample.store_unavailable:
            return STORE_UNAVAILABLE
        if self._look_up(PastView.RECEIVED) == self._used:
            late = self._is_any_later(happened)
            return LATE_EVENT if late else CLOCK_AHEAD
        if self._look_up(PastView.KEPT) == self._used:
            return EXPIRED
        return IN_FLIGHT if self._was_in_flight() else self._find_gap(happened)

    def _was_in_flight(self) -> bool:
        """Return whether all agrees if some records that came around the moment count, or do not."""
        used: set[RecentEvent | str] = {*self._used.events, *self._used.owned}
        for view in (PastView.KEPT, PastView.RECEIVED):
            past = self._past.look_up_around(self._sample, view, self._window, used)
            if self._reduce(past) == self._used:
                return True
        # A record may also count without being among what was used: it may show that a visit went on.
        return any(
            self._used in (self._look_up(PastView.KEPT, cutoff), self._look_up(PastView.RECEIVED, cutoff))
            for cutoff in self._past.list_arrivals(self._sample, self._window)
        )

    def _is_any_later(self, happened: Knowledge) -> bool:
        """Return whether the log has what was not used: it arrived later. Otherwise what was used had not happened."""
        events, owned = set(self._used.events), self._used.owned
        return any(event not in events for event in happened.events) or not happened.owned <= owned

    def _find_gap(self, happened: Knowledge) -> str:
        """Return whether the log lacks a day or the last minutes, so that it cannot say."""
        if not self._past.has_histories and self._needs_history(happened):
            return LOG_GONE
        known = set(happened.events)
        missing = [event.time for event in self._used.events if event not in known]
        if not self._log.days:
            return LOG_GONE
        bought_since = self._sample.time > self._log.newest and not self._used.owned <= happened.owned
        if bought_since or any(time > self._log.newest for time in missing):
            return LOG_BEHIND
        if any(datetime.fromtimestamp(time / 1000, UTC).date() not in self._log.days for time in missing):
            return LOG_GONE
        return UNEXPLAINED

    def _needs_history(self, happened: Knowledge) -> bool:
        """Return whether the customer's history in the training data may explain what was used."""
        is_known = not self._used.events and self._used.is_known and not happened.is_known
        return self._sample.events_source == _HISTORY or is_known or not self._used.owned <= happened.owned

    def _look_up(self, view: PastView, cutoff: int | None = None) -> Knowledge:
        return self._reduce(self._past.look_up(self._sample, view, cutoff))

    def _reduce(self, knowledge: Knowledge) -> Knowledge:
        """Leave out what the ranking did not need."""
        events, owned, is_known = knowledge
        if not self._has_events:
            return Knowledge([], owned if self._has_owned else frozenset(), False)
        # Whether somebody is known decides on the reason for fallbacks, where there are no events.
        return Knowledge(list(events), owned if self._has_owned else frozenset(), is_known or bool(events))

    def _describe(self, happened: Knowledge) -> str:
        used, logged = set(self._used.events), set(happened.events)
        parts = [f"events {len(self._used.events)} → {len(happened.events)}"]
        parts += [f"only used: {event.item} {event.time}" for event in self._used.events if event not in logged][:1]
        parts += [f"only in the log: {event.item} {event.time}" for event in happened.events if event not in used][:1]
        if self._used.owned != happened.owned:
            parts.append(f"owned {len(self._used.owned)} → {len(happened.owned)}")
        return ", ".join(parts)
