"""Samples of answers that rankers gave, as a predictor would have written them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from endcap.online.shopper_reader import StoredSource
from endcap.pseudonyms import Pseudonymiser
from endcap.ranking import Ranker, ShopperContext
from endcap.rules import Catalogue
from endcap.samples import SampledRequest
from endcap.samples.files import FileDescription, encode_file, get_day, name_file
from endcap.samples.observation import Observation, build_sample
from endcap.samples.places import open_place

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
    catalogue: Catalogue | None = None,
    sources: Sequence[StoredSource] | None = None,
) -> list[SampledRequest]:
    """Rank requests one by one, as a quiet predictor does, and return their samples."""
    samples = []
    for number, (instance, time) in enumerate(zip(requests, times, strict=True)):
        request = ranker.parse(dict(instance))
        context = NOBODY if contexts is None else contexts[number]
        (answer,) = ranker.rank([request], now=time, contexts=[context])
        if sources is not None:
            context = replace(context, source=sources[number])
        elif context.events:
            context = replace(context, source="customer")
        observation = Observation(
            ranking_id=f"{recommender}-{version}.{number}",
            number=0,
            version=version,
            variant="stable",
            time=time,
            request=request,
            context=context,
            answer=answer,
            degraded=context.store_unavailable,
            catalogue=catalogue,
        )
        sample = build_sample(observation, recommender, KEY.pseudonymise, KEY.key_id)
        assert sample is not None
        samples.append(sample)
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
