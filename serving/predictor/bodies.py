"""Between bodies of KServe's protocols and ranking requests: what is read, and what is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from kserve.protocol.rest.v2_datamodels import InferenceRequest
from pydantic import ValidationError

from endcap.errors import RequestError

MAX_INSTANCES = 1024
REQUEST_TENSOR = "request"
RANKING_TENSOR = "ranking"
INPUTS = [{"name": REQUEST_TENSOR, "datatype": "BYTES", "shape": [-1]}]
OUTPUTS = [{"name": RANKING_TENSOR, "datatype": "BYTES", "shape": [-1]}]
V1_BODY = '{"instances": [{"items": [id, …]}, …]}'
V2_TENSOR = f'one BYTES tensor named "{REQUEST_TENSOR}" of shape [n], each element a V1 instance as JSON'

Json = dict[str, Any]


class Tensor(NamedTuple):
    """Of a V2 request, whether it came as JSON or as binary."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[Any]


def read_json(body: bytes) -> Any:
    """Any JSON value. Raises RequestError."""
    if not body.strip():
        raise RequestError(f"the body is empty; allowed: a JSON object {V1_BODY}")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}; allowed: a JSON object {V1_BODY}") from None


def v1_instances(document: Any) -> Sequence[Any]:
    """The instances of a V1 body. Raises RequestError."""
    if not isinstance(document, dict):
        raise RequestError(f"the body: found {_kind(document)}; allowed: a JSON object {V1_BODY}")
    if unknown := sorted(set(document) - {"instances"}):
        raise RequestError(f"the body: unknown key {unknown[0]!r}; allowed: a JSON object {V1_BODY}")
    if not isinstance(document.get("instances"), list):
        found = _kind(document["instances"]) if "instances" in document else "nothing"
        raise RequestError(f"instances: found {found}; allowed: a list of requests, as in {V1_BODY}")
    return counted(document["instances"])


def v2_request(document: Any) -> InferenceRequest:
    """A V2 body as KServe's own type. Raises RequestError."""
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise RequestError(describe_validation(error.errors(include_url=False))) from None


def v2_instances(tensors: Sequence[Tensor]) -> Sequence[Any]:
    """The instances of a V2 request's tensors. Raises RequestError."""
    if len(tensors) != 1 or tensors[0].name != REQUEST_TENSOR:
        names = [tensor.name for tensor in tensors]
        raise RequestError(f"inputs: found tensors {names}; allowed: {V2_TENSOR}")
    (tensor,) = tensors
    if tensor.datatype != "BYTES":
        raise RequestError(f"inputs.{REQUEST_TENSOR}: found datatype {tensor.datatype}; allowed: {V2_TENSOR}")
    elements = list(tensor.data)
    if list(tensor.shape) not in ([len(elements)], [len(elements), 1]):
        raise RequestError(
            f"inputs.{REQUEST_TENSOR}: found shape {list(tensor.shape)} for {len(elements)} elements; "
            f"allowed: [{len(elements)}]"
        )
    return [_element(element, number) for number, element in enumerate(counted(elements))]


def counted(instances: Sequence[Any]) -> Sequence[Any]:
    """The instances, if they are neither none nor too many."""
    if not 1 <= len(instances) <= MAX_INSTANCES:
        raise RequestError(f"instances: found {len(instances):,}; allowed: 1 to {MAX_INSTANCES:,} in one call")
    return instances


def v1_answer(rankings: Sequence[bytes]) -> bytes:
    """rankings: each as JSON."""
    return b'{"predictions":[%b]}' % b",".join(rankings)


def v2_answer(rankings: Sequence[bytes], name: str, version: str, identity: str) -> bytes:
    texts = [ranking.decode() for ranking in rankings]
    output = {"name": RANKING_TENSOR, "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return orjson.dumps({"id": identity, "model_name": name, "model_version": version, "outputs": [output]})


def describe_validation(errors: Sequence[Any]) -> str:
    """The first of pydantic's errors on a V2 body: where, what, what is allowed."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "InferenceRequest", "bytes"))
    return f"the V2 body: {place or 'top level'}: {first['msg']}; allowed: inputs with {V2_TENSOR}"


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
