"""The fast lane: rankings are answered here, by ASGI, without KServe's way through FastAPI; all else goes on to KServe.

What is answered is what KServe would answer: the same bodies, errors and status codes, at a fraction of the work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from endcap.errors import EndcapError, RequestError
from endcap.ranking import RankRequest
from endcap_serving.http_errors import RefusedError, error_body
from endcap_serving.json_log import error_fields
from endcap_serving.kserve_bodies import (
    INPUTS,
    OUTPUTS,
    Json,
    Tensor,
    read_json,
    v1_answer,
    v1_instances,
    v2_answer,
    v2_body,
    v2_instances,
)
from endcap_serving.log_limiter import Seldom
from endcap_serving.names import DEGRADED_HEADER, RANKING_HEADER, REQUEST_ID, VERSION_HEADER
from endcap_serving.predictor.engine import ONLINE_STORE, Engine, Ranked, ranking_id
from endcap_serving.predictor.metrics import Metrics, exposition
from endcap_serving.predictor.reading import Bodies, GoneError, Head, Receive, Scope, Send, read_head, replayed
from endcap_serving.predictor.scopes import permitted
from endcap_serving.tracing import Tracing

LARGE = 64 * 2**10
"""Bytes of a body from which on it is read off the event loop."""
MANY = 64
"""Rankings of a call from which on its answer is written off the event loop."""
LOADING = "/v2/repository/"
log = logging.getLogger("endcap.predictor")

App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class Reply:
    """surfaces: of the rankings, in order."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    surfaces: Sequence[str | None] = ()


@dataclass(slots=True)
class _Question:
    """A body, checked. v2: the caller's id of a V2 request, "" without one; None where it came by V1."""

    requests: list[RankRequest]
    v2: str | None = None


class _ForKServeError(Exception):
    """A request on the lane's path that KServe must answer: its body."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class Lane:
    """An ASGI application in front of KServe's."""

    def __init__(self, app: App, engines: Sequence[Engine], metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing
        self._bodies = Bodies()
        self._failed = Seldom(log, logging.ERROR, "a request failed")
        self._rankings: dict[str, tuple[Engine, Callable[[Engine, bytes], _Question]]] = {}
        self._models: dict[str, Engine] = {}
        for engine in engines:
            name = engine.served.name
            self._rankings[f"/v1/models/{name}:predict"] = engine, _v1_question
            self._rankings[f"/v2/models/{name}/infer"] = engine, _v2_question
            self._models[f"/v2/models/{name}"] = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await self._read(scope, receive, send)
        elif scope["method"] == "POST" and scope["path"] in self._rankings:
            await self._rank(scope, receive, send)
        else:
            await self._other(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/metrics":
            accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
            text, content_type = exposition(accept)
            await _send(send, Reply(200, text, {"content-type": content_type}))
        elif engine := self._models.get(scope["path"]):
            await _send(send, Reply(200, orjson.dumps(_metadata(engine))))
        else:
            await self._app(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """KServe's, which reads bodies of any size and lets anyone unload what is served."""
        if scope["path"].startswith(LOADING):
            told = "models are loaded and unloaded by deploying; allowed: endcap deploy"
            await _send(send, _refused(RefusedError(404, told, code="predictor.loading-closed")))
            return
        try:
            body = await self._bodies.read(read_head(scope), receive)
        except GoneError:
            return
        except RefusedError as refusal:
            await _send(send, _refused(refusal))
            return
        await self._app(scope, replayed(body, receive), send)

    async def _rank(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        head = read_head(scope)
        span = self._tracing.start("rank", head.trace, request_id=head.id) if self._tracing else None
        try:
            reply = await self._reply(*self._rankings[scope["path"]], head, receive)
        except GoneError:
            reply = None
        except _ForKServeError as other:
            reply = None
            status = await self._pass_on(scope, replayed(other.body, receive), send)
            self._metrics.answered(status, (), time.perf_counter() - began)
        except RefusedError as error:
            reply = _refused(error)
        except RequestError as error:
            reply = Reply(400, error_body(error))
        except Exception as error:
            told = failed(error)
            self._failed(error, request_id=head.id, **error_fields(told))
            reply = Reply(500, error_body(told))
        if reply is not None:
            if head.given_id:
                reply.headers[REQUEST_ID] = head.given_id
            await _send(send, reply)
            self._metrics.answered(reply.status, reply.surfaces, time.perf_counter() - began)
        if self._tracing and span:
            self._tracing.finish(span, reply.status if reply else None)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> int:
        """KServe's answer; its status."""
        status = 0

        async def noted(message: Mapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, noted)
        return status

    async def _reply(
        self, engine: Engine, read: Callable[[Engine, bytes], _Question], head: Head, receive: Receive
    ) -> Reply:
        self._admit(engine)
        body = await self._bodies.read(head, receive)
        if head.binary:
            raise _ForKServeError(body)
        loop = asyncio.get_running_loop()
        if len(body) < LARGE:
            question = read(engine, body)
        else:
            question = await loop.run_in_executor(None, read, engine, body)
        source = engine.served.scope_from
        requests = permitted(question.requests, source, head.scope, of_page=head.of_page)
        # Others may have come while the body did.
        self._admit(engine)
        ranked = await engine.rank(requests)
        surfaces = [request.surface for request in question.requests]
        if len(ranked) < MANY:
            text = _written(engine, question, head, ranked, surfaces)
        else:
            text = await loop.run_in_executor(None, _written, engine, question, head, ranked, surfaces)
        return Reply(200, text, answer_headers(engine, head.id, ranked), surfaces)

    def _admit(self, engine: Engine) -> None:
        if engine.admission.full:
            self._metrics.rejected()
            after = engine.admission.retry_after
            raise RefusedError(
                503,
                f"more requests than can be answered in time; try again in {after} s",
                code="predictor.overloaded",
                headers={"retry-after": str(after)},
                retry_after=after,
            )


def _v1_question(engine: Engine, body: bytes) -> _Question:
    return _Question(parsed(engine, v1_instances(read_json(body))))


def _v2_question(engine: Engine, body: bytes) -> _Question:
    request = v2_body(read_json(body))
    if request.outputs or request.parameters:
        # It may ask for binary tensors, or for what there is not: KServe knows how to answer that.
        raise _ForKServeError(body)
    tensors = [Tensor(one.name, one.datatype, one.shape, one.data) for one in request.inputs]
    return _Question(parsed(engine, v2_instances(tensors)), request.id or "")


def parsed(engine: Engine, instances: Sequence[Any]) -> list[RankRequest]:
    """Raises RequestError."""
    parse = engine.ranker.parse
    return [parse(instance, number) for number, instance in enumerate(instances)]


def _written(
    engine: Engine, question: _Question, head: Head, ranked: Sequence[Ranked], surfaces: Sequence[str | None]
) -> bytes:
    # The gateway knows as what it asked; who asks without it gets what this predictor was started as.
    texts = engine.written(ranked, surfaces, head.id, head.variant or engine.served.variant)
    if question.v2 is None:
        return v1_answer(texts)
    return v2_answer(texts, engine.served.name, engine.served.version, question.v2 or head.id)


def answer_headers(engine: Engine, call: str, ranked: Sequence[Ranked]) -> dict[str, str]:
    """Of an answer to the call with this id."""
    headers = {REQUEST_ID: call, VERSION_HEADER: engine.served.version, RANKING_HEADER: ranking_id(call, 0)}
    if any(one.degraded for one in ranked):
        headers[DEGRADED_HEADER] = ONLINE_STORE
    return headers


def _metadata(engine: Engine) -> Json:
    """KServe's, and what it has no field for: where the package was made with other versions than serve it."""
    served = engine.served
    differs = {name: {"made_with": made, "here": here} for name, (made, here) in served.mismatches.items()}
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": "endcap",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "parameters": {"package_mismatch": differs},
    }


def _refused(refusal: RefusedError) -> Reply:
    return Reply(refusal.status, error_body(refusal), refusal.headers)


def failed(error: Exception) -> EndcapError:
    """What the caller is told of an error that is not the caller's; one of Endcap's own is passed on."""
    if isinstance(error, EndcapError):
        return error
    kind = type(error).__name__
    return EndcapError(f"{kind}: {error}", code="predictor.failed", kind=kind)


async def _send(send: Send, reply: Reply) -> None:
    headers: Mapping[str, str] = {"content-type": "application/json", **reply.headers}
    lines = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    lines.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": lines})
    await send({"type": "http.response.body", "body": reply.body})
