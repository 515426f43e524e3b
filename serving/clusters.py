"""Who is asked: clusters of Envoy's v3 API as JSON, with what Envoy takes on for each and when it passes one over."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .names import FALLBACK, TYPE
from .wire import PLACE, Json, client_socket

CLUSTERS_URL = f"{TYPE}.config.cluster.v3.Cluster"
RETRIES = 256
"""Requests on a second or third try at a time: past that, the first try's failure is the answer."""
_KEEPALIVE = "50s"  # Below the predictor's own 65 s, so that a connection is never used just as its far end closes it.


@dataclass(frozen=True)
class Upstream:
    """The predictors of one version, or another service: the name of their cluster, and where they are.

    A name stands for one address in the life of a gateway, so that a cluster is never changed under its requests.
    `host` is an IP address or a DNS name; `host_header`, if any, is sent instead of the caller's.
    """

    name: str
    port: int
    host: str = "127.0.0.1"
    host_header: str = ""
    kind: Literal["predictor", "shadow", "intake"] = "predictor"
    tls: bool = False
    """Spoken to by TLS: it has a certificate for `host`."""

    @property
    def many(self) -> bool:
        """Whether a second try may meet another process: a name may stand for several, an address does not."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


def clusters(named: Iterable[Upstream], secrets: Path = PLACE) -> list[Json]:
    """The resources that say where everyone is; of predictors also the one that ends at the list server.

    secrets: where Envoy finds the certificates for those that speak TLS (wire.py).
    """
    found = []
    for upstream in named:
        found.append(_cluster(upstream, secrets))
        if upstream.kind == "predictor":
            found.append(_with_fallback(upstream))
    return found


def with_fallback(upstream: Upstream) -> str:
    """The name of the cluster that is these predictors, and the list server where none of them is to be had."""
    return f"{upstream.name}+{FALLBACK}"


def address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def http_options(**more: Json) -> Json:
    """What a cluster says of its protocol."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": f"type.googleapis.com/{name}",
        "common_http_protocol_options": {"idle_timeout": _KEEPALIVE},
        "explicit_http_config": {"http_protocol_options": {}},
        **more,
    }
    return {name: options}


def on_loopback(name: str, port: int) -> Json:
    """A cluster for the gateway's own use."""
    return _own(name, address("127.0.0.1", port))


def on_socket(name: str, path: str) -> Json:
    """The same on a Unix socket."""
    return _own(name, {"pipe": {"path": path}})


def _own(name: str, place: Json) -> Json:
    endpoint = {"endpoint": {"address": place}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": http_options(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _cluster(upstream: Upstream, secrets: Path) -> Json:
    predictors = upstream.kind == "predictor"
    endpoint = {"endpoint": {"address": address(upstream.host, upstream.port)}}
    assignment: Json = {"cluster_name": upstream.name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    if predictors:
        # As long as one predictor is to be had the others' share goes there, not to the list server.
        assignment["policy"] = {"overprovisioning_factor": 10_000}
    return {
        "@type": CLUSTERS_URL,
        "name": upstream.name,
        **_discovery(upstream),
        "connect_timeout": "2s",
        # Of several predictors the one with the fewest requests under way: one ranking may take many times another. Of
        # several intakes the client's own, which knows what it has taken from it.
        "lb_policy": "MAGLEV" if upstream.kind == "intake" else "LEAST_REQUEST",
        "circuit_breakers": _breakers(upstream),
        **({} if upstream.kind == "shadow" else {"outlier_detection": _OUTLIERS}),
        "typed_extension_protocol_options": http_options(**({} if upstream.kind == "shadow" else _FAILURES)),
        "load_assignment": assignment,
        **({"transport_socket": client_socket(upstream.host, secrets)} if upstream.tls else {}),
    }


def _with_fallback(upstream: Upstream) -> Json:
    config = {
        "@type": f"{TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
        "clusters": [upstream.name, FALLBACK],
    }
    return {
        "@type": CLUSTERS_URL,
        "name": with_fallback(upstream),
        "connect_timeout": "2s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": config},
        # What a failure is is asked here, and who fails there.
        "typed_extension_protocol_options": http_options(**_FAILURES),
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
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 3,
    "consecutive_5xx": 5,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
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
    return {"type": "STRICT_DNS", "dns_lookup_family": "ALL", "dns_refresh_rate": "2s"}
