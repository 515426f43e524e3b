"""The predictor's ASGI application: rankings, metrics and metadata; KServe's application answers the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import orjson

from endcap_serving.http_errors import RefusedError
from endcap_serving.kserve_bodies import INPUTS, OUTPUTS, Json
from endcap_serving.predictor.asgi_io import (
    App,
    BodyReader,
    ClientDisconnectedError,
    Receive,
    Reply,
    Scope,
    Send,
    make_refusal_reply,
    read_head,
    replay_body,
    send_reply,
)
from endcap_serving.predictor.engine import Engine
from endcap_serving.predictor.metrics import Metrics, write_exposition
from endcap_serving.predictor.ranking_calls import RankingCalls
from endcap_serving.predictor.sampling import RequestSampler
from endcap_serving.tracing import Tracing

LOADING = "/v2/repository/"


class PredictorApp:
    """The predictor's ASGI application, in front of KServe's.

    Parameters
    ----------
    kserve_app
        KServe's application, which gets all other requests.
    engines
        An engine for each served model.
    metrics
        The predictor's metrics.
    tracing
        Where spans go; None: nowhere.
    samplers
        By an engine's name, what samples its rankings; None: nothing.
    """

    def __init__(
        self,
        kserve_app: App,
        engines: Sequence[Engine],
        metrics: Metrics,
        tracing: Tracing | None = None,
        samplers: Mapping[str, RequestSampler] | None = None,
    ) -> None:
        self._kserve_app = kserve_app
        self._metrics = metrics
        self._tracing = tracing
        self._bodies = BodyReader()
        self._calls = RankingCalls(engines, metrics, self._bodies, samplers)
        self._models = {f"/v2/models/{engine.served.name}": engine for engine in engines}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._kserve_app(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await self._answer_get(scope, receive, send)
        elif scope["method"] == "POST" and scope["path"] in self._calls:
            await self._rank(scope, receive, send)
        else:
            await self._pass_on(scope, receive, send)

    async def _answer_get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer metrics and metadata, and leave all other paths to KServe."""
        if scope["path"] == "/metrics":
            accepted_types = next(
                (value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), ""
            )
            text, content_type = write_exposition(accepted_types)
            await send_reply(send, Reply(200, text, {"content-type": content_type}))
        elif engine := self._models.get(scope["path"]):
            await send_reply(send, Reply(200, orjson.dumps(_build_metadata(engine))))
        else:
            await self._kserve_app(scope, receive, send)

    async def _rank(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a ranking request, and count and trace it."""
        start_time = time.perf_counter()
        head = read_head(scope)
        span = self._tracing.start("rank", head.trace, request_id=head.id) if self._tracing else None
        reply = await self._calls.answer(scope["path"], head, receive)
        if reply is not None:
            await send_reply(send, reply)
            self._metrics.count_answer(reply.status, reply.surfaces, time.perf_counter() - start_time)
        if self._tracing and span:
            self._tracing.finish(span, reply.status if reply else None)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to KServe, which by itself bounds no body and lets clients unload models."""
        if scope["path"].startswith(LOADING):
            reason = "clients cannot load or unload models; deploy another version by endcap deploy"
            await send_reply(send, make_refusal_reply(RefusedError(404, reason, code="predictor.loading-closed")))
            return
        try:
            body = await self._bodies.read(read_head(scope), receive)
        except ClientDisconnectedError:
            return
        except RefusedError as refusal:
            await send_reply(send, make_refusal_reply(refusal))
            return
        await self._kserve_app(scope, replay_body(body, receive), send)


def _build_metadata(engine: Engine) -> Json:
    """Build KServe's metadata, with the libraries whose versions differ from those that made the package."""
    served = engine.served
    mismatches = {name: {"made_with": made_with, "here": here} for name, (made_with, here) in served.mismatches.items()}
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": "endcap",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "parameters": {"package_mismatch": mismatches},
    }
