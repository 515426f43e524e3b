"""Errors of KServe and FastAPI, answered in the same shape as all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from kserve.errors import (
    InferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotLive,
    ServerNotReady,
    UnsupportedProtocol,
)
from starlette.exceptions import HTTPException

from endcap_serving.http_errors import RefusedError, encode_error, refuse_with
from endcap_serving.kserve_bodies import make_v2_body_error
from endcap_serving.names import MODEL_PATHS, MOST_LISTED, REQUEST_ID
from endcap_serving.predictor.ranking_calls import wrap_failure
from endcap_serving.request_ids import read_request_id

EXPECTED = (InvalidInput, ModelNotFound, ModelNotReady, ServerNotLive, ServerNotReady)
"""Errors that are answered as they should be. KServe would log them with a traceback all the same."""


_UNKNOWN = ("predictor.model-unknown", "predictor.path-unknown")
"""Codes of answers that list what is served."""


def unify_errors(app: FastAPI, models: Sequence[str]) -> None:
    """Replace KServe's error handlers. Call it when KServe has added them.

    Parameters
    ----------
    app
        KServe's application.
    models
        The names of the served models.
    """
    served = {"served": list(models[:MOST_LISTED]), "paths": list(MODEL_PATHS)}
    for kind, convert in _CONVERTERS.items():
        app.add_exception_handler(kind, _make_handler(convert, served))


def _make_handler(
    convert: Callable[[Exception], RefusedError], served: Mapping[str, Any]
) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        refusal = convert(error)
        if refusal.code in _UNKNOWN:
            refusal.fields = {**refusal.fields, **served}
        request_id = read_request_id(request.headers.get(REQUEST_ID, ""))
        headers = {**refusal.headers, **({REQUEST_ID: request_id} if request_id else {})}
        return Response(encode_error(refusal), refusal.status, headers, "application/json")

    return answer


def _convert_validation_error(error: Exception) -> RefusedError:
    assert isinstance(error, RequestValidationError)
    return refuse_with(make_v2_body_error(error.errors()), 400)


def _convert_http_error(error: Exception) -> RefusedError:
    assert isinstance(error, HTTPException)
    status, text = error.status_code, str(error.detail)
    if status == 404:
        return RefusedError(status, text, code="predictor.path-unknown")
    return RefusedError(status, text, code="predictor.not-allowed", headers=error.headers)


def _convert_failure(error: Exception) -> RefusedError:
    return refuse_with(wrap_failure(error), 500)


_CONVERTERS: dict[type[Exception], Callable[[Exception], RefusedError]] = {
    RequestValidationError: _convert_validation_error,
    HTTPException: _convert_http_error,
    InvalidInput: lambda error: RefusedError(400, str(error), code="predictor.input-invalid"),
    ModelNotFound: lambda error: RefusedError(404, str(error), code="predictor.model-unknown"),
    ModelNotReady: lambda error: RefusedError(503, str(error), code="predictor.model-not-ready"),
    ServerNotReady: lambda error: RefusedError(503, str(error), code="predictor.not-ready"),
    ServerNotLive: lambda error: RefusedError(503, str(error), code="predictor.not-live"),
    NotImplementedError: lambda error: RefusedError(501, str(error), code="predictor.not-offered"),
    UnsupportedProtocol: lambda error: RefusedError(501, str(error), code="predictor.not-offered"),
    InferenceError: _convert_failure,
    Exception: _convert_failure,
}
