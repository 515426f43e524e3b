"""V2 requests with binary tensors or options, read and written by KServe's own code.

Clients may send tensors as bytes behind the JSON (`inference-header-content-length`), and may ask for such answers by
`parameters` or `outputs`. That is the binary tensor extension of the V2 protocol.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from kserve import InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput
from kserve.protocol.rest.v2_datamodels import InferenceResponse

from endcap.errors import RequestError
from endcap_serving.http_errors import RefusedError
from endcap_serving.kserve_bodies import RANKING_TENSOR, V2_TENSOR, InferenceRequest, Tensor
from endcap_serving.predictor.asgi_io import Reply

_LENGTH_HEADER = "inference-header-content-length"


def read_binary(body: bytes, json_length: str, model: str) -> InferRequest:
    """Read a body of JSON with binary tensors behind it.

    Parameters
    ----------
    body
        The body.
    json_length
        Bytes of the JSON, as the header says.
    model
        The model's name.

    Raises
    ------
    RequestError
        The body cannot be read.
    """
    try:
        return InferRequest.from_bytes(body, int(json_length), model)
    except InvalidInput as error:
        raise _make_body_error(str(error)) from None
    except Exception as error:  # KServe's reader checks nothing: each failure is the body's.
        raise _make_body_error(f"{type(error).__name__}: {error}") from None


def read_options(request: InferenceRequest, model: str) -> InferRequest:
    """Convert a JSON body with options to KServe's type. Raises RequestError."""
    try:
        return InferRequest.from_inference_request(request, model)
    except InvalidInput as error:
        raise _make_body_error(str(error)) from None


def list_tensors(request: InferRequest) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data) for tensor in request.inputs]


def write_requested_outputs(request: InferRequest, texts: Sequence[bytes], version: str, call_id: str) -> Reply:
    """Write the answer with the outputs and in the form that the request asks for.

    Parameters
    ----------
    texts
        Rankings as JSON.
    call_id
        The id of the HTTP request. It is the answer's id if the client gave none.

    Raises
    ------
    RefusedError
        The request asks for an output that does not exist (400).
    """
    outputs = [InferOutput(RANKING_TENSOR, [len(texts)], "BYTES", [text.decode() for text in texts])]
    response = InferResponse(
        request.id or call_id,
        request.model_name,
        outputs,
        model_version=version,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )
    try:
        content, json_length = response.to_rest()
    except InvalidInput as error:
        raise RefusedError(400, str(error), code="predictor.input-invalid") from None
    if json_length is None:
        return Reply(200, orjson.dumps(InferenceResponse.model_validate(content).model_dump()))
    # As KServe's server sends it: without a content type, in chunks.
    return Reply(200, content, {_LENGTH_HEADER: str(json_length)}, bare=True)


def _make_body_error(reason: str) -> RequestError:
    return RequestError(
        f"the body cannot be read ({reason}); allowed: {V2_TENSOR}", code="predictor.body-unreadable", reason=reason
    )
