"""Envoy's filters for access. Each is off until the routes switch it on, and gets its settings while Envoy runs.

The settings come by extension discovery, which changes neither the listener nor its connections. A listener waits for
its first settings, so Envoy takes no request before they are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.policy import Issuer, Rate
from endcap_serving.gateway.access.script import FAILED, FILTER, JWT, name_payload, write_script
from endcap_serving.gateway.clusters import CLUSTERS_URL, TYPE, Json, build_address, build_http_options
from endcap_serving.names import (
    CLIENT_HEADER,
    KEY_HEADER,
    REQUEST_ID,
    SCOPE_HEADER,
    SHOPPER_HEADER,
    SPLIT_HEADER,
    SURFACE_HEADER,
    VARIANT_HEADER,
)

CORS = "envoy.filters.http.cors"
RATES = "envoy.filters.http.local_ratelimit"
EXTENSIONS = (JWT, FILTER, RATES)
"""The filters whose settings come by extension discovery, each as a resource of its own."""
GATEWAY_HEADERS = (SCOPE_HEADER, CLIENT_HEADER, VARIANT_HEADER, SPLIT_HEADER)
"""Headers that only the gateway sets. It drops those of clients before it does anything else."""
CREDENTIAL_HEADERS = (KEY_HEADER, "authorization", "origin")
"""Headers that the gateway does not send on."""
_HTTP = f"{TYPE}.extensions.filters.http"
_FILTER_CONFIG = f"{TYPE}.config.route.v3.FilterConfig"
_FILTER_TYPES = {
    JWT: f"{_HTTP}.jwt_authn.v3.JwtAuthentication",
    FILTER: f"{_HTTP}.lua.v3.Lua",
    RATES: f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
}
_MAX_BUCKETS = 100_000
"""How many addresses and clients have a token bucket at a time. The latest ones count."""
_CORS_METHODS = "GET, POST, OPTIONS"
_CORS_REQUEST_HEADERS = f"content-type, authorization, {KEY_HEADER}, {SHOPPER_HEADER}, {SURFACE_HEADER}, {REQUEST_ID}"
_CORS_RESPONSE_HEADERS = (
    "retry-after, x-endcap-variant, x-endcap-version, x-endcap-ranking-id, x-endcap-degraded, x-request-id"
)


def build_http_filters(find_settings: Callable[[str], Json]) -> list[Json]:
    """Build the filters for access.

    Parameters
    ----------
    find_settings
        Returns Envoy's ``ConfigSource`` with a filter's settings, by the filter's name.

    Returns
    -------
    list of dict
        Filters of Envoy's ``HttpConnectionManager``, to stand before any filter that reads a body. All are off.
    """
    cors = {"name": CORS, "typed_config": {"@type": f"{_HTTP}.cors.v3.Cors"}, "disabled": True}
    discovered_filters = [
        {
            "name": name,
            "config_discovery": {"config_source": find_settings(name), "type_urls": [_FILTER_TYPES[name]]},
            "disabled": True,
        }
        for name in EXTENSIONS
    ]
    return [cors, *discovered_filters]


def build_extension(name: str, access: Access) -> Json:
    """Build the settings of a filter.

    Parameters
    ----------
    name
        The filter, one of `EXTENSIONS`.
    access
        Who may do what.

    Returns
    -------
    dict
        Envoy's ``TypedExtensionConfig``.
    """
    builders = {JWT: _build_token_settings, FILTER: _build_script_settings, RATES: _build_rate_settings}
    settings = builders[name](access)
    kind = f"{TYPE}.config.core.v3.TypedExtensionConfig"
    return {"@type": kind, "name": name, "typed_config": {"@type": _FILTER_TYPES[name], **settings}}


def enable_filters(access: Access) -> Json:
    """Switch on the filters that this access needs, as `typed_per_filter_config` of a virtual host."""
    filters: Json = {}
    if access.origins:
        filters[CORS] = {
            "@type": _FILTER_CONFIG,
            "config": {
                "@type": f"{_HTTP}.cors.v3.CorsPolicy",
                "allow_origin_string_match": [{"exact": origin} for origin in access.origins],
                "allow_methods": _CORS_METHODS,
                "allow_headers": _CORS_REQUEST_HEADERS,
                "expose_headers": _CORS_RESPONSE_HEADERS,
                "max_age": "600",
            },
        }
    if access.policy.issuers:
        filters[JWT] = _ENABLED
    if access.policy.has_credentials:
        filters[FILTER] = _ENABLED
    if access.has_limits:
        filters[RATES] = _ENABLED
    return filters


def disable_filters() -> Json:
    """Switch off all filters, for a route that refuses every request."""
    return {name: {"@type": _FILTER_CONFIG, "disabled": True} for name in EXTENSIONS}


def build_key_clusters(access: Access) -> list[Json]:
    """Build the clusters of the servers that Envoy asks for issuers' public keys."""
    uris = [issuer.jwks.uri for issuer in access.policy.issuers if issuer.jwks.uri is not None]
    return [_build_key_cluster(name) for name in dict.fromkeys(map(_name_key_cluster, uris))]


_ENABLED: Json = {"@type": _FILTER_CONFIG, "config": {}}


def _build_token_settings(access: Access) -> Json:
    """Build the settings of the filter that verifies tokens."""
    issuers = access.policy.issuers
    if not issuers:
        return {}
    # The script decides about requests without a token, or with a wrong one.
    choices = [
        *({"provider_name": name_payload(number)} for number in range(len(issuers))),
        {"allow_missing_or_failed": {}},
    ]
    return {
        "providers": {name_payload(number): _build_provider(number, issuer) for number, issuer in enumerate(issuers)},
        "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": choices}}}],
    }


def _build_provider(number: int, issuer: Issuer) -> Json:
    keys: Json
    if issuer.jwks.uri is None:
        keys = {"local_jwks": {"inline_string": json.dumps({"keys": issuer.jwks.keys})}}
    else:
        uri = {"uri": issuer.jwks.uri, "cluster": _name_key_cluster(issuer.jwks.uri), "timeout": "2s"}
        cache = {"cache_duration": f"{issuer.jwks.cacheSeconds}s", "retry_policy": {"num_retries": 2}}
        keys = {"remote_jwks": {"http_uri": uri, **cache}}
    return {
        "issuer": issuer.issuer,
        "audiences": issuer.audiences,
        **keys,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "payload_in_metadata": name_payload(number),
        "failed_status_in_metadata": FAILED,
        # A token without an end would hold for as long as the issuer's keys do.
        "require_expiration": True,
    }


def _build_script_settings(access: Access) -> Json:
    return {"default_source_code": {"inline_string": write_script(access.policy)}}


def _build_rate_settings(access: Access) -> Json:
    """Build the settings of the rate limit: a bucket for each client, or for each address of clients without a name.

    An IPv6 address counts by its first 64 bits, because a provider's customer has all of the rest.
    """
    has_name = {"name": CLIENT_HEADER, "present_match": True}
    actions = [
        {"actions": [{"request_headers": {"header_name": CLIENT_HEADER, "descriptor_key": "client"}}]},
        {
            "actions": [
                {"header_value_match": {"descriptor_value": "none", "expect_match": False, "headers": [has_name]}},
                {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}},
            ]
        },
    ]
    client_buckets = [
        {"entries": [{"key": "client", "value": client.name}], "token_bucket": _build_bucket(client.rate)}
        for client in access.policy.clients
        if client.rate
    ]
    default_buckets = [
        {"entries": [{"key": "client"}], "token_bucket": _build_bucket(access.rate)},
        {
            "entries": [{"key": "header_match", "value": "none"}, {"key": "masked_remote_address"}],
            "token_bucket": _build_bucket(access.rate),
        },
    ]
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "stat_prefix": "clients",
        # No request uses this bucket: each client has one of its own, or no limit.
        "token_bucket": _build_bucket(_NO_LIMIT),
        "always_consume_default_token_bucket": False,
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limits": actions,
        "descriptors": [*client_buckets, *(default_buckets if access.rate else [])],
        "max_dynamic_descriptors": _MAX_BUCKETS,
        # A bucket gets at least one token a second.
        "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
    }


_NO_LIMIT = Rate(perSecond=1_000_000, burst=1_000_000)


def _build_bucket(rate: Rate | None) -> Json:
    rate = rate or _NO_LIMIT
    return {"max_tokens": rate.burst, "tokens_per_fill": rate.perSecond, "fill_interval": "1s"}


def _name_key_cluster(uri: str) -> str:
    """Return the name of the cluster for an address. It holds scheme, host and port."""
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"issuer/{parts.scheme}://{parts.hostname}:{port}"


def _build_key_cluster(name: str) -> Json:
    """Build a cluster from its name."""
    server = urlsplit(name.partition("/")[2])
    endpoint = {"endpoint": {"address": build_address(server.hostname or "", server.port or 0)}}
    tls: Json = {
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": server.hostname,
                "auto_sni_san_validation": True,
                "common_tls_context": {"validation_context": {"system_root_certs": {}}},
            },
        }
    }
    return {
        "@type": CLUSTERS_URL,
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": build_http_options(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        **(tls if server.scheme == "https" else {}),
    }
