"""What shoppers get while no variant answers: a list of popular items, in the predictor's shape and marked as fallback.

A small ASGI application on loopback, which Envoy comes to when the predictors are not to be had: in a thread of the
supervisor on a laptop, in the xDS service of a gateway's pod. The list is as old as the last deployment, and has what
the rules of then let be shown on the request's surface; of candidates it leaves out what they forbid. It knows no
attributes: a request for a category, or with a filter, gets an empty list rather than the wrong items. Version and
variant are `fallback`, which no experiment counts.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from itertools import islice
from typing import Any, cast

from endcap.deploy.gateway_settings import GatewaySettings
from endcap.errors import RequestError
from endcap.experiments.ranking_token import ARM_NAMES, TokenArm, TokenSigner
from endcap.experiments.splits import TrafficSplit
from endcap.fallback_reasons import NO_PREDICTOR
from endcap.ranking import Answer
from endcap.ranking.request import parse_instance
from endcap.spec.serving import ServingSpec
from endcap_serving.gateway.limits import Limits
from endcap_serving.http_errors import RefusedError, encode_error, refuse_with
from endcap_serving.http_protocol import BoundedProtocol
from endcap_serving.kserve_bodies import (
    InferenceRequest,
    Tensor,
    read_json,
    read_v1_instances,
    read_v2_body,
    read_v2_instances,
    write_v1,
    write_v2,
)
from endcap_serving.names import (
    FALLBACK,
    RANKING_HEADER,
    REQUEST_ID,
    SHOPPER_HEADER,
    SPLIT_HEADER,
    VARIANT_HEADER,
    VERSION_HEADER,
)
from endcap_serving.request_ids import read_request_id

_LIMITS = Limits()
_V1 = re.compile(r"/v1/models/([^/:]+):predict")
_V2 = re.compile(r"/v2/models/([^/]+)/infer")
_BINARY = "inference-header-content-length"
_NAME = re.compile(r"/v[12]/models/([^/:]+)")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Lists = Callable[[], Mapping[str, GatewaySettings]]


def make_list_app(lists: Lists) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Over HTTP, for this machine alone. lists: what there is at the moment, by recommender."""

    async def answer_one(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        client = scope.get("client")
        if client is None or client[0] not in ("127.0.0.1", "::1"):
            status, headers, body = _refused(make_remote_error())
        else:
            request_headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                status, headers, body = answer_from_list(
                    scope["path"], request_headers, await _read(receive), lists(), scope["method"]
                )
            except RefusedError as error:
                status, headers, body = _refused(error)
        all_headers = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        start = {"type": "http.response.start", "status": status, "headers": _encoded(all_headers)}
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return answer_one


def answer_from_list(
    path: str, headers: Mapping[str, str], body: bytes, lists: Mapping[str, GatewaySettings], method: str = "POST"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a request that no predictor has answered. headers: by their names in lower case.

    Requests are read as a predictor reads them. Who asks how a model is learns that it is not there: 503; so does who
    sends or wants binary tensors. All answers say that the variant is `fallback`, refusals too.
    """
    given_id = read_request_id(headers.get(REQUEST_ID, ""))
    request_id = given_id or str(uuid.uuid4())
    reply_headers = {VARIANT_HEADER: FALLBACK, VERSION_HEADER: FALLBACK}
    v1, v2 = _V1.fullmatch(path), _V2.fullmatch(path)
    match = v1 or v2
    terms = lists.get(match[1]) if match else None
    try:
        if match is None or terms is None or not terms.offers_list or _BINARY in headers or method != "POST":
            named = _NAME.match(path)
            raise _nobody(named[1] if named else None)
        document = read_json(body)
        identity = request_id
        if v2:
            request = read_v2_body(document)
            if _wants_binary(request):
                raise _nobody(match[1])
            identity = request.id or request_id
            tensors = [Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data) for tensor in request.inputs]
            instances = read_v2_instances(tensors)
        else:
            instances = read_v1_instances(document)
        token = _write_token(match[1], headers, request_id)
        rankings = [_ranking(tensor, number, terms, request_id, token) for number, tensor in enumerate(instances)]
    except (RefusedError, RequestError) as error:
        if given_id:
            reply_headers[REQUEST_ID] = given_id
        refusal = error if isinstance(error, RefusedError) else refuse_with(error, 400)
        return refusal.status, {**reply_headers, **refusal.headers}, encode_error(refusal)
    reply_headers |= {REQUEST_ID: request_id, RANKING_HEADER: f"{token}.0"}
    return 200, reply_headers, write_v2(rankings, match[1], FALLBACK, identity) if v2 else write_v1(rankings)


class ListServer:
    """The application on a free port of loopback, in a thread of this process."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self.port = 0
        self._start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def restart(self) -> None:
        """Where the thread has ended: another one, on the same port. Raises OSError where that is taken."""
        self._socket.close()
        self._start()

    def close(self) -> None:
        self._server.should_exit = True
        # Connections that Envoy keeps open are not waited for.
        self._server.force_exit = True
        self._thread.join(5)
        self._socket.close()

    def _start(self) -> None:
        import uvicorn

        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            cast(Any, make_list_app(self._lists)),
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            # What is no HTTP would be a line on the terminal of whoever serves.
            log_level="error",
            lifespan="off",
            loop="asyncio",
            timeout_keep_alive=75,
            # Envoy says who asks in x-forwarded-for, which is not where the question comes from.
            proxy_headers=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="fallback", daemon=True
        )
        self._thread.start()


class _AnyValues(Mapping[str, Any]):
    """Attributes and values, of which the list knows none: which there are says the predictor."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> _AnyValues:
        return self

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1


# A request's body is bounded, and so is all that is in it.
_ANY_SIZE = ServingSpec.model_construct(max_events=10**9, max_candidates=10**9, max_k=10**9)
_ATTRIBUTES = _AnyValues()


@lru_cache(maxsize=1024)
def _open_signer(recommender: str) -> TokenSigner:
    return TokenSigner.from_environment(recommender)


def _write_token(recommender: str, headers: Mapping[str, str], request_id: str) -> str:
    """The token of a list. It counts for the arm that the gateway chose before it came here."""
    arm: TokenArm = next((name for name in ARM_NAMES if name == headers.get(VARIANT_HEADER)), "none")
    shopper = headers.get(SHOPPER_HEADER)
    return _open_signer(recommender).write(
        "",
        arm,
        "fallback",
        split=TrafficSplit.from_text(headers.get(SPLIT_HEADER, "")),
        shopper=None if shopper is None else shopper.encode("latin-1").decode("utf-8", "surrogateescape"),
        time=time.time_ns() // 1_000_000,
        request=request_id,
    )


def _ranking(instance: object, number: int, terms: GatewaySettings, request_id: str, token: str) -> bytes:
    """One ranking as JSON, in the predictor's shape. Raises RequestError."""
    request = parse_instance(instance, number, _ANY_SIZE, _ATTRIBUTES)
    popular = terms.on(request.surface)
    if request.category is not None or request.filters:
        items: Iterable[str] = ()
    elif request.candidates is not None:
        admitted = terms.admits(request.surface, request.candidates)
        allowed = set(admitted)
        items = dict.fromkeys([*(item for item in popular if item in allowed), *admitted])
    else:
        items = popular
    never = {*request.exclude, request.item}
    k = terms.k if request.k is None else request.k
    shown = list(islice((item for item in items if item not in never), k))
    extra = {
        "model_version": FALLBACK,
        "variant": FALLBACK,
        "request_id": request_id,
        "ranking_id": f"{token}.{number}",
        **({"surface": request.surface} if request.surface is not None else {}),
    }
    reason = NO_PREDICTOR if shown else None
    return Answer(shown, [None] * len(shown), reason=reason).to_bytes(extra)


def _wants_binary(request: InferenceRequest) -> bool:
    if (request.parameters or {}).get("binary_data_output"):
        return True
    return any((output.parameters or {}).get("binary_data") for output in request.outputs or ())


def make_remote_error() -> RefusedError:
    return RefusedError(403, "only the Envoy of this machine is answered", code="gateway.not-local")


def _nobody(recommender: str | None) -> RefusedError:
    return RefusedError(
        503,
        f"no predictor of {recommender or 'a recommender'} is ready",
        code="gateway.no-predictor",
        headers={"retry-after": "1"},
        recommender=recommender,
    )


def _refused(error: RefusedError) -> tuple[int, dict[str, str], bytes]:
    return error.status, error.headers, encode_error(error)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def _read(receive: Receive) -> bytes:
    """The body. Raises RefusedError where it is larger, or comes later, than Envoy would let through."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_LIMITS.request_timeout):
            while True:
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > _LIMITS.body:
                    raise RefusedError(
                        413,
                        f"the body: found more than {_LIMITS.body:,} bytes; allowed: at most so many; send several",
                        code="gateway.body-too-large",
                        headers={"connection": "close"},
                        most=_LIMITS.body,
                    )
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise RefusedError(
            408,
            f"the body has not come within {_LIMITS.request_timeout:g} s; send it without a pause",
            code="gateway.request-late",
            headers={"connection": "close"},
        ) from None
