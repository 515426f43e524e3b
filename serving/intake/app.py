"""The intake over HTTP. It is a plain ASGI application, because a framework costs more than the work itself."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from endcap.errors import EndcapError
from endcap.pseudonyms import Pseudonymiser
from endcap_serving.http_errors import RefusedError, describe_error, refuse_with
from endcap_serving.intake import clock, metrics
from endcap_serving.intake.commit import RecordBatch
from endcap_serving.intake.intake import Intake, count_batch
from endcap_serving.intake.known_ids import hash_id
from endcap_serving.intake.records import KINDS, NAMES, RecordError
from endcap_serving.intake.request_bodies import CLOSE, BodyMemory, Receive, RequestBody, parse_records
from endcap_serving.json_log import make_log_fields
from endcap_serving.names import SCOPE_HEADER
from endcap_serving.request_ids import read_request_id
from endcap_serving.tracing import Tracing

log = logging.getLogger("endcap.intake")
Json = dict[str, Any]
Send = Callable[[Json], Awaitable[None]]

BODY_SECONDS = 15.0
"""Seconds that a body may take to arrive."""
REQUEST_ID = b"x-request-id"
PATHS = {f"/v1/{name}": number for number, name in enumerate(NAMES)}
_SCOPE = SCOPE_HEADER.encode()
_HASH_NAMES = [name.encode() for name in NAMES]
_OWNERS = ("customer", "session", "shopper")
"""Keys of a record that say whose it is."""
_TRACE = ("traceparent", "tracestate")
_PIECE = 500
"""Records of one request that are checked before other requests get their turn."""
Rejected = Sequence[tuple[int, RecordError]]
"""Records that are not accepted: the position in the request, and what is wrong."""


@dataclass
class IntakeReply:
    """An HTTP answer of the intake."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


class IntakeApp:
    """The ASGI application of an intake. docs/intake-reference.md says what it answers when.

    Parameters
    ----------
    intake
        What stores the records. The application starts it and ends it.
    tracing
        Where spans go; None: nowhere.
    body_seconds
        Seconds that a body may take to arrive.
    metrics
        Whether the application answers /metrics. False: another port does.
    pseudonymiser
        Maps whose each record is, before anything keeps it. None: ids stay.

    Attributes
    ----------
    ending
        True while the intake still answers, but is not ready for new connections.
    body_memory
        Bytes of bodies that are being read or worked on.
    """

    def __init__(
        self,
        intake: Intake,
        tracing: Tracing | None = None,
        *,
        body_seconds: float = BODY_SECONDS,
        metrics: bool = True,
        pseudonymiser: Pseudonymiser | None = None,
    ) -> None:
        self._pseudonymiser = pseudonymiser
        self.intake, self._tracing, self._body_seconds, self._metrics = intake, tracing, body_seconds, metrics
        self.ending = False
        self.body_memory = BodyMemory()

    async def __call__(self, scope: Json, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        path = scope["path"]
        kind = PATHS.get(path)
        if kind is None:
            reply = self._answer_status(path, scope["method"])
        else:
            reply = await self._answer_records(kind, scope, receive)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """Start the intake when the server starts, and end it when the server ends."""
        loop = asyncio.get_running_loop()
        await receive()
        try:
            await loop.run_in_executor(None, self.intake.start)
        except Exception as error:
            log.exception("the intake cannot start", extra=make_log_fields(error))
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await loop.run_in_executor(None, self.intake.end)
        if self._tracing is not None:
            self._tracing.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _answer_status(self, path: str, method: str) -> IntakeReply:
        """Answer a probe, a scraper, or a person who looks whether the intake is well."""
        if path == "/metrics" and self._metrics:
            return IntakeReply(200, generate_latest(), [(b"content-type", CONTENT_TYPE_LATEST.encode())])
        if path == "/healthz":
            dead = EndcapError("a thread of the intake has ended; restart the intake", code="intake.thread-ended")
            return _make_reply(200, {"alive": True}) if self.intake.alive else _make_reply(503, describe_error(dead))
        if path == "/readyz":
            ending = EndcapError("the intake is ending", code="intake.ending") if self.ending else None
            error = ending or clock.check_clock() or self.intake.writer.failure
            if error:
                return _make_reply(503, describe_error(error))
            return _make_reply(200, {"ready": True, **self.intake.kept_files})
        paths = [*(f"POST {record_path}" for record_path in PATHS), "GET /healthz", "GET /readyz", "GET /metrics"]
        unknown = EndcapError(
            f"{method} {path[:80]}: there is no such path; allowed: {', '.join(paths)}",
            code="intake.path-unknown",
            method=method,
            path=path[:80],
            known=paths,
        )
        return _make_reply(404, describe_error(unknown))

    async def _answer_records(self, kind: int, scope: Json, receive: Receive) -> IntakeReply:
        """Answer a request that brings records, and count, log and trace it."""
        start_time = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = read_request_id(headers.get(REQUEST_ID, b"")) or str(uuid.uuid4())
        span = None
        if self._tracing is not None:
            parent = {name: headers[name.encode()].decode("latin-1") for name in _TRACE if name.encode() in headers}
            span = self._tracing.start(f"POST {scope['path']}", parent, **{"endcap.request_id": request_id})
        body = RequestBody(self.body_memory, headers, receive)
        try:
            reply = await self._accept_records(kind, scope["method"], headers, body, request_id)
        except RefusedError as error:
            # A client that is cut off while it sends a body meets a reset instead of the answer. The gateway turns that
            # into a 503, and a client that obeys it sends the same request again.
            if error.status != 408 and await body.drop(self._body_seconds):
                error.headers.pop("connection", None)
            reply = _make_refusal_reply(error)
            fields = {"path": scope["path"], "status": error.status, "request_id": request_id, **self._describe(error)}
            log.log(logging.WARNING if error.status >= 500 else logging.INFO, "refused", extra=fields)
        reply.headers.append((REQUEST_ID, request_id.encode()))
        metrics.REQUESTS.labels(scope["path"], reply.status).inc()
        metrics.REQUEST_TIME.observe(time.perf_counter() - start_time)
        if span is not None and self._tracing is not None:
            self._tracing.finish(span, reply.status)
        return reply

    async def _accept_records(
        self, kind: int, method: str, headers: dict[bytes, bytes], body: RequestBody, request_id: str
    ) -> IntakeReply:
        """Make the records that are right durable, then answer. Raises RefusedError."""
        _check_head(method, headers)
        try:
            async with asyncio.timeout(self._body_seconds):
                await body.read()
            records, is_single = parse_records(kind, bytes(body.content))
            batch, rejected = await _check_records(kind, records, request_id, self._pseudonymiser)
            if is_single and rejected:
                ((_, error),) = rejected
                raise refuse_with(error, 400, text=f"{NAMES[kind][:-1]}: {error}")
            if rejected and not batch.records:
                index, error = rejected[0]
                raise RefusedError(
                    400,
                    f"none of the {len(rejected):,} records is right; the first, {NAMES[kind]}[{index}]: {error}",
                    code="intake.none-accepted",
                    extra={"accepted": 0, "duplicates": 0, "rejected": _list_rejected(rejected)},
                    records=len(rejected),
                )
            if batch.records:
                await self._commit(batch)
        except TimeoutError:
            seconds = self._body_seconds
            text = f"the body did not arrive within {seconds:g} s; send it again without a pause"
            raise RefusedError(408, text, code="intake.body-late", headers=CLOSE, seconds=seconds) from None
        finally:
            self.body_memory.held -= len(body.content)
        counts: Json = {"accepted": len(batch.accepted), "duplicates": batch.duplicates}
        if not rejected:
            return _make_reply(200, counts)
        # Without the errors' texts: they quote what was sent, such as a customer's id.
        extra = {"request_id": request_id, "records": len(rejected), "first": rejected[0][0], "kind": NAMES[kind]}
        log.info("refused in part", extra={**extra, "code": rejected[0][1].code})
        return _make_reply(207, {**counts, "rejected": _list_rejected(rejected)})

    def _describe(self, error: RefusedError) -> Json:
        """Describe a refusal in the log. With pseudonyms by its code alone: texts quote what was sent."""
        return make_log_fields(error) if self._pseudonymiser is None else {"code": error.code}

    async def _commit(self, batch: RecordBatch) -> None:
        """Wait until the batch is durable. Raises RefusedError if it cannot be written."""
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
            text = f"{failure}; no record of this request was kept, send it again later"
            raise refuse_with(failure, 503, text=text, headers={"retry-after": "2"})
        count_batch(batch)


def _check_head(method: str, headers: dict[bytes, bytes]) -> None:
    """Check everything that needs no body: method, sender, encoding and clock. Raises RefusedError."""
    if method != "POST":
        text = f"method: found {method}; allowed: POST"
        allow = {**CLOSE, "allow": "POST"}
        raise RefusedError(405, text, code="intake.method-not-allowed", headers=allow, found=method)
    _check_sender(headers)
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        text = "content-encoding: found one; allowed: none; send the body uncompressed"
        plain = {**CLOSE, "accept-encoding": "identity"}
        raise RefusedError(415, text, code="intake.body-encoded", headers=plain)
    if (clock_error := clock.check_clock()) is not None:
        raise refuse_with(clock_error, 503, headers={**CLOSE, "retry-after": "30"})


def _check_sender(headers: dict[bytes, bytes]) -> None:
    """Refuse what a web page sent or could have sent, and callers who may not send events. Raises RefusedError."""
    if b"origin" in headers:
        text = "origin: found one; allowed: none; a web page sends to the gateway, which knows the allowed pages"
        raise RefusedError(403, text, code="intake.origin-refused", headers=CLOSE)
    # A page may send other content types without asking first.
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type != b"application/json":
        shown_type = content_type[:100].decode("latin-1") or "none"
        text = f"content-type: found {shown_type}; allowed: application/json"
        raise RefusedError(
            415, text, code="intake.content-type-refused", headers=CLOSE, found=shown_type, allowed=["application/json"]
        )
    scope = headers.get(_SCOPE)
    if scope is not None and b"events" not in scope.split(b","):
        text = "the caller's scopes: found none named events; allowed: callers with it; ask whoever keeps the policy"
        raise RefusedError(403, text, code="intake.scope-missing", headers=CLOSE, needs="events")


async def _check_records(
    kind: int, records: Sequence[Any], request_id: str, pseudonymiser: Pseudonymiser | None
) -> tuple[RecordBatch, Rejected]:
    """Check each record. Returns those that are right as a batch, with pseudonyms if there are, and the others."""
    check, hash_name, now = KINDS[NAMES[kind]], _HASH_NAMES[kind], time.time_ns() // 1_000_000
    batch = RecordBatch(kind, [], [], [])
    rejected: list[tuple[int, RecordError]] = []
    for index, value in enumerate(records):
        try:
            record = check(value, now)
        except RecordError as error:
            # The trace would keep the list of all records in memory.
            rejected.append((index, error.with_traceback(None)))
            continue
        if pseudonymiser is not None:
            for name in _OWNERS:
                if record.get(name) is not None:
                    record[name] = pseudonymiser.pseudonymise(record[name])
        record["request_id"], record["received"] = request_id, now
        batch.hashes.append(hash_id(hash_name, record["id"]))
        batch.lines.append(orjson.dumps(record))
        batch.records.append(record)
        if index % _PIECE == _PIECE - 1:
            await asyncio.sleep(0)
    if rejected:
        metrics.REJECTED.labels(NAMES[kind]).inc(len(rejected))
    return batch, rejected


def _list_rejected(rejected: Rejected) -> list[Json]:
    """List the rejected records in the form of the answer's body."""
    return [
        {"index": index, "reason": str(error), "code": error.code, "fields": error.fields} for index, error in rejected
    ]


def _make_refusal_reply(error: RefusedError) -> IntakeReply:
    """Make the answer to a request that is refused."""
    reply = _make_reply(error.status, describe_error(error))
    reply.headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    return reply


def _make_reply(status: int, body: Json) -> IntakeReply:
    """Make an answer with a JSON body."""
    content = orjson.dumps(body)
    length = str(len(content)).encode()
    return IntakeReply(status, content, [(b"content-type", b"application/json"), (b"content-length", length)])
