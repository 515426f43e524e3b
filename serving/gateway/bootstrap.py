"""What Envoy is told once, as it starts: who listens, what is logged, and where clusters and routes come from.

On a laptop they come from files that Envoy reads again when they are replaced by a rename; in a cluster from the xDS
service beside it, because a file out of a ConfigMap would lag by up to a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from endcap_serving.gateway.access.filters import MADE_HERE, build_http_filters
from endcap_serving.gateway.admin import MODE, SOCKET
from endcap_serving.gateway.clusters import TYPE, Json, build_address, build_loopback_cluster, build_socket_cluster
from endcap_serving.gateway.envoy_replies import build_error_mapping
from endcap_serving.gateway.envoy_tracing import EnvoyTracing, build_collector_cluster, build_tracing
from endcap_serving.gateway.limits import Limits, build_connection_limits, build_request_limits
from endcap_serving.gateway.pseudonyms import Shoppers
from endcap_serving.names import (
    CLIENT_HEADER,
    DEGRADED_HEADER,
    FALLBACK,
    RANKING_HEADER,
    ROUTES,
    SHOPPER_HEADER,
    SURFACE_HEADER,
    VARIANT_HEADER,
)

READY = "/ready"
"""Answered 200 by Envoy itself as long as it takes requests: it does not listen before it has routes."""
POLL = "0.25s"
"""Between two questions to the xDS service; Envoy adds up to as much again, so a change arrives in half a second."""
_LIMITS = Limits()
_FOREVER = "0s"
_STDOUT: Json = {"@type": f"{TYPE}.extensions.access_loggers.stream.v3.StdoutAccessLog"}
_MANAGER_URL = f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def build_file_bootstrap(
    folder: Path,
    host: str,
    port: int,
    *,
    fallback_port: int = 0,
    limits: Limits = _LIMITS,
    spans: EnvoyTracing | None = None,
    shoppers: Shoppers = "plain",
) -> Json:
    """A listener on `host:port` (0: any free), an admin page on a socket in `folder`, in which Envoy runs.

    Clusters are read from `folder/clusters.json`, routes from `folder/routes.json`; `folder/access.log` gets a JSON
    line a request, or standard output, where pseudonyms are still to be made. `fallback_port`: of the list server on
    loopback; 0: there is none.
    """
    log = {"@type": f"{TYPE}.extensions.access_loggers.file.v3.FileAccessLog", "path": str(folder / "access.log")}
    log = _access_log(_STDOUT if shoppers == "pseudonym" else log, shoppers)
    manager = _manager(_file(folder / "routes.json"), lambda name: _file(folder / f"{name}.json"), log, limits, spans)
    listener = _listener(host, port, manager)
    # With ports shared, a second gateway could listen on the same one and take half of the connections.
    listener = {**listener, "enable_reuse_port": False}
    known = [build_loopback_cluster(FALLBACK, fallback_port)] if fallback_port else []
    # By its short name: the path of a folder may be longer than that of a socket may be.
    return _bootstrap(listener, _file(folder / "clusters.json"), SOCKET, known, limits, spans)


def build_xds_bootstrap(
    xds_port: int,
    host: str,
    port: int,
    admin: str,
    metrics_port: int = 0,
    *,
    trusted_hops: int = 0,
    limits: Limits = _LIMITS,
    spans: EnvoyTracing | None = None,
    shoppers: Shoppers = "plain",
    tls: Json | None = None,
) -> Json:
    """The same with clusters, routes and lists from the xDS service on `xds_port` of loopback; the log is stdout.

    `metrics_port` (0: none) answers Prometheus and READY, and nothing else of the admin page, which is on the socket
    `admin`. `tls`: the socket of the gateway's listener (envoy_tls.py). trusted_hops: proxies in front whose
    x-forwarded-for is believed.
    """
    log = _access_log(_STDOUT, shoppers)
    manager = _manager(_service(), lambda _: _service(), log, limits, spans, trusted_hops)
    listener = _listener(host, port, manager, tls)
    known = [build_loopback_cluster("xds", xds_port), build_loopback_cluster(FALLBACK, xds_port)]
    bootstrap = _bootstrap(listener, _service(), admin, known, limits, spans)
    bootstrap["typed_dns_resolver_config"] = build_dns_resolver()
    if metrics_port:
        bootstrap["static_resources"]["clusters"].append(build_socket_cluster("admin", admin))
        bootstrap["static_resources"]["listeners"].append(_metrics(host, metrics_port))
    return bootstrap


def build_dns_resolver(**more: Json | list[Json]) -> Json:
    """Who is asked for addresses: the pod's own name servers, or others by `resolvers`.

    A new version has no predictors before its name is known: a question that is lost is asked again after a second, in
    place of five.
    """
    kind = f"{TYPE}.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    config = {"@type": kind, "query_timeout_seconds": 1, "query_tries": 3, **more}
    return {"name": "envoy.network.dns_resolver.cares", "typed_config": config}


def _bootstrap(
    listener: Json, clusters: Json, admin: str, known: list[Json], limits: Limits, spans: EnvoyTracing | None
) -> Json:
    return {
        "node": {"id": "endcap", "cluster": "endcap"},
        # Envoy refuses patterns past 100 instructions, and a path names its recommender up to four times.
        "layered_runtime": {"layers": [{"name": "endcap", "static_layer": {"re2.max_program_size.error_level": 1000}}]},
        "overload_manager": build_connection_limits(limits),
        "admin": {"address": {"pipe": {"path": admin, "mode": MODE}}, "ignore_global_conn_limit": True},
        "dynamic_resources": {"cds_config": clusters},
        "static_resources": {
            "listeners": [listener],
            "clusters": [*known, *([build_collector_cluster(spans)] if spans else [])],
        },
    }


def _metrics(host: str, port: int) -> Json:
    manager = {
        "@type": _MANAGER_URL,
        "stat_prefix": "metrics",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "metrics",
                    "domains": ["*"],
                    "routes": [{"match": {"path": "/stats/prometheus"}, "route": {"cluster": "admin"}}],
                }
            ]
        },
        # For the kubelet, which has no certificate to show where clients must have one.
        "http_filters": [_health_check(), _filter("router", "router.v3.Router")],
    }
    return {
        "name": "metrics",
        "address": build_address(host, port),
        "filter_chains": [_chain(manager)],
        "ignore_global_conn_limit": True,
    }


def _listener(host: str, port: int, manager: Json, tls: Json | None = None) -> Json:
    chain = {**_chain(manager), **({"transport_socket": tls} if tls else {})}
    return {"name": "gateway", "address": build_address(host, port), "filter_chains": [chain]}


def _chain(manager: Json) -> Json:
    return {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}


def _manager(
    routes: Json,
    settings: Callable[[str], Json],
    log: Json,
    limits: Limits,
    spans: EnvoyTracing | None,
    trusted_hops: int = 0,
) -> Json:
    """settings: where those of a filter for access are, by its name."""
    # UuidRequestIdConfig would otherwise write its tracing decision into a caller's own request id.
    identity = {
        "@type": f"{TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        "pack_trace_reason": False,
        # Nor draw by it: a caller's may be no UUID, and would never be traced.
        "use_request_id_for_trace_sampling": False,
    }
    return {
        "@type": _MANAGER_URL,
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {"typed_config": identity},
        # A path that climbs out of its recommender's must not be matched as if it did not.
        "normalize_path": True,
        # The connection's own, or what so many proxies in front say; never what a client says.
        "use_remote_address": True,
        "xff_num_trusted_hops": trusted_hops,
        "skip_xff_append": True,
        **build_request_limits(limits, MADE_HERE),
        **({"tracing": build_tracing(spans)} if spans else {}),
        "access_log": [log],
        "local_reply_config": {"mappers": build_error_mapping(limits)},
        "rds": {"route_config_name": ROUTES, "config_source": routes},
        "http_filters": [
            _health_check(),
            *build_http_filters(settings),
            _buffer(limits),
            _filter("router", "router.v3.Router"),
        ],
    }


def _health_check() -> Json:
    path = {"name": ":path", "string_match": {"exact": READY}}
    return _filter("health_check", "health_check.v3.HealthCheck", pass_through_mode=False, headers=[path])


def _buffer(limits: Limits) -> Json:
    return _filter("buffer", "buffer.v3.Buffer", max_request_bytes=limits.body)


def _filter(name: str, kind: str, **settings: object) -> Json:
    config = {"@type": f"{TYPE}.extensions.filters.http.{kind}", **settings}
    return {"name": f"envoy.filters.http.{name}", "typed_config": config}


def _access_log(log: Json, shoppers: Shoppers) -> Json:
    line: Json = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "recommender": "%ROUTE_NAME%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "ms": "%DURATION%",
        "upstream_us": "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%",
        "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "client": f"%REQ({CLIENT_HEADER})%",
        "shopper": f"%REQ({SHOPPER_HEADER})%",
        "variant": f"%RESP({VARIANT_HEADER})%",
        "ranking": f"%RESP({RANKING_HEADER})%",
        "surface": f"%REQ({SURFACE_HEADER})%",
        "degraded": f"%RESP({DEGRADED_HEADER})%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "upstream": "%UPSTREAM_HOST%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    if shoppers != "plain":
        # Of a path what comes after it may name anybody.
        line["path"] = "%PATH(NQ:ORIG)%"
    if shoppers == "none":
        del line["shopper"]
    return {
        "name": "envoy.access_loggers.gateway",
        "filter": {"not_health_check_filter": {}},
        "typed_config": {**log, "log_format": {"json_format": line}},
    }


def _file(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _service() -> Json:
    source = {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": ["xds"],
        "refresh_delay": POLL,
        "request_timeout": "2s",
    }
    # Waits for its first answer, rather than listen without routes.
    return {"api_config_source": source, "resource_api_version": "V3", "initial_fetch_timeout": _FOREVER}
