"""What Envoy is told again and again: who gets which predictor, and what becomes of a request that fails.

Plain functions from values to Envoy's v3 API as JSON, the same on a laptop (files that Envoy watches) and in a cluster
(the xDS service that Envoy polls). Where predictors are is in clusters.py, what never changes while a gateway runs in
bootstrap.py.

A ranking changes nothing, so asking twice is safe whatever became of the first try: at worst a ranking that nobody saw
is in a predictor's log, under the same ranking id, and only impressions count. What the intake takes is written down,
so it is sent again only where nothing of it was sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from endcap.deploy.gateway_settings import DEFAULT_SETTINGS, GatewaySettings
from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.cross_origin import build_other_hosts, build_refusal, build_refusal_routes
from endcap_serving.gateway.access.filters import NEVER_ON, enable_filters
from endcap_serving.gateway.access.script import FILTER
from endcap_serving.gateway.clusters import (
    TYPE,
    Json,
    Upstream,
    bound_connect_timeout,
    build_clusters,
    name_with_fallback,
)
from endcap_serving.gateway.unknown_paths import build_unknown_path_route
from endcap_serving.names import FALLBACK, ROUTES, SCOPE_HEADER, SHOPPER_HEADER, VARIANT_HEADER, VARIANTS

__all__ = [
    "ROUTES",
    "SHOPPER_HEADER",
    "TOTAL_WEIGHT",
    "TYPE",
    "VARIANTS",
    "VARIANT_HEADER",
    "GatewaySettings",
    "Json",
    "Split",
    "Upstream",
    "build_clusters",
    "build_response",
    "build_routes",
    "derive_connect_timeout",
    "list_upstreams",
]  # fmt: skip

TOTAL_WEIGHT = 10_000
"""Shares are kept to a hundredth of a percent."""
ROUTES_URL = f"{TYPE}.config.route.v3.RouteConfiguration"
_MOST_TRIES = 2
"""With predictors, where a name stands for several of them."""
_FOR_THE_LIST = 0.1
"""Of a request's time: what is left for the list server when the predictors have used theirs."""
_HEDGE = 0.75
"""Of a request's time: without a list the first predictor may use all of it, and another is asked as well by then."""
_USUAL_ACCESS = Access()
_INTAKE_TIMEOUT = 10.0
"""Seconds: an event is acknowledged when it is on the disk, which may be a slow one."""


@dataclass(frozen=True)
class Split:
    """Who answers: `canary`, if any, answers `share` (0 to 1) of the shoppers, chosen by their hash with `salt`.

    Without `stable` the canary answers everyone if that is its share; otherwise nobody answers but the list, because a
    version that is still on trial is not given more than its share. `shadow`, if any, is sent copies of `shadow_share`
    of the requests, drawn by chance, and nobody sees its answers.
    """

    stable: Upstream | None
    canary: Upstream | None = None
    share: float = 0.0
    salt: str = ""
    shadow: Upstream | None = None
    shadow_share: float = 0.0
    terms: GatewaySettings = DEFAULT_SETTINGS

    @property
    def weight(self) -> int:
        """Of `TOTAL_WEIGHT`: what the canary gets."""
        return round(self.share * TOTAL_WEIGHT) if self.canary else 0

    @property
    def copied(self) -> int:
        """Of `TOTAL_WEIGHT`: what the shadow gets."""
        return round(self.shadow_share * TOTAL_WEIGHT) if self.shadow else 0

    @property
    def upstreams(self) -> list[Upstream]:
        return [version_upstream for version_upstream in (self.stable, self.canary, self.shadow) if version_upstream]


def list_upstreams(splits: Iterable[Split]) -> list[Upstream]:
    """All that splits name, each once, in their order."""
    return list(dict.fromkeys(version_upstream for split in splits for version_upstream in split.upstreams))


def build_routes(
    splits: Mapping[str, Split], intake: Upstream | None = None, access: Access = _USUAL_ACCESS
) -> list[Json]:
    """The resource that shares shoppers out, by recommender, and sends what happened to the intake, if there is one.

    Who sends the header is shared out by its hash, who does not gets stable. A recommender has the paths of KServe's
    V1 and V2 protocols that are its own, and with its name in front all of them. Where there is no other
    recommender, it has all of them without its name too. access: who may do what; with keys or tokens the filters of
    access/filters.py decide by what a route says that it needs, otherwise all may do the same.
    """
    own = [route for name, split in splits.items() for route in _recommender(name, split, alone=len(splits) == 1)]
    guarded = [_needs(route, "rank", access, recommender=route["name"]) for route in own]
    events = [_needs(_intake(intake), "events", access)] if intake else []
    # Who may not ask is not told whom one could ask.
    nothing = build_unknown_path_route(
        sorted(splits), intake=intake is not None, names_recommenders="rank" in access.policy.anonymous
    )
    host = {
        "name": "endcap",
        "domains": list(dict.fromkeys(access.hosts)) or ["*"],
        "routes": [*build_refusal_routes(access), *events, *guarded, nothing],
        "typed_per_filter_config": enable_filters(access),
        "request_headers_to_remove": list(NEVER_ON),
    }
    if not access.policy.asks:
        host["request_headers_to_add"] = [_header(SCOPE_HEADER, ",".join(access.policy.anonymous))]
    resource = {
        "@type": ROUTES_URL,
        "name": ROUTES,
        "virtual_hosts": [host, *([build_other_hosts(access)] if access.hosts else [])],
        "ignore_port_in_host_matching": True,
        # A route may name a cluster that Envoy has not warmed yet; whoever writes both takes care of their order.
        "validate_clusters": False,
    }
    return [resource]


def build_response(resources: list[Json], version: str) -> Json:
    """A discovery response: the whole of one kind of resource."""
    return {"version_info": version, "resources": resources}


def _needs(route: Json, scope: str, access: Access, **metadata: str) -> Json:
    """The route for who has the scope; where nobody has keys and it is not everyone's, one that refuses."""
    if access.policy.asks:
        return {**route, "metadata": {"filter_metadata": {FILTER: {"needs": scope, **metadata}}}}
    if scope in access.policy.anonymous:
        return route
    text = f"this needs the scope {scope}, which nobody has here; write an access policy with keys (docs/access.md)"
    refused = build_refusal(403, text, code="gateway.scope-missing", fields={"needs": scope, **metadata})
    return {"name": route["name"], "match": route["match"], **refused}


def _intake(intake: Upstream) -> Json:
    action = {
        "cluster": intake.name,
        "timeout": _seconds(_INTAKE_TIMEOUT),
        "retry_policy": {**_ANOTHER, "retry_on": "connect-failure,refused-stream", "num_retries": 2},
        "hash_policy": [
            {"header": {"header_name": SHOPPER_HEADER}, "terminal": True},
            {"connection_properties": {"source_ip": True}},
        ],
        **_host(intake),
    }
    match = {"safe_regex": {"regex": "/v1/(events|impressions|orders)"}}
    return {"name": intake.name, "match": match, "route": action}


def _recommender(name: str, split: Split, *, alone: bool) -> list[Json]:
    """Routes of one recommender; `alone`: the paths that name no recommender are its too."""
    own = f"(/{name})?/(v1/models/{name}(:predict)?|v2/models/{name}(/.*)?)"
    common = f"(/{name}){'?' if alone else ''}/(v1/models|v2/models|v2/health/(live|ready))"
    match = {"safe_regex": {"regex": f"{own}|{common}"}}
    rewrite = {"regex_rewrite": {"pattern": {"regex": f"^/{name}(/v[12]/.*)$"}, "substitution": r"\1"}}
    everyone, variant = (split.stable, "stable") if split.stable else (split.canary, "canary")
    if everyone is None or (split.stable is None and split.weight < TOTAL_WEIGHT):
        if split.terms.offers_list:
            listed = {**rewrite, "cluster": FALLBACK, "timeout": _seconds(split.terms.timeout)}
            return [{"name": name, "match": match, "route": listed}]
        return [{"name": name, "match": match, "direct_response": _answer(503, f"no predictor of {name} is ready")}]
    action = {**_patience(split), **rewrite, **_copies(split)}
    route = {"name": name, "match": match, "route": action}
    by_hash = [_weighted(route, split.stable, split.canary, split)] if split.stable and split.canary else []
    target = {"cluster": _target(everyone, split), **_host(everyone)}
    rest = {**route, "route": {**action, **target}, **_names(variant)}
    return [*(by_hash if split.weight else []), rest]


def _weighted(route: Json, stable: Upstream, canary: Upstream, split: Split) -> Json:
    """The route for the shoppers who can be told apart: `weight` of `TOTAL_WEIGHT` hashes meet the canary.

    Envoy lays the weighted clusters side by side on 0 … 9,999 and picks the one that the header's hash, modulo 10,000,
    falls into. With the canary first, a larger share keeps every shopper of the smaller one. The salt goes in front of
    the header before it is hashed, so that each rollout meets other shoppers.
    """
    weighted = [
        {"name": _target(canary, split), "weight": split.weight, **_names("canary"), **_host(canary)},
        {"name": _target(stable, split), "weight": TOTAL_WEIGHT - split.weight, **_names("stable"), **_host(stable)},
    ]
    salted = {
        "header": {
            "header_name": SHOPPER_HEADER,
            "regex_rewrite": {
                "pattern": {"regex": "^(.*)$"},
                "substitution": rf"{re.sub('[^0-9A-Za-z]', '-', split.salt)}/\1",
            },
        }
    }
    header = {"name": SHOPPER_HEADER, "string_match": {"safe_regex": {"regex": ".+"}}}
    return {
        **route,
        "match": {**route["match"], "headers": [header]},
        "route": {
            **route["route"],
            "weighted_clusters": {"clusters": weighted, "use_hash_policy": True},
            "hash_policy": [salted],
        },
    }


def _target(upstream: Upstream, split: Split) -> str:
    return name_with_fallback(upstream) if split.terms.offers_list else upstream.name


def derive_connect_timeout(timeout: float) -> float:
    """Seconds that a connection to a predictor gets where a request has `timeout`: the same with and without a list."""
    return bound_connect_timeout(timeout * (1 - _FOR_THE_LIST) / _MOST_TRIES)


def _patience(split: Split) -> Json:
    """How long, and what follows a try that fails: one more with another predictor, where there may be one; the list.

    A request's time is for all of it. Where a list waits at the end the tries before it share most of the time;
    otherwise the first may use it all, and where there is another predictor, that one is asked as well when most of it
    is over: the first answer is taken. Without another predictor and without a list only a broken connection is
    followed by another.
    """
    timeout, listed = split.terms.timeout, split.terms.offers_list
    tries = (
        _MOST_TRIES
        if any(version_upstream.many for version_upstream in (split.stable, split.canary) if version_upstream)
        else 1
    )
    policy: Json = {**_ANOTHER, "retry_on": "connect-failure,refused-stream,reset", "num_retries": 1}
    hedge: Json = {}
    if tries > 1 or listed:
        # Of answers 502, 503 (it has too much to do, or is about to end) and 504.
        policy["retry_on"] += ",gateway-error"
        policy["num_retries"] = tries - 1 + listed
    if listed:
        policy["per_try_timeout"] = _seconds(timeout * (1 - _FOR_THE_LIST) / tries)
        policy["retry_priority"] = _next_cluster(after=tries)
    elif tries > 1:
        policy["per_try_timeout"] = _seconds(timeout * _HEDGE)
        hedge = {"hedge_policy": {"hedge_on_per_try_timeout": True}}
    return {"timeout": _seconds(timeout), "retry_policy": policy, **hedge}


def _copies(split: Split) -> Json:
    if not split.shadow or not split.copied:
        return {}
    share = {"numerator": split.copied, "denominator": "TEN_THOUSAND"}
    mirror = {
        "cluster": split.shadow.name,
        "runtime_fraction": {"default_value": share},
        "disable_shadow_host_suffix_append": True,
        "request_headers_mutations": [{"append": _header(VARIANT_HEADER, "shadow")}],
        # Otherwise the one of who answers.
        **_host(split.shadow),
        # Its span would look like a part of the shopper's request.
        "trace_sampled": False,
    }
    return {"request_mirror_policies": [mirror]}


def _next_cluster(after: int) -> Json:
    """After so many tries with the predictors, what comes behind them in their cluster."""
    kind = f"{TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    config = {"@type": kind, "update_frequency": after}
    return {"name": "envoy.retry_priorities.previous_priorities", "typed_config": config}


_ANOTHER: Json = {
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": f"{TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        }
    ],
    # Each is a draw; when all have met the one that failed, it is asked again. Of two, that is one in a million.
    "host_selection_retry_max_attempts": 20,
    "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.050s"},
}


def _host(upstream: Upstream) -> Json:
    return {"host_rewrite_literal": upstream.host_header} if upstream.host_header else {}


def _answer(status: int, error: str) -> Json:
    return {"status": status, "body": {"inline_string": error}}


def _names(variant: str) -> Json:
    # The predictor is told as well: a canary that is promoted becomes the stable one without a restart. The list server
    # says itself what its answer is.
    response_header = _header(VARIANT_HEADER, variant, "ADD_IF_ABSENT")
    return {"request_headers_to_add": [_header(VARIANT_HEADER, variant)], "response_headers_to_add": [response_header]}


def _header(key: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Json:
    return {"header": {"key": key, "value": value}, "append_action": action}


def _seconds(count: float) -> str:
    return f"{count:.3f}s"
