"""The engine of a served model: its ranker, what the online store adds to a batch, and the batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from endcap.errors import OnlineStoreError
from endcap.experiments.ranking_token import ARM_NAMES, TokenArm, TokenSigner
from endcap.experiments.splits import TrafficSplit
from endcap.online import KeyFault, make_unreadable_error
from endcap.ranking import Answer, Ranker, RankRequest, ShopperContext
from endcap.registry.online_features import OnlineFeatures, answer_without_store, needs_store
from endcap.rules import Catalogue
from endcap_serving.json_log import make_log_fields
from endcap_serving.log_limiter import LogLimiter
from endcap_serving.predictor.admission import Admission
from endcap_serving.predictor.batcher import Batcher
from endcap_serving.predictor.metrics import Metrics
from endcap_serving.predictor.scopes import NOBODY

ONLINE_STORE = "online-store"
"""The name of the part that a degraded ranking was made without."""
ARM_OF: Mapping[str, TokenArm] = {name: name for name in ARM_NAMES}
"""Variants are named as arms are."""
log = logging.getLogger("endcap.predictor")


@dataclass(frozen=True)
class ServedVersion:
    """What a predictor serves.

    Parameters
    ----------
    name, version, variant
        The recommender, its version and its variant, as every answer says.
    mismatches
        By library, the version that made the package and the installed one, if they differ.
    scope_from
        Whose word about callers' scopes counts (scopes.py).
    signer
        Writes the ids of rankings. None: a signer without a key.
    """

    name: str
    version: str
    variant: str
    mismatches: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    scope_from: str = NOBODY
    signer: TokenSigner | None = None


class RankedAnswer(NamedTuple):
    """An answer, and what it depended on besides the request.

    Attributes
    ----------
    answer
        The answer.
    degraded
        Whether the online store did not give what the request needed.
    context
        What the online store said of the shopper.
    time
        The moment that counts as now: epoch milliseconds.
    catalogue
        The catalogue whose rules held. None: the package's own rules.
    """

    answer: Answer
    degraded: bool
    context: ShopperContext
    time: int
    catalogue: Catalogue | None


class UnreadableKeys:
    """Counts keys of the online store that hold other data than was written, and logs a line now and then."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log_limited = LogLimiter(
            log, logging.ERROR, "a key of the online store cannot be read; the ranking is made without it"
        )

    def __call__(self, where: str, key: str, fault: KeyFault) -> None:
        self._metrics.count_unreadable(fault)
        self._log_limited(**make_log_fields(make_unreadable_error(where, key, fault)))


class Engine:
    """Ranks for one recommender. `ranker` may be replaced at any time, and each batch is ranked by one ranker.

    Parameters
    ----------
    served
        What is served, for the answers.
    ranker
        The ranker.
    metrics
        The predictor's metrics.
    online_features
        What asks the online store; None if there is none.
    """

    def __init__(
        self, served: ServedVersion, ranker: Ranker, metrics: Metrics, online_features: OnlineFeatures | None = None
    ) -> None:

        self.served = served
        self.ranker = ranker
        self._own_rulebook = ranker.rulebook
        metrics.surfaces.add_known(ranker.rulebook.surfaces)
        self._metrics = metrics
        self._signer = served.signer or TokenSigner(served.name)
        self._online_features = online_features
        self._without_store = LogLimiter(log, logging.WARNING, "rankings are made without the online store")
        self.admission = Admission(ranker.serving.max_wait.total_seconds())
        self.batcher: Batcher[RankRequest, RankedAnswer] = Batcher(
            self._rank, self.admission, metrics, must_wait=self._must_wait
        )

    def rank(self, requests: Sequence[RankRequest]) -> asyncio.Future[list[RankedAnswer]]:
        """Have requests ranked on the event loop. The future gives one answer for each request, in order."""
        return self.batcher.submit(requests)

    def write_token(self, request_id: str, variant: str, shopper: str | None, split: str) -> str:
        """Write the token that the ids of a request's rankings begin with.

        Parameters
        ----------
        request_id
            The id of the HTTP request.
        variant
            The variant that answers.
        shopper
            Who is asked for; None if the request does not say. The token hashes the shopper as the intake stores
            shoppers.
        split
            The shares of the moment, as the gateway's header has them.
        """
        if shopper is not None and self.ranker.pseudonymiser is not None:
            shopper = self.ranker.pseudonymiser.pseudonymise(shopper)
        return self._signer.write(
            self.served.version,
            ARM_OF.get(variant, "none"),
            "model",
            split=TrafficSplit.from_text(split),
            shopper=shopper,
            time=time.time_ns() // 1_000_000,
            request=request_id,
        )

    def encode_answers(
        self, ranked: Sequence[RankedAnswer], surfaces: Sequence[str | None], request_id: str, variant: str, token: str
    ) -> list[bytes]:
        """Encode answers as JSON, each with its version, variant and ids.

        Parameters
        ----------
        ranked
            The answers of a call.
        surfaces
            Where each ranking is shown; None if the request does not say.
        request_id
            The id of the HTTP request.
        variant
            The variant that answers.
        token
            What the ids of the rankings begin with.
        """
        common = {"model_version": self.served.version, "variant": variant, "request_id": request_id}
        texts = []
        for number, (ranking, surface) in enumerate(zip(ranked, surfaces, strict=True)):
            extra: dict[str, object] = {**common, "ranking_id": format_ranking_id(token, number)}
            if surface is not None:
                extra["surface"] = surface
            if ranking.degraded:
                extra["degraded"] = [ONLINE_STORE]
            texts.append(ranking.answer.to_bytes(extra))
        return texts

    def _must_wait(self, request: RankRequest) -> bool:
        """Return whether a request needs the online store's answer."""
        return self._online_features is not None and needs_store(request, owned=_needs_owned(self.ranker))

    def _rank(self, requests: list[RankRequest]) -> list[RankedAnswer]:
        """Rank one batch, on the event loop, or on the ranking thread if a request needs the online store."""
        ranker = self.ranker
        owned = _needs_owned(ranker)
        ask = self._online_features.look_up if self._online_features is not None else answer_without_store
        contexts, degraded = ask(requests, owned=owned)
        now = time.time_ns() // 1_000_000
        answers = ranker.rank(requests, now=now, contexts=contexts)
        if self._online_features is not None and self._online_features.error and any(degraded):
            error = OnlineStoreError(self._online_features.error, code="predictor.without-online-store")
            self._without_store(**make_log_fields(error))
        if degraded_count := sum(degraded):
            self._metrics.count_degraded(ONLINE_STORE, degraded_count)
        self._metrics.count_rankings(answers)
        catalogue = None if ranker.rulebook is self._own_rulebook else ranker.rulebook.catalogue
        return list(map(RankedAnswer, answers, degraded, contexts, repeat(now), repeat(catalogue)))


def _needs_owned(ranker: Ranker) -> bool:
    """Return whether the shop's rules need to know what a customer owns."""
    return ranker.rulebook.rules.owned is not None


def format_ranking_id(token: str, number: int) -> str:
    return f"{token}.{number}"
