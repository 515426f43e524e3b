"""Tell Envoy who answers whom: ``python -m endcap_serving.gateway.xds --namespace NS [--port 18000] [--state FILE]``

A small REST xDS service beside the gateway's Envoy, a child of the same process (envoy.py). It watches the
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
from endcap_serving.json_log import CANNOT_RUN, log_fields_of, log_json_lines

log = logging.getLogger("endcap.xds")
PATIENCE = 5.0
"""Seconds that the API server has to answer before the last state is served."""


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m endcap_serving.gateway.xds", description="Tell Envoy who answers whom."
    )
    parser.add_argument("--namespace", required=True, help="of the InferenceServices")
    parser.add_argument("--port", type=int, default=18000)
    parser.add_argument("--state", type=Path, help="the file that keeps the last state")
    parser.add_argument("--intake", type=parse_intake, metavar="HOST:PORT", help="who takes events; left out: nobody")
    parser.add_argument("--intake-tls", action="store_true", help="the intake is spoken to by TLS")
    parser.add_argument("--upstream-tls", action="store_true", help="Envoy has certificates for who speaks TLS")
    parser.add_argument(
        "--secrets", type=Path, default=SDS_FOLDER, metavar="DIR", help="where they are, as Envoy is told"
    )
    add_access_options(parser)
    return parser.parse_args(words)


def parse_intake(place: str) -> Upstream:
    """The intake's Service, by HOST:PORT. Raises argparse's error where it is none."""
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise argparse.ArgumentTypeError(f"found {place!r}; allowed: HOST:PORT, such as endcap-intake.endcap.svc:8080")
    return Upstream(f"intake/{place}", int(port), host, kind="intake")


def main(words: Sequence[str] | None = None) -> int:
    import uvicorn

    from endcap.cluster.connect import connect
    from endcap_serving.gateway.service_watch import watch_services

    options = parse_arguments(words)
    log_json_lines()
    try:
        cluster = connect()
    except UserError as error:
        log.error(CANNOT_RUN, extra=log_fields_of(error))
        return 1
    intake = replace(options.intake, tls=options.intake_tls) if options.intake else None
    service = XdsService(options.state, intake, options.secrets, AccessSettings.of(options, RANKINGS))
    watched = (cluster, options.namespace, service, options.upstream_tls)
    watcher = threading.Thread(target=watch_services, args=watched, name="watch", daemon=True)
    watcher.start()
    late = threading.Timer(PATIENCE, service.fall_back, [f"the API server has not answered within {PATIENCE:.0f} s"])
    late.daemon = True
    late.start()
    # Connections outlive the gap between two questions; a line a question would say nothing.
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
        # Envoy says who it is in x-forwarded-for, which is not where the question comes from.
        proxy_headers=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
