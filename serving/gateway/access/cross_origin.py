"""What is refused whoever asks: pages of other origins, other Host headers, bodies that a page may send unasked.

These are routes in front of all others, which Envoy matches without a filter.
"""

from __future__ import annotations

import re

from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.filters import disable_filters
from endcap_serving.gateway.clusters import TYPE, Json

REFUSAL_METADATA = "endcap.refused"
"""Of a route: the code and the fields of the refusal (envoy_replies.py)."""


def build_refusal_routes(access: Access) -> list[Json]:
    """Routes for a virtual host. A page's request says its origin, and a browser where the page came from."""
    origins = list(access.origins)
    allowed = {"name": "origin", "string_match": {"safe_regex": {"regex": _one_of(origins)}}} if origins else None
    elsewhere = [{**allowed, "invert_match": True}] if allowed else []
    text = f"requests of pages are taken from {', '.join(origins) or 'no origin'}; add it to the allowed origins"
    of_page = build_refusal(403, text, code="gateway.origin-refused", fields={"allowed": origins})
    other = build_refusal(
        415,
        "a body is sent as content-type: application/json; binary tensors as application/octet-stream",
        code="gateway.content-type-refused",
        fields={"allowed": ["application/json"]},
    )
    posted = {"name": ":method", "string_match": {"exact": "POST"}}
    typed = {"name": "content-type", "string_match": {"safe_regex": {"regex": _JSON}}, "invert_match": True}
    empty = {"name": "content-length", "string_match": {"exact": "0"}, "invert_match": True}
    return [
        _when([{"name": "origin", "present_match": True}, *elsewhere], of_page),
        # Without an origin, such as for an image.
        _when(
            [
                {"name": "sec-fetch-site", "string_match": {"safe_regex": {"regex": "cross-site|same-site"}}},
                *([{"name": "origin", "present_match": True, "invert_match": True}] if origins else []),
            ],
            of_page,
        ),
        _when([posted, {**typed, **_OR_NONE}, {**empty, **_OR_NONE}], other),
    ]


def build_other_hosts(access: Access) -> Json:
    """The virtual host of all Host headers that are not this gateway's."""
    hosts = list(access.hosts)
    text = f"this gateway answers as {', '.join(hosts)}; ask it by one of these names, or add another"
    refused = build_refusal(403, text, code="gateway.host-refused", fields={"allowed": hosts})
    return {"name": "others", "domains": ["*"], "routes": [_when([], refused)]}


def build_refusal(status: int, text: str, *, code: str, fields: Json | None = None) -> Json:
    """What a route answers in place of sending on; to be merged into it."""
    return {
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "metadata": {"filter_metadata": {REFUSAL_METADATA: {"code": code, "fields": fields or {}}}},
        "typed_per_filter_config": {**disable_filters(), **_NOT_BUFFERED},
    }


def _when(headers: list[Json], refused: Json) -> Json:
    match = {"prefix": "/", **({"headers": headers} if headers else {})}
    return {"name": "refused", "match": match, **refused}


_JSON = r"(?i)(application/json\s*(;.*)?|application/octet-stream)"
_OR_NONE: Json = {"treat_missing_header_as_empty": True}
_NOT_BUFFERED: Json = {
    "envoy.filters.http.buffer": {
        "@type": f"{TYPE}.extensions.filters.http.buffer.v3.BufferPerRoute",
        "disabled": True,
    }
}


def _one_of(texts: list[str]) -> str:
    return "|".join(map(re.escape, texts))
