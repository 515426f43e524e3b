"""Envoy's own spans, if the environment names a receiver. serving/tracing.py does it for the other processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from endcap.errors import UserError
from endcap_serving.gateway.clusters import TYPE, Json, build_http_options
from endcap_serving.names import RANKING_HEADER, SURFACE_HEADER, VARIANT_HEADER

COLLECTOR = "opentelemetry"
"""The cluster of who takes the spans."""
_PATH = "/v1/traces"


@dataclass(frozen=True)
class EnvoyTracing:
    """address: where spans are sent over HTTP. sampled: percent of the requests without a decision of their caller."""

    address: str
    service: str = "endcap-gateway"
    sampled: float = 100.0


def read_environment(environment: Mapping[str, str] | None = None) -> EnvoyTracing | None:
    """As OpenTelemetry's variables have it; None where no receiver is named. Raises UserError for what Envoy cannot do.

    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken as it is, OTEL_EXPORTER_OTLP_ENDPOINT with /v1/traces behind it.
    """
    variables = os.environ if environment is None else environment
    whole = variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not (whole or base) or variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    address = whole or base.rstrip("/") + _PATH
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" if whole else "OTEL_EXPORTER_OTLP_ENDPOINT"
        raise UserError(
            f"{name}: found {whole or base!r}; allowed: an address such as http://collector:4318",
            code="gateway.trace-address",
            variable=name,
            found=whole or base,
        )
    return EnvoyTracing(address, variables.get("OTEL_SERVICE_NAME") or "endcap-gateway", _sampled(variables))


def build_tracing(settings: EnvoyTracing) -> Json:
    """For the connection manager. The request id is among Envoy's own tags (`guid:x-request-id`)."""
    service = {
        "http_uri": {"uri": settings.address, "cluster": COLLECTOR, "timeout": "2s"},
    }
    kind = f"{TYPE}.config.trace.v3.OpenTelemetryConfig"
    config = {"@type": kind, "http_service": service, "service_name": settings.service}
    return {
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": config},
        "random_sampling": {"value": settings.sampled},
        "custom_tags": [
            {"tag": "endcap.surface", "request_header": {"name": SURFACE_HEADER}},
            {"tag": "endcap.variant", "value": f"%RESP({VARIANT_HEADER})%"},
            {"tag": "endcap.ranking_id", "value": f"%RESP({RANKING_HEADER})%"},
        ],
    }


def build_collector_cluster(settings: EnvoyTracing) -> Json:
    """The cluster of who takes the spans; while it is away spans are lost, and no request."""
    at = urlsplit(settings.address)
    assert at.hostname is not None  # `read_environment` checks it.
    port = at.port or (443 if at.scheme == "https" else 80)
    endpoint = {"endpoint": {"address": {"socket_address": {"address": at.hostname, "port_value": port}}}}
    return {
        "name": COLLECTOR,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [{"max_connections": 8, "max_pending_requests": 64, "max_requests": 64}]},
        "typed_extension_protocol_options": build_http_options(),
        **({"transport_socket": _tls(at.hostname)} if at.scheme == "https" else {}),
        "load_assignment": {"cluster_name": COLLECTOR, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _tls(host: str) -> Json:
    import ssl

    import certifi

    # The system's authorities, among which may be one's own; a small image has none.
    trusted = {"trusted_ca": {"filename": ssl.get_default_verify_paths().cafile or certifi.where()}}
    names = {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}]}
    config = {
        "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": host,
        "common_tls_context": {"validation_context": {**trusted, **names}},
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _sampled(variables: Mapping[str, str]) -> float:
    sampler, word = variables.get("OTEL_TRACES_SAMPLER", ""), variables.get("OTEL_TRACES_SAMPLER_ARG", "")
    if sampler.endswith("always_off"):
        return 0.0
    if not sampler.endswith("traceidratio") or not word:
        return 100.0
    try:
        ratio = float(word)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise UserError(
            f"OTEL_TRACES_SAMPLER_ARG: found {word!r}; allowed: a share from 0 to 1, such as 0.1",
            code="gateway.trace-share",
            variable="OTEL_TRACES_SAMPLER_ARG",
            found=word,
        )
    return 100 * ratio
