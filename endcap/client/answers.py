"""What the service answers, as objects, and the errors that its refusals stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from endcap.client.retry_timer import RETRIED_STATUSES, Outcome
from endcap.client_faults import find_page_title
from endcap.errors import EndcapError, NotFoundError, RequestError, TransientError, UserError

Json = dict[str, Any]
_LOGIN_STATUSES = (200, 401, 403)
"""Statuses of a login page. With another status, such as a proxy's 404, the status says more than the page."""


@dataclass(frozen=True)
class RankedItem:
    """An item of a ranking.

    Attributes
    ----------
    item
        The item's id.
    score
        The model's score; None for a fallback, which the model did not score.
    """

    item: str
    score: float | None = None

    @property
    def fallback(self) -> bool:
        """Whether the item is a fallback, which the model did not score."""
        return self.score is None


@dataclass(frozen=True)
class ServedRanking:
    """A ranking that the service answered with.

    Attributes
    ----------
    items
        The ranked items, best first.
    id
        The ranking's id. Send it back with impressions.
    request_id
        The request's id, the same as in the service's logs.
    variant
        Who ranked: ``stable`` or ``canary``; ``fallback`` if no model answered.
    model_version
        The version that ranked; None if no model answered.
    unknown
        How many of the items in the request the model does not know.
    removed
        The items that the shop's rules removed, if the request asked for them.
    degraded
        The parts of the service that were not available when it answered.
    raw
        The answer as the service sent it.
    reason
        Why some items are fallbacks, such as ``unknown-customer`` (see ``endcap.fallback_reasons``); empty if none is.
    """

    items: list[RankedItem]
    id: str
    request_id: str
    variant: str
    model_version: str | None = None
    unknown: int = 0
    removed: list[Json] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    raw: Json = field(default_factory=dict, repr=False)
    reason: str = ""

    @property
    def ids(self) -> list[str]:
        """The ids of the items, best first."""
        return [ranked.item for ranked in self.items]


@dataclass(frozen=True)
class Receipt:
    """What the intake did with the records of a call.

    Attributes
    ----------
    accepted
        How many records the intake has written to disk.
    duplicates
        How many records it already had.
    rejected
        The records that it refused: the place in the call (`index`), what was wrong (`reason`), `code` and `fields`.
    """

    accepted: int
    duplicates: int = 0
    rejected: list[Json] = field(default_factory=list)


def parse_rankings(response: httpx.Response) -> list[ServedRanking]:
    """Parse the answer to a ranking request: a ranking for each instance, in the same order."""
    return [
        ServedRanking(
            [RankedItem(item["item"], item["score"]) for item in prediction["items"]],
            prediction.get("ranking_id", ""),
            prediction.get("request_id", ""),
            prediction.get("variant", ""),
            prediction.get("model_version"),
            prediction.get("unknown", 0),
            prediction.get("removed", []),
            prediction.get("degraded", []),
            prediction,
            prediction.get("fallback", {}).get("reason", ""),
        )
        for prediction in response.json()["predictions"]
    ]


def parse_receipt(response: httpx.Response) -> Receipt:
    """Parse the intake's answer to reported records."""
    document = response.json()
    return Receipt(document["accepted"], document.get("duplicates", 0), document.get("rejected", []))


def check_response(response: Outcome) -> httpx.Response:
    """Raise the error that an answer stands for, if the call did not succeed.

    Parameters
    ----------
    response
        What `RetryTimer.choose_wait` let through: an answer.

    Returns
    -------
    httpx.Response
        The same answer.

    Raises
    ------
    RequestError, NotFoundError, TransientError, EndcapError
        The service refused or failed. The error has the service's code and fields, if the answer has them.
    UserError
        A login page answered in place of the service.
    """
    assert isinstance(response, httpx.Response)
    title = find_page_title(response.text, response.headers.get("content-type", ""))
    # A login answers with a page or a redirect to one. Envoy's own messages are plain text.
    if response.is_redirect or (title is not None and response.status_code in _LOGIN_STATUSES):
        raise UserError(
            f"{response.request.url} answered {response.status_code} with a web page ({title or 'no title'}) in place "
            "of a ranking, as a login does: log in, or use the address of the gateway behind the login",
            code="client.login-page",
            url=str(response.request.url),
            status=response.status_code,
            title=title or "",
        )
    if response.is_success:
        return response
    try:
        answer = response.json()
        message = answer["error"]
    except (ValueError, KeyError, TypeError):
        answer, message = {}, response.text[:300]
    url, status = str(response.request.url), response.status_code
    kinds: dict[int, type[EndcapError]] = {404: NotFoundError, **dict.fromkeys(RETRIED_STATUSES, TransientError)}
    kind = kinds.get(status, RequestError if status < 500 else EndcapError)
    error = kind(f"{url} answered {status}: {message}", code="client.refused", url=url, status=status)
    # A proxy on the way may send any JSON.
    if isinstance(answer.get("code"), str):
        error.code = answer["code"]
        fields = answer.get("fields")
        error.fields |= fields if isinstance(fields, dict) else {}
    raise error
