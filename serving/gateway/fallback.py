"""The list server: it answers with popular items while no variant answers, in the predictor's shape.

It is a small ASGI application on loopback. Envoy asks it when no predictor is available. On a laptop it runs in a
thread of the supervisor, and in a cluster in the xDS service of the gateway's pod.

The list is as old as the last deployment. It holds what the rules of that time allow on the request's surface. If a
request has candidates, the answer leaves out those that the rules forbid. The list knows no attributes, so a request
for a category or with a filter gets an empty list rather than wrong items. Version and variant are `fallback`, and no
experiment counts them. Every item is marked as a fallback.
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
from endcap.pseudonyms import Pseudonymiser
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
_V1_PREDICT = re.compile(r"/v1/models/([^/:]+):predict")
_V2_INFER = re.compile(r"/v2/models/([^/]+)/infer")
_BINARY_HEADER = "inference-header-content-length"
_MODEL_PATH = re.compile(r"/v[12]/models/([^/:]+)")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ReadSettings = Callable[[], Mapping[str, GatewaySettings]]
"""Returns the settings of each recommender, by name, as they are now."""
FindPseudonymiser = Callable[[], Pseudonymiser | None]


def make_list_app(
    read_settings: ReadSettings, find_pseudonymiser: FindPseudonymiser = lambda: None
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Make the ASGI application. It answers only processes of this machine. Parameters as of `ListServer`."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        client = scope.get("client")
        if client is None or client[0] not in ("127.0.0.1", "::1"):
            status, headers, body = _answer_error(make_remote_error())
        else:
            request_headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                status, headers, body = answer_from_list(
                    scope["path"],
                    request_headers,
                    await _read_body(receive),
                    read_settings(),
                    scope["method"],
                    find_pseudonymiser(),
                )
            except RefusedError as error:
                status, headers, body = _answer_error(error)
        all_headers = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        start = {"type": "http.response.start", "status": status, "headers": _encode_headers(all_headers)}
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return answer


def answer_from_list(
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    settings: Mapping[str, GatewaySettings],
    method: str = "POST",
    pseudonymiser: Pseudonymiser | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Answer a request that no predictor has answered.

    Parameters
    ----------
    path
        The path, such as `/v1/models/shoes:predict`.
    headers
        The request's headers, with names in lower case.
    body
        The request's body, which is read as a predictor reads it.
    settings
        The settings of each recommender, by name.
    method
        The HTTP method.
    pseudonymiser
        Makes the shopper's pseudonym, of which the ranking ids have a hash; None: they have one of the id.

    Returns
    -------
    tuple of int, dict and bytes
        Status, headers and body. The headers always name the variant `fallback`, for an error too.

    Notes
    -----
    The list server answers rankings only. A question for a model's state is answered 503, and so are binary tensors.
    """
    client_request_id = read_request_id(headers.get(REQUEST_ID, ""))
    request_id = client_request_id or str(uuid.uuid4())
    reply_headers = {VARIANT_HEADER: FALLBACK, VERSION_HEADER: FALLBACK}
    v1, v2 = _V1_PREDICT.fullmatch(path), _V2_INFER.fullmatch(path)
    match = v1 or v2
    own_settings = settings.get(match[1]) if match else None
    try:
        if (
            match is None
            or own_settings is None
            or not own_settings.offers_list
            or _BINARY_HEADER in headers
            or method != "POST"
        ):
            model = _MODEL_PATH.match(path)
            raise _make_unavailable_error(model[1] if model else None)
        document = read_json(body)
        identity = request_id
        if v2:
            request = read_v2_body(document)
            if _wants_binary_tensors(request):
                raise _make_unavailable_error(match[1])
            identity = request.id or request_id
            tensors = [Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data) for tensor in request.inputs]
            instances = read_v2_instances(tensors)
        else:
            instances = read_v1_instances(document)
        token = _write_token(match[1], headers, request_id, pseudonymiser)
        rankings = [
            _make_ranking(instance, number, own_settings, request_id, token)
            for number, instance in enumerate(instances)
        ]
    except (RefusedError, RequestError) as error:
        if client_request_id:
            reply_headers[REQUEST_ID] = client_request_id
        refusal = error if isinstance(error, RefusedError) else refuse_with(error, 400)
        return refusal.status, {**reply_headers, **refusal.headers}, encode_error(refusal)
    reply_headers |= {REQUEST_ID: request_id, RANKING_HEADER: f"{token}.0"}
    return 200, reply_headers, write_v2(rankings, match[1], FALLBACK, identity) if v2 else write_v1(rankings)


class ListServer:
    """Runs the application on a free port of loopback, in a thread of this process.

    Parameters
    ----------
    read_settings
        Returns the settings of each recommender, by name.
    find_pseudonymiser
        Returns what the intake maps shoppers by, so that its reports and the rankings name the same; None if it does
        not.
    """

    def __init__(self, read_settings: ReadSettings, find_pseudonymiser: FindPseudonymiser = lambda: None) -> None:
        self._read_settings, self._find_pseudonymiser = read_settings, find_pseudonymiser
        self.port = 0
        self._start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def restart(self) -> None:
        """Start another thread on the same port, after the thread has ended. Raises OSError if the port is taken."""
        self._socket.close()
        self._start()

    def close(self) -> None:
        """End the thread; wait for it at most five seconds."""
        self._server.should_exit = True
        # Without this the server would wait for the connections that Envoy keeps open.
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
            cast(Any, make_list_app(self._read_settings, self._find_pseudonymiser)),
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            # Otherwise every connection without HTTP would write a line on the user's terminal.
            log_level="error",
            lifespan="off",
            loop="asyncio",
            timeout_keep_alive=75,
            # Envoy's x-forwarded-for names the client, not the process that asks.
            proxy_headers=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="fallback", daemon=True
        )
        self._thread.start()


class _AnyValues(Mapping[str, Any]):
    """Accepts any attribute and any value: the list server knows none, only a predictor does."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> _AnyValues:
        return self

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1


# The body's limit bounds everything in it.
_ANY_SIZE = ServingSpec.model_construct(max_events=10**9, max_candidates=10**9, max_k=10**9)
_ATTRIBUTES = _AnyValues()


@lru_cache(maxsize=1024)
def _open_signer(recommender: str) -> TokenSigner:
    return TokenSigner.from_environment(recommender)


def _write_token(
    recommender: str, headers: Mapping[str, str], request_id: str, pseudonymiser: Pseudonymiser | None
) -> str:
    """Write the ranking token of a list. The list counts for the arm that the gateway chose."""
    arm: TokenArm = next((name for name in ARM_NAMES if name == headers.get(VARIANT_HEADER)), "none")
    shopper = headers.get(SHOPPER_HEADER)
    if shopper is not None:
        shopper = shopper.encode("latin-1").decode("utf-8", "surrogateescape")
        shopper = shopper if pseudonymiser is None else pseudonymiser.pseudonymise(shopper)
    return _open_signer(recommender).write(
        "",
        arm,
        "fallback",
        split=TrafficSplit.from_text(headers.get(SPLIT_HEADER, "")),
        shopper=shopper,
        time=time.time_ns() // 1_000_000,
        request=request_id,
    )


def _make_ranking(instance: object, number: int, settings: GatewaySettings, request_id: str, token: str) -> bytes:
    """Make one ranking as JSON, in the predictor's shape. Raises RequestError if the request is wrong."""
    request = parse_instance(instance, number, _ANY_SIZE, _ATTRIBUTES)
    popular = settings.on(request.surface)
    if request.category is not None or request.filters:
        items: Iterable[str] = ()
    elif request.candidates is not None:
        admitted = settings.admits(request.surface, request.candidates)
        allowed = set(admitted)
        items = dict.fromkeys([*(item for item in popular if item in allowed), *admitted])
    else:
        items = popular
    excluded = {*request.exclude, request.item}
    k = settings.k if request.k is None else request.k
    shown = list(islice((item for item in items if item not in excluded), k))
    extra = {
        "model_version": FALLBACK,
        "variant": FALLBACK,
        "request_id": request_id,
        "ranking_id": f"{token}.{number}",
        **({"surface": request.surface} if request.surface is not None else {}),
    }
    reason = NO_PREDICTOR if shown else None
    return Answer(shown, [None] * len(shown), reason=reason).to_bytes(extra)


def _wants_binary_tensors(request: InferenceRequest) -> bool:
    if (request.parameters or {}).get("binary_data_output"):
        return True
    return any((output.parameters or {}).get("binary_data") for output in request.outputs or ())


def make_remote_error() -> RefusedError:
    """Make the error for a process of another machine."""
    return RefusedError(
        403, "this port answers only the Envoy of its own machine; ask the gateway instead", code="gateway.not-local"
    )


def _make_unavailable_error(recommender: str | None) -> RefusedError:
    return RefusedError(
        503,
        f"no predictor of {recommender or 'a recommender'} is ready",
        code="gateway.no-predictor",
        headers={"retry-after": "1"},
        recommender=recommender,
    )


def _answer_error(error: RefusedError) -> tuple[int, dict[str, str], bytes]:
    return error.status, error.headers, encode_error(error)


def _encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def _read_body(receive: Receive) -> bytes:
    """Read the body. Raises RefusedError if it is larger or slower than Envoy allows."""
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
                        f"the body: found more than {_LIMITS.body:,} bytes; allowed: at most that many; send several",
                        code="gateway.body-too-large",
                        headers={"connection": "close"},
                        most=_LIMITS.body,
                    )
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise RefusedError(
            408,
            f"the body has not arrived within {_LIMITS.request_timeout:g} s; send it without a pause",
            code="gateway.request-late",
            headers={"connection": "close"},
        ) from None
