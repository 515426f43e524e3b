"""Envoy's own spans, if the environment names a receiver. serving/tracing.py does the same for the other processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from endcap.errors import UserError
from endcap_serving.gateway.clusters import TYPE, Json, build_http_options
from endcap_serving.names import RANKING_HEADER, SURFACE_HEADER, VARIANT_HEADER

COLLECTOR = "opentelemetry"
"""The name of the receiver's cluster."""
_PATH = "/v1/traces"


@dataclass(frozen=True)
class EnvoyTracing:
    """Where Envoy sends spans, and of which requests.

    Parameters
    ----------
    address
        The receiver's address, by HTTP (OTLP).
    service
        The service name in the spans.
    sampled
        Percent of the requests that Envoy traces, from 0 to 100. It follows the caller's decision if there is one.
    """

    address: str
    service: str = "endcap-gateway"
    sampled: float = 100.0


def read_environment(environment: Mapping[str, str] | None = None) -> EnvoyTracing | None:
    """Read OpenTelemetry's variables.

    Parameters
    ----------
    environment
        The variables; None: those of this process.

    Returns
    -------
    EnvoyTracing or None
        None if no receiver is named, or if OTEL_SDK_DISABLED is true.

    Raises
    ------
    UserError
        If the address or the share of sampled requests has a value that Envoy cannot follow.

    Notes
    -----
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is a whole address. OTEL_EXPORTER_OTLP_ENDPOINT gets /v1/traces behind it. The
    names are those of the OpenTelemetry specification.
    """
    variables = os.environ if environment is None else environment
    traces_address = variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base_address = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not (traces_address or base_address) or variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    address = traces_address or base_address.rstrip("/") + _PATH
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" if traces_address else "OTEL_EXPORTER_OTLP_ENDPOINT"
        raise UserError(
            f"{name}: found {traces_address or base_address!r}; allowed: an address such as http://collector:4318",
            code="gateway.trace-address",
            variable=name,
            found=traces_address or base_address,
        )
    return EnvoyTracing(
        address, variables.get("OTEL_SERVICE_NAME") or "endcap-gateway", _read_sampled_percent(variables)
    )


def build_tracing(settings: EnvoyTracing) -> Json:
    """Build the `tracing` field of Envoy's ``HttpConnectionManager``. Envoy tags spans with the request id itself."""
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
    """Build the receiver's cluster. While the receiver is away, spans are lost but no requests."""
    address = urlsplit(settings.address)
    assert address.hostname is not None  # `read_environment` checks it.
    port = address.port or (443 if address.scheme == "https" else 80)
    endpoint = {"endpoint": {"address": {"socket_address": {"address": address.hostname, "port_value": port}}}}
    return {
        "name": COLLECTOR,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [{"max_connections": 8, "max_pending_requests": 64, "max_requests": 64}]},
        "typed_extension_protocol_options": build_http_options(),
        **({"transport_socket": _build_tls_socket(address.hostname)} if address.scheme == "https" else {}),
        "load_assignment": {"cluster_name": COLLECTOR, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _build_tls_socket(host: str) -> Json:
    import ssl

    import certifi

    # The system's authorities may include a company's own. A small image has none.
    authorities = {"trusted_ca": {"filename": ssl.get_default_verify_paths().cafile or certifi.where()}}
    names = {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}]}
    config = {
        "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": host,
        "common_tls_context": {"validation_context": {**authorities, **names}},
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _read_sampled_percent(variables: Mapping[str, str]) -> float:
    """Return the percent of requests to trace. Raises UserError if the variable holds no share."""
    sampler, argument = variables.get("OTEL_TRACES_SAMPLER", ""), variables.get("OTEL_TRACES_SAMPLER_ARG", "")
    if sampler.endswith("always_off"):
        return 0.0
    if not sampler.endswith("traceidratio") or not argument:
        return 100.0
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise UserError(
            f"OTEL_TRACES_SAMPLER_ARG: found {argument!r}; allowed: a share from 0 to 1, such as 0.1",
            code="gateway.trace-share",
            variable="OTEL_TRACES_SAMPLER_ARG",
            found=argument,
        )
    return 100 * ratio
