"""A V2 body as KServe's own type, for what the fast lane leaves to KServe."""

from __future__ import annotations

from typing import Any

from kserve.protocol.rest.v2_datamodels import InferenceRequest
from pydantic import ValidationError

from endcap_serving.kserve_bodies import invalid_v2


def v2_request(document: Any) -> InferenceRequest:
    """A V2 body as KServe's own type. Raises RequestError."""
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise invalid_v2(error.errors(include_url=False)) from None
