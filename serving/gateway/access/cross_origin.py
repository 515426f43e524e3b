"""Requests that the gateway refuses from everyone: from pages of other origins, for other hosts, with other bodies.

A page may send some types of bodies without asking first, so the gateway takes none of these types. The refusals are
routes in front of all others, which Envoy matches without a filter.
"""

from __future__ import annotations

import re

from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.filters import disable_filters
from endcap_serving.gateway.clusters import TYPE, Json

REFUSAL_METADATA = "endcap.refused"
"""The name of a route's metadata, with the code and the fields of its refusal (envoy_replies.py)."""


def build_refusal_routes(access: Access) -> list[Json]:
    """Build the refusals of a virtual host.

    Parameters
    ----------
    access
        It names the origins that are allowed.

    Returns
    -------
    list of dict
        Routes, which must come before all others.

    Notes
    -----
    A request of a web page has the page's origin in `origin`. A browser sends `sec-fetch-site` with requests that have
    no origin, such as those for images.
    """
    origins = list(access.origins)
    allowed = {"name": "origin", "string_match": {"safe_regex": {"regex": _match_any(origins)}}} if origins else None
    other_origin = [{**allowed, "invert_match": True}] if allowed else []
    text = (
        f"this web page may not send requests; allowed origins: {', '.join(origins) or 'none'}; add the page's origin"
    )
    origin_refusal = build_refusal(403, text, code="gateway.origin-refused", fields={"allowed": origins})
    type_refusal = build_refusal(
        415,
        "the content-type of the body is not allowed; send application/json, or application/octet-stream for tensors",
        code="gateway.content-type-refused",
        fields={"allowed": ["application/json"]},
    )
    is_post = {"name": ":method", "string_match": {"exact": "POST"}}
    other_type = {
        "name": "content-type",
        "string_match": {"safe_regex": {"regex": _ALLOWED_TYPES}},
        "invert_match": True,
    }
    has_body = {"name": "content-length", "string_match": {"exact": "0"}, "invert_match": True}
    return [
        _build_route([{"name": "origin", "present_match": True}, *other_origin], origin_refusal),
        # These requests have no origin.
        _build_route(
            [
                {"name": "sec-fetch-site", "string_match": {"safe_regex": {"regex": "cross-site|same-site"}}},
                *([{"name": "origin", "present_match": True, "invert_match": True}] if origins else []),
            ],
            origin_refusal,
        ),
        _build_route([is_post, {**other_type, **_OR_MISSING}, {**has_body, **_OR_MISSING}], type_refusal),
    ]


def build_other_hosts(access: Access) -> Json:
    """Build the virtual host that refuses all other Host headers."""
    hosts = list(access.hosts)
    text = f"the Host header is not allowed; allowed: {', '.join(hosts)}; use one of these names, or add another"
    refusal = build_refusal(403, text, code="gateway.host-refused", fields={"allowed": hosts})
    return {"name": "others", "domains": ["*"], "routes": [_build_route([], refusal)]}


def build_refusal(status: int, text: str, *, code: str, fields: Json | None = None) -> Json:
    """Build a refusal, to be merged into a route.

    Parameters
    ----------
    status
        The HTTP status.
    text
        The error's text: what was wrong, what is allowed, what to do next.
    code
        The error's code (docs/errors.md).
    fields
        The error's fields.

    Returns
    -------
    dict
        Fields of Envoy's ``Route``.
    """
    return {
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "metadata": {"filter_metadata": {REFUSAL_METADATA: {"code": code, "fields": fields or {}}}},
        "typed_per_filter_config": {**disable_filters(), **_NO_BUFFER},
    }


def _build_route(headers: list[Json], refusal: Json) -> Json:
    """Refuse the requests whose headers match all of these; of no headers, all requests."""
    match = {"prefix": "/", **({"headers": headers} if headers else {})}
    return {"name": "refused", "match": match, **refusal}


_ALLOWED_TYPES = r"(?i)(application/json\s*(;.*)?|application/octet-stream)"
_OR_MISSING: Json = {"treat_missing_header_as_empty": True}
_NO_BUFFER: Json = {
    "envoy.filters.http.buffer": {
        "@type": f"{TYPE}.extensions.filters.http.buffer.v3.BufferPerRoute",
        "disabled": True,
    }
}


def _match_any(texts: list[str]) -> str:
    return "|".join(map(re.escape, texts))
