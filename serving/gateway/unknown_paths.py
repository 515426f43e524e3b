"""What a path that leads nowhere is answered with: what is served here, and under which paths."""

from __future__ import annotations

from collections.abc import Sequence

from endcap_serving.gateway.clusters import Json
from endcap_serving.names import MODEL_PATHS, MOST_LISTED

METADATA = "endcap.nowhere"
"""Of the route; the error's `fields` are filled out of it (envoy_replies.py)."""
OF_SEVERAL = tuple(path.replace(" /", " /NAME/") for path in MODEL_PATHS)
EVENTS = "POST /v1/events, /v1/impressions, /v1/orders"


def build_unknown_path_route(recommenders: Sequence[str], *, intake: bool, names_recommenders: bool = True) -> Json:
    """The route that takes what no other route has taken: 404. recommenders: all that are served.

    names_recommenders: whether the answer names them; whoever asks may not be meant to know.
    """
    if not names_recommenders:
        answer = {"status": 404, "body": {"inline_string": "nothing is served under this path"}}
        return {
            "name": "nothing",
            "match": {"prefix": "/"},
            "direct_response": answer,
            **_fields([], 0, [*MODEL_PATHS]),
        }
    listed = list(recommenders[:MOST_LISTED])
    paths = [*MODEL_PATHS, *(OF_SEVERAL if len(recommenders) > 1 else ()), *((EVENTS,) if intake else ())]
    return {
        "name": "nothing",
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": _text(listed, len(recommenders))}},
        **_fields(listed, len(recommenders), paths),
    }


def _fields(served: Sequence[str], count: int, paths: Sequence[str]) -> Json:
    fields = {"served": list(served), "count": count, "paths": list(paths)}
    return {"metadata": {"filter_metadata": {METADATA: fields}}}


def _text(listed: Sequence[str], count: int) -> str:
    if not listed:
        return "nothing is served here yet; `endcap deploy` of a recommender changes that"
    more = f" and {count - len(listed):,} more" if count > len(listed) else ""
    return (
        f"nothing is served under this path; served: {', '.join(listed)}{more}; POST to /v1/models/{listed[0]}:predict"
    )
