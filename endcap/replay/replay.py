"""`replay`: compute sampled answers again, and count every difference under a reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from endcap.errors import NotFoundError
from endcap.online.record_updates import Retention
from endcap.pseudonyms import Pseudonymiser
from endcap.registry import Registry
from endcap.replay.comparison import compare_answers
from endcap.replay.event_log import EventLog, read_event_log
from endcap.replay.past_rankers import PastRankers
from endcap.replay.reasons import EQUAL, ROUNDING
from endcap.replay.recomputation import Question, Recomputed, rank_as_then, recompute
from endcap.replay.report import Check, ReplayReport
from endcap.replay.rules_check import RulesCheck
from endcap.replay.shopper_check import IN_FLIGHT_WITHIN, ShopperCheck
from endcap.samples import SampledRequest, read_samples
from endcap.store import Store

MODEL, RULES, LOG = "model", "rules", "log"
"""The checks: ranked again by the recorded context with the model and the rules of then; by the newest rules that had
been read; by what the event log says of that moment."""
SAY_EVERY = 2.0
"""Seconds between two lines of progress."""
Progress = Callable[[str], None]


@dataclass(frozen=True)
class LogSource:
    """The event log that samples are compared with.

    Attributes
    ----------
    address
        The intake's `--out`: a folder, or ``s3://bucket/prefix``.
    retention
        What the intake's online store keeps, and for how long.
    reach
        How long before the first sample events are read.
    in_flight
        How far apart the intake's clock and the predictor's may be, with the time that the intake takes to write.
    """

    address: str
    retention: Retention = field(default_factory=Retention)
    reach: timedelta = timedelta(days=30)
    in_flight: timedelta = IN_FLIGHT_WITHIN


def replay(
    recommender: str,
    store: Store,
    registry: Registry,
    samples: str,
    since: datetime,
    until: datetime,
    *,
    log: LogSource | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    progress: Progress = lambda line: None,
) -> ReplayReport:
    """Compute sampled answers again.

    Parameters
    ----------
    recommender
        The recommender.
    store, registry
        Where its versions are.
    samples
        The address of the samples: a folder, or ``s3://bucket/prefix``.
    since, until
        The rankings from `since` on and before `until`.
    log
        The event log that what predictors knew is compared with. None: it is not compared.
    pseudonymiser
        Makes pseudonyms with the key of the samples. None: there is no key. Shoppers then cannot be matched with models
        and with the log.
    progress
        Takes lines for people.

    Returns
    -------
    ReplayReport
        The outcomes.

    Raises
    ------
    NotFoundError
        There is no sample of that time (`replay.no-samples`).
    IntegrityError
        A file of samples is damaged.
    StorageError, OSError
        The samples, the log or the store cannot be read.
    """
    started = time.monotonic()
    listed = list(read_samples(samples, recommender, since, until))
    if not listed:
        raise NotFoundError(
            f"{samples}: no request of {recommender} was sampled from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} "
            "(UTC). Set serving.samples in its spec, or name another place by --samples or another time by --since",
            code="replay.no-samples",
            recommender=recommender,
            samples=samples,
            since=since.isoformat(),
            until=until.isoformat(),
        )
    progress(f"{len(listed):,} samples are read")
    rankers = PastRankers(recommender, registry, store, samples, pseudonymiser)
    shoppers = None
    if log is not None:
        events = _read_log(log, listed, pseudonymiser)
        progress(f"{events.rows:,} events of their shoppers are read")
        shoppers = ShopperCheck(events, store, pseudonymiser, log.in_flight)
    checks = _Checks(rankers, RulesCheck(rankers, {sample.catalogue for sample in listed}), shoppers)
    reported = time.monotonic()
    for number, recomputed in enumerate(recompute(listed, rankers)):
        checks.add(recomputed)
        if time.monotonic() - reported > SAY_EVERY:
            reported = time.monotonic()
            progress(f"{number:,} of {len(listed):,} answers are computed again")
    versions = Counter(sample.version for sample in listed)
    return ReplayReport(
        recommender,
        since,
        until,
        len(listed),
        versions,
        checks.by_name,
        datetime.now(UTC),
        time.monotonic() - started,
    )


def _read_log(log: LogSource, samples: Sequence[SampledRequest], pseudonymiser: Pseudonymiser | None) -> EventLog:
    if pseudonymiser is None:
        return EventLog(log.retention)
    first = datetime.fromtimestamp(min(sample.time for sample in samples) / 1000, UTC) - log.reach
    customers = {sample.customer for sample in samples if sample.customer is not None}
    sessions = {sample.session for sample in samples if sample.session is not None}
    return read_event_log(log.address, customers, sessions, first.date(), log.retention, pseudonymiser.pseudonymise)


class _Checks:
    """The checks of a replay, and their outcomes so far."""

    def __init__(self, rankers: PastRankers, rules: RulesCheck, shoppers: ShopperCheck | None) -> None:
        self._rankers, self._rules, self._shoppers = rankers, rules, shoppers
        self.by_name = {MODEL: Check(), RULES: Check()}
        if shoppers is not None:
            self.by_name[LOG] = Check()

    def add(self, recomputed: Recomputed) -> None:
        """Count a sample in each check. What is missing for the first is missing for all."""
        sample, outcome, detail, question = recomputed
        self.by_name[MODEL].add(sample, outcome, detail)
        if question is None:
            for name in self.by_name.keys() - {MODEL}:
                self.by_name[name].add(sample, outcome, detail)
            return
        reason, difference = self._rules.compare(sample, question)
        self.by_name[RULES].add(sample, reason, difference, is_changed=reason != EQUAL)
        if self._shoppers is not None:
            self._compare_log(sample, question, self._shoppers)

    def _compare_log(self, sample: SampledRequest, question: Question, shoppers: ShopperCheck) -> None:
        ranker = self._rankers.get_ranker(sample.version, sample.catalogue)
        package = self._rankers.get_package(sample.version)
        owned = ranker.rulebook.rules.owned is not None
        result = shoppers.compare(sample, question.request, package, owned=owned)
        is_changed = False
        if result.context is not None:
            answer = rank_as_then(ranker, sample, question._replace(context=result.context))
            is_changed = compare_answers(sample, answer) not in (EQUAL, ROUNDING)
        self.by_name[LOG].add(sample, result.reason, result.detail, is_changed=is_changed)
