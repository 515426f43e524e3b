"""Limits on what Envoy takes from clients, so that no client can hold it up or fill its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from endcap_serving.gateway.clusters import TYPE, Json, format_seconds


@dataclass(frozen=True)
class Limits:
    """The limits of one gateway. Envoy refuses a request beyond them, or closes its connection.

    Parameters
    ----------
    body
        Bytes of a body. Envoy answers a larger one with 413.
    headers_kb
        KiB of a request's headers, the path among them. Envoy answers larger ones with 431.
    headers
        Headers of a request. Envoy answers more with 431.
    connections
        Connections of all clients together. Envoy closes further ones at once.
    streams
        Requests at a time on one HTTP/2 connection.
    headers_timeout
        Seconds from a request's first byte to the end of its headers. Envoy answers a slower request with 408.
    request_timeout
        Seconds from a request's first byte to the end of its body. Envoy answers a slower request with 408.
    idle_timeout
        Seconds in which neither side sends anything of a request or its answer.
    connection_idle_timeout
        Seconds that Envoy keeps a connection without a request.
    """

    body: int = 16 * 2**20
    headers_kb: int = 32
    headers: int = 100
    connections: int = 10_000
    streams: int = 100
    headers_timeout: float = 5.0
    request_timeout: float = 15.0
    idle_timeout: float = 10.0
    connection_idle_timeout: float = 300.0


def build_request_limits(limits: Limits, dropped_headers: Sequence[str] = ()) -> Json:
    """Build the limits on requests.

    Parameters
    ----------
    limits
        The limits.
    dropped_headers
        Headers that Envoy removes from clients' requests, besides its own (`x-envoy-…`).

    Returns
    -------
    dict
        Fields of Envoy's ``HttpConnectionManager``.
    """
    return {
        "max_request_headers_kb": limits.headers_kb,
        "request_headers_timeout": format_seconds(limits.headers_timeout),
        "request_timeout": format_seconds(limits.request_timeout),
        "stream_idle_timeout": format_seconds(limits.idle_timeout),
        "common_http_protocol_options": {
            "idle_timeout": format_seconds(limits.connection_idle_timeout),
            "max_headers_count": limits.headers,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": limits.streams,
            "initial_stream_window_size": 2**16,
            "initial_connection_window_size": 2**20,
        },
        # Envoy would let a client that knows its header names set retries, timeouts and more.
        "early_header_mutation_extensions": [_build_header_removal(dropped_headers)],
    }


def build_connection_limits(limits: Limits) -> Json:
    """Build the limit on connections, as fields of Envoy's ``OverloadManager``."""
    kind = f"{TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {"@type": kind, "max_active_downstream_connections": limits.connections},
    }
    return {"resource_monitors": [monitor]}


def _build_header_removal(names: Sequence[str]) -> Json:
    """Remove Envoy's own headers and those of `names` before anything else reads a request."""
    kind = f"{TYPE}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    mutations = [{"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}, *({"remove": name} for name in names)]
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": kind, "mutations": mutations},
    }
