"""`replay`: compute sampled answers again, and count every difference under a reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from endcap.errors import NotFoundError
from endcap.pseudonyms import Pseudonymiser
from endcap.registry import Registry
from endcap.replay.past_rankers import PastRankers
from endcap.replay.recomputation import recompute
from endcap.replay.report import Check, ReplayReport
from endcap.samples import read_samples
from endcap.store import Store

MODEL = "model"
"""The check that ranks again by the recorded context, with the model and the rules of then."""
SAY_EVERY = 2.0
"""Seconds between two lines of progress."""


def replay(
    recommender: str,
    store: Store,
    registry: Registry,
    samples: str,
    since: datetime,
    until: datetime,
    *,
    pseudonymiser: Pseudonymiser | None = None,
    progress: Callable[[str], None] = lambda line: None,
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
    pseudonymiser
        Makes pseudonyms with the key of the samples. None: there is no key. Answers then cannot be computed again if
        their model knows customers.
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
        The samples or the store cannot be read.
    """
    started = reported = time.monotonic()
    rankers = PastRankers(recommender, registry, store, samples, pseudonymiser)
    model, versions = Check(), Counter[str]()
    for sample, outcome, detail in recompute(read_samples(samples, recommender, since, until), rankers):
        model.add(sample, outcome, detail)
        versions[sample.version] += 1
        if time.monotonic() - reported > SAY_EVERY:
            reported = time.monotonic()
            progress(f"{versions.total():,} answers are computed again")
    if not versions:
        raise NotFoundError(
            f"{samples}: no request of {recommender} was sampled from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} "
            "(UTC). Set serving.samples in its spec, or name another place by --samples or another time by --since",
            code="replay.no-samples",
            recommender=recommender,
            samples=samples,
            since=since.isoformat(),
            until=until.isoformat(),
        )
    seconds = time.monotonic() - started
    return ReplayReport(
        recommender, since, until, versions.total(), versions, {MODEL: model}, datetime.now(UTC), seconds
    )
