"""Ranking requests by KServe's V1 and V2 protocols. Both go the same way: admit, read, rank, write.

A protocol is a reader: a function from a body to a `Call`, which holds the body's instances and writes their answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from endcap.errors import EndcapError, RequestError
from endcap.ranking import RankRequest
from endcap_serving.http_errors import RefusedError, encode_error
from endcap_serving.json_log import make_log_fields
from endcap_serving.kserve_bodies import (
    Tensor,
    read_json,
    read_v1_instances,
    read_v2_body,
    read_v2_instances,
    write_v1,
    write_v2,
)
from endcap_serving.log_limiter import LogLimiter
from endcap_serving.names import DEGRADED_HEADER, RANKING_HEADER, REQUEST_ID, VERSION_HEADER
from endcap_serving.predictor.asgi_io import (
    BodyReader,
    ClientDisconnectedError,
    Receive,
    Reply,
    RequestHead,
    make_refusal_reply,
)
from endcap_serving.predictor.engine import ONLINE_STORE, Engine, RankedAnswer, ServedVersion, format_ranking_id
from endcap_serving.predictor.metrics import Metrics
from endcap_serving.predictor.sampling import RequestSampler
from endcap_serving.predictor.scopes import permit_explanations
from endcap_serving.predictor.tensors import list_tensors, read_binary, read_options, write_requested_outputs

LARGE = 64 * 2**10
"""Bytes. Larger bodies are not parsed on the event loop."""
MANY = 64
"""Rankings. Longer answers are not written on the event loop."""
log = logging.getLogger("endcap.predictor")

Writer = Callable[[Sequence[bytes], ServedVersion, str], Reply]
"""Writes the answer: from rankings as JSON, the version that made them, and the id of the HTTP request."""


class Call(NamedTuple):
    """The instances of a body, not yet checked, and the function that writes their answer."""

    instances: Sequence[Any]
    write: Writer


Reader = Callable[[bytes, RequestHead, str], Call]
"""Reads a body that was sent to a model of that name. Raises RequestError."""


class RankingCalls:
    """Answers the ranking requests of all served models.

    Parameters
    ----------
    engines
        An engine for each served model.
    metrics
        The predictor's metrics.
    bodies
        Reads the requests' bodies.
    samplers
        By an engine's name, what samples its rankings; None: nothing.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        metrics: Metrics,
        bodies: BodyReader,
        samplers: Mapping[str, RequestSampler] | None = None,
    ) -> None:
        self._metrics = metrics
        self._samplers = samplers or {}
        self._bodies = bodies
        self._failures = LogLimiter(log, logging.ERROR, "a request failed")
        self._paths: dict[str, tuple[Engine, Reader]] = {}
        for engine in engines:
            name = engine.served.name
            self._paths[f"/v1/models/{name}:predict"] = engine, read_v1_call
            self._paths[f"/v2/models/{name}/infer"] = engine, read_v2_call

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    async def answer(self, path: str, head: RequestHead, receive: Receive) -> Reply | None:
        """Answer a request.

        Parameters
        ----------
        path
            One of the paths of this object.
        head
            The request's head.
        receive
            ASGI's function that gives the next message.

        Returns
        -------
        Reply or None
            The reply, also for errors. None if the client closed the connection.
        """
        try:
            reply = await self._rank(*self._paths[path], head, receive)
        except ClientDisconnectedError:
            return None
        except RefusedError as error:
            reply = make_refusal_reply(error)
        except RequestError as error:
            reply = Reply(400, encode_error(error))
        except Exception as error:
            failure = wrap_failure(error)
            self._failures(error, request_id=head.id, **make_log_fields(failure))
            reply = Reply(500, encode_error(failure))
        if head.given_id:
            reply.headers[REQUEST_ID] = head.given_id
        return reply

    async def _rank(self, engine: Engine, read: Reader, head: RequestHead, receive: Receive) -> Reply:
        self._admit(engine)
        body = await self._bodies.read(head, receive)
        loop = asyncio.get_running_loop()
        if len(body) < LARGE:
            requests, write = _parse(engine, read, body, head)
        else:
            requests, write = await loop.run_in_executor(None, _parse, engine, read, body, head)
        allowed = permit_explanations(requests, engine.served.scope_from, head.scope, from_page=head.from_page)
        # Other requests may have arrived while the body did.
        self._admit(engine)
        answers = await engine.rank(allowed)
        surfaces = [request.surface for request in requests]
        # The gateway says for which variant it asks. Otherwise it is the one that this process was started as.
        variant = head.variant or engine.served.variant
        token = engine.write_token(head.id, variant, head.shopper, head.split)
        if len(answers) < MANY:
            reply = _write(engine, write, head.id, variant, token, answers, surfaces)
        else:
            reply = await loop.run_in_executor(None, _write, engine, write, head.id, variant, token, answers, surfaces)
        reply.headers |= _make_answer_headers(engine, head.id, token, answers)
        reply.surfaces = surfaces
        if sampler := self._samplers.get(engine.served.name):
            sampler.sample(token, variant, allowed, answers)
        return reply

    def _admit(self, engine: Engine) -> None:
        """Refuse a request that would wait too long. Raises RefusedError."""
        if engine.admission.is_full:
            self._metrics.count_rejected()
            seconds = engine.admission.retry_after
            raise RefusedError(
                503,
                f"more requests than can be answered in time; try again in {seconds} s",
                code="predictor.overloaded",
                headers={"retry-after": str(seconds)},
                retry_after=seconds,
            )


def read_v1_call(body: bytes, head: RequestHead, model: str) -> Call:
    """Read a V1 body. Raises RequestError."""
    return Call(read_v1_instances(read_json(body)), _write_v1)


def read_v2_call(body: bytes, head: RequestHead, model: str) -> Call:
    """Read a V2 body: JSON, JSON with options, or JSON with binary tensors. Raises RequestError."""
    if head.json_length is not None and not head.declares_json:
        request = read_binary(body, head.json_length, model)
    else:
        document = read_v2_body(read_json(body))
        if not document.outputs and not document.parameters and head.json_length is None:
            tensors = [Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data) for tensor in document.inputs]
            return Call(read_v2_instances(tensors), partial(_write_v2, document.id or ""))
        request = read_options(document, model)
    return Call(read_v2_instances(list_tensors(request)), partial(_write_options, request))


def _write_v1(texts: Sequence[bytes], served: ServedVersion, call_id: str) -> Reply:
    return Reply(200, write_v1(texts))


def _write_v2(given_id: str, texts: Sequence[bytes], served: ServedVersion, call_id: str) -> Reply:
    return Reply(200, write_v2(texts, served.name, served.version, given_id or call_id))


def _write_options(request: Any, texts: Sequence[bytes], served: ServedVersion, call_id: str) -> Reply:
    return write_requested_outputs(request, texts, served.version, call_id)


def _parse(engine: Engine, read: Reader, body: bytes, head: RequestHead) -> tuple[list[RankRequest], Writer]:
    call = read(body, head, engine.served.name)
    parse = engine.ranker.parse
    return [parse(instance, number) for number, instance in enumerate(call.instances)], call.write


def _write(
    engine: Engine,
    write: Writer,
    call_id: str,
    variant: str,
    token: str,
    answers: Sequence[RankedAnswer],
    surfaces: Sequence[str | None],
) -> Reply:
    return write(engine.encode_answers(answers, surfaces, call_id, variant, token), engine.served, call_id)


def _make_answer_headers(engine: Engine, call_id: str, token: str, answers: Sequence[RankedAnswer]) -> dict[str, str]:
    headers = {
        REQUEST_ID: call_id,
        VERSION_HEADER: engine.served.version,
        RANKING_HEADER: format_ranking_id(token, 0),
    }
    if any(ranking.degraded for ranking in answers):
        headers[DEGRADED_HEADER] = ONLINE_STORE
    return headers


def wrap_failure(error: Exception) -> EndcapError:
    """Convert an unexpected error to one of Endcap's, which the client gets. Endcap's errors stay as they are."""
    if isinstance(error, EndcapError):
        return error
    kind = type(error).__name__
    return EndcapError(f"{kind}: {error}", code="predictor.failed", kind=kind)
