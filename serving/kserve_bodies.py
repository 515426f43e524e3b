"""Bodies of KServe's V1 and V2 protocols: read to ranking requests, and written from rankings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt, ValidationError

from endcap.errors import RequestError

MAX_INSTANCES = 1024
"""Ranking requests in one call."""
MOST_SHOWN = 100
"""An error repeats this many characters of a key or a name, and this many names of a list."""
REQUEST_TENSOR = "request"
RANKING_TENSOR = "ranking"
INPUTS = [{"name": REQUEST_TENSOR, "datatype": "BYTES", "shape": [-1]}]
OUTPUTS = [{"name": RANKING_TENSOR, "datatype": "BYTES", "shape": [-1]}]
V1_BODY = '{"instances": [{"items": [id, …]}, …]}'
V2_TENSOR = f'one BYTES tensor named "{REQUEST_TENSOR}" of shape [n], each element a V1 instance as JSON'

Json = dict[str, Any]
Parameters = dict[str, StrictFloat | StrictInt | StrictBool | str]


class RequestInput(BaseModel):
    """A tensor of a V2 request, with the same fields as KServe's class.

    Importing KServe's module takes seconds. A test checks that both classes accept the same bodies.
    """

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: list[Any]


class RequestOutput(BaseModel):
    """An output that a V2 request asks for, with the same fields as KServe's class."""

    name: str
    parameters: Parameters | None = None


class InferenceRequest(BaseModel):
    """A V2 request, with the same fields as KServe's class."""

    id: str | None = None
    parameters: Parameters | None = None
    inputs: list[RequestInput]
    outputs: list[RequestOutput] | None = None


class Tensor(NamedTuple):
    """A tensor of a V2 request that came as JSON or as binary."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[Any]


def read_json(body: bytes) -> Any:
    """Parse a body as JSON of any kind.

    Raises
    ------
    RequestError
        The body is empty or is not JSON.
    """
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
    """Read the instances of a V1 body.

    Parameters
    ----------
    document
        The parsed body.

    Returns
    -------
    Sequence
        The instances, which nobody has checked yet: 1 to `MAX_INSTANCES`.

    Raises
    ------
    RequestError
        The body is not ``{"instances": [...]}``, or has no instance, or too many.
    """
    if not isinstance(document, dict):
        kind = _name_kind(document)
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
        kind = _name_kind(document["instances"]) if "instances" in document else "nothing"
        raise RequestError(
            f"instances: found {kind}; allowed: a list of requests, as in {V1_BODY}",
            code="predictor.instances-not-list",
            at="instances",
            found=kind,
        )
    return check_count(document["instances"])


def read_v2_body(document: Any) -> InferenceRequest:
    """Read a V2 body.

    Parameters
    ----------
    document
        The parsed body.

    Raises
    ------
    RequestError
        The body is not a V2 request.
    """
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise make_v2_body_error(error.errors(include_url=False)) from None


def read_v2_instances(tensors: Sequence[Tensor]) -> Sequence[Any]:
    """Read the instances of a V2 request.

    Parameters
    ----------
    tensors
        The request's tensors. There must be one: of the type BYTES, of shape [n] or [n, 1], named "request". Each
        element is a V1 instance as JSON.

    Returns
    -------
    Sequence
        The instances, which nobody has checked yet: 1 to `MAX_INSTANCES`.

    Raises
    ------
    RequestError
        The tensors are others, or an element is not JSON.
    """
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
    return [_parse_element(element, number) for number, element in enumerate(check_count(elements))]


def check_count(instances: Sequence[Any]) -> Sequence[Any]:
    """Return the instances if there are 1 to `MAX_INSTANCES`. Raises RequestError if not."""
    if not 1 <= len(instances) <= MAX_INSTANCES:
        raise RequestError(
            f"instances: found {len(instances):,}; allowed: 1 to {MAX_INSTANCES:,} in one call; split the call",
            code="predictor.instances-count",
            at="instances",
            found=len(instances),
            least=1,
            most=MAX_INSTANCES,
        )
    return instances


def write_v1(rankings: Sequence[bytes]) -> bytes:
    """Write a V1 answer. Each ranking is given as JSON."""
    return b'{"predictions":[%b]}' % b",".join(rankings)


def write_v2(rankings: Sequence[bytes], name: str, version: str, identity: str) -> bytes:
    """Write a V2 answer.

    Parameters
    ----------
    rankings
        Each ranking as JSON.
    name, version
        The model that made the rankings.
    identity
        The answer's `id`.
    """
    texts = [ranking.decode() for ranking in rankings]
    output = {"name": RANKING_TENSOR, "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return orjson.dumps({"id": identity, "model_name": name, "model_version": version, "outputs": [output]})


def make_v2_body_error(errors: Sequence[Any]) -> RequestError:
    """Make an error from the first of pydantic's errors about a V2 body."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "InferenceRequest", "bytes"))
    return RequestError(
        f"the V2 body: {place or 'top level'}: {first['msg']}; allowed: inputs with {V2_TENSOR}",
        code="predictor.v2-body-invalid",
        at=place,
        reason=first["msg"],
    )


def _parse_element(element: Any, number: int) -> Any:
    """Parse one element of the tensor as JSON. Raises RequestError."""
    if not isinstance(element, (str, bytes)):
        kind = _name_kind(element)
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


def _name_kind(value: Any) -> str:
    """Name the kind of a JSON value in an error."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
