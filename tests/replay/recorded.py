"""Samples of answers that rankers gave, as a predictor would have written them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from endcap.pseudonyms import Pseudonymiser
from endcap.ranking import Ranker, ShopperContext
from endcap.samples import SampledRequest
from endcap.samples.files import FileDescription, encode_file, get_day, name_file
from endcap.samples.places import open_place
from endcap.samples.sampled_request import write_request

KEY = Pseudonymiser(b"a key of the tests only")
NOBODY = ShopperContext()


def record_answers(
    ranker: Ranker,
    requests: Sequence[Mapping[str, Any]],
    *,
    version: str,
    times: Sequence[int],
    contexts: Sequence[ShopperContext] | None = None,
    recommender: str = "home",
    catalogue: str = "",
    sources: Sequence[str] | None = None,
) -> list[SampledRequest]:
    """Rank requests one by one, as a quiet predictor does, and return their samples."""
    samples = []
    for number, (instance, time) in enumerate(zip(requests, times, strict=True)):
        request = ranker.parse(dict(instance))
        context = NOBODY if contexts is None else contexts[number]
        (answer,) = ranker.rank([request], now=time, contexts=[context])
        source = "request" if not request.needs_stored_events else "customer" if context.events else "none"
        samples.append(
            SampledRequest(
                ranking_id=f"{recommender}-{version}.{number}",
                number=0,
                recommender=recommender,
                version=version,
                variant="stable",
                time=time,
                customer=None if request.customer is None else KEY.pseudonymise(request.customer),
                session=None if request.session is None else KEY.pseudonymise(request.session),
                request=write_request(request),
                events=list(context.events),
                events_source=source if sources is None else sources[number],  # type: ignore[arg-type]
                owned=sorted(context.owned),
                stored_list=context.stored_list,
                is_known=context.is_known,
                store_unavailable=context.store_unavailable,
                catalogue=catalogue,
                pseudonym_key=KEY.key_id,
                items=answer.ids,
                scores=[None if score is None else float(np.float32(score)) for score in answer.scores],
                unknown=answer.unknown,
                fallback=answer.reason,
                degraded=context.store_unavailable,
                precomputed=answer.precomputed,
            )
        )
    return samples


def write_samples(address: str, samples: Sequence[SampledRequest], sequence: int = 0) -> None:
    """Write samples as files of one writer: one for each day."""
    for day in sorted({get_day(sample.time) for sample in samples}):
        some = [sample for sample in samples if get_day(sample.time) == day]
        name = name_file(some[0].recommender, day, "pod-1", sequence)
        open_place(address).write(name, encode_file(some, FileDescription("pod-1", sequence)))


def tamper(sample: SampledRequest) -> SampledRequest:
    """Return the sample with its first two items exchanged."""
    items = [sample.items[1], sample.items[0], *sample.items[2:]]
    return replace(sample, items=items)
