"""The KServe model: the V1 and V2 protocols on one side, a Ranker on the other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.v2_datamodels import InferenceRequest
from pydantic import ValidationError

from endcap.errors import RequestError
from endcap.ranking import Ranker, RankRequest

from ..gateway import VARIANT_HEADER, VARIANTS

MAX_INSTANCES = 1024
REQUEST_TENSOR = "request"
RANKING_TENSOR = "ranking"
REQUEST_ID = "x-request-id"
VERSION_HEADER = "x-endcap-version"
_V1_BODY = '{"instances": [{"items": [id, …]}, …]}'
_V2_TENSOR = f'one BYTES tensor named "{REQUEST_TENSOR}" of shape [n], each element a V1 instance as JSON'

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One HTTP request, checked: its ranking requests, its id, its variant, and the V2 request that it came as."""

    requests: list[RankRequest]
    id: str
    variant: str
    v2: InferRequest | None = None


class RankingModel(Model):
    """Ranks for every instance of a call, off the event loop, one call at a time.

    One thread: a ranking is computation, and two at once on one core only make both late.
    """

    def __init__(self, name: str, ranker: Ranker, version: str, variant: str) -> None:
        super().__init__(name, return_response_headers=True)
        self.version = version
        self.variant = variant
        self._ranker = ranker
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ranking")

    async def preprocess(self, payload: Any, headers: dict[str, str] | None = None) -> Call:
        """Check everything here: what fails later is answered 500."""
        headers = headers or {}
        if isinstance(payload, InferRequest):
            instances: Sequence[Any] = _instances_of_tensor(payload)
        else:
            instances = _instances_of_body(payload)
        if not 1 <= len(instances) <= MAX_INSTANCES:
            raise RequestError(f"instances: found {len(instances):,}; allowed: 1 to {MAX_INSTANCES:,} in one call")
        requests = [self._ranker.parse(instance, number) for number, instance in enumerate(instances)]
        v2 = payload if isinstance(payload, InferRequest) else None
        # The gateway knows as what it asked; who asks without it gets what this predictor was started as.
        named = headers.get(VARIANT_HEADER)
        variant = named if named in VARIANTS else self.variant
        return Call(requests, headers.get(REQUEST_ID) or str(uuid.uuid4()), variant, v2)

    async def predict(
        self, payload: Call, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> Json | InferResponse:
        loop = asyncio.get_running_loop()
        rankings = await loop.run_in_executor(self._thread, self._rank, payload)
        if response_headers is not None:
            response_headers.update({REQUEST_ID: payload.id, VERSION_HEADER: self.version})
        return {"predictions": rankings} if payload.v2 is None else self._tensor(payload.v2, payload.id, rankings)

    def get_input_types(self) -> list[Json]:
        return [{"name": REQUEST_TENSOR, "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[Json]:
        return [{"name": RANKING_TENSOR, "datatype": "BYTES", "shape": [-1]}]

    def _rank(self, call: Call) -> list[Json]:
        extra = {"model_version": self.version, "variant": call.variant, "request_id": call.id}
        return [{**answer.to_json(), **extra} for answer in self._ranker.rank(call.requests)]

    def _tensor(self, v2: InferRequest, identity: str, rankings: list[Json]) -> InferResponse:
        texts = [orjson.dumps(ranking).decode() for ranking in rankings]
        output = InferOutput(RANKING_TENSOR, [len(texts)], "BYTES", texts)
        return InferResponse(
            v2.id or identity,
            self.name,
            [output],
            model_version=self.version,
            use_binary_outputs=v2.use_binary_outputs,
            requested_outputs=v2.request_outputs,
        )


class AnyBodyDataPlane(DataPlane):
    """Reads a body as what it is, not as what its content type says, and answers 400 to whatever cannot be read."""

    def decode(
        self, body: Any, headers: dict[str, str], protocol_version: str = "v1", model_name: str | None = None
    ) -> tuple[Any, Json]:
        try:
            if isinstance(body, bytes) and "inference-header-content-length" not in headers:
                document = _read_json(body)
                if protocol_version != "v2":
                    return document, {}
                body = InferenceRequest.model_validate(document)
            decoded: tuple[Any, Json] = super().decode(body, headers, protocol_version, model_name)
        except RequestError:
            raise
        except ValidationError as error:
            raise RequestError(describe_validation(error.errors(include_url=False))) from None
        except InvalidInput as error:
            raise RequestError(f"the body cannot be read: {error}; allowed: {_V2_TENSOR}") from None
        except Exception as error:  # KServe's reader of binary tensors checks nothing: any failure is the body's.
            raise RequestError(
                f"the body cannot be read ({type(error).__name__}: {error}); allowed: {_V2_TENSOR}"
            ) from None
        return decoded

    def encode(self, model_name: str, response: Any, headers: Any, req_attributes: Any) -> tuple[Any, dict[str, str]]:
        # Without the request's headers: by them KServe would wrap the answer in a cloud event, or fail at it.
        encoded: tuple[Any, dict[str, str]] = super().encode(model_name, response, {}, {})
        return encoded


def describe_validation(errors: Sequence[Any]) -> str:
    """The first of pydantic's errors on a V2 body: where, what, what is allowed."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "InferenceRequest", "bytes"))
    return f"the V2 body: {place or 'top level'}: {first['msg']}; allowed: inputs with {_V2_TENSOR}"


def _read_json(body: bytes) -> Any:
    if not body.strip():
        raise RequestError(f"the body is empty; allowed: a JSON object {_V1_BODY}")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}; allowed: a JSON object {_V1_BODY}") from None


def _instances_of_body(payload: Any) -> Sequence[Any]:
    if not isinstance(payload, dict):
        raise RequestError(f"the body: found {_kind(payload)}; allowed: a JSON object {_V1_BODY}")
    if unknown := sorted(set(payload) - {"instances"}):
        raise RequestError(f"the body: unknown key {unknown[0]!r}; allowed: a JSON object {_V1_BODY}")
    if not isinstance(payload.get("instances"), list):
        found = _kind(payload["instances"]) if "instances" in payload else "nothing"
        raise RequestError(f"instances: found {found}; allowed: a list of requests, as in {_V1_BODY}")
    instances: list[Any] = payload["instances"]
    return instances


def _instances_of_tensor(request: InferRequest) -> Sequence[Any]:
    tensors = [tensor for tensor in request.inputs if tensor.name == REQUEST_TENSOR]
    if len(tensors) != 1 or len(request.inputs) != 1:
        names = [tensor.name for tensor in request.inputs]
        raise RequestError(f"inputs: found tensors {names}; allowed: {_V2_TENSOR}")
    tensor: InferInput = tensors[0]
    if tensor.datatype != "BYTES":
        raise RequestError(f"inputs.{REQUEST_TENSOR}: found datatype {tensor.datatype}; allowed: {_V2_TENSOR}")
    elements = list(tensor.data)
    if list(tensor.shape) not in ([len(elements)], [len(elements), 1]):
        raise RequestError(
            f"inputs.{REQUEST_TENSOR}: found shape {tensor.shape} for {len(elements)} elements; "
            f"allowed: [{len(elements)}]"
        )
    return [_element(element, number) for number, element in enumerate(elements)]


def _element(element: Any, number: int) -> Any:
    if not isinstance(element, (str, bytes)):
        raise RequestError(f"instance {number}: found {_kind(element)}; allowed: a V1 instance as JSON text")
    try:
        return orjson.loads(element)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"instance {number}: not JSON: {error}; allowed: a V1 instance as JSON text") from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
