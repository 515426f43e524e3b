"""KServe's model server with the predictor's application in front. When it ends, it answers all accepted requests."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

import kserve
import uvicorn
import uvloop
from kserve.model_server import app

from endcap_serving.http_protocol import BoundedProtocol
from endcap_serving.plain_port import PlainPortServer
from endcap_serving.predictor.admission import measure_loop_lag
from endcap_serving.predictor.asgi import PredictorApp
from endcap_serving.predictor.engine import Engine
from endcap_serving.predictor.health import Health
from endcap_serving.predictor.health_plane import HealthPlane
from endcap_serving.predictor.heartbeats import send_heartbeats
from endcap_serving.predictor.kserve_errors import EXPECTED, unify_errors
from endcap_serving.predictor.metrics import Metrics
from endcap_serving.predictor.sampling import RequestSampler
from endcap_serving.predictor.warm_up import warm_up
from endcap_serving.tls import ServerTls
from endcap_serving.tracing import open_tracing

SWITCH = 0.001
"""Seconds after which one Python thread lets another run. Python's 5 ms are as long as a whole request."""
BACKLOG = 2048
"""Connections that may wait to be accepted. The kernel may allow fewer."""
log = logging.getLogger("endcap.predictor")


@dataclass(frozen=True)
class Sockets:
    """The sockets of a predictor.

    Parameters
    ----------
    listener
        The plain socket.
    secure
        The socket for TLS; None: there is none.
    tls
        The certificate of `secure`.
    plain
        If there is TLS: whether `listener` answers everything, or only health and metrics.
    """

    listener: socket.socket
    secure: socket.socket | None = None
    tls: ServerTls | None = None
    plain: bool = True


class DrainingServer(uvicorn.Server):
    """A uvicorn server that drains. On a signal it first says that it is not ready, and answers for a while.

    Each answer then closes its connection, so that clients connect again and reach another pod.
    """

    def __init__(self, config: uvicorn.Config, health: Health, wait: float) -> None:
        super().__init__(config)
        self._health = health
        self._wait = wait

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._drain, sig)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def _drain(self, sig: int) -> None:
        if self._health.draining:
            # On a second signal it no longer waits for new requests.
            self.should_exit = True
            return
        log.info("asked to end", extra={"signal": signal.Signals(sig).name, "drain_wait": self._wait})
        self._health.draining = True
        close = (b"connection", b"close")
        self.config.encoded_headers.append(close)
        self.server_state.default_headers = [*self.server_state.default_headers, close]
        self._loop.call_later(self._wait, self._end)

    def _end(self) -> None:
        self.should_exit = True


class PredictorServer(kserve.ModelServer):
    """KServe's model server, with engines instead of models.

    Parameters
    ----------
    engines
        An engine for each served model.
    metrics
        The predictor's metrics.
    sockets
        Where to listen.
    wait
        Seconds between a signal and the end of listening.
    limit
        Seconds that requests get after that.
    heartbeat_pipe
        The file descriptor for heartbeats; None: nobody watches this process.
    samplers
        By an engine's name, what samples its rankings; None: nothing.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        metrics: Metrics,
        sockets: Sockets,
        *,
        wait: float,
        limit: int,
        heartbeat_pipe: int | None = None,
        samplers: Mapping[str, RequestSampler] | None = None,
    ) -> None:

        super().__init__(
            http_port=sockets.listener.getsockname()[1], workers=1, enable_grpc=False, enable_latency_logging=False
        )
        self._engines = engines
        self._metrics = metrics
        self._sockets = sockets
        self._wait = wait
        self._heartbeat_pipe = heartbeat_pipe
        self._samplers = samplers or {}
        self.grace_period = limit
        self.health = Health()
        self.health.watch([engine.batcher for engine in engines])
        self.dataplane = HealthPlane(self.registered_models, self.health)

    def register_signal_handler(self) -> None:
        """Leave signals to uvicorn, because KServe's handlers would unload models while requests are answered."""

    async def _serve(self) -> None:
        for kserve_server in self.servers:
            kserve_server.close()
        rest_server = self._rest_server
        rest_server.create_application()
        unify_errors(app, [engine.served.name for engine in self._engines])
        tracing = open_tracing("endcap-predictor")
        application = PredictorApp(app, self._engines, self._metrics, tracing, self._samplers)
        await warm_up(application, self._engines, self._metrics)
        # All objects so far stay, so the garbage collector need not look at them again.
        gc.collect()
        gc.freeze()
        rest_server.config.app, rest_server.config.http = application, BoundedProtocol
        rest_server.config.backlog = BACKLOG
        listener = self._sockets.listener
        if (tls := self._sockets.tls) and self._sockets.secure:
            listener = self._sockets.secure
            rest_server.config.http = type("Protocol", (BoundedProtocol,), {"clients": tls.clients})
            rest_server.config.load()
            rest_server.config.ssl = tls.context
        self.health.warm = True
        log.info("ready", extra={"models": [engine.served.name for engine in self._engines]})
        tasks = [asyncio.create_task(measure_loop_lag([engine.admission for engine in self._engines]))]
        tasks += [asyncio.create_task(tls.follow())] if tls else []
        if self._heartbeat_pipe is not None:
            tasks.append(asyncio.create_task(send_heartbeats(self._heartbeat_pipe, self.health)))
        plain_server = PlainPortServer(
            application, None if self._sockets.plain else self._is_health_path, BoundedProtocol
        )
        plain_task = asyncio.create_task(plain_server.run_on(self._sockets.listener)) if tls else None
        await DrainingServer(rest_server.config, self.health, self._wait).serve(sockets=[listener])
        for task in tasks:
            task.cancel()
        if plain_task:
            plain_server.should_exit = True
            await plain_task
        if tracing:
            tracing.close()
        log.info("ended")

    def _is_health_path(self, path: str) -> bool:
        models = [engine.served.name for engine in self._engines]
        return path in ("/metrics", "/v2/health/live", "/v2/health/ready") or any(
            path in (f"/v2/models/{model}/ready", f"/v1/models/{model}") for model in models
        )


def serve_engines(
    engines: Sequence[Engine],
    metrics: Metrics,
    sockets: Sockets,
    *,
    wait: float = 0.0,
    limit: int = 10,
    heartbeat_pipe: int | None = None,
    samplers: Mapping[str, RequestSampler] | None = None,
) -> None:
    """Serve until a signal, and answer all requests that came before it. Parameters as for `PredictorServer`."""
    sys.setswitchinterval(SWITCH)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    server = PredictorServer(
        engines, metrics, sockets, wait=wait, limit=limit, heartbeat_pipe=heartbeat_pipe, samplers=samplers
    )
    _silence_loggers()
    models = [kserve.Model(engine.served.name) for engine in engines]
    for model in models:
        # KServe would load the model only after it listens.
        model.load()
    server.start(models)
    for engine in engines:
        engine.batcher.close()
    for sampler in (samplers or {}).values():
        sampler.close()


def _silence_loggers() -> None:
    """Give all log lines one format, and write none for each request: KServe's three lines halve the throughput."""
    warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")
    levels = {"kserve": logging.ERROR, "kserve.trace": logging.CRITICAL, "uvicorn": logging.ERROR}
    for name in (*levels, "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(levels.get(name, logging.NOTSET))
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("kserve").addFilter(lambda line: not (line.exc_info and isinstance(line.exc_info[1], EXPECTED)))
