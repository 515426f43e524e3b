"""The intake over HTTP: a plain ASGI application, because a framework costs more than the work itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from endcap.errors import EndcapError
from endcap_serving.http_errors import RefusedError, describe_error, refuse_with
from endcap_serving.intake import clock, metrics
from endcap_serving.intake.commit import RecordBatch
from endcap_serving.intake.intake import Intake, count
from endcap_serving.intake.known_ids import hash_id
from endcap_serving.intake.records import KINDS, NAMES, RecordError, shown
from endcap_serving.json_log import log_fields_of
from endcap_serving.names import SCOPE_HEADER
from endcap_serving.request_ids import read_request_id
from endcap_serving.tracing import Tracing

log = logging.getLogger("endcap.intake")
Json = dict[str, Any]
Receive = Callable[[], Awaitable[Json]]
Send = Callable[[Json], Awaitable[None]]

MOST_BODY = 4 << 20
MOST_RECORDS = 10_000
MOST_HELD = 128 << 20
"""Bytes of bodies that are held at once, of all requests."""
MOST_DROPPED = 64 << 20
"""Bytes of a body that are read and dropped, so that who sends them can read why it is refused."""
BODY_SECONDS = 15.0
REQUEST_ID = b"x-request-id"
_SCOPE = SCOPE_HEADER.encode()
PATHS = {f"/v1/{name}": number for number, name in enumerate(NAMES)}
_PERSONS = [name.encode() for name in NAMES]
_PIECE = 500
"""Records that are checked before others get their turn."""
CLOSE = {"connection": "close"}
Rejected = Sequence[tuple[int, RecordError]]
"""Records that are not taken, by their place in the request."""


@dataclass
class IntakeReply:
    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


class IntakeApp:
    """See docs/intake-reference.md for what is answered when."""

    def __init__(
        self,
        intake: Intake,
        tracing: Tracing | None = None,
        *,
        body_seconds: float = BODY_SECONDS,
        metrics: bool = True,
    ) -> None:
        """metrics: whether /metrics is a path of it."""
        self.intake, self._tracing, self._body_seconds, self._metrics = intake, tracing, body_seconds, metrics
        self.ending = False
        """Set while it still answers and shall get no new connections."""
        self.held = 0
        """Bytes of bodies that are being worked on."""

    async def __call__(self, scope: Json, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = scope["path"]
        kind = PATHS.get(path)
        if kind is None:
            answer = self._look(path, scope["method"])
        else:
            answer = await self._post(kind, scope, receive)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _live(self, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await receive()
        try:
            await loop.run_in_executor(None, self.intake.start)
        except Exception as error:
            log.exception("it cannot start", extra=log_fields_of(error))
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await loop.run_in_executor(None, self.intake.end)
        if self._tracing is not None:
            self._tracing.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _look(self, path: str, method: str) -> IntakeReply:
        """What a kubelet, a scraper or a person looks at."""
        if path == "/metrics" and self._metrics:
            return IntakeReply(200, generate_latest(), [(b"content-type", CONTENT_TYPE_LATEST.encode())])
        if path == "/healthz":
            ended = EndcapError("a thread has ended", code="intake.thread-ended")
            return _json(200, {"alive": True}) if self.intake.alive else _json(503, describe_error(ended))
        if path == "/readyz":
            ends = EndcapError("it ends", code="intake.ending") if self.ending else None
            why = ends or clock.check_clock() or self.intake.writer.failure
            return _json(503, describe_error(why)) if why else _json(200, {"ready": True, **self.intake.kept})
        known = [*(f"POST {known_path}" for known_path in PATHS), "GET /healthz", "GET /readyz", "GET /metrics"]
        nowhere = EndcapError(
            f"{method} {path[:80]}: there is no such path; there are {', '.join(known)}",
            code="intake.path-unknown",
            method=method,
            path=path[:80],
            known=known,
        )
        return _json(404, describe_error(nowhere))

    async def _post(self, kind: int, scope: Json, receive: Receive) -> IntakeReply:
        begun = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request = read_request_id(headers.get(REQUEST_ID, b"")) or str(uuid.uuid4())
        span = None
        if self._tracing is not None:
            parent = {name: headers[name.encode()].decode("latin-1") for name in _CONTEXT if name.encode() in headers}
            span = self._tracing.start(f"POST {scope['path']}", parent, **{"endcap.request_id": request})
        body = _Body(self, headers, receive)
        try:
            answer = await self._take(kind, scope, headers, body, request)
        except RefusedError as error:
            # Who is answered and cut off in the midst of a body meets a reset in place of the answer: the gateway makes
            # 503 of it, and a client that obeys sends the same again.
            if error.status != 408 and await body.drop(self._body_seconds):
                error.headers.pop("connection", None)
            answer = _refused(error)
            fields = {"path": scope["path"], "status": error.status, "request_id": request, **log_fields_of(error)}
            log.log(logging.WARNING if error.status >= 500 else logging.INFO, "refused", extra=fields)
        answer.headers.append((REQUEST_ID, request.encode()))
        metrics.REQUESTS.labels(scope["path"], answer.status).inc()
        metrics.REQUEST_TIME.observe(time.perf_counter() - begun)
        if span is not None and self._tracing is not None:
            self._tracing.finish(span, answer.status)
        return answer

    async def _take(
        self, kind: int, scope: Json, headers: dict[bytes, bytes], body: _Body, request: str
    ) -> IntakeReply:
        """Records that are right become durable; then the answer. Raises RefusedError."""
        method = scope["method"]
        if method != "POST":
            text = f"method: found {method}; allowed: POST"
            allow = {**CLOSE, "allow": "POST"}
            raise RefusedError(405, text, code="intake.method-not-allowed", headers=allow, found=method)
        _check_sender(headers)
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            text = "content-encoding: found one; allowed: none, the body as it is"
            plain = {**CLOSE, "accept-encoding": "identity"}
            raise RefusedError(415, text, code="intake.body-encoded", headers=plain)
        if (wrong := clock.check_clock()) is not None:
            raise refuse_with(wrong, 503, headers={**CLOSE, "retry-after": "30"})
        try:
            async with asyncio.timeout(self._body_seconds):
                await body.read()
            records, single = _records(kind, bytes(body.content))
            batch, rejected = await _checked(kind, records, request)
            if single and rejected:
                ((_, error),) = rejected
                raise refuse_with(error, 400, text=f"{NAMES[kind][:-1]}: {error}")
            if rejected and not batch.records:
                raise RefusedError(
                    400,
                    f"none of {len(rejected):,} is right; the first, {_first(kind, rejected)}",
                    code="intake.none-accepted",
                    more={"accepted": 0, "duplicates": 0, "rejected": _listed(rejected)},
                    records=len(rejected),
                )
            if batch.records:
                await self._commit(batch)
        except TimeoutError:
            text = f"the body has not come within {self._body_seconds:g} s"
            seconds = self._body_seconds
            raise RefusedError(408, text, code="intake.body-late", headers=CLOSE, seconds=seconds) from None
        finally:
            self.held -= len(body.content)
        counts: Json = {"accepted": len(batch.accepted), "duplicates": batch.duplicates}
        if not rejected:
            return _json(200, counts)
        # Not the error's words: they quote what was sent, such as a customer's id.
        extra = {"request_id": request, "records": len(rejected), "first": rejected[0][0], "kind": NAMES[kind]}
        log.info("refused in part", extra={**extra, "code": rejected[0][1].code})
        return _json(207, {**counts, "rejected": _listed(rejected)})

    async def _commit(self, batch: RecordBatch) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def acknowledge() -> None:
            loop.call_soon_threadsafe(settle)

        batch.acknowledge = acknowledge
        self.intake.writer.submit(batch)
        await done
        if failure := batch.failure:
            text = f"{failure}; nothing of this request was kept, send it again later"
            raise refuse_with(failure, 503, text=text, headers={"retry-after": "2"})
        count(batch)


def _check_sender(headers: dict[bytes, bytes]) -> None:
    """Raises RefusedError: a page of the web has sent it or could have, or the gateway says that its sender may not."""
    if b"origin" in headers:
        text = "origin: found one; allowed: none here; pages send to the gateway, which knows whose may"
        raise RefusedError(403, text, code="intake.origin-refused", headers=CLOSE)
    # A page may send other types without asking first.
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        named = kind[:100].decode("latin-1") or "none"
        text = f"content-type: found {named}; allowed: application/json"
        raise RefusedError(
            415, text, code="intake.content-type-refused", headers=CLOSE, found=named, allowed=["application/json"]
        )
    scope = headers.get(_SCOPE)
    if scope is not None and b"events" not in scope.split(b","):
        text = "the scope: found none of events; allowed: with it; ask whoever keeps the access policy"
        raise RefusedError(403, text, code="intake.scope-missing", headers=CLOSE, needs="events")


class _Body:
    """A request's body, while it comes and is worked on; what all hold together is bounded."""

    def __init__(self, app: IntakeApp, headers: dict[bytes, bytes], receive: Receive) -> None:
        self._app, self._receive = app, receive
        self._more = True
        # Uvicorn has refused a length that is no number.
        self._length = int(headers.get(b"content-length", b"0"))
        self._awaited = headers.get(b"expect", b"").lower() == b"100-continue"
        """Whether who sends it waits to be told to: nothing of it is under way."""
        self.content = bytearray()

    async def read(self) -> None:
        """Raises RefusedError: too large, or too much is held already."""
        if self._length > MOST_BODY:
            raise self._too_large()
        self._awaited = False
        while self._more:
            piece = await self._piece()
            self.content += piece
            self._app.held += len(piece)
            if len(self.content) > MOST_BODY:
                raise self._too_large()
            if self._app.held > MOST_HELD:
                text = "too many large requests at once; send it again later"
                raise RefusedError(503, text, code="intake.bodies-too-many", headers={**CLOSE, "retry-after": "1"})

    async def drop(self, seconds: float) -> bool:
        """Read the rest and forget it, within bounds; whether nothing of it is under way any more."""
        if self._awaited:
            return False
        dropped = 0
        with contextlib.suppress(TimeoutError, RefusedError):
            async with asyncio.timeout(seconds):
                while self._more and dropped <= MOST_DROPPED:
                    dropped += len(await self._piece())
        return not self._more

    async def _piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            text = "the connection ended before the body did"
            raise RefusedError(400, text, code="intake.body-cut-off", headers=CLOSE)
        self._more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    @staticmethod
    def _too_large() -> RefusedError:
        text = f"the body: found more than {MOST_BODY >> 20} MiB; allowed: that, in one request"
        return RefusedError(413, text, code="intake.body-too-large", headers=CLOSE, most=MOST_BODY)


def _records(kind: int, body: bytes) -> tuple[list[Any], bool]:
    """The records of a body, and whether it is one alone. Raises RefusedError."""
    name = NAMES[kind]
    allowed = f'allowed: one object, a list of them, or {{"{name}": […]}}'
    if not body.strip():
        raise RefusedError(400, f"the body is empty; {allowed}", code="intake.body-empty")
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        text = f"the body is not JSON: {error}; {allowed}"
        raise RefusedError(400, text, code="intake.body-not-json", reason=str(error)) from None
    if type(read) is dict and name in read:
        if len(read) > 1:
            text = f"the body: found {name!r} and other keys beside it; {allowed}"
            raise RefusedError(400, text, code="intake.body-not-records", at=name)
        read = read[name]
        if type(read) is not list:
            raise _no_records(name, f"{name}: found {shown(read)}; allowed: a list", read)
    if type(read) is dict:
        return [read], True
    if type(read) is not list:
        raise _no_records("", f"the body: found {shown(read)}; {allowed}", read)
    if len(read) > MOST_RECORDS:
        text = f"the body: found {len(read):,} {name}; allowed: up to {MOST_RECORDS:,} in one request"
        raise RefusedError(413, text, code="intake.records-too-many", found=len(read), most=MOST_RECORDS)
    return read, False


def _no_records(at: str, text: str, value: Any) -> RefusedError:
    return RefusedError(400, text, code="intake.body-not-records", at=at, found=shown(value))


async def _checked(kind: int, records: Sequence[Any], request: str) -> tuple[RecordBatch, Rejected]:
    """Those that are right as a batch, and the others."""
    check, person, now = KINDS[NAMES[kind]], _PERSONS[kind], time.time_ns() // 1_000_000
    batch = RecordBatch(kind, [], [], [])
    rejected: list[tuple[int, RecordError]] = []
    for index, value in enumerate(records):
        try:
            record = check(value, now)
        except RecordError as error:
            # Without its trace, which would hold this list too.
            rejected.append((index, error.with_traceback(None)))
            continue
        record["request_id"], record["received"] = request, now
        batch.hashes.append(hash_id(person, record["id"]))
        batch.lines.append(orjson.dumps(record))
        batch.records.append(record)
        if index % _PIECE == _PIECE - 1:
            await asyncio.sleep(0)
    if rejected:
        metrics.REJECTED.labels(NAMES[kind]).inc(len(rejected))
    return batch, rejected


def _first(kind: int, rejected: Rejected) -> str:
    index, error = rejected[0]
    return f"{NAMES[kind]}[{index}]: {error}"


def _listed(rejected: Rejected) -> list[Json]:
    """As the answer has them."""
    return [
        {"index": index, "reason": str(error), "code": error.code, "fields": error.fields} for index, error in rejected
    ]


def _refused(error: RefusedError) -> IntakeReply:
    answer = _json(error.status, describe_error(error))
    answer.headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    return answer


def _json(status: int, body: Json) -> IntakeReply:
    content = orjson.dumps(body)
    length = str(len(content)).encode()
    return IntakeReply(status, content, [(b"content-type", b"application/json"), (b"content-length", length)])


_CONTEXT = ("traceparent", "tracestate")
