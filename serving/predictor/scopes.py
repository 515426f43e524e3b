"""What a caller may see: explanations, and what a customer owns.

A client may reach a predictor around the gateway. So a predictor trusts the header with scopes only if it was started
with `--scope-from gateway`, which says that nobody else can reach it: network policies or certificates of both sides
ensure that. Without trusted scopes it ranks, but explains nothing.
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
    """Read the caller's scopes.

    Parameters
    ----------
    source
        Whose word counts: one of `SCOPE_FROM`.
    header
        The header with the scopes; None if there is none.
    from_page
        Whether a web page sent the request. The gateway removes the origin of those that it lets pass.

    Returns
    -------
    frozenset[str]
        The scopes. Empty if the header is not trusted.
    """
    if source != GATEWAY or header is None or from_page:
        return _NONE
    return frozenset(name.strip() for name in header.split(","))


def permit_explanations(
    requests: Sequence[RankRequest], source: str, header: str | None, *, from_page: bool
) -> Sequence[RankRequest]:
    """Check which explanations the caller may see. Parameters as for `read_scopes`.

    Returns
    -------
    Sequence[RankRequest]
        The requests, changed so that explanations do not show what a customer owns, if the caller may not see that.

    Raises
    ------
    RefusedError
        A request asks for an explanation, and the caller may not see one (403).
    """
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
