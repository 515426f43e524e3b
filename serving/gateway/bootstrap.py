"""Envoy's start-up configuration: its listener, its access log, and where clusters and routes come from.

On a laptop they come from files, which Envoy reads again when a rename replaces them. In a cluster they come from the
xDS service beside it, because a file of a ConfigMap would lag by up to a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from endcap_serving.gateway.access.filters import GATEWAY_HEADERS, build_http_filters
from endcap_serving.gateway.admin import MODE, SOCKET
from endcap_serving.gateway.clusters import TYPE, Json, build_address, build_loopback_cluster, build_socket_cluster
from endcap_serving.gateway.envoy_replies import build_error_mapping
from endcap_serving.gateway.envoy_tracing import EnvoyTracing, build_collector_cluster, build_tracing
from endcap_serving.gateway.limits import Limits, build_connection_limits, build_request_limits
from endcap_serving.gateway.pseudonyms import ShopperLogging
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
"""Envoy itself answers this path with 200 as long as it takes requests. It does not listen before it has routes."""
POLL = "0.25s"
"""The pause between two questions to the xDS service. Envoy adds up to as much again, so a change arrives within half a
second."""
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
    tracing: EnvoyTracing | None = None,
    shoppers: ShopperLogging = "plain",
) -> Json:
    """Build the configuration of a gateway whose clusters and routes lie in files.

    Parameters
    ----------
    folder
        The folder in which Envoy runs. It reads `clusters.json` and `routes.json` there, has its admin socket there,
        and writes a JSON line for each request to `access.log`. If shoppers get pseudonyms, it writes the lines to
        standard output instead, for its parent to rewrite (pseudonyms.py).
    host, port
        The address to listen on; port 0: any free port.
    fallback_port
        The list server's port on loopback; 0: there is none.
    limits
        What Envoy takes from clients.
    tracing
        Where Envoy sends spans; None: nowhere.
    shoppers
        How the access log shows shoppers' ids.

    Returns
    -------
    dict
        Envoy's ``Bootstrap``.
    """
    log = {"@type": f"{TYPE}.extensions.access_loggers.file.v3.FileAccessLog", "path": str(folder / "access.log")}
    log = _build_access_log(_STDOUT if shoppers == "pseudonym" else log, shoppers)
    manager = _build_connection_manager(
        _build_file_source(folder / "routes.json"),
        lambda name: _build_file_source(folder / f"{name}.json"),
        log,
        limits,
        tracing,
    )
    listener = _build_listener(host, port, manager)
    # If ports could be shared, a second gateway on the same port would take half of the connections.
    listener = {**listener, "enable_reuse_port": False}
    local_clusters = [build_loopback_cluster(FALLBACK, fallback_port)] if fallback_port else []
    # The admin socket has its short name, because a folder's path may be longer than a socket's may be.
    return _build_bootstrap(
        listener, _build_file_source(folder / "clusters.json"), SOCKET, local_clusters, limits, tracing
    )


def build_xds_bootstrap(
    xds_port: int,
    host: str,
    port: int,
    admin: str,
    metrics_port: int = 0,
    *,
    trusted_hops: int = 0,
    limits: Limits = _LIMITS,
    tracing: EnvoyTracing | None = None,
    shoppers: ShopperLogging = "plain",
    tls: Json | None = None,
) -> Json:
    """Build the configuration of a gateway that polls an xDS service. It writes its access log to standard output.

    Parameters
    ----------
    xds_port
        The port of the xDS service on loopback. The service answers for the list server too.
    host, port
        The address to listen on.
    admin
        The path of the admin page's socket.
    metrics_port
        A port that answers Prometheus and `READY` and shows nothing else of the admin page; 0: none.
    trusted_hops
        How many proxies in front set an x-forwarded-for that Envoy believes.
    limits
        What Envoy takes from clients.
    tracing
        Where Envoy sends spans; None: nowhere.
    shoppers
        How the access log shows shoppers' ids.
    tls
        The TLS socket of the listener (`envoy_tls.build_server_socket`); None: no TLS.

    Returns
    -------
    dict
        Envoy's ``Bootstrap``.
    """
    log = _build_access_log(_STDOUT, shoppers)
    manager = _build_connection_manager(
        _build_xds_source(), lambda _: _build_xds_source(), log, limits, tracing, trusted_hops
    )
    listener = _build_listener(host, port, manager, tls)
    local_clusters = [build_loopback_cluster("xds", xds_port), build_loopback_cluster(FALLBACK, xds_port)]
    bootstrap = _build_bootstrap(listener, _build_xds_source(), admin, local_clusters, limits, tracing)
    bootstrap["typed_dns_resolver_config"] = build_dns_resolver()
    if metrics_port:
        bootstrap["static_resources"]["clusters"].append(build_socket_cluster("admin", admin))
        bootstrap["static_resources"]["listeners"].append(_build_metrics_listener(host, metrics_port))
    return bootstrap


def build_dns_resolver(**options: Json | list[Json]) -> Json:
    """Build Envoy's DNS resolver. It asks the pod's own name servers, unless `options` names others as `resolvers`.

    Envoy repeats a lost question after one second, in place of five: a new version has no predictors before its name
    resolves.
    """
    kind = f"{TYPE}.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    config = {"@type": kind, "query_timeout_seconds": 1, "query_tries": 3, **options}
    return {"name": "envoy.network.dns_resolver.cares", "typed_config": config}


def _build_bootstrap(
    listener: Json, clusters: Json, admin: str, local_clusters: list[Json], limits: Limits, tracing: EnvoyTracing | None
) -> Json:
    """Build what both kinds of gateway have. clusters: where Envoy reads the predictors' clusters."""
    return {
        "node": {"id": "endcap", "cluster": "endcap"},
        # Envoy refuses patterns of more than 100 instructions, and a path names its recommender up to four times.
        "layered_runtime": {"layers": [{"name": "endcap", "static_layer": {"re2.max_program_size.error_level": 1000}}]},
        "overload_manager": build_connection_limits(limits),
        "admin": {"address": {"pipe": {"path": admin, "mode": MODE}}, "ignore_global_conn_limit": True},
        "dynamic_resources": {"cds_config": clusters},
        "static_resources": {
            "listeners": [listener],
            "clusters": [*local_clusters, *([build_collector_cluster(tracing)] if tracing else [])],
        },
    }


def _build_metrics_listener(host: str, port: int) -> Json:
    """Build the listener for Prometheus and the kubelet, which shows nothing else of the admin page."""
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
        # The kubelet asks here, because it has no certificate to show where clients must have one.
        "http_filters": [_build_health_check(), _build_filter("router", "router.v3.Router")],
    }
    return {
        "name": "metrics",
        "address": build_address(host, port),
        "filter_chains": [_build_filter_chain(manager)],
        "ignore_global_conn_limit": True,
    }


def _build_listener(host: str, port: int, manager: Json, tls: Json | None = None) -> Json:
    chain = {**_build_filter_chain(manager), **({"transport_socket": tls} if tls else {})}
    return {"name": "gateway", "address": build_address(host, port), "filter_chains": [chain]}


def _build_filter_chain(manager: Json) -> Json:
    return {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}


def _build_connection_manager(
    routes: Json,
    find_settings: Callable[[str], Json],
    log: Json,
    limits: Limits,
    tracing: EnvoyTracing | None,
    trusted_hops: int = 0,
) -> Json:
    """Build the HTTP manager. find_settings: returns where Envoy reads the settings of a filter for access, by name."""
    # Without this, Envoy would write its tracing decision into a caller's own request id.
    request_ids = {
        "@type": f"{TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        "pack_trace_reason": False,
        # Envoy must not sample by it either: an id that is no UUID would never be traced.
        "use_request_id_for_trace_sampling": False,
    }
    return {
        "@type": _MANAGER_URL,
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {"typed_config": request_ids},
        # So a path with `..` cannot leave its recommender's paths after it was matched.
        "normalize_path": True,
        # The client's address is the connection's, or the one that trusted proxies report; never what a client says.
        "use_remote_address": True,
        "xff_num_trusted_hops": trusted_hops,
        "skip_xff_append": True,
        **build_request_limits(limits, GATEWAY_HEADERS),
        **({"tracing": build_tracing(tracing)} if tracing else {}),
        "access_log": [log],
        "local_reply_config": {"mappers": build_error_mapping(limits)},
        "rds": {"route_config_name": ROUTES, "config_source": routes},
        "http_filters": [
            _build_health_check(),
            *build_http_filters(find_settings),
            _build_buffer(limits),
            _build_filter("router", "router.v3.Router"),
        ],
    }


def _build_health_check() -> Json:
    """Answer `READY` without a predictor."""
    path = {"name": ":path", "string_match": {"exact": READY}}
    return _build_filter("health_check", "health_check.v3.HealthCheck", pass_through_mode=False, headers=[path])


def _build_buffer(limits: Limits) -> Json:
    """Hold a request back until its body is whole, and bound the body."""
    return _build_filter("buffer", "buffer.v3.Buffer", max_request_bytes=limits.body)


def _build_filter(name: str, kind: str, **settings: object) -> Json:
    config = {"@type": f"{TYPE}.extensions.filters.http.{kind}", **settings}
    return {"name": f"envoy.filters.http.{name}", "typed_config": config}


def _build_access_log(log: Json, shoppers: ShopperLogging) -> Json:
    """Write one JSON line for each request that is no health check."""
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
        # The query of a path may name a shopper, so the log leaves it out.
        line["path"] = "%PATH(NQ:ORIG)%"
    if shoppers == "none":
        del line["shopper"]
    return {
        "name": "envoy.access_loggers.gateway",
        "filter": {"not_health_check_filter": {}},
        "typed_config": {**log, "log_format": {"json_format": line}},
    }


def _build_file_source(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _build_xds_source() -> Json:
    source = {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": ["xds"],
        "refresh_delay": POLL,
        "request_timeout": "2s",
    }
    # Envoy waits for the first answer, rather than listen without routes.
    return {"api_config_source": source, "resource_api_version": "V3", "initial_fetch_timeout": _FOREVER}
