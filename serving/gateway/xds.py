"""Run the xDS service: ``python -m endcap_serving.gateway.xds --namespace NS [--port 18000] [--state FILE]``

It is a small REST server beside the gateway's Envoy, and a child of the same process (envoy.py). It watches the
InferenceServices of the namespace (service_watch.py), and answers Envoy's questions (xds_service.py).
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from endcap.errors import UserError
from endcap_serving.gateway.access.policy import RANKINGS
from endcap_serving.gateway.access.settings import AccessSettings, add_access_options
from endcap_serving.gateway.envoy_tls import SDS_FOLDER
from endcap_serving.gateway.routes import Upstream
from endcap_serving.gateway.xds_service import XdsService, make_xds_app
from endcap_serving.http_protocol import BoundedProtocol
from endcap_serving.json_log import CANNOT_RUN, log_json_lines, make_log_fields

log = logging.getLogger("endcap.xds")
API_SERVER_LIMIT = 5.0
"""Seconds that the API server may take to answer before the service starts from the last state."""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None: this process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m endcap_serving.gateway.xds",
        description="Answer Envoy's questions for clusters and routes, from the InferenceServices of a namespace.",
    )
    parser.add_argument("--namespace", required=True, help="the namespace of the InferenceServices")
    parser.add_argument("--port", type=int, default=18000, help="the port on loopback to listen on [18000]")
    parser.add_argument("--state", type=Path, help="the file that keeps the last state; left out: none")
    parser.add_argument(
        "--intake", type=parse_intake, metavar="HOST:PORT", help="the service that takes events; left out: none"
    )
    parser.add_argument("--intake-tls", action="store_true", help="speak TLS with the intake")
    parser.add_argument("--upstream-tls", action="store_true", help="Envoy has certificates for predictors with TLS")
    parser.add_argument(
        "--secrets",
        type=Path,
        default=SDS_FOLDER,
        metavar="DIR",
        help="the folder where Envoy finds these certificates",
    )
    add_access_options(parser)
    return parser.parse_args(argv)


def parse_intake(address: str) -> Upstream:
    """Parse the intake's HOST:PORT. Raises argparse.ArgumentTypeError if it is none."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise argparse.ArgumentTypeError(
            f"found {address!r}; allowed: HOST:PORT, such as endcap-intake.endcap.svc:8080"
        )
    return Upstream(f"intake/{address}", int(port), host, kind="intake")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until it is killed. Returns the exit status."""
    import uvicorn

    from endcap.cluster.connect import connect
    from endcap_serving.gateway.service_watch import watch_services

    options = parse_arguments(argv)
    log_json_lines()
    try:
        cluster = connect()
    except UserError as error:
        log.error(CANNOT_RUN, extra=make_log_fields(error))
        return 1
    intake = replace(options.intake, tls=options.intake_tls) if options.intake else None
    service = XdsService(options.state, intake, options.secrets, AccessSettings.from_options(options, RANKINGS))
    watch_arguments = (cluster, options.namespace, service, options.upstream_tls)
    watcher = threading.Thread(target=watch_services, args=watch_arguments, name="watch", daemon=True)
    watcher.start()
    timer = threading.Timer(
        API_SERVER_LIMIT, service.fall_back, [f"the API server has not answered within {API_SERVER_LIMIT:.0f} s"]
    )
    timer.daemon = True
    timer.start()
    # Connections outlive the pause between two questions. A log line for each question would say nothing.
    uvicorn.run(
        make_xds_app(service, watcher.is_alive),
        http=BoundedProtocol,
        host="127.0.0.1",
        port=options.port,
        log_config=None,
        access_log=False,
        lifespan="off",
        loop="asyncio",
        timeout_keep_alive=75,
        # Envoy's x-forwarded-for names the client, not the process that asks.
        proxy_headers=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
