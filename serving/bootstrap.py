"""What Envoy is told once, as it starts: who listens, what is logged, and where clusters and routes come from.

On a laptop they come from files that Envoy reads again when they are replaced by a rename; in a cluster from the xDS
service beside it, because a file out of a ConfigMap would lag by up to a minute.
"""

from __future__ import annotations

from pathlib import Path

from .gateway import ROUTES, SHOPPER_HEADER, TYPE, VARIANT_HEADER, Json, address, http_options

MAX_BODY = 16 * 2**20
"""Bytes; a larger body is answered 413."""
READY = "/ready"
"""Answered 200 by Envoy itself as long as it takes requests: it does not listen before it has routes."""
POLL = "0.25s"
"""Between two questions to the xDS service; Envoy adds up to as much again, so a change arrives in half a second."""
_FOREVER = "0s"
_MANAGER = f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def on_files(folder: Path, host: str, port: int) -> Json:
    """A listener on `host:port` (0: any free), an admin page on a free port of loopback.

    Clusters are read from `folder/clusters.json`, routes from `folder/routes.json`; `folder/access.log` gets a JSON
    line a request.
    """
    log = {"@type": f"{TYPE}.extensions.access_loggers.file.v3.FileAccessLog", "path": str(folder / "access.log")}
    # With ports shared, a second gateway could listen on the same one and take half of the connections.
    listener = {**_listener(host, port, _file(folder / "routes.json"), log), "enable_reuse_port": False}
    return _bootstrap(listener, _file(folder / "clusters.json"), admin_port=0)


def on_xds(xds_port: int, host: str, port: int, admin_port: int, metrics_port: int = 0) -> Json:
    """The same with clusters and routes from the xDS service on `xds_port` of loopback; the access log is stdout.

    `metrics_port` (0: none) answers Prometheus, and nothing else of the admin page on `admin_port` of loopback.
    """
    log = {"@type": f"{TYPE}.extensions.access_loggers.stream.v3.StdoutAccessLog"}
    bootstrap = _bootstrap(_listener(host, port, _service(), log), _service(), admin_port)
    bootstrap["static_resources"]["clusters"] = [_on_loopback("xds", xds_port)]
    if metrics_port:
        bootstrap["static_resources"]["clusters"].append(_on_loopback("admin", admin_port))
        bootstrap["static_resources"]["listeners"].append(_metrics(host, metrics_port))
    return bootstrap


def _bootstrap(listener: Json, clusters: Json, admin_port: int) -> Json:
    return {
        "node": {"id": "endcap", "cluster": "endcap"},
        # Envoy refuses patterns past 100 instructions, and a path names its recommender up to four times.
        "layered_runtime": {"layers": [{"name": "endcap", "static_layer": {"re2.max_program_size.error_level": 1000}}]},
        "admin": {"address": address("127.0.0.1", admin_port)},
        "dynamic_resources": {"cds_config": clusters},
        "static_resources": {"listeners": [listener]},
    }


def _on_loopback(name: str, port: int) -> Json:
    endpoint = {"endpoint": {"address": address("127.0.0.1", port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": http_options(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _metrics(host: str, port: int) -> Json:
    manager = {
        "@type": _MANAGER,
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
        "http_filters": [_filter("router", "router.v3.Router")],
    }
    return {"name": "metrics", "address": address(host, port), "filter_chains": [_chain(manager)]}


def _listener(host: str, port: int, routes: Json, log: Json) -> Json:
    chain = _chain(_http_connection_manager(routes, log))
    return {"name": "gateway", "address": address(host, port), "filter_chains": [chain]}


def _chain(manager: Json) -> Json:
    return {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}


def _http_connection_manager(routes: Json, log: Json) -> Json:
    # UuidRequestIdConfig would otherwise write its tracing decision into a caller's own request id.
    identity = {
        "@type": f"{TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        "pack_trace_reason": False,
    }
    return {
        "@type": _MANAGER,
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {"typed_config": identity},
        # A path that climbs out of its recommender's must not be matched as if it did not.
        "normalize_path": True,
        "access_log": [_access_log(log)],
        # What Envoy answers itself, in the shape of the predictor's errors.
        "local_reply_config": {"mappers": [_error_as_json()]},
        "rds": {"route_config_name": ROUTES, "config_source": routes},
        "http_filters": [_health_check(), _buffer(), _filter("router", "router.v3.Router")],
    }


def _health_check() -> Json:
    path = {"name": ":path", "string_match": {"exact": READY}}
    return _filter("health_check", "health_check.v3.HealthCheck", pass_through_mode=False, headers=[path])


def _buffer() -> Json:
    return _filter("buffer", "buffer.v3.Buffer", max_request_bytes=MAX_BODY)


def _filter(name: str, kind: str, **settings: object) -> Json:
    config = {"@type": f"{TYPE}.extensions.filters.http.{kind}", **settings}
    return {"name": f"envoy.filters.http.{name}", "typed_config": config}


def _error_as_json() -> Json:
    limit = {"default_value": 400, "runtime_key": "gateway.error_status"}
    return {
        "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": limit}}},
        "body_format_override": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
    }


def _access_log(log: Json) -> Json:
    line = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "recommender": "%ROUTE_NAME%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "ms": "%DURATION%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "shopper": f"%REQ({SHOPPER_HEADER})%",
        "variant": f"%RESP({VARIANT_HEADER})%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
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
