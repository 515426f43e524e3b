"""Between bodies of KServe's protocols and ranking requests: what is read, and what is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt, ValidationError

from endcap.errors import RequestError

MAX_INSTANCES = 1024
MOST_SHOWN = 100
"""Characters of a key or a name, and names of a list, that an error repeats."""
REQUEST_TENSOR = "request"
RANKING_TENSOR = "ranking"
INPUTS = [{"name": REQUEST_TENSOR, "datatype": "BYTES", "shape": [-1]}]
OUTPUTS = [{"name": RANKING_TENSOR, "datatype": "BYTES", "shape": [-1]}]
V1_BODY = '{"instances": [{"items": [id, …]}, …]}'
V2_TENSOR = f'one BYTES tensor named "{REQUEST_TENSOR}" of shape [n], each element a V1 instance as JSON'

Json = dict[str, Any]
Parameters = dict[str, StrictFloat | StrictInt | StrictBool | str]


class RequestInput(BaseModel):
    """Of a V2 body, as KServe's own class: whose module costs seconds, which a test holds this one to."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: list[Any]


class RequestOutput(BaseModel):
    """As `RequestInput`."""

    name: str
    parameters: Parameters | None = None


class InferenceRequest(BaseModel):
    """As `RequestInput`."""

    id: str | None = None
    parameters: Parameters | None = None
    inputs: list[RequestInput]
    outputs: list[RequestOutput] | None = None


class Tensor(NamedTuple):
    """Of a V2 request, whether it came as JSON or as binary."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[Any]


def read_json(body: bytes) -> Any:
    """Any JSON value. Raises RequestError."""
    if not body.strip():
        raise RequestError(f"the body is empty; allowed: a JSON object {V1_BODY}", code="predictor.body-empty")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"the body is not JSON: {error}; allowed: a JSON object {V1_BODY}",
            code="predictor.body-not-json",
            reason=str(error),
        ) from None


def read_v1_instances(document: Any) -> Sequence[Any]:
    """The instances of a V1 body. Raises RequestError."""
    if not isinstance(document, dict):
        kind = _kind(document)
        raise RequestError(
            f"the body: found {kind}; allowed: a JSON object {V1_BODY}", code="predictor.body-not-object", found=kind
        )
    if unknown := sorted(set(document) - {"instances"}):
        raise RequestError(
            f"the body: unknown key {unknown[0][:MOST_SHOWN]!r}; allowed: a JSON object {V1_BODY}",
            code="predictor.body-key-unknown",
            at=unknown[0][:MOST_SHOWN],
        )
    if not isinstance(document.get("instances"), list):
        kind = _kind(document["instances"]) if "instances" in document else "nothing"
        raise RequestError(
            f"instances: found {kind}; allowed: a list of requests, as in {V1_BODY}",
            code="predictor.instances-not-list",
            at="instances",
            found=kind,
        )
    return check_count(document["instances"])


def read_v2_body(document: Any) -> InferenceRequest:
    """A V2 body. Raises RequestError."""
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise v2_body_error(error.errors(include_url=False)) from None


def read_v2_instances(tensors: Sequence[Tensor]) -> Sequence[Any]:
    """The instances of a V2 request's tensors. Raises RequestError."""
    if len(tensors) != 1 or tensors[0].name != REQUEST_TENSOR:
        names = [tensor.name[:MOST_SHOWN] for tensor in tensors[:MOST_SHOWN]]
        raise RequestError(
            f"inputs: found tensors {names}; allowed: {V2_TENSOR}", code="predictor.tensor-invalid", tensors=names
        )
    (tensor,) = tensors
    if tensor.datatype != "BYTES":
        datatype = tensor.datatype[:MOST_SHOWN]
        raise RequestError(
            f"inputs.{REQUEST_TENSOR}: found datatype {datatype}; allowed: {V2_TENSOR}",
            code="predictor.tensor-invalid",
            datatype=datatype,
        )
    elements = list(tensor.data)
    if list(tensor.shape) not in ([len(elements)], [len(elements), 1]):
        shape = list(tensor.shape)[:MOST_SHOWN]
        raise RequestError(
            f"inputs.{REQUEST_TENSOR}: found shape {shape} for {len(elements)} elements; allowed: [{len(elements)}]",
            code="predictor.tensor-invalid",
            shape=shape,
            elements=len(elements),
        )
    return [_element(element, number) for number, element in enumerate(check_count(elements))]


def check_count(instances: Sequence[Any]) -> Sequence[Any]:
    """The instances, if they are neither none nor too many."""
    if not 1 <= len(instances) <= MAX_INSTANCES:
        raise RequestError(
            f"instances: found {len(instances):,}; allowed: 1 to {MAX_INSTANCES:,} in one call",
            code="predictor.instances-count",
            at="instances",
            found=len(instances),
            least=1,
            most=MAX_INSTANCES,
        )
    return instances


def write_v1(rankings: Sequence[bytes]) -> bytes:
    """rankings: each as JSON."""
    return b'{"predictions":[%b]}' % b",".join(rankings)


def write_v2(rankings: Sequence[bytes], name: str, version: str, identity: str) -> bytes:
    texts = [ranking.decode() for ranking in rankings]
    output = {"name": RANKING_TENSOR, "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return orjson.dumps({"id": identity, "model_name": name, "model_version": version, "outputs": [output]})


def v2_body_error(errors: Sequence[Any]) -> RequestError:
    """The first of pydantic's errors on a V2 body: where, what, what is allowed."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "InferenceRequest", "bytes"))
    return RequestError(
        f"the V2 body: {place or 'top level'}: {first['msg']}; allowed: inputs with {V2_TENSOR}",
        code="predictor.v2-body-invalid",
        at=place,
        reason=first["msg"],
    )


def _element(element: Any, number: int) -> Any:
    if not isinstance(element, (str, bytes)):
        kind = _kind(element)
        raise RequestError(
            f"instance {number}: found {kind}; allowed: a V1 instance as JSON text",
            code="predictor.instance-not-text",
            instance=number,
            found=kind,
        )
    try:
        return orjson.loads(element)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"instance {number}: not JSON: {error}; allowed: a V1 instance as JSON text",
            code="predictor.instance-not-json",
            instance=number,
            reason=str(error),
        ) from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
