"""Who is asked: clusters of Envoy's v3 API as JSON, with what Envoy takes on for each and when it passes one over."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from endcap_serving.gateway.envoy_tls import PLACE, Json, build_client_socket
from endcap_serving.names import FALLBACK, TYPE

CLUSTERS_URL = f"{TYPE}.config.cluster.v3.Cluster"
RETRIES = 256
"""Requests on a second or third try at a time: past that, the first try's failure is the answer."""
CONNECT = 0.25
"""Seconds in which a connection to a predictor must be there; where requests have little time, less (`connect_within`).
Between pods it takes about one millisecond; nobody waits for the second on which a lost packet is sent again."""
_CONNECT_SHARE = 1 / 3
"""Of a try's time: an address that says nothing has then cost so much, and the next is asked."""
_LOOPBACK_CONNECT = "0.100s"
_KEEPALIVE = "50s"  # Below the predictor's own 65 s, so that a connection is never used just as its far end closes it.


@dataclass(frozen=True)
class Upstream:
    """The predictors of one version, or another service: the name of their cluster, and where they are.

    A name stands for one address and one `connect` in the life of a gateway, so that a cluster is never changed under
    its requests. `host` is an IP address or a DNS name; `host_header`, if any, is sent instead of the caller's.
    `connect`: seconds in which a connection must be there. It is always less than a try has: Envoy notes whom it has
    tried when a connection is there or has failed, so a try that ends before would be followed by one at the same
    address, and never by the list.
    """

    name: str
    port: int
    host: str = "127.0.0.1"
    host_header: str = ""
    kind: Literal["predictor", "shadow", "intake"] = "predictor"
    tls: bool = False
    """Spoken to by TLS: it has a certificate for `host`."""
    connect: float = CONNECT

    @property
    def many(self) -> bool:
        """Whether a second try may meet another process: a name may stand for several, an address does not."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


def build_clusters(named: Iterable[Upstream], secrets: Path = PLACE) -> list[Json]:
    """The resources that say where everyone is; of predictors also the one that ends at the list server.

    secrets: where Envoy finds the certificates for those that speak TLS (envoy_tls.py).
    """
    resources = []
    for upstream in named:
        resources.append(_cluster(upstream, secrets))
        if upstream.kind == "predictor":
            resources.append(_with_fallback(upstream))
    return resources


def bound_connect_timeout(share: float) -> float:
    """Seconds that a connection gets where a try has `share` seconds: at least a millisecond, at most `CONNECT`."""
    return max(0.001, min(CONNECT, round(share * _CONNECT_SHARE, 3)))


def name_with_fallback(upstream: Upstream) -> str:
    """The name of the cluster that is these predictors, and the list server where none of them is to be had."""
    return f"{upstream.name}+{FALLBACK}"


def build_address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def build_http_options(**more: Json) -> Json:
    """What a cluster says of its protocol."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": f"type.googleapis.com/{name}",
        "common_http_protocol_options": {"idle_timeout": _KEEPALIVE},
        "explicit_http_config": {"http_protocol_options": {}},
        **more,
    }
    return {name: options}


def build_loopback_cluster(name: str, port: int) -> Json:
    """A cluster for the gateway's own use."""
    return _own(name, build_address("127.0.0.1", port))


def build_socket_cluster(name: str, path: str) -> Json:
    """The same on a Unix socket."""
    return _own(name, {"pipe": {"path": path}})


def _own(name: str, place: Json) -> Json:
    endpoint = {"endpoint": {"address": place}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": _LOOPBACK_CONNECT,
        "typed_extension_protocol_options": build_http_options(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _cluster(upstream: Upstream, secrets: Path) -> Json:
    predictors = upstream.kind == "predictor"
    endpoint = {"endpoint": {"address": build_address(upstream.host, upstream.port)}}
    assignment: Json = {"cluster_name": upstream.name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    if predictors:
        # As long as one predictor is to be had the others' share goes there, not to the list server.
        assignment["policy"] = {"overprovisioning_factor": 10_000}
    return {
        "@type": CLUSTERS_URL,
        "name": upstream.name,
        **_discovery(upstream),
        "connect_timeout": f"{upstream.connect:.3f}s",
        # Of several predictors the one with the fewest requests under way: one ranking may take many times another. Of
        # several intakes the client's own, which knows what it has taken from it.
        "lb_policy": "MAGLEV" if upstream.kind == "intake" else "LEAST_REQUEST",
        "circuit_breakers": _breakers(upstream),
        **({} if upstream.kind == "shadow" else {"outlier_detection": _OUTLIERS}),
        "typed_extension_protocol_options": build_http_options(**({} if upstream.kind == "shadow" else _FAILURES)),
        "load_assignment": assignment,
        **({"transport_socket": build_client_socket(upstream.host, secrets)} if upstream.tls else {}),
    }


def _with_fallback(upstream: Upstream) -> Json:
    config = {
        "@type": f"{TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
        "clusters": [upstream.name, FALLBACK],
    }
    return {
        "@type": CLUSTERS_URL,
        "name": name_with_fallback(upstream),
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": config},
        # What a failure is is asked here, and who fails there.
        "typed_extension_protocol_options": build_http_options(**_FAILURES),
        # Requests are counted at the member; retries here, where a percentage would be one of nothing.
        "circuit_breakers": {"thresholds": [{"max_retries": RETRIES}]},
    }


def _breakers(upstream: Upstream) -> Json:
    """What one Envoy has under way with a cluster; more is answered 503 at once.

    A predictor refuses by itself long before (serving.max_wait): these keep Envoy's memory and sockets in bounds. A
    shadow gets so few that a slow one costs nothing.
    """
    if upstream.kind == "shadow":
        return {"thresholds": [{"max_connections": 64, "max_pending_requests": 16, "max_requests": 64}]}
    limits: Json = {"max_connections": 1024, "max_pending_requests": 1024, "max_requests": 2048}
    budget = {"budget_percent": {"value": 20}, "min_retry_concurrency": 16}
    return {"thresholds": [{**limits, "retry_budget": budget}]}


# A predictor that cannot be reached, does not answer in time, or whose pod's proxy says so, is passed over for 5 s,
# then 10 s, …. When all are, the list server answers, or, where there is no list, they are asked all the same (Envoy's
# panic threshold).
_OUTLIERS = {
    "interval": "1s",
    "base_ejection_time": "5s",
    "max_ejection_time": "60s",
    "max_ejection_percent": 100,
    # Three times in a row no connection, a broken one, no answer in time, or an answer that is a failure. Envoy would
    # count these apart from answers if told to, but each connection that is made sets that count back: who takes
    # connections and never answers would not be noticed.
    "consecutive_gateway_failure": 3,
    "enforcing_consecutive_gateway_failure": 100,
    "enforcing_success_rate": 0,
}
# Of answers only these count: 500 is the same from all, and who says when to come back is well, and has too much to do.
_FAILED = {"name": ":status", "string_match": {"safe_regex": {"regex": "50[234]"}}}
_NOT_OVERLOADED = {"name": "retry-after", "present_match": True, "invert_match": True}
_FAILURES = {
    "outlier_detection": {"error_matcher": {"http_response_headers_match": {"headers": [_FAILED, _NOT_OVERLOADED]}}}
}


def _discovery(upstream: Upstream) -> Json:
    if not upstream.many:
        return {"type": "STATIC"}
    # A Service without an address of its own (KServe's, in Standard mode) has one for each pod, which come and go.
    return {
        "type": "STRICT_DNS",
        "dns_lookup_family": "ALL",
        "dns_refresh_rate": "2s",
        "upstream_connection_options": {"tcp_keepalive": _SILENT},
        "upstream_bind_config": {"socket_options": [_UNACKNOWLEDGED]},
    }


# A pod whose node is gone closes nothing. An idle connection to it is closed after 8 s, so that it takes no request;
# one with a request on it when nothing of that has been acknowledged for 3 s.
_SILENT = {"keepalive_time": 5, "keepalive_interval": 1, "keepalive_probes": 3}
_UNACKNOWLEDGED = {
    "description": "TCP_USER_TIMEOUT of Linux, in milliseconds",
    "level": 6,
    "name": 18,
    "int_value": 3000,
    "state": "STATE_PREBIND",
}
