"""From InferenceServices to who is sent where: what they say of their variants, as the gateway's upstreams."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from endcap.deploy.variants import Variant, Variants, read_variants

from .gateway import Split, Upstream

log = logging.getLogger("endcap.xds")


def splits_of(services: Iterable[Mapping[str, Any]], before: Mapping[str, Split]) -> dict[str, Split]:
    """Who answers each recommender's shoppers, in the order of their names. before: who did until now.

    One that says nothing that can be read keeps what it had: it must not end the others.
    """
    found: dict[str, Split] = {}
    for service in services:
        name = service["metadata"]["name"]
        try:
            if variants := read_variants(service):
                found[name] = split_of(variants, before.get(name))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.error("an InferenceService cannot be read", extra={"recommender": name, "error": repr(error)})
            found |= {name: before[name]} if name in before else {}
    return dict(sorted(found.items()))


def split_of(variants: Variants, before: Split | None) -> Split:
    """A canary that is not ready gets nobody; where nobody is said to be reached, stable goes on as before."""
    stable = _upstream(variants.recommender, variants.stable)
    ready = variants.canary if variants.canary and variants.canary.ready else None
    canary = _upstream(variants.recommender, ready)
    if stable is None and canary is None and before is not None:
        return Split(before.stable, salt=variants.salt, terms=variants.terms)
    # In Knative mode the stable version has no address any more once the canary has everything.
    share = 1.0 if stable is None and canary else variants.share
    return Split(stable, canary, share if canary else 0.0, variants.salt, terms=variants.terms)


def _upstream(recommender: str, variant: Variant | None) -> Upstream | None:
    if variant is None:
        return None
    there = variant.address
    # The name says it all, so that another address is another cluster.
    name = f"{recommender}/{there.host}:{there.port}"
    if there.authority not in ("", there.host):
        name += f"/{there.authority}"
    return Upstream(name, there.port, there.host, there.authority)
