"""What shoppers get while no variant answers: a list of popular items, in the predictor's shape and marked as fallback.

A small ASGI application on loopback, which Envoy comes to when the predictors are not to be had: in a thread of the
supervisor on a laptop, in the xDS service of a gateway's pod. The list is as old as the last deployment, and has what
the rules of then let be shown everywhere. It knows no attributes: candidates and exclusions are honoured, and a request
for a category, or with a filter, gets an empty list rather than the wrong items. Version and variant are `fallback`,
which no experiment counts.
"""

from __future__ import annotations

import re
import socket
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, cast

import orjson

from endcap.deploy.terms import Terms
from endcap.reasons import NO_PREDICTOR

from .clusters import Json
from .names import FALLBACK, RANKING_HEADER, REQUEST_ID, VARIANT_HEADER, VERSION_HEADER
from .refused import RefusedError, error_body

MAX_INSTANCES = 1024
_V1 = re.compile(r"/v1/models/([^/:]+):predict")
_V2 = re.compile(r"/v2/models/([^/]+)/infer")
_NAME = re.compile(r"/v[12]/models/([^/:]+)")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Lists = Callable[[], Mapping[str, Terms]]


def application(lists: Lists) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Over HTTP, for this machine alone. lists: what there is at the moment, by recommender."""

    async def answer_one(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        client = scope.get("client")
        if client is None or client[0] not in ("127.0.0.1", "::1"):
            status, headers, body = _refused(not_local())
        else:
            given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            status, headers, body = answer(scope["path"], given, await _read(receive), lists())
        told = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        start = {"type": "http.response.start", "status": status, "headers": _encoded(told)}
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return answer_one


def answer(
    path: str, headers: Mapping[str, str], body: bytes, lists: Mapping[str, Terms]
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a request that no predictor has answered. headers: by their names in lower case.

    Who asks how a model is learns that it is not there: 503.
    """
    request_id = headers.get(REQUEST_ID) or str(uuid.uuid4())
    v1, v2 = _V1.fullmatch(path), _V2.fullmatch(path)
    asked = v1 or v2
    terms = lists.get(asked[1]) if asked else None
    if asked is None or terms is None or not terms.popular:
        named = _NAME.match(path)
        return _refused(_nobody(named[1] if named else None))
    try:
        document = _object(body)
        instances = _instances(document.get("instances")) if v1 else _elements(document)
        rankings = [_ranking(one, number, terms, request_id) for number, one in enumerate(instances)]
    except RefusedError as error:
        return _refused(error)
    said = {
        VARIANT_HEADER: FALLBACK,
        VERSION_HEADER: FALLBACK,
        REQUEST_ID: request_id,
        RANKING_HEADER: rankings[0]["ranking_id"],
    }
    whole = {"predictions": rankings} if v1 else _tensor(asked[1], document.get("id") or request_id, rankings)
    return 200, said, orjson.dumps(whole)


class Server:
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
            cast(Any, application(self._lists)),
            log_config=None,
            access_log=False,
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


def _ranking(instance: object, number: int, terms: Terms, request_id: str) -> Json:
    if not isinstance(instance, dict):
        raise RefusedError(
            400,
            f"instance {number}: found no object; allowed: a JSON object of a request",
            code="request.wrong-type",
            instance=number,
            at="request",
        )
    k = instance.get("k", terms.k)
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise RefusedError(
            400,
            f"instance {number}: k: found {k!r}; allowed: 1 or more",
            code="request.out-of-range",
            instance=number,
            at="k",
            found=k,
            least=1,
        )
    never = {*_ids(instance, "exclude", number), *([instance["item"]] if isinstance(instance.get("item"), str) else [])}
    candidates = _ids(instance, "candidates", number) if instance.get("candidates") is not None else None
    if candidates is not None:
        wanted = set(candidates)
        listed = [item for item in terms.popular if item in wanted]
        items = list(dict.fromkeys([*listed, *candidates]))
    else:
        items = list(terms.popular)
    if instance.get("category") is not None or instance.get("filter"):
        items = []
    shown = [item for item in items if item not in never][:k]
    surface = {"surface": instance["surface"]} if isinstance(instance.get("surface"), str) else {}
    return {
        "items": [{"item": item, "score": None, "fallback": True} for item in shown],
        "unknown": 0,
        **({"fallback": {"reason": NO_PREDICTOR, "items": len(shown)}} if shown else {}),
        "model_version": FALLBACK,
        "variant": FALLBACK,
        "request_id": request_id,
        "ranking_id": f"{request_id}.{number}",
        **surface,
    }


def _ids(instance: Json, key: str, number: int) -> Sequence[str]:
    found = instance.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise RefusedError(
            400,
            f"instance {number}: {key}: found no list of ids; allowed: a list of texts",
            code="request.wrong-type",
            instance=number,
            at=key,
        )
    return found


def _object(body: bytes) -> Json:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(
            400,
            f"the body is not JSON: {error}; allowed: a JSON object",
            code="predictor.body-not-json",
            reason=str(error),
        ) from None
    if not isinstance(document, dict):
        raise RefusedError(400, "the body: found no object; allowed: a JSON object", code="predictor.body-not-object")
    return document


def _instances(found: object) -> list[Any]:
    if not isinstance(found, list):
        text = "instances: found no list; allowed: a list of requests"
        raise RefusedError(400, text, code="predictor.instances-not-list", at="instances")
    if not 1 <= len(found) <= MAX_INSTANCES:
        text = f"instances: found {len(found):,}; allowed: 1 to {MAX_INSTANCES:,} in one call"
        size = {"found": len(found), "least": 1, "most": MAX_INSTANCES}
        raise RefusedError(400, text, code="predictor.instances-count", at="instances", **size)
    return found


def _elements(document: Json) -> list[Any]:
    try:
        (tensor,) = document["inputs"]
        return _instances([orjson.loads(element) for element in tensor["data"]])
    except (KeyError, TypeError, ValueError, orjson.JSONDecodeError):
        raise RefusedError(
            400,
            'inputs: found no tensor of requests; allowed: one BYTES tensor named "request" of shape [n], each element '
            "a V1 instance as JSON",
            code="predictor.tensor-invalid",
        ) from None


def _tensor(name: str, identity: str, rankings: list[Json]) -> Json:
    texts = [orjson.dumps(one).decode() for one in rankings]
    output = {"name": "ranking", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return {"model_name": name, "model_version": FALLBACK, "id": identity, "outputs": [output]}


def not_local() -> RefusedError:
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
    return error.status, error.headers, error_body(error)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
