"""Errors that Envoy answers with itself, in the shape of all others: text under `error`, `code`, `fields`."""

from __future__ import annotations

from endcap_serving.gateway.access.cross_origin import REFUSAL_METADATA
from endcap_serving.gateway.access.script import FILTER
from endcap_serving.gateway.clusters import Json
from endcap_serving.gateway.limits import Limits
from endcap_serving.gateway.unknown_paths import UNKNOWN_PATH_METADATA

_RECOMMENDER = {"recommender": "%ROUTE_NAME%"}
"""A route is named by the recommender that it leads to (routes.py)."""
_SERVED = {key: f"%METADATA(ROUTE:{UNKNOWN_PATH_METADATA}:{key})%" for key in ("served", "count", "paths")}
"""What the route that leads nowhere says of the others (unknown_paths.py)."""


def build_error_mapping(limits: Limits) -> list[Json]:
    """Mappers of a connection manager, the first that fits counts. A status from 400 on without an own code is last.

    Of answers with 503, those with a response flag are about a predictor that did not answer; that of a route that
    leads nowhere has none.
    """
    busy = {"retry-after": "1"}
    return [
        # Of access, which say by themselves what they are (access/script.py, access/cross_origin.py).
        {"filter": _BY_SCRIPT, "body_format_override": {"json_format": _document(f"DYNAMIC_METADATA({FILTER}:%s)")}},
        *({"filter": _status(status), "body_format_override": {"json_format": _REFUSED}} for status in (403, 415)),
        _mapper(
            _status(429),
            code="gateway.rate-limited",
            text="this client has sent more than it may for now; send it again after retry-after",
        ),
        _mapper(_all_of(_status(503), _ANY_FLAG), code="gateway.unanswered", fields=_RECOMMENDER, headers=busy),
        _mapper(_status(503), code="gateway.no-predictor", fields=_RECOMMENDER, headers=busy),
        _mapper(_status(504), code="gateway.timeout", fields=_RECOMMENDER),
        _mapper(_status(404), code="gateway.path-unknown", fields=_SERVED),
        _mapper(_status(408), code="gateway.request-late"),
        _mapper(_status(413), code="gateway.body-too-large", fields={"most": limits.body}),
        _mapper(_status(431), code="gateway.head-too-large", fields={"most": limits.headers_kb * 2**10}),
        _mapper(_status(400, "GE"), code="gateway.refused", fields={"details": "%RESPONSE_CODE_DETAILS%"}),
    ]


def _document(field: str) -> Json:
    return {"error": "%LOCAL_REPLY_BODY%", "code": f"%{field % 'code'}%", "fields": f"%{field % 'fields'}%"}


_REFUSED = _document(f"METADATA(ROUTE:{REFUSAL_METADATA}:%s)")
_BY_SCRIPT: Json = {
    "metadata_filter": {
        "matcher": {"filter": FILTER, "path": [{"key": "code"}], "value": {"present_match": True}},
        "match_if_key_not_found": False,
    }
}
_ANY_FLAG: Json = {"response_flag_filter": {}}


def _all_of(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}


def _status(status: int, op: str = "EQ") -> Json:
    key = f"gateway.error_{status}"
    comparison = {"op": op, "value": {"default_value": status, "runtime_key": key}}
    return {"status_code_filter": {"comparison": comparison}}


def _mapper(
    which: Json, *, code: str, fields: Json | None = None, headers: dict[str, str] | None = None, text: str = ""
) -> Json:
    added = [{"header": {"key": name, "value": value}} for name, value in (headers or {}).items()]
    document = {"error": "%LOCAL_REPLY_BODY%", "code": code, **({"fields": fields} if fields else {})}
    return {
        "filter": which,
        **({"body": {"inline_string": text}} if text else {}),
        "body_format_override": {"json_format": document},
        **({"headers_to_add": added} if added else {}),
    }
