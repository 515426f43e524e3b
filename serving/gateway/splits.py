"""From InferenceServices to who is sent where: what they say of their variants, as the gateway's upstreams."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from endcap.deploy.variants import Shadow, Variant, Variants, read_shadow, read_variants
from endcap.errors import EndcapError
from endcap_serving.gateway.clusters import CONNECT
from endcap_serving.gateway.routes import Split, Upstream, derive_connect_timeout
from endcap_serving.json_log import log_fields_of

log = logging.getLogger("endcap.xds")


def read_splits(
    services: Iterable[Mapping[str, Any]], before: Mapping[str, Split], *, tls: bool = False
) -> dict[str, Split]:
    """Who answers each recommender's shoppers, in the order of their names. before: who did until now.

    One that says nothing that can be read keeps what it had: it must not end the others. So does one whose predictors
    speak TLS, where the gateway has no certificates (tls).
    """
    splits: dict[str, Split] = {}
    shadows: list[Shadow] = []
    for service in services:
        name = service["metadata"]["name"]
        try:
            if shadow := read_shadow(service):
                shadows.append(shadow)
            elif variants := read_variants(service):
                splits[name] = build_split(variants, before.get(name))
            _check_tls(name, splits.get(name), tls)
        except _NoCertificatesError as error:
            log.error("an InferenceService cannot be reached", extra=log_fields_of(error))
            splits = _kept(splits, name, before)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            own = EndcapError(repr(error), code="gateway.service-unreadable", recommender=name)
            log.error("an InferenceService cannot be read", extra=log_fields_of(own))
            splits = _kept(splits, name, before)
    for shadow in shadows:
        name = shadow.recommender
        if name in splits and shadow.variant.ready and shadow.share > 0 and (tls or not shadow.variant.address.tls):
            upstream = replace(_upstream(name, shadow.variant, CONNECT), kind="shadow")
            splits[name] = replace(splits[name], shadow=upstream, shadow_share=shadow.share)
    return dict(sorted(splits.items()))


class _NoCertificatesError(EndcapError):
    """Predictors speak TLS, and the gateway has nothing to know them by."""


def _check_tls(name: str, split: Split | None, tls: bool) -> None:
    if split is not None and not tls and any(upstream.tls for upstream in split.upstreams):
        raise _NoCertificatesError(
            f"the predictors of {name} speak TLS, and the gateway has no certificates: set the chart's tls.predictors",
            code="gateway.no-certificates",
            recommender=name,
        )


def _kept(splits: dict[str, Split], name: str, before: Mapping[str, Split]) -> dict[str, Split]:
    kept_splits = {other: split for other, split in splits.items() if other != name}
    return {**kept_splits, name: remove_shadow(before[name])} if name in before else kept_splits


def remove_shadow(split: Split) -> Split:
    """The same, with copies to nobody."""
    return replace(split, shadow=None, shadow_share=0.0)


def build_split(variants: Variants, before: Split | None) -> Split:
    """A canary that is not ready gets nobody; where nobody is said to be reached, stable goes on as before."""
    connect = derive_connect_timeout(variants.terms.timeout)
    stable = _upstream(variants.recommender, variants.stable, connect) if variants.stable else None
    ready = variants.canary if variants.canary and variants.canary.ready else None
    canary = _upstream(variants.recommender, ready, connect) if ready else None
    if stable is None and canary is None and before is not None:
        return Split(before.stable, salt=variants.salt, terms=variants.terms)
    # In Knative mode the stable version has no address any more once the canary has everything.
    share = 1.0 if stable is None and canary else variants.share
    return Split(stable, canary, share if canary else 0.0, variants.salt, terms=variants.terms)


def _upstream(recommender: str, variant: Variant, connect: float) -> Upstream:
    address = variant.address
    # The name says it all, so that another address is another cluster, as is less time for a connection.
    name = f"{recommender}/{address.host}:{address.port}"
    if address.authority not in ("", address.host):
        name += f"/{address.authority}"
    if address.tls:
        name += "/tls"
    if connect != CONNECT:
        name += f"/{1000 * connect:.0f}ms"
    return Upstream(name, address.port, address.host, address.authority, tls=address.tls, connect=connect)
