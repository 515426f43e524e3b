"""Read InferenceServices into splits: which predictors answer each recommender's shoppers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from endcap.deploy.variants import SideVariant, Variant, Variants, read_side_variant, read_variants
from endcap.errors import EndcapError
from endcap.experiments.splits import CHALLENGERS
from endcap_serving.gateway.clusters import CONNECT_TIMEOUT
from endcap_serving.gateway.routes import Split, Upstream, derive_connect_timeout
from endcap_serving.json_log import make_log_fields

log = logging.getLogger("endcap.xds")


def read_splits(
    services: Iterable[Mapping[str, Any]], before: Mapping[str, Split], *, tls: bool = False
) -> dict[str, Split]:
    """Read the split of each recommender.

    Parameters
    ----------
    services
        The InferenceServices of a namespace, those of shadows and arms among them.
    before
        The splits until now.
    tls
        Whether the gateway has certificates for predictors that speak TLS.

    Returns
    -------
    dict
        The splits by recommender, sorted by name.

    Notes
    -----
    A recommender keeps the split that it had if its service cannot be read, or if its predictors speak TLS and the
    gateway has no certificates. It must not stop the others. The log says so.
    """
    splits: dict[str, Split] = {}
    sides: list[SideVariant] = []
    read: dict[str, Variants] = {}
    for service in services:
        name = service["metadata"]["name"]
        try:
            if side := read_side_variant(service):
                sides.append(side)
            elif variants := read_variants(service):
                splits[name] = build_split(variants, before.get(name))
                read[name] = variants
            _check_tls(name, splits.get(name), tls)
        except _NoCertificatesError as error:
            log.error("an InferenceService cannot be reached; its split stays", extra=make_log_fields(error))
            splits = _keep_split(splits, name, before)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            unreadable = EndcapError(repr(error), code="gateway.service-unreadable", recommender=name)
            log.error("an InferenceService cannot be read; its split stays", extra=make_log_fields(unreadable))
            splits = _keep_split(splits, name, before)
    for side in sides:
        if side.recommender in splits and side.variant.ready and (tls or not side.variant.address.tls):
            splits[side.recommender] = _add_side(splits[side.recommender], side, read.get(side.recommender))
    for name in read.keys() & splits.keys():
        if read[name].popularity_only:
            splits[name] = _switch_to_popularity(name, splits[name])
        elif _serves_withdrawn(read[name]):
            splits[name] = _lead_away(splits[name])
    return dict(sorted(splits.items()))


def _serves_withdrawn(variants: Variants) -> bool:
    """Tell whether the stable predictors are those of a version that was taken back."""
    return variants.stable is not None and variants.stable.version == variants.withdrawn


def _lead_away(split: Split) -> Split:
    """Have nobody meet the stable predictors, whose version was taken back, unless nothing else can answer.

    The previous version is the one that comes back. Without its predictors popularity answers.
    """
    if split.previous is not None:
        return replace(split, stable=split.previous, previous=None, previous_share=0.0)
    if split.baseline is not None or split.terms.offers_list:
        return replace(split, popularity_only=True)
    return split


def _switch_to_popularity(name: str, split: Split) -> Split:
    """Have popularity answer everyone. While neither its predictors are ready nor a list is there, nothing changes."""
    if split.baseline is None and not split.terms.offers_list:
        error = EndcapError(
            f"popularity is to answer everyone of {name}, and has neither predictors that are ready nor a list, so the "
            "versions go on until it has",
            code="gateway.no-popularity",
            recommender=name,
        )
        log.error("the kill switch waits", extra=make_log_fields(error))
        return split
    return replace(split, popularity_only=True)


def _add_side(split: Split, side: SideVariant, variants: Variants | None) -> Split:
    """Add a shadow, or an arm that has an InferenceService of its own. variants: None if they could not be read."""
    if variants is None or side.variant.version == variants.withdrawn:
        return split
    if variants.stable is not None and side.variant.version == variants.stable.version:
        # It stood in for the version that is back, and is about to end.
        return split
    is_everyones = variants.popularity_only and side.role == "baseline"
    if side.share <= 0 and not is_everyones:
        return split
    if side.role == "shadow":
        upstream = make_upstream(side.recommender, side.variant, CONNECT_TIMEOUT)
        return replace(split, shadow=replace(upstream, kind="shadow"), shadow_share=side.share)
    if split.stable is None and not is_everyones:
        # Nobody is there to compare it with, or the canary has everyone.
        return split
    connect = derive_connect_timeout(split.terms.timeout)
    if side.role in CHALLENGERS:
        place, challengers = CHALLENGERS.index(side.role), [*split.challengers, *[None] * len(CHALLENGERS)]
        challengers[place] = make_upstream(side.recommender, side.variant, connect)
        return replace(split, challengers=tuple(challengers[: max(len(split.challengers), place + 1)]))
    arm: dict[str, Any] = {
        side.role: make_upstream(side.recommender, side.variant, connect),
        f"{side.role}_share": side.share,
    }
    with_arm = replace(split, **arm)
    # Each object is read as it is at the moment, so shares that were written together may not fit together yet.
    return with_arm if with_arm.share + with_arm.previous_share <= 1 else split


class _NoCertificatesError(EndcapError):
    """Predictors speak TLS, but the gateway has no certificates to check them by."""


def _check_tls(name: str, split: Split | None, tls: bool) -> None:
    """Raise _NoCertificatesError if the gateway cannot speak TLS with the predictors of a split."""
    if split is not None and not tls and any(upstream.tls for upstream in split.upstreams):
        raise _NoCertificatesError(
            f"the predictors of {name} speak TLS, but the gateway has no certificates; set the chart's tls.predictors",
            code="gateway.no-certificates",
            recommender=name,
        )


def _keep_split(splits: dict[str, Split], name: str, before: Mapping[str, Split]) -> dict[str, Split]:
    """Give a recommender the split that it had, without what has an InferenceService of its own."""
    other_splits = {other: split for other, split in splits.items() if other != name}
    return {**other_splits, name: remove_sides(before[name])} if name in before else other_splits


def remove_sides(split: Split) -> Split:
    """Return the split without shadow, previous version and baseline: no request is copied, and no arm is beside.

    A kill switch that is thrown stays, with what answers for it.
    """
    bare = Split(split.stable, split.canary, split.share, split.salt, terms=split.terms)
    return replace(bare, baseline=split.baseline, popularity_only=True) if split.popularity_only else bare


def build_split(variants: Variants, before: Split | None) -> Split:
    """Make a recommender's split from the variants that its InferenceService names.

    Parameters
    ----------
    variants
        The stable version, the canary and its share. Either version may have no address.
    before
        The split until now; None: there was none.

    Returns
    -------
    Split
        A canary that is not ready gets no shoppers. If neither version has an address, the stable one of `before` goes
        on.
    """
    connect = derive_connect_timeout(variants.terms.timeout)
    stable = make_upstream(variants.recommender, variants.stable, connect) if variants.stable else None
    ready = variants.canary if variants.canary and variants.canary.ready else None
    canary = make_upstream(variants.recommender, ready, connect) if ready else None
    if stable is None and canary is None and before is not None:
        return Split(before.stable, salt=variants.salt, terms=variants.terms)
    # In Knative mode the stable version loses its address as soon as the canary gets all shoppers.
    share = 1.0 if stable is None and canary else variants.share
    layout = variants.layout if stable else None
    return Split(stable, canary, share if canary else 0.0, variants.salt, terms=variants.terms, layout=layout)


def make_upstream(recommender: str, variant: Variant, connect: float) -> Upstream:
    """Make the upstream of a variant. connect: seconds that a connection may take."""
    address = variant.address
    # The name holds every value, so that another address or another connection timeout makes another cluster.
    name = f"{recommender}/{address.host}:{address.port}"
    if address.authority not in ("", address.host):
        name += f"/{address.authority}"
    if address.tls:
        name += "/tls"
    if connect != CONNECT_TIMEOUT:
        name += f"/{1000 * connect:.0f}ms"
    return Upstream(name, address.port, address.host, address.authority, tls=address.tls, connect=connect)
