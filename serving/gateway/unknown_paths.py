"""The answer to an unknown path: 404, with the recommenders that are served here and their paths."""

from __future__ import annotations

from collections.abc import Sequence

from endcap_serving.gateway.clusters import Json
from endcap_serving.names import MODEL_PATHS, MOST_LISTED

UNKNOWN_PATH_METADATA = "endcap.nowhere"
"""The name of the route's metadata. The error's `fields` come from it (envoy_replies.py)."""
_NAMED_PATHS = tuple(path.replace(" /", " /NAME/") for path in MODEL_PATHS)
"""The paths that gateways of several recommenders have as well."""
_INTAKE_PATHS = "POST /v1/events, /v1/impressions, /v1/orders"


def build_unknown_path_route(recommenders: Sequence[str], *, intake: bool, names_recommenders: bool = True) -> Json:
    """Build the last route, which answers every request that no other route takes.

    Parameters
    ----------
    recommenders
        The names of all recommenders that are served.
    intake
        Whether there is an intake.
    names_recommenders
        Whether the answer may name the recommenders. Not everyone who asks may know them.

    Returns
    -------
    dict
        Envoy's ``Route``.
    """
    if not names_recommenders:
        answer = {"status": 404, "body": {"inline_string": "nothing is served under this path"}}
        return {
            "name": "nothing",
            "match": {"prefix": "/"},
            "direct_response": answer,
            **_build_metadata([], 0, [*MODEL_PATHS]),
        }
    listed = list(recommenders[:MOST_LISTED])
    paths = [*MODEL_PATHS, *(_NAMED_PATHS if len(recommenders) > 1 else ()), *((_INTAKE_PATHS,) if intake else ())]
    return {
        "name": "nothing",
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": _write_error(listed, len(recommenders))}},
        **_build_metadata(listed, len(recommenders), paths),
    }


def _build_metadata(served: Sequence[str], count: int, paths: Sequence[str]) -> Json:
    fields = {"served": list(served), "count": count, "paths": list(paths)}
    return {"metadata": {"filter_metadata": {UNKNOWN_PATH_METADATA: fields}}}


def _write_error(listed: Sequence[str], count: int) -> str:
    if not listed:
        return "nothing is served here yet; `endcap deploy` of a recommender changes that"
    more = f" and {count - len(listed):,} more" if count > len(listed) else ""
    return (
        f"nothing is served under this path; served: {', '.join(listed)}{more}; POST to /v1/models/{listed[0]}:predict"
    )
