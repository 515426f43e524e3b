"""Envoy's routes: which predictor answers a request, and what Envoy answers itself.

Plain functions turn values into Envoy's v3 API as JSON. They serve a laptop (files that Envoy watches) and a cluster
(the xDS service that Envoy polls) alike. clusters.py says where the predictors are, route_retries.py what follows a
failure, and bootstrap.py holds what never changes while a gateway runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from endcap.deploy.gateway_settings import GatewaySettings
from endcap.experiments.splits import TOTAL_WEIGHT
from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.cross_origin import build_other_hosts, build_refusal, build_refusal_routes
from endcap_serving.gateway.access.filters import CREDENTIAL_HEADERS, enable_filters
from endcap_serving.gateway.access.script import FILTER
from endcap_serving.gateway.baseline_matcher import build_baseline_matcher, choose_by_baseline
from endcap_serving.gateway.clusters import (
    TYPE,
    Json,
    Upstream,
    build_clusters,
    format_seconds,
    name_with_fallback,
)
from endcap_serving.gateway.route_retries import build_intake_retries, build_ranking_retries, derive_connect_timeout
from endcap_serving.gateway.split import Split, list_upstreams
from endcap_serving.gateway.unknown_paths import build_unknown_path_route
from endcap_serving.names import (
    FALLBACK,
    ROUTES,
    SCOPE_HEADER,
    SHOPPER_HEADER,
    SPLIT_HEADER,
    VARIANT_HEADER,
    VARIANTS,
)

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

ROUTES_URL = f"{TYPE}.config.route.v3.RouteConfiguration"
_DEFAULT_ACCESS = Access()
_INTAKE_TIMEOUT = 10.0
"""Seconds. The intake answers when an event is on its disk, which may be slow."""


def build_routes(
    splits: Mapping[str, Split], intake: Upstream | None = None, access: Access = _DEFAULT_ACCESS
) -> list[Json]:
    """Build Envoy's route configuration.

    Parameters
    ----------
    splits
        The split of each recommender, by name.
    intake
        The service that takes events, if any.
    access
        Who may do what. If the policy has keys or tokens, the filters of access/filters.py decide each request by the
        scope that its route names. Otherwise everyone has the anonymous scopes.

    Returns
    -------
    list of dict
        One ``RouteConfiguration``.

    Notes
    -----
    A request with the shopper header is shared out by the header's hash; one without it meets the stable version. A
    recommender owns its paths of KServe's V1 and V2 protocols, and all paths with its name in front. If it is the only
    recommender, it owns the paths without a name as well.
    """
    ranking_routes = [
        _require_scope(route, "rank", access, recommender=route["name"])
        for name, split in splits.items()
        for route in _build_recommender_routes(name, split, is_only=len(splits) == 1)
    ]
    event_routes = [_require_scope(_build_intake_route(intake), "events", access)] if intake else []
    # A client that may not ask must not learn the recommenders' names.
    unknown_path = build_unknown_path_route(
        sorted(splits), intake=intake is not None, names_recommenders="rank" in access.policy.anonymous
    )
    refusals = build_refusal_routes(access)
    usual_routes = [*refusals, *event_routes, *ranking_routes, unknown_path]
    baselines = [
        build_baseline_matcher(
            _match_paths(name, is_only=len(splits) == 1),
            split.weights.baseline,
            [
                *refusals,
                _require_scope(
                    _build_baseline_route(name, split, is_only=len(splits) == 1), "rank", access, recommender=name
                ),
            ],
        )
        for name, split in splits.items()
        if 0 < split.weights.baseline < TOTAL_WEIGHT
    ]
    host = {
        "name": "endcap",
        "domains": list(dict.fromkeys(access.hosts)) or ["*"],
        **(choose_by_baseline(baselines, usual_routes) if baselines else {"routes": usual_routes}),
        "typed_per_filter_config": enable_filters(access),
        "request_headers_to_remove": list(CREDENTIAL_HEADERS),
    }
    if not access.policy.has_credentials:
        host["request_headers_to_add"] = [_set_header(SCOPE_HEADER, ",".join(access.policy.anonymous))]
    resource = {
        "@type": ROUTES_URL,
        "name": ROUTES,
        "virtual_hosts": [host, *([build_other_hosts(access)] if access.hosts else [])],
        "ignore_port_in_host_matching": True,
        # A route may name a cluster that Envoy has not warmed yet. Whoever writes both sees to their order.
        "validate_clusters": False,
    }
    return [resource]


def build_response(resources: list[Json], version: str) -> Json:
    """Build a discovery response: all resources of one kind, and their version."""
    return {"version_info": version, "resources": resources}


def _require_scope(route: Json, scope: str, access: Access, **metadata: str) -> Json:
    """Let only clients with the scope use a route. If no client can have the scope, the route refuses all requests."""
    if access.policy.has_credentials:
        return {**route, "metadata": {"filter_metadata": {FILTER: {"needs": scope, **metadata}}}}
    if scope in access.policy.anonymous:
        return route
    text = f"this needs the scope {scope}, which no client has here; write an access policy with keys (docs/access.md)"
    refusal = build_refusal(403, text, code="gateway.scope-missing", fields={"needs": scope, **metadata})
    return {"name": route["name"], "match": route["match"], **refusal}


def _build_intake_route(intake: Upstream) -> Json:
    action = {
        "cluster": intake.name,
        "timeout": format_seconds(_INTAKE_TIMEOUT),
        **build_intake_retries(),
        "hash_policy": [
            {"header": {"header_name": SHOPPER_HEADER}, "terminal": True},
            {"connection_properties": {"source_ip": True}},
        ],
        **_rewrite_host(intake),
    }
    match = {"safe_regex": {"regex": "/v1/(events|impressions|orders)"}}
    return {"name": intake.name, "match": match, "route": action}


def _build_recommender_routes(name: str, split: Split, *, is_only: bool) -> list[Json]:
    """Build one recommender's routes. is_only: it owns the paths that name no recommender as well."""
    route = _build_common_route(name, split, is_only=is_only)
    default, variant = (split.stable, "stable") if split.stable else (split.canary, "canary")
    if split.weights.baseline == TOTAL_WEIGHT:
        default, variant = split.baseline, "baseline"
    if default is None or (variant == "canary" and split.weights.canary < TOTAL_WEIGHT):
        if split.terms.offers_list:
            action = {**_rewrite_path(name), "cluster": FALLBACK, "timeout": format_seconds(split.terms.timeout)}
            return [{"name": name, "match": route["match"], "route": action}]
        answer = _build_direct_response(503, f"no predictor of {name} is ready")
        return [{"name": name, "match": route["match"], "direct_response": answer}]
    is_shared = variant == "stable" and any(segment.arm != "stable" for segment in split.segments)
    weighted = [_build_weighted_route(route, split)] if is_shared else []
    return [*weighted, _lead_to(route, variant, default, split)]


def _build_baseline_route(name: str, split: Split, *, is_only: bool) -> Json:
    """Build the route of the shoppers whom the baseline has."""
    assert split.baseline is not None
    return _lead_to(_build_common_route(name, split, is_only=is_only), "baseline", split.baseline, split)


def _build_common_route(name: str, split: Split, *, is_only: bool) -> Json:
    """Build what all routes of a recommender have, but where they lead to."""
    replicated = any(upstream.may_have_replicas for upstream in split.upstreams if upstream is not split.shadow)
    retries = build_ranking_retries(split.terms, replicated=replicated)
    match = {"safe_regex": {"regex": _match_paths(name, is_only=is_only)}}
    return {"name": name, "match": match, "route": {**retries, **_rewrite_path(name), **_build_mirror(split)}}


def _match_paths(name: str, *, is_only: bool) -> str:
    """Return the pattern of a recommender's paths."""
    own_paths = f"(/{name})?/(v1/models/{name}(:predict)?|v2/models/{name}(/.*)?)"
    common_paths = f"(/{name}){'?' if is_only else ''}/(v1/models|v2/models|v2/health/(live|ready))"
    return f"{own_paths}|{common_paths}"


def _rewrite_path(name: str) -> Json:
    """Take the recommender's name off the front of a path."""
    return {"regex_rewrite": {"pattern": {"regex": f"^/{name}(/v[12]/.*)$"}, "substitution": r"\1"}}


def _lead_to(route: Json, variant: str, upstream: Upstream, split: Split) -> Json:
    """Have a route lead to the predictors of one variant."""
    target = {"cluster": _name_cluster(upstream, split), **_rewrite_host(upstream)}
    labels = _label_variant(variant)
    labels["request_headers_to_add"] += _label_split(split)
    return {**route, "route": {**route["route"], **target}, **labels}


def _build_weighted_route(route: Json, split: Split) -> Json:
    """Build the route for requests with a shopper: each arm gets its weight of the hashes.

    Envoy lays the weighted clusters side by side on 0 … 999,999 and picks the one that the header's hash, modulo
    1,000,000, falls into. An arm of an A/B test may lie there several times, as its layout says. The salt goes in front
    of the header before it is hashed, so each rollout meets other shoppers.
    """
    clusters = [
        {
            "name": _name_cluster(upstream, split),
            "weight": weight,
            **_label_variant(arm),
            **_rewrite_host(upstream),
        }
        for arm, weight, upstream in split.segments
    ]
    salted_header = {
        "header": {
            "header_name": SHOPPER_HEADER,
            "regex_rewrite": {"pattern": {"regex": "^(.*)$"}, "substitution": rf"{split.clean_salt}/\1"},
        }
    }
    header = {"name": SHOPPER_HEADER, "string_match": {"safe_regex": {"regex": ".+"}}}
    return {
        **route,
        "match": {**route["match"], "headers": [header]},
        "route": {
            **route["route"],
            "weighted_clusters": {"clusters": clusters, "use_hash_policy": True},
            "hash_policy": [salted_header],
        },
        "request_headers_to_add": _label_split(split),
    }


def _name_cluster(upstream: Upstream, split: Split) -> str:
    """Return the cluster that a route to these predictors names: with the list server behind them, if there is one."""
    return name_with_fallback(upstream) if split.terms.offers_list else upstream.name


def _build_mirror(split: Split) -> Json:
    """Copy a share of the requests to the shadow."""
    if not split.shadow or not split.shadow_weight:
        return {}
    share = {"numerator": split.shadow_weight, "denominator": "MILLION"}
    mirror = {
        "cluster": split.shadow.name,
        "runtime_fraction": {"default_value": share},
        "disable_shadow_host_suffix_append": True,
        "request_headers_mutations": [{"append": _set_header(VARIANT_HEADER, "shadow")}],
        # Otherwise the copy would carry the Host header of the predictor that answers.
        **_rewrite_host(split.shadow),
        # The shadow's span would look like a part of the shopper's request.
        "trace_sampled": False,
    }
    return {"request_mirror_policies": [mirror]}


def _rewrite_host(upstream: Upstream) -> Json:
    """Send the upstream's own Host header, if it has one."""
    return {"host_rewrite_literal": upstream.host_header} if upstream.host_header else {}


def _build_direct_response(status: int, error: str) -> Json:
    """Build an answer that Envoy gives itself."""
    return {"status": status, "body": {"inline_string": error}}


def _label_variant(variant: str) -> Json:
    """Name the variant to the predictor and to the client."""
    # A canary that is promoted becomes the stable version without a restart, so each request tells the predictor which
    # variant it is. The list server names its variant itself.
    response_header = _set_header(VARIANT_HEADER, variant, "ADD_IF_ABSENT")
    return {
        "request_headers_to_add": [_set_header(VARIANT_HEADER, variant)],
        "response_headers_to_add": [response_header],
    }


def _label_split(split: Split) -> list[Json]:
    """Tell the predictors, and the list server, the weights by which the arm was chosen."""
    return [_set_header(SPLIT_HEADER, split.weights.to_text())]


def _set_header(key: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Json:
    """Build Envoy's ``HeaderValueOption``."""
    return {"header": {"key": key, "value": value}, "append_action": action}
