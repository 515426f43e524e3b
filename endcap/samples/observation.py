"""A ranking as the process that answers hands it to the writer: references only, so that no answer waits."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import NamedTuple

from endcap.online.base import RecentEvent
from endcap.ranking import Answer, RankRequest, ShopperContext
from endcap.rules import Catalogue
from endcap.samples.sampled_request import EventSource, SampledRequest, write_request

LARGEST_REQUEST = 64 * 2**10
"""Characters of the request as JSON."""
MOST_ENTRIES = 2000
"""Entries of each list of a sample."""


class Observation(NamedTuple):
    """A ranking that was chosen.

    Attributes
    ----------
    ranking_id, number, version, variant, time, degraded
        As in `SampledRequest`.
    request
        The request that was ranked.
    context
        What the online store had said of the shopper.
    answer
        The answer.
    catalogue
        The catalogue whose rules held. None: the package's own rules.
    """

    ranking_id: str
    number: int
    version: str
    variant: str
    time: int
    request: RankRequest
    context: ShopperContext
    answer: Answer
    degraded: bool
    catalogue: Catalogue | None


def build_sample(
    observation: Observation, recommender: str, pseudonymise: Callable[[str], str], key_id: str
) -> SampledRequest | None:
    """Build the sample of an observation.

    Parameters
    ----------
    observation
        The ranking.
    recommender
        The recommender's name.
    pseudonymise
        Returns the pseudonym of an id of a customer or a session.
    key_id
        The id of its key.

    Returns
    -------
    SampledRequest or None
        The sample; None if it is larger than `LARGEST_REQUEST` and `MOST_ENTRIES` allow.
    """
    request, context, answer = observation.request, observation.context, observation.answer
    sizes = (request.items, request.events, request.candidates, request.exclude, context.owned, answer.ids)
    if any(map(_is_large, (*sizes, context.stored_list.items if context.stored_list else None))):
        return None
    text = write_request(request)
    if len(text) > LARGEST_REQUEST:
        return None
    source: EventSource = context.source if request.needs_stored_events else "request"
    events = context.events if request.needs_stored_events else ()
    return SampledRequest(
        ranking_id=observation.ranking_id,
        number=observation.number,
        recommender=recommender,
        version=observation.version,
        variant=observation.variant,
        time=observation.time,
        customer=None if request.customer is None else pseudonymise(request.customer),
        session=None if request.session is None else pseudonymise(request.session),
        request=text,
        # A store gives times for all events.
        events=[event for event in events if isinstance(event, RecentEvent)],
        events_source=source,
        owned=sorted(context.owned),
        stored_list=context.stored_list,
        is_known=context.is_known,
        store_unavailable=context.store_unavailable,
        catalogue="" if observation.catalogue is None else observation.catalogue.version,
        pseudonym_key=key_id,
        items=answer.ids,
        scores=answer.scores,
        unknown=answer.unknown,
        fallback=answer.reason,
        degraded=observation.degraded,
        precomputed=answer.precomputed,
        together=answer.together,
    )


def _is_large(entries: Sized | None) -> bool:
    return entries is not None and len(entries) > MOST_ENTRIES
