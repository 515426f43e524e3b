"""The warm-up: before it is ready, the process sends itself requests, so that no client pays for the first use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from endcap_serving.kserve_bodies import REQUEST_TENSOR, Json
from endcap_serving.predictor.asgi_io import App
from endcap_serving.predictor.batcher import SLICE
from endcap_serving.predictor.engine import Engine
from endcap_serving.predictor.metrics import Metrics

LONGEST = 5.0
"""Seconds after which no new round begins. A slow model warms up while it serves."""
ROUNDS = 3
AT_ONCE = (1, 2, 4, 8, 16, 32)
"""Calls at a time, so that batches of each size are ranked."""
SESSION, CANDIDATES = 20, 200
log = logging.getLogger("endcap.predictor")


async def warm_up(application: App, engines: Sequence[Engine], metrics: Metrics) -> None:
    """Rank requests of each kind through the application. Metrics do not count them.

    Parameters
    ----------
    application
        The predictor's application.
    engines
        The engines to warm up.
    metrics
        The predictor's metrics.

    Raises
    ------
    RuntimeError
        A request is answered neither 200 nor 503.
    """
    start_time = time.monotonic()
    with metrics.pause():
        for engine in engines:
            for _ in range(ROUNDS):
                for size in AT_ONCE:
                    # Requests that are slow one by one are slow together too, and need not be tried together.
                    is_quick = size == 1 or size * engine.admission.mean_seconds < SLICE
                    if is_quick and time.monotonic() - start_time < LONGEST:
                        await _run_round(application, engine, size)
    milliseconds = {engine.served.name: round(1000 * engine.admission.mean_seconds, 3) for engine in engines}
    log.info(
        "warmed up", extra={"seconds": round(time.monotonic() - start_time, 2), "milliseconds_a_request": milliseconds}
    )


async def _run_round(application: App, engine: Engine, size: int) -> None:
    instances = _make_instances(engine)
    for instance in instances:
        await _ask_all(
            application, engine, [{"instances": [instance]}] * size, f"/v1/models/{engine.served.name}:predict"
        )
    data = [orjson.dumps(instance).decode() for instance in instances]
    tensor = {"name": REQUEST_TENSOR, "shape": [len(data)], "datatype": "BYTES", "data": data}
    await _ask_all(application, engine, [{"inputs": [tensor]}], f"/v2/models/{engine.served.name}/infer")


def _make_instances(engine: Engine) -> list[Json]:
    """Make requests of each kind, about popular items."""
    ids = list(engine.ranker.vocabulary.ids[: max(SESSION, CANDIDATES)])
    session = ids[:SESSION]
    instances: list[Json] = [{"items": session, "candidates": ids[:CANDIDATES]}, {"items": session}, {"items": []}]
    instances += [{"item": ids[0]}] if ids else []
    attributes = [(name, value) for name, values in engine.ranker.attributes.items() for value in islice(values, 1)]
    return [*instances, *({"items": session, "filter": {name: value}} for name, value in attributes[:1])]


async def _ask_all(application: App, engine: Engine, bodies: Sequence[Json], path: str) -> None:
    """Send several calls at once, and check their answers."""
    for status, text in await asyncio.gather(*(_ask(application, path, orjson.dumps(body)) for body in bodies)):
        # Many calls at once may be too many for a slow model.
        if status not in (200, 503):
            raise RuntimeError(f"the warm-up of {engine.served.name} was answered {status}: {text.decode()}")


async def _ask(application: App, path: str, body: bytes) -> tuple[int, bytes]:
    reply: dict[str, Any] = {}

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        reply.update(message)

    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await application({**scope, "headers": headers, "http_version": "1.1"}, receive, send)
    return reply["status"], reply["body"]
