"""The event intake: ``python -m endcap_serving.intake --folder DIR --out FOLDER|s3://BUCKET/PREFIX``

The intake takes events, impressions and orders over HTTP, and answers when they are durable in DIR. Some minutes later
they are Parquet in FOLDER or the bucket. An online store (--online, or ENDCAP_ONLINE) gets them within a moment.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import EndcapError, UserError
from endcap_serving import tracing
from endcap_serving.durations import parse_duration
from endcap_serving.json_log import CANNOT_RUN, log_json_lines, make_log_fields
from endcap_serving.plain_port import PlainPortServer
from endcap_serving.tls import ServerTls, add_tls_options, load_server_tls

if TYPE_CHECKING:
    from endcap.online import OnlineStore
    from endcap_serving.intake.app import IntakeApp

log = logging.getLogger("endcap.intake")
STORE_SECONDS = 5.0
"""Seconds that the online store may take for a write. No client waits for it."""


def parse_mebibytes(text: str) -> int:
    """Parse mebibytes to bytes. Raises argparse.ArgumentTypeError."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"found {text}; allowed: mebibytes, 0 or more")
    return number << 20


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. None: this process's. Exits with status 2 if an option is wrong."""
    parser = argparse.ArgumentParser(prog="python -m endcap_serving.intake", description="Take a shop's events.")
    parser.add_argument("--folder", type=Path, required=True, help="folder for segments and ids, of this process alone")
    parser.add_argument("--out", required=True, help="where Parquet files go: a folder or s3://bucket/prefix")
    parser.add_argument("--online", default="", help="address of the online store [default: $ENDCAP_ONLINE, or none]")
    parser.add_argument(
        "--shop", default="", help="the shop's name, under which the online store keeps the shop's data"
    )
    parser.add_argument("--instance", help="part of the names of Parquet files [default: the host's name]")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on [default: 127.0.0.1]")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--metrics-port", type=int, help="serve /metrics at this port instead, on the same address")
    add_tls_options(parser)
    parser.add_argument(
        "--segment-mib", type=parse_mebibytes, default=64 << 20, metavar="MIB", help="close a segment at this size [64]"
    )
    parser.add_argument(
        "--segment-age", type=parse_duration, default=300.0, metavar="DURATION", help="or at this age [5m]"
    )
    parser.add_argument(
        "--reserve-mib",
        type=parse_mebibytes,
        default=256 << 20,
        metavar="MIB",
        help="space on the disk that stays free for sealing [256]",
    )
    parser.add_argument(
        "--keep-events",
        type=parse_duration,
        default=604_800.0,
        metavar="DURATION",
        help="how long the online store keeps events [7d]",
    )
    parser.add_argument(
        "--keep-owned",
        type=parse_duration,
        metavar="DURATION",
        help="how long the online store keeps what customers own [for good]",
    )
    parser.add_argument(
        "--owned-types",
        default="",
        help="event types after which the customer owns the item, separated by commas; orders always count",
    )
    parser.add_argument(
        "--pseudonyms",
        action="store_true",
        help="store pseudonyms of customers, sessions and shoppers; $ENDCAP_PSEUDONYM_KEY has the key",
    )
    parser.add_argument("--connections", type=int, default=1000, help="connections at a time [1000]")
    parser.add_argument(
        "--body-timeout", type=parse_duration, default=15.0, metavar="DURATION", help="time for a body to arrive [15s]"
    )
    parser.add_argument(
        "--drain-wait",
        type=parse_duration,
        default=0.0,
        metavar="DURATION",
        help="on SIGTERM, go on taking requests for this time [0s]",
    )
    parser.add_argument(
        "--end-limit", type=parse_duration, default=30.0, metavar="DURATION", help="time to seal at the end [30s]"
    )
    return parser.parse_args(arguments)


def make_settings(options: argparse.Namespace) -> Any:
    """Make the intake's `IntakeSettings` from parsed arguments."""
    from endcap.online.record_updates import Retention
    from endcap_serving.intake.intake import IntakeSettings

    retention = Retention(
        timedelta(seconds=options.keep_events),
        None if options.keep_owned is None else timedelta(seconds=options.keep_owned),
        frozenset(filter(None, options.owned_types.split(","))),
    )
    instance = {"instance": options.instance} if options.instance else {}
    return IntakeSettings(
        options.folder,
        options.out,
        segment_bytes=options.segment_mib,
        segment_seconds=options.segment_age,
        reserve=options.reserve_mib,
        end_seconds=options.end_limit,
        retention=retention,
        **instance,
    )


def open_online_store(options: argparse.Namespace) -> OnlineStore | None:
    """Open the online store, if one is named.

    Raises
    ------
    UserError
        The address is not one of an online store, or the shop's name is missing.
    """
    from endcap.online import open_online, resolve_online_url

    address = resolve_online_url(options.online)
    if address is None:
        return None
    if not options.shop:
        raise UserError(
            "--shop: found nothing, but an online store is named; give the shop's name, as in its file",
            code="intake.shop-missing",
        )
    return open_online(address, shop=options.shop, timeout=STORE_SECONDS)


def serve(app: IntakeApp, options: argparse.Namespace, tls: ServerTls | None = None) -> bool:
    """Serve until SIGTERM or SIGINT. Then answer and seal what was accepted, and end.

    Parameters
    ----------
    app
        The application.
    options
        Parsed arguments.
    tls
        The certificate, if the intake shall speak TLS.

    Returns
    -------
    bool
        Whether the intake started at all.
    """
    import uvicorn
    from prometheus_client import start_http_server

    from endcap_serving.intake.http_protocol import PROBES, IntakeProtocol

    def is_probe(path: str) -> bool:
        return path.encode() in PROBES

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if tls and not self.should_exit:
                self._renewal = asyncio.create_task(tls.follow())
                listener = socket.create_server((options.host, options.port))
                self._plain_server = PlainPortServer(app, None if options.plain == "all" else is_probe, protocol)
                self._plain_task = asyncio.create_task(self._plain_server.run_on(listener))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if tls:
                self._renewal.cancel()
                # Requests at the plain port are answered before the intake ends.
                self._plain_server.should_exit = True
                await self._plain_task
            await super().shutdown(sockets)

        def handle_exit(self, sig: int, frame: Any) -> None:
            # First the intake says that it is not ready, so that no more requests come. Only then it stops listening.
            # On a second signal it stops at once.
            stop_listening = super().handle_exit
            if app.ending or not options.drain_wait:
                stop_listening(sig, frame)
                return
            app.ending = True
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(loop.call_later, options.drain_wait, stop_listening, sig, frame)

    # Uvicorn raises the signal again when it has ended. The intake has done its work by then.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    protocol = type("Protocol", (IntakeProtocol,), {"max_connections": options.connections})
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.tls_port if tls else options.port,
        http=type("Protocol", (protocol,), {"clients": tls.clients}) if tls else protocol,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=30,
        backlog=1024,
        proxy_headers=False,
        server_header=False,
    )
    if tls:
        config.load()
        config.ssl = tls.context
    if options.metrics_port:
        start_http_server(options.metrics_port, options.host)
    server = Server(config)
    server.run()
    return server.started


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an intake. Returns the exit status."""
    options = parse_arguments(arguments)
    log_json_lines()
    from endcap.pseudonyms import require_pseudonymiser
    from endcap_serving.intake.app import IntakeApp
    from endcap_serving.intake.intake import Intake

    try:
        pseudonymiser = require_pseudonymiser("the intake has --pseudonyms") if options.pseudonyms else None
        tls = load_server_tls(options)
        intake = Intake(make_settings(options), open_online_store(options))
    except EndcapError as error:
        log.error(CANNOT_RUN, extra=make_log_fields(error))
        return 1
    tracer = tracing.open_tracing("endcap-intake")
    app = IntakeApp(
        intake,
        tracer,
        body_seconds=options.body_timeout,
        metrics=not options.metrics_port,
        pseudonymiser=pseudonymiser,
    )
    return 0 if serve(app, options, tls) else 1


if __name__ == "__main__":
    sys.exit(main())
