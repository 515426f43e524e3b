"""What the gateway's Envoy takes from clients, so that none of them can hold it up or fill its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from endcap_serving.gateway.clusters import TYPE, Json


@dataclass(frozen=True)
class Limits:
    """Past these a request is refused, or its connection closed."""

    body: int = 16 * 2**20
    """Bytes; a larger body is answered 413."""
    headers_kb: int = 32
    """KiB of all headers, the path among them; more are answered 431."""
    headers: int = 100
    connections: int = 10_000
    """Of all clients together; more are closed at once."""
    streams: int = 100
    """Requests at a time on one connection of HTTP/2."""
    headers_within: float = 5.0
    """Seconds from a request's first byte to the end of its headers; later is answered 408."""
    request_within: float = 15.0
    """Seconds to the end of its body, however steadily it drips."""
    idle: float = 10.0
    """Seconds in which nothing of a request or its answer is sent."""
    connection_idle: float = 300.0
    """Seconds that a connection without a request is kept."""


def build_request_limits(limits: Limits, dropped: Sequence[str] = ()) -> Json:
    """For the connection manager. dropped: headers of clients that nobody may see, besides Envoy's own."""
    return {
        "max_request_headers_kb": limits.headers_kb,
        "request_headers_timeout": _seconds(limits.headers_within),
        "request_timeout": _seconds(limits.request_within),
        "stream_idle_timeout": _seconds(limits.idle),
        "common_http_protocol_options": {
            "idle_timeout": _seconds(limits.connection_idle),
            "max_headers_count": limits.headers,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": limits.streams,
            "initial_stream_window_size": 2**16,
            "initial_connection_window_size": 2**20,
        },
        # Envoy would take retries, timeouts and more from a client that knows the names.
        "early_header_mutation_extensions": [_without_orders(dropped)],
    }


def build_connection_limits(limits: Limits) -> Json:
    """For the bootstrap."""
    kind = f"{TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {"@type": kind, "max_active_downstream_connections": limits.connections},
    }
    return {"resource_monitors": [monitor]}


def _without_orders(dropped: Sequence[str]) -> Json:
    kind = f"{TYPE}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    mutations = [{"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}, *({"remove": name} for name in dropped)]
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": kind, "mutations": mutations},
    }


def _seconds(count: float) -> str:
    return f"{count:.3f}s"
