"""Errors that Envoy answers itself, in the shape of all other errors: text under `error`, then `code` and `fields`."""

from __future__ import annotations

from endcap_serving.gateway.access.cross_origin import REFUSAL_METADATA
from endcap_serving.gateway.access.script import FILTER
from endcap_serving.gateway.clusters import Json
from endcap_serving.gateway.limits import Limits
from endcap_serving.gateway.unknown_paths import UNKNOWN_PATH_METADATA

_RECOMMENDER = {"recommender": "%ROUTE_NAME%"}
"""A route has the name of its recommender (routes.py)."""
_SERVED = {key: f"%METADATA(ROUTE:{UNKNOWN_PATH_METADATA}:{key})%" for key in ("served", "count", "paths")}
"""What the route of unknown paths says about the other routes (unknown_paths.py)."""


def build_error_mapping(limits: Limits) -> list[Json]:
    """Build the mappers that turn Envoy's own errors into documents.

    Parameters
    ----------
    limits
        The gateway's limits. Some errors name them.

    Returns
    -------
    list of dict
        Mappers of Envoy's ``LocalReplyConfig``. Envoy uses the first that fits. The last one takes every status from
        400 on that has no code of its own.

    Notes
    -----
    A 503 with a response flag is about a predictor that did not answer. A 503 without one comes from a route without
    predictors.
    """
    retry_later = {"retry-after": "1"}
    return [
        # Refusals of access carry their own codes (access/script.py, access/cross_origin.py).
        {
            "filter": _REFUSED_BY_SCRIPT,
            "body_format_override": {"json_format": _build_document(f"DYNAMIC_METADATA({FILTER}:%s)")},
        },
        *(
            {"filter": _match_status(status), "body_format_override": {"json_format": _REFUSAL_DOCUMENT}}
            for status in (403, 415)
        ),
        _build_mapper(
            _match_status(429),
            code="gateway.rate-limited",
            text="this client has sent too many requests; send the request again after the seconds in retry-after",
        ),
        _build_mapper(
            _match_all(_match_status(503), _ANY_FLAG),
            code="gateway.unanswered",
            fields=_RECOMMENDER,
            headers=retry_later,
        ),
        _build_mapper(_match_status(503), code="gateway.no-predictor", fields=_RECOMMENDER, headers=retry_later),
        _build_mapper(_match_status(504), code="gateway.timeout", fields=_RECOMMENDER),
        _build_mapper(_match_status(404), code="gateway.path-unknown", fields=_SERVED),
        _build_mapper(_match_status(408), code="gateway.request-late"),
        _build_mapper(_match_status(413), code="gateway.body-too-large", fields={"most": limits.body}),
        _build_mapper(_match_status(431), code="gateway.head-too-large", fields={"most": limits.headers_kb * 2**10}),
        _build_mapper(_match_status(400, "GE"), code="gateway.refused", fields={"details": "%RESPONSE_CODE_DETAILS%"}),
    ]


def _build_document(field: str) -> Json:
    """Build an error whose code and fields Envoy reads from metadata. field: the operator, with %s for the key."""
    return {"error": "%LOCAL_REPLY_BODY%", "code": f"%{field % 'code'}%", "fields": f"%{field % 'fields'}%"}


_REFUSAL_DOCUMENT = _build_document(f"METADATA(ROUTE:{REFUSAL_METADATA}:%s)")
_REFUSED_BY_SCRIPT: Json = {
    "metadata_filter": {
        "matcher": {"filter": FILTER, "path": [{"key": "code"}], "value": {"present_match": True}},
        "match_if_key_not_found": False,
    }
}
_ANY_FLAG: Json = {"response_flag_filter": {}}


def _match_all(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}


def _match_status(status: int, op: str = "EQ") -> Json:
    key = f"gateway.error_{status}"
    comparison = {"op": op, "value": {"default_value": status, "runtime_key": key}}
    return {"status_code_filter": {"comparison": comparison}}


def _build_mapper(
    reply_filter: Json, *, code: str, fields: Json | None = None, headers: dict[str, str] | None = None, text: str = ""
) -> Json:
    added_headers = [{"header": {"key": name, "value": value}} for name, value in (headers or {}).items()]
    document = {"error": "%LOCAL_REPLY_BODY%", "code": code, **({"fields": fields} if fields else {})}
    return {
        "filter": reply_filter,
        **({"body": {"inline_string": text}} if text else {}),
        "body_format_override": {"json_format": document},
        **({"headers_to_add": added_headers} if added_headers else {}),
    }
