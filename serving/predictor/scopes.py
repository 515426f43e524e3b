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


def read_scopes(source: str, header: str | None, *, of_page: bool) -> frozenset[str]:
    """The caller's scopes. source: one of `SCOPE_FROM`; of_page: the request has an origin, which the gateway drops."""
    if source != GATEWAY or header is None or of_page:
        return _NONE
    return frozenset(name.strip() for name in header.split(","))


def permit_explanations(
    requests: Sequence[RankRequest], source: str, header: str | None, *, of_page: bool
) -> Sequence[RankRequest]:
    """The requests as this caller may ask them. Raises RefusedError (403)."""
    if not any(request.explain for request in requests):
        return requests
    allowed = read_scopes(source, header, of_page=of_page)
    if EXPLAIN not in allowed:
        believed = f"ask the gateway with a key or a token that has the scope {EXPLAIN}"
        nobody = "this predictor takes nobody's word about callers; start it with --scope-from gateway (docs/access.md)"
        raise RefusedError(
            403,
            f"explain: found true; allowed: for who may see it; {believed if source == GATEWAY else nobody}, or leave "
            "explain out",
            code="predictor.explain-forbidden",
            at="explain",
            needs=EXPLAIN,
        )
    if OWNED in allowed:
        return requests
    return [DiscreetRequest.from_request(request) if request.explain else request for request in requests]
