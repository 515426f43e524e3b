"""Envoy's clusters: where predictors and other services are, how much Envoy sends to each, and when it passes one over.

Plain functions turn upstreams into Envoy's v3 API as JSON.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from endcap_serving.gateway.envoy_tls import SDS_FOLDER, Json, build_client_socket
from endcap_serving.names import FALLBACK, TYPE

CLUSTERS_URL = f"{TYPE}.config.cluster.v3.Cluster"
MAX_RETRIES = 256
"""How many requests may be on a second or third try at a time. Beyond that, the first try's failure is the answer."""
CONNECT_TIMEOUT = 0.25
"""Seconds that a connection to a predictor may take, or less if requests have little time (`bound_connect_timeout`).
Between pods it takes about a millisecond. Linux sends a lost packet again after a second, and nobody waits for that."""
_CONNECT_SHARE = 1 / 3
"""Share of a try's time that a connection may take. An address that does not respond costs that much, and Envoy asks
the next one."""
_LOOPBACK_CONNECT_TIMEOUT = "0.100s"
_IDLE_TIMEOUT = "50s"
"""Below the predictor's own 65 s, so that Envoy never uses a connection just as its far end closes it."""


@dataclass(frozen=True)
class Upstream:
    """One service that Envoy sends requests to: the predictors of one version, or the intake.

    Parameters
    ----------
    name
        The name of its cluster. In the life of a gateway a name stands for one address and one `connect`, so that a
        cluster never changes under its requests.
    port
        Its port.
    host
        An IP address or a DNS name.
    host_header
        The Host header that Envoy sends in place of the caller's. Empty: the caller's.
    kind
        What the service is: Envoy treats shadows and the intake differently (`build_clusters`).
    tls
        Whether it speaks TLS. If so, it has a certificate for `host`.
    connect
        Seconds that a connection may take. It is always less than the time of a try: Envoy notes which address it has
        tried only when a connection is there or has failed. A try that ended before that would be followed by another
        at the same address, and never by the list.

    Notes
    -----
    The xDS service stores an upstream under these field names (last_state.py), so they must not change.
    """

    name: str
    port: int
    host: str = "127.0.0.1"
    host_header: str = ""
    kind: Literal["predictor", "shadow", "intake"] = "predictor"
    tls: bool = False
    connect: float = CONNECT_TIMEOUT

    @property
    def may_have_replicas(self) -> bool:
        """Whether a second try may meet another process: a DNS name may stand for several, an IP address does not."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


def build_clusters(upstreams: Iterable[Upstream], secrets: Path = SDS_FOLDER) -> list[Json]:
    """Build the clusters of upstreams.

    Parameters
    ----------
    upstreams
        The services. Each gets a cluster of its name. Predictors get a second one, which ends at the list server
        (`name_with_fallback`).
    secrets
        The folder in which Envoy finds the certificates for services that speak TLS (envoy_tls.py).

    Returns
    -------
    list of dict
        Envoy's ``Cluster`` resources.
    """
    resources = []
    for upstream in upstreams:
        resources.append(_build_cluster(upstream, secrets))
        if upstream.kind == "predictor":
            resources.append(_build_cluster_with_fallback(upstream))
    return resources


def bound_connect_timeout(share: float) -> float:
    """Return how long a connection may take if a try has `share` seconds.

    It is a third of the try, at least a millisecond and at most `CONNECT_TIMEOUT`. Both numbers are seconds.
    """
    return max(0.001, min(CONNECT_TIMEOUT, round(share * _CONNECT_SHARE, 3)))


def name_with_fallback(upstream: Upstream) -> str:
    """Return the name of the cluster with these predictors, and with the list server if none of them is available."""
    return f"{upstream.name}+{FALLBACK}"


def name_counts(cluster: str) -> str:
    """Return the name by which Envoy counts a cluster, in the label `envoy_cluster_name`.

    Envoy takes what follows a dot for a part of the counter's name, and turns colons into underscores.
    """
    return cluster.replace(".", "_").replace(":", "_")


def format_seconds(seconds: float) -> str:
    """Write seconds as Envoy's JSON has a ``Duration``."""
    return f"{seconds:.3f}s"


def build_address(host: str, port: int) -> Json:
    """Build Envoy's ``Address`` of a TCP port."""
    return {"socket_address": {"address": host, "port_value": port}}


def build_http_options(**options: Json) -> Json:
    """Build a cluster's HTTP/1.1 options; `options` are further fields of Envoy's ``HttpProtocolOptions``."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    config = {
        "@type": f"type.googleapis.com/{name}",
        "common_http_protocol_options": {"idle_timeout": _IDLE_TIMEOUT},
        "explicit_http_config": {"http_protocol_options": {}},
        **options,
    }
    return {name: config}


def build_loopback_cluster(name: str, port: int) -> Json:
    """Build a cluster of a port on loopback, for the gateway's own use."""
    return _build_local_cluster(name, build_address("127.0.0.1", port))


def build_socket_cluster(name: str, path: str) -> Json:
    """Build a cluster of a Unix socket, for the gateway's own use."""
    return _build_local_cluster(name, {"pipe": {"path": path}})


def _build_local_cluster(name: str, address: Json) -> Json:
    """Build a cluster of one address in the same pod or on the same machine."""
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": _LOOPBACK_CONNECT_TIMEOUT,
        "typed_extension_protocol_options": build_http_options(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _name_counts(cluster: str) -> Json:
    """Tell Envoy the name by which it counts a cluster, where that is another one."""
    return {} if (name := name_counts(cluster)) == cluster else {"alt_stat_name": name}


def _build_cluster(upstream: Upstream, secrets: Path) -> Json:
    """Build the cluster of an upstream's own addresses."""
    endpoint = {"endpoint": {"address": build_address(upstream.host, upstream.port)}}
    assignment: Json = {"cluster_name": upstream.name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    if upstream.kind == "predictor":
        # As long as one predictor is available, it gets the others' share, not the list server.
        assignment["policy"] = {"overprovisioning_factor": 10_000}
    return {
        "@type": CLUSTERS_URL,
        "name": upstream.name,
        **_name_counts(upstream.name),
        **_build_address_discovery(upstream),
        "connect_timeout": format_seconds(upstream.connect),
        # A predictor: the one with the fewest running requests, because one ranking may take many times another's time.
        # An intake: always the same one for a client, because it knows what it has taken from this client.
        "lb_policy": "MAGLEV" if upstream.kind == "intake" else "LEAST_REQUEST",
        "circuit_breakers": _build_circuit_breakers(upstream),
        **({} if upstream.kind == "shadow" else {"outlier_detection": _OUTLIER_DETECTION}),
        "typed_extension_protocol_options": build_http_options(
            **({} if upstream.kind == "shadow" else _FAILURE_OPTIONS)
        ),
        "load_assignment": assignment,
        **({"transport_socket": build_client_socket(upstream.host, secrets)} if upstream.tls else {}),
    }


def _build_cluster_with_fallback(upstream: Upstream) -> Json:
    """Build the aggregate cluster of predictors and, behind them, the list server."""
    config = {
        "@type": f"{TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
        "clusters": [upstream.name, FALLBACK],
    }
    return {
        "@type": CLUSTERS_URL,
        "name": name_with_fallback(upstream),
        **_name_counts(name_with_fallback(upstream)),
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": config},
        # Envoy reads here what counts as a failure, and in the member which host has failed.
        "typed_extension_protocol_options": build_http_options(**_FAILURE_OPTIONS),
        # Envoy counts requests at the member and retries here. So a percentage would be one of no requests.
        "circuit_breakers": {"thresholds": [{"max_retries": MAX_RETRIES}]},
    }


def _build_circuit_breakers(upstream: Upstream) -> Json:
    """Bound what one Envoy sends to a cluster at a time; it answers the rest with 503 at once.

    A predictor refuses requests itself long before (serving.max_wait): these bounds keep Envoy's memory and sockets
    small. A shadow gets so few requests that a slow one costs nothing.
    """
    if upstream.kind == "shadow":
        return {"thresholds": [{"max_connections": 64, "max_pending_requests": 16, "max_requests": 64}]}
    limits: Json = {"max_connections": 1024, "max_pending_requests": 1024, "max_requests": 2048}
    budget = {"budget_percent": {"value": 20}, "min_retry_concurrency": 16}
    return {"thresholds": [{**limits, "retry_budget": budget}]}


# Envoy passes over a predictor that cannot be reached, does not answer in time, or whose pod's proxy reports that: for
# 5 s, then for 10 s, and so on. If it passes over all of them, the list server answers. Without a list Envoy asks them
# all the same (its panic threshold).
_OUTLIER_DETECTION = {
    "interval": "1s",
    "base_ejection_time": "5s",
    "max_ejection_time": "60s",
    "max_ejection_percent": 100,
    # Three times in a row: no connection, a broken one, no answer in time, or an answer that counts as a failure. Envoy
    # could count connections apart from answers. But every new connection sets that count back, so it would not notice
    # a predictor that takes connections and never answers.
    "consecutive_gateway_failure": 3,
    "enforcing_consecutive_gateway_failure": 100,
    "enforcing_success_rate": 0,
}
# Only these answers count as failures. 500 would be the same from every predictor. One that sends Retry-After is well
# and only overloaded.
_FAILURE_STATUS = {"name": ":status", "string_match": {"safe_regex": {"regex": "50[234]"}}}
_NO_RETRY_AFTER = {"name": "retry-after", "present_match": True, "invert_match": True}
_FAILURE_OPTIONS = {
    "outlier_detection": {
        "error_matcher": {"http_response_headers_match": {"headers": [_FAILURE_STATUS, _NO_RETRY_AFTER]}}
    }
}


def _build_address_discovery(upstream: Upstream) -> Json:
    """Say how Envoy finds the addresses of an upstream."""
    if not upstream.may_have_replicas:
        return {"type": "STATIC"}
    # A headless Service (KServe's, in Standard mode) resolves to one address for each pod, and pods come and go.
    return {
        "type": "STRICT_DNS",
        "dns_lookup_family": "ALL",
        "dns_refresh_rate": "2s",
        "upstream_connection_options": {"tcp_keepalive": _TCP_KEEPALIVE},
        "upstream_bind_config": {"socket_options": [_TCP_USER_TIMEOUT]},
    }


# A pod whose node is gone closes no connection. Envoy closes an idle one after 8 s, so that it takes no request. It
# closes one with a running request if nothing of that request is acknowledged for 3 s.
_TCP_KEEPALIVE = {"keepalive_time": 5, "keepalive_interval": 1, "keepalive_probes": 3}
_TCP_USER_TIMEOUT = {
    "description": "TCP_USER_TIMEOUT of Linux, in milliseconds",
    "level": 6,
    "name": 18,
    "int_value": 3000,
    "state": "STATE_PREBIND",
}
