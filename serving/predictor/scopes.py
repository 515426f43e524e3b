"""What a caller may be told: explanations, and what a customer owns.

A predictor may be reached around the gateway, so it believes the gateway's word only where it was told that nobody else
can give it (`--scope-from gateway`): network policies, or certificates of both sides, see to that. Otherwise, and where
there is no word, it ranks, and explains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from endcap.ranking import RankRequest
from endcap.ranking.request import DiscreetRequest
from endcap_serving.http_errors import RefusedError

GATEWAY, NOBODY = "gateway", "nobody"
SCOPE_FROM = (GATEWAY, NOBODY)
EXPLAIN, OWNED = "explain", "owned"
_NONE = frozenset[str]()


def read_scopes(source: str, header: str | None, *, from_page: bool) -> frozenset[str]:
    """The caller's scopes. source: one of `SCOPE_FROM`; of_page: the request has an origin, which the gateway drops."""
    if source != GATEWAY or header is None or from_page:
        return _NONE
    return frozenset(name.strip() for name in header.split(","))


def permit_explanations(
    requests: Sequence[RankRequest], source: str, header: str | None, *, from_page: bool
) -> Sequence[RankRequest]:
    """The requests as this caller may ask them. Raises RefusedError (403)."""
    if not any(request.explain for request in requests):
        return requests
    allowed = read_scopes(source, header, from_page=from_page)
    if EXPLAIN not in allowed:
        advice = f"ask the gateway with a key or a token that has the scope {EXPLAIN}"
        if source != GATEWAY:
            advice = "this predictor trusts nobody's scopes; start it with --scope-from gateway (docs/access.md)"
        raise RefusedError(
            403,
            f"explain: found true; allowed: true only for callers with the scope {EXPLAIN}; {advice}, or leave explain "
            "out",
            code="predictor.explain-forbidden",
            at="explain",
            needs=EXPLAIN,
        )
    if OWNED in allowed:
        return requests
    return [DiscreetRequest.from_request(request) if request.explain else request for request in requests]
