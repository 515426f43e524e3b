"""What Envoy is told again and again: where the predictors are, and who gets which.

Plain functions from values to Envoy's v3 API as JSON, the same on a laptop (files that Envoy watches) and in a cluster
(the xDS service that Envoy polls). What never changes while a gateway runs is in bootstrap.py.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

SHOPPER_HEADER = "x-endcap-shopper"
VARIANT_HEADER = "x-endcap-variant"
VARIANTS = ("stable", "canary")
ROUTES = "routes"
TOTAL_WEIGHT = 10_000
"""Shares are kept to a hundredth of a percent."""
TYPE = "type.googleapis.com/envoy"
CLUSTERS_URL = f"{TYPE}.config.cluster.v3.Cluster"
ROUTES_URL = f"{TYPE}.config.route.v3.RouteConfiguration"
_KEEPALIVE = "50s"  # Below the predictor's own 65 s, so that a connection is never used just as its far end closes it.


@dataclass(frozen=True)
class Upstream:
    """The predictors of one version: the name of their cluster, and where they are.

    A name stands for one address in the life of a gateway, so that a cluster is never changed under its requests.
    `host` is an IP address or a DNS name; `host_header`, if any, is sent instead of the caller's.
    """

    name: str
    port: int
    host: str = "127.0.0.1"
    host_header: str = ""


@dataclass(frozen=True)
class Split:
    """Who answers: `canary`, if any, answers `share` (0 to 1) of the shoppers, chosen by their hash with `salt`.

    Without `stable` the canary answers everyone if that is its share; otherwise everyone is answered 503, because a
    version that is still on trial is not given more than its share.
    """

    stable: Upstream | None
    canary: Upstream | None = None
    share: float = 0.0
    salt: str = ""

    @property
    def weight(self) -> int:
        """Of `TOTAL_WEIGHT`: what the canary gets."""
        return round(self.share * TOTAL_WEIGHT) if self.canary else 0


def upstreams(splits: Iterable[Split]) -> list[Upstream]:
    """All that splits name, each once, in their order."""
    return list(dict.fromkeys(one for split in splits for one in (split.stable, split.canary) if one))


def clusters(named: Iterable[Upstream]) -> list[Json]:
    """The resources that say where predictors are."""
    return [_cluster(upstream) for upstream in named]


def routes(splits: Mapping[str, Split]) -> list[Json]:
    """The resource that shares shoppers out, by recommender.

    Who sends the header is shared out by its hash, who does not gets stable. A recommender has the paths of KServe's
    V1 and V2 protocols that are its own, and with its name in front all of them. Where there is no other
    recommender, it has all of them without its name too.
    """
    own = [route for name, split in splits.items() for route in _recommender(name, split, alone=len(splits) == 1)]
    nothing = {
        "name": "nothing",
        "match": {"prefix": "/"},
        "direct_response": _answer(404, "nothing here; POST to /v1/models/<name>:predict"),
    }
    resource = {
        "@type": ROUTES_URL,
        "name": ROUTES,
        "virtual_hosts": [{"name": "endcap", "domains": ["*"], "routes": [*own, nothing]}],
        # A route may name a cluster that Envoy has not warmed yet; whoever writes both takes care of their order.
        "validate_clusters": False,
    }
    return [resource]


def response(resources: list[Json], version: str) -> Json:
    """A discovery response: the whole of one kind of resource."""
    return {"version_info": version, "resources": resources}


def address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def http_options() -> Json:
    """What a cluster says of its protocol."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": f"type.googleapis.com/{name}",
        "common_http_protocol_options": {"idle_timeout": _KEEPALIVE},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {name: options}


def _cluster(upstream: Upstream) -> Json:
    return {
        "@type": CLUSTERS_URL,
        "name": upstream.name,
        **_discovery(upstream.host),
        "connect_timeout": "2s",
        # Of several predictors the one with the fewest requests under way: one ranking may take many times another.
        "lb_policy": "LEAST_REQUEST",
        "outlier_detection": _OUTLIERS,
        "typed_extension_protocol_options": http_options(),
        "load_assignment": {
            "cluster_name": upstream.name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream.host, upstream.port)}}]}],
        },
    }


# A predictor that cannot be reached, or whose pod's proxy says so, is passed over for 5 s, then 10 s, …; never more
# than half of them, so never the only one. Answers of 500 are not held against it: they are the same from all.
_OUTLIERS = {
    "interval": "1s",
    "base_ejection_time": "5s",
    "max_ejection_time": "60s",
    "max_ejection_percent": 50,
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 3,
    "consecutive_gateway_failure": 5,
    "enforcing_consecutive_gateway_failure": 100,
    "enforcing_consecutive_5xx": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
}


def _discovery(host: str) -> Json:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # A Service without an address of its own (KServe's, in Standard mode) has one for each pod, which come and go.
        return {"type": "STRICT_DNS", "dns_lookup_family": "ALL", "dns_refresh_rate": "2s"}
    return {"type": "STATIC"}


def _recommender(name: str, split: Split, *, alone: bool) -> list[Json]:
    """Routes of one recommender; `alone`: the paths that name no recommender are its too."""
    own = f"(/{name})?/(v1/models/{name}(:predict)?|v2/models/{name}(/.*)?)"
    common = f"(/{name}){'?' if alone else ''}/(v1/models|v2/models|v2/health/(live|ready))"
    match = {"safe_regex": {"regex": f"{own}|{common}"}}
    everyone, variant = (split.stable, "stable") if split.stable else (split.canary, "canary")
    if everyone is None or (split.stable is None and split.weight < TOTAL_WEIGHT):
        return [{"name": name, "match": match, "direct_response": _answer(503, f"no predictor of {name} is ready")}]
    action = {
        "timeout": "30s",
        # Nothing has been sent where connecting fails, so that another try cannot rank twice; elsewhere, where it can.
        "retry_policy": {
            "retry_on": "connect-failure",
            "num_retries": 1,
            "retry_host_predicate": [_previous_hosts()],
            "host_selection_retry_max_attempts": 3,
        },
        "regex_rewrite": {"pattern": {"regex": f"^/{name}(/v[12]/.*)$"}, "substitution": r"\1"},
    }
    route = {"name": name, "match": match, "route": action}
    by_hash = [_weighted(route, split.stable, split.canary, split)] if split.stable and split.canary else []
    rest = {**route, "route": {**action, "cluster": everyone.name, **_host(everyone)}, **_names(variant)}
    return [*(by_hash if split.weight else []), rest]


def _weighted(route: Json, stable: Upstream, canary: Upstream, split: Split) -> Json:
    """The route for the shoppers who can be told apart: `weight` of `TOTAL_WEIGHT` hashes meet the canary.

    Envoy lays the weighted clusters side by side on 0 … 9,999 and picks the one that the header's hash, modulo 10,000,
    falls into. With the canary first, a larger share keeps every shopper of the smaller one. The salt goes in front of
    the header before it is hashed, so that each rollout meets other shoppers.
    """
    weighted = [
        {"name": canary.name, "weight": split.weight, **_names("canary"), **_host(canary)},
        {"name": stable.name, "weight": TOTAL_WEIGHT - split.weight, **_names("stable"), **_host(stable)},
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


def _previous_hosts() -> Json:
    name = "envoy.retry_host_predicates.previous_hosts"
    return {
        "name": name,
        "typed_config": {"@type": f"{TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
    }


def _host(upstream: Upstream) -> Json:
    return {"host_rewrite_literal": upstream.host_header} if upstream.host_header else {}


def _answer(status: int, error: str) -> Json:
    return {"status": status, "body": {"inline_string": error}}


def _names(variant: str) -> Json:
    header = {"header": {"key": VARIANT_HEADER, "value": variant}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    # The predictor is told as well: a canary that is promoted becomes the stable one without a restart.
    return {"request_headers_to_add": [header], "response_headers_to_add": [header]}
