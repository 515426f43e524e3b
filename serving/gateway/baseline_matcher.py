"""Envoy's matcher that picks the shoppers of the baseline arm, before a route is chosen for all others.

Weighted clusters choose by one hash, whose salt is new in each rollout. The baseline's shoppers must stay the same, so
they are picked by a hash of their own: Envoy's `ConsistentHashing` input matcher on the shopper's header.
"""

from __future__ import annotations

from collections.abc import Sequence

from endcap.experiments.splits import BASELINE_SEED, TOTAL_WEIGHT
from endcap_serving.gateway.clusters import TYPE, Json
from endcap_serving.names import SHOPPER_HEADER

_HEADER_URL = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
_HASH_URL = f"{TYPE}.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing"
_LIST_URL = f"{TYPE}.config.route.v3.RouteList"


def build_baseline_matcher(paths: str, weight: int, routes: Sequence[Json]) -> Json:
    """Build the matcher of one recommender's baseline.

    Parameters
    ----------
    paths
        The pattern of the recommender's paths, without a query.
    weight
        The baseline's weight, of `TOTAL_WEIGHT`.
    routes
        The routes of a request that matches. One of them must match it too.

    Returns
    -------
    dict
        A ``FieldMatcher`` of xDS's ``Matcher``.
    """
    hashing = {
        "@type": _HASH_URL,
        "threshold": TOTAL_WEIGHT - weight,
        "modulo": TOTAL_WEIGHT,
        "seed": BASELINE_SEED,
    }
    predicates = [
        _match_header(":path", value_match=_match_pattern(rf"({paths})(\?.*)?")),
        # As the weighted route of the others has it: an empty header names no shopper.
        _match_header(SHOPPER_HEADER, value_match=_match_pattern(".+")),
        _match_header(SHOPPER_HEADER, custom_match={"name": "baseline", "typed_config": hashing}),
    ]
    return {"predicate": {"and_matcher": {"predicate": predicates}}, "on_match": _list_routes("baseline", routes)}


def choose_by_baseline(matchers: Sequence[Json], routes: Sequence[Json]) -> Json:
    """Return the field of a virtual host that asks the matchers first, and then has the usual routes."""
    return {"matcher": {"matcher_list": {"matchers": list(matchers)}, "on_no_match": _list_routes("usual", routes)}}


def _match_header(header: str, **match: Json) -> Json:
    source = {"name": header.strip(":"), "typed_config": {"@type": _HEADER_URL, "header_name": header}}
    return {"single_predicate": {"input": source, **match}}


def _match_pattern(pattern: str) -> Json:
    return {"safe_regex": {"google_re2": {}, "regex": pattern}}


def _list_routes(name: str, routes: Sequence[Json]) -> Json:
    return {"action": {"name": name, "typed_config": {"@type": _LIST_URL, "routes": list(routes)}}}
