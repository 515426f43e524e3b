"""Envoy's filters for access. Each is off until the routes switch it on, and takes its settings while Envoy runs.

Settings come by extension discovery, which changes neither the listener nor its connections. A listener waits for its
first settings, so nothing is open before they are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.policy import Issuer, Rate
from endcap_serving.gateway.access.script import FAILED, FILTER, JWT, build_payload, write_script
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
"""The filters whose settings are discovered, each a resource of its own."""
GATEWAY_HEADERS = (SCOPE_HEADER, CLIENT_HEADER, VARIANT_HEADER, SPLIT_HEADER)
"""Headers that only the gateway sets: those of clients are dropped before anything else is done."""
CREDENTIAL_HEADERS = (KEY_HEADER, "authorization", "origin")
"""Headers that go no further than the gateway."""
_HTTP = f"{TYPE}.extensions.filters.http"
_FILTER_CONFIG = f"{TYPE}.config.route.v3.FilterConfig"
_KINDS = {
    JWT: f"{_HTTP}.jwt_authn.v3.JwtAuthentication",
    FILTER: f"{_HTTP}.lua.v3.Lua",
    RATES: f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
}
_BUCKETS = 100_000
"""Addresses and clients that have a token bucket at a time; of more those that came last."""
_ASKED = "GET, POST, OPTIONS"
_SENT = f"content-type, authorization, {KEY_HEADER}, {SHOPPER_HEADER}, {SURFACE_HEADER}, {REQUEST_ID}"
_SHOWN = "retry-after, x-endcap-variant, x-endcap-version, x-endcap-ranking-id, x-endcap-degraded, x-request-id"


def build_http_filters(discovered: Callable[[str], Json]) -> list[Json]:
    """For the connection manager, in front of whatever reads a body. discovered: where a filter's settings are."""
    cors = {"name": CORS, "typed_config": {"@type": f"{_HTTP}.cors.v3.Cors"}, "disabled": True}
    disclosed_headers = [
        {
            "name": name,
            "config_discovery": {"config_source": discovered(name), "type_urls": [_KINDS[name]]},
            "disabled": True,
        }
        for name in EXTENSIONS
    ]
    return [cors, *disclosed_headers]


def build_extension(name: str, access: Access) -> Json:
    """The settings of one of `EXTENSIONS`, as a resource."""
    settings = {JWT: _tokens, FILTER: _script, RATES: _rates}[name](access)
    kind = f"{TYPE}.config.core.v3.TypedExtensionConfig"
    return {"@type": kind, "name": name, "typed_config": {"@type": _KINDS[name], **settings}}


def enable_filters(access: Access) -> Json:
    """For a virtual host: the filters that this access needs."""
    on: Json = {}
    if access.origins:
        on[CORS] = {
            "@type": _FILTER_CONFIG,
            "config": {
                "@type": f"{_HTTP}.cors.v3.CorsPolicy",
                "allow_origin_string_match": [{"exact": origin} for origin in access.origins],
                "allow_methods": _ASKED,
                "allow_headers": _SENT,
                "expose_headers": _SHOWN,
                "max_age": "600",
            },
        }
    if access.policy.issuers:
        on[JWT] = _ON
    if access.policy.has_credentials:
        on[FILTER] = _ON
    if access.limited:
        on[RATES] = _ON
    return on


def disable_filters() -> Json:
    """For a route that refuses whoever comes."""
    return {name: {"@type": _FILTER_CONFIG, "disabled": True} for name in EXTENSIONS}


def build_key_clusters(access: Access) -> list[Json]:
    """Where issuers' public keys are asked for."""
    uris = [issuer.jwks.uri for issuer in access.policy.issuers if issuer.jwks.uri is not None]
    return [_key_cluster(uri) for uri in dict.fromkeys(map(_server, uris))]


_ON: Json = {"@type": _FILTER_CONFIG, "config": {}}


def _tokens(access: Access) -> Json:
    issuers = access.policy.issuers
    if not issuers:
        return {}
    # The script decides about those without a token, or with a wrong one.
    choices = [
        *({"provider_name": build_payload(number)} for number in range(len(issuers))),
        {"allow_missing_or_failed": {}},
    ]
    return {
        "providers": {build_payload(number): _provider(number, issuer) for number, issuer in enumerate(issuers)},
        "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": choices}}}],
    }


def _provider(number: int, issuer: Issuer) -> Json:
    keys: Json
    if issuer.jwks.uri is None:
        keys = {"local_jwks": {"inline_string": json.dumps({"keys": issuer.jwks.keys})}}
    else:
        uri = {"uri": issuer.jwks.uri, "cluster": _server(issuer.jwks.uri), "timeout": "2s"}
        kept = {"cache_duration": f"{issuer.jwks.cacheSeconds}s", "retry_policy": {"num_retries": 2}}
        keys = {"remote_jwks": {"http_uri": uri, **kept}}
    return {
        "issuer": issuer.issuer,
        "audiences": issuer.audiences,
        **keys,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "payload_in_metadata": build_payload(number),
        "failed_status_in_metadata": FAILED,
        # Without an end it would hold for as long as the issuer's keys do.
        "require_expiration": True,
    }


def _script(access: Access) -> Json:
    return {"default_source_code": {"inline_string": write_script(access.policy)}}


def _rates(access: Access) -> Json:
    """A bucket a client; of who has no name, one an address: of IPv6 what one customer of a provider has."""
    unnamed = {"name": CLIENT_HEADER, "present_match": True}
    actions = [
        {"actions": [{"request_headers": {"header_name": CLIENT_HEADER, "descriptor_key": "client"}}]},
        {
            "actions": [
                {"header_value_match": {"descriptor_value": "none", "expect_match": False, "headers": [unnamed]}},
                {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}},
            ]
        },
    ]
    own = [
        {"entries": [{"key": "client", "value": client.name}], "token_bucket": _bucket(client.rate)}
        for client in access.policy.clients
        if client.rate
    ]
    usual = [
        {"entries": [{"key": "client"}], "token_bucket": _bucket(access.rate)},
        {
            "entries": [{"key": "header_match", "value": "none"}, {"key": "masked_remote_address"}],
            "token_bucket": _bucket(access.rate),
        },
    ]
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "stat_prefix": "clients",
        # Of nobody: each has a bucket of his own, or no limit.
        "token_bucket": _bucket(_NO_LIMIT),
        "always_consume_default_token_bucket": False,
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limits": actions,
        "descriptors": [*own, *(usual if access.rate else [])],
        "max_dynamic_descriptors": _BUCKETS,
        # A bucket fills by one and more a second.
        "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
    }


_NO_LIMIT = Rate(perSecond=1_000_000, burst=1_000_000)


def _bucket(rate: Rate | None) -> Json:
    rate = rate or _NO_LIMIT
    return {"max_tokens": rate.burst, "tokens_per_fill": rate.perSecond, "fill_interval": "1s"}


def _server(uri: str) -> str:
    """The name of an address' cluster."""
    place = urlsplit(uri)
    port = place.port or (443 if place.scheme == "https" else 80)
    return f"issuer/{place.scheme}://{place.hostname}:{port}"


def _key_cluster(name: str) -> Json:
    place = urlsplit(name.partition("/")[2])
    endpoint = {"endpoint": {"address": build_address(place.hostname or "", place.port or 0)}}
    secure: Json = {
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": place.hostname,
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
        **(secure if place.scheme == "https" else {}),
    }
