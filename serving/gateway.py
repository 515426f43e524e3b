"""What Envoy is told: who listens, where the predictors are, and who gets which.

The bootstrap never changes while the gateway runs; clusters and routes lie in files of their own, which Envoy reads
again when they are replaced by a rename. Plain functions from values to Envoy's v3 API as JSON.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SHOPPER_HEADER = "x-endcap-shopper"
VARIANT_HEADER = "x-endcap-variant"
ROUTES = "routes"
TOTAL_WEIGHT = 10_000
"""Shares are kept to a hundredth of a percent."""
MAX_BODY = 16 * 2**20
"""Bytes; a larger body is answered 413."""
_TYPE = "type.googleapis.com/envoy"
_KEEPALIVE = "50s"  # Below the predictor's own 65 s, so that a connection is never used just as its far end closes it.


@dataclass(frozen=True)
class Upstream:
    """One predictor process: its cluster's name (unique in the life of the gateway) and its port on loopback."""

    name: str
    port: int


@dataclass(frozen=True)
class Split:
    """Who answers: `canary`, if any, answers `share` (0 to 1) of the shoppers, chosen by their hash with `salt`."""

    stable: Upstream
    canary: Upstream | None = None
    share: float = 0.0
    salt: str = ""


def bootstrap(folder: Path, host: str, port: int) -> Json:
    """The start-up configuration: a listener on `host:port` (0: any free), an admin page on a free port of loopback.

    Clusters are read from `folder/clusters.json`, routes from `folder/routes.json`; `folder/access.log` gets a JSON
    line a request.
    """
    return {
        "node": {"id": "endcap", "cluster": "endcap"},
        "admin": {"address": _address("127.0.0.1", 0)},
        "dynamic_resources": {"cds_config": _file(folder / "clusters.json")},
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": _address(host, port),
                    # Otherwise a second gateway could listen on the same port and take half of the connections.
                    "enable_reuse_port": False,
                    "filter_chains": [{"filters": [_http_connection_manager(folder)]}],
                }
            ]
        },
    }


def clusters(upstreams: list[Upstream], version: int) -> Json:
    """The discovery response that names every predictor process."""
    options = {
        "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": _KEEPALIVE},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    resources = [
        {
            "@type": f"{_TYPE}.config.cluster.v3.Cluster",
            "name": upstream.name,
            "type": "STATIC",
            "connect_timeout": "2s",
            "typed_extension_protocol_options": {
                f"{_TYPE[20:]}.extensions.upstreams.http.v3.HttpProtocolOptions": options
            },
            "load_assignment": {
                "cluster_name": upstream.name,
                "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": _address("127.0.0.1", upstream.port)}}]},
                ],
            },
        }
        for upstream in upstreams
    ]
    return {"version_info": str(version), "resources": resources}


def routes(split: Split, version: int) -> Json:
    """The discovery response that shares shoppers out.

    Who sends the header is shared out by its hash, who does not gets stable.
    """
    served = {"safe_regex": {"regex": "/v1/models(/.*)?|/v2/models(/.*)?|/v2/health/.*"}}
    action = {
        "timeout": "30s",
        "retry_policy": {"retry_on": "connect-failure", "num_retries": 1},
    }
    stable_only = {"match": served, "route": {**action, "cluster": split.stable.name}, **_names("stable")}
    weight = round(split.share * TOTAL_WEIGHT)
    by_hash = [_weighted(split, split.canary, weight, served, action)] if split.canary and weight else []
    nothing = {
        "match": {"prefix": "/"},
        "direct_response": {
            "status": 404,
            "body": {"inline_string": json.dumps({"error": "nothing here; POST to /v1/models/<name>:predict"})},
        },
    }
    host = {"name": "endcap", "domains": ["*"], "routes": [*by_hash, stable_only, nothing]}
    resource = {
        "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "virtual_hosts": [host],
        # A route may name a cluster that Envoy has not warmed yet; whoever writes both files waits between them.
        "validate_clusters": False,
    }
    return {"version_info": str(version), "resources": [resource]}


def replace(file: Path, document: Json) -> None:
    """Put a document in its place in one step: Envoy reads a watched file when another is moved onto it."""
    draft = file.with_name(f".{file.name}")
    draft.write_text(json.dumps(document, indent=1))
    draft.replace(file)


def _weighted(split: Split, canary: Upstream, weight: int, served: Json, action: Json) -> Json:
    """The route of the shoppers who can be told apart: `weight` of `TOTAL_WEIGHT` hashes meet the canary.

    Envoy lays the weighted clusters side by side on 0 … 9,999 and picks the one that the header's hash, modulo 10,000,
    falls into. With the canary first, a larger share keeps every shopper of the smaller one. The salt goes in front of
    the header before it is hashed, so that each rollout meets other shoppers.
    """
    weighted = [
        {"name": canary.name, "weight": weight, **_names("canary")},
        {"name": split.stable.name, "weight": TOTAL_WEIGHT - weight, **_names("stable")},
    ]
    salted = {
        "header": {
            "header_name": SHOPPER_HEADER,
            "regex_rewrite": {
                "pattern": {"regex": "^(.*)$"},
                "substitution": rf"{re.sub('[^0-9A-Za-z]', '-', split.salt)}/\1",
            },
        }
    }
    return {
        "match": {**served, "headers": [{"name": SHOPPER_HEADER, "string_match": {"safe_regex": {"regex": ".+"}}}]},
        "route": {
            **action,
            "weighted_clusters": {"clusters": weighted, "use_hash_policy": True},
            "hash_policy": [salted],
        },
    }


def _http_connection_manager(folder: Path) -> Json:
    # UuidRequestIdConfig would otherwise write its tracing decision into a caller's own request id.
    identity = {
        "@type": f"{_TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        "pack_trace_reason": False,
    }
    buffer = {
        "@type": f"{_TYPE}.extensions.filters.http.buffer.v3.Buffer",
        "max_request_bytes": MAX_BODY,
    }
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {"typed_config": identity},
        "access_log": [_access_log(folder / "access.log")],
        "rds": {"route_config_name": ROUTES, "config_source": _file(folder / "routes.json")},
        "http_filters": [
            {"name": "envoy.filters.http.buffer", "typed_config": buffer},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _access_log(file: Path) -> Json:
    line = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
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
    config = {
        "@type": f"{_TYPE}.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(file),
        "log_format": {"json_format": line},
    }
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def _names(variant: str) -> Json:
    header = {"header": {"key": VARIANT_HEADER, "value": variant}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {"response_headers_to_add": [header]}


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _file(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
