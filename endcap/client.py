"""A client for those who ask for rankings and report what shoppers did: ``endcap.Client``, ``endcap.AsyncClient``.

Both ask the gateway over kept connections. What failed in a way that may pass (no connection, a broken one, 429, 502,
503, 504) is tried again after a wait that grows and is never quite the same, within the one time limit that a call has.
That is safe for rankings, which change nothing, and for events, whose ids the intake keeps apart for a day.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from endcap import ids
from endcap.client_faults import explain_tls_failure, find_page_title
from endcap.errors import EndcapError, NotFoundError, RequestError, TransientError, UserError

SHOPPER, REQUEST_ID = "x-endcap-shopper", "x-request-id"
_KEY = "x-endcap-key"
_PASSING = (429, 502, 503, 504)
_PAGES = (200, 401, 403)
"""Statuses of a login page. Others, such as a proxy's 404, say more than their page."""
_LONGEST_REQUEST_ID = 256
"""As of `serving/request_ids.py`, which no client has."""
_REQUEST_IDS = f"printable ASCII of 1 to {_LONGEST_REQUEST_ID} characters"
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0

Json = dict[str, Any]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class RankedItem:
    """score: the model's; None for a fallback, which the model had no opinion on."""

    item: str
    score: float | None = None

    @property
    def fallback(self) -> bool:
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
        return [ranked.item for ranked in self.items]


@dataclass(frozen=True)
class Receipt:
    """What the intake has taken, durably.

    rejected: of each of the others its place in the call (`index`), what was wrong (`reason`), `code` and `fields`.
    """

    accepted: int
    duplicates: int = 0
    rejected: list[Json] = field(default_factory=list)


class _RequestPlan:
    """What both clients do alike: what is sent where, when it is tried again, and what an answer means."""

    def __init__(self, url: str, recommender: str, timeout: float, retries: int) -> None:
        self.url = url.rstrip("/")
        self.recommender = recommender
        self.timeout, self.retries = timeout, retries

    def ranking(self, instances: Sequence[Record], shopper: str | None, request_id: str | None) -> tuple[str, Json]:
        headers = {REQUEST_ID: _encode_request_id(request_id or str(uuid.uuid4()))}
        headers |= {SHOPPER: _encode_shopper(shopper)} if shopper else {}
        path = f"{self.url}/{self.recommender}/v1/models/{self.recommender}:predict"
        return path, {"json": {"instances": [dict(instance) for instance in instances]}, "headers": headers}

    def report(self, kind: str, records: Sequence[Record], request_id: str | None) -> tuple[str, Json]:
        # Named here, once: the same call tried again must not count twice.
        named = [{"id": str(uuid.uuid4()), **record} for record in records]
        headers = {REQUEST_ID: _encode_request_id(request_id)} if request_id else {}
        return f"{self.url}/v1/{kind}", {"json": named, "headers": headers}

    def tries(self, url: str) -> _RetryTimer:
        return _RetryTimer(url, self.timeout, self.retries)


def _encode_shopper(shopper: str) -> bytes:
    """As a header has it: the gateway hashes these bytes. Raises UserError."""
    why: str | None = ids.find_id_fault(shopper)
    # A header ends where its last blank begins, and two shoppers would be one.
    if why is None and shopper != shopper.strip(" "):
        why = "blank-at-end"
    if why is not None:
        raise _make_id_error("shopper", why, f"{ids.ALLOWED}, and without blanks at its ends")
    return shopper.encode()


def _encode_request_id(request_id: str) -> bytes:
    """Raises UserError: the service would call the request by another id."""
    if len(request_id) > _LONGEST_REQUEST_ID:
        raise _make_id_error("request_id", "too-long", _REQUEST_IDS)
    if not (request_id.isascii() and request_id.isprintable()) or request_id != request_id.strip():
        raise _make_id_error("request_id", "not-printable", _REQUEST_IDS)
    return request_id.encode()


def _make_id_error(at: str, fault: str, allowed: str) -> UserError:
    text = f"{at}: found what no header can carry ({fault}); allowed: {allowed}"
    return UserError(text, code="client.id-malformed", at=at, fault=fault, allowed=allowed)


class _RetryTimer:
    """The tries of one call: what is left of its time, and whether there is another."""

    def __init__(self, url: str, timeout: float, retries: int) -> None:
        self._url, self._timeout = url, timeout
        self._deadline = time.monotonic() + timeout
        self._waits = (min(_FIRST_WAIT * 2**number, _LONGEST_WAIT) for number in range(retries))

    @property
    def left(self) -> float:
        """Seconds, more than 0."""
        return max(self._deadline - time.monotonic(), 0.001)

    def after(self, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds to wait before the next try; None where this outcome is the last one and an answer.

        Raises TransientError where it is the last one and none.
        """
        response = outcome if isinstance(outcome, httpx.Response) else None
        if response is not None and response.status_code not in _PASSING:
            return None
        if isinstance(outcome, httpx.TransportError) and (no_tls := explain_tls_failure(outcome)) is not None:
            raise UserError(
                f"no TLS with {self._url} ({no_tls}): name the file of its certificate authority by SSL_CERT_FILE, or "
                "give http:// where the gateway speaks no TLS",
                code="client.no-tls",
                url=self._url,
                reason=no_tls,
                variable="SSL_CERT_FILE",
            )
        longest = next(self._waits, None)
        if longest is not None:
            # Full jitter: Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
            wait = random.uniform(0, longest) + _read_retry_after(response)  # noqa: S311
            if wait < self.left:
                return wait
        if response is not None:
            return None
        why = f"{type(outcome).__name__}: {outcome}"
        raise TransientError(
            f"{self._url} did not answer within {self._timeout:g} s ({why}); try again later",
            code="client.no-answer",
            url=self._url,
            seconds=self._timeout,
            reason=why,
        )


def _read_retry_after(response: httpx.Response | None) -> float:
    """Seconds that an answer asks to be left alone for, by a number or a time; 0 where it does not."""
    retry_after = "" if response is None else response.headers.get("retry-after", "")
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max((parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def _make_credentials(key: str, token: str) -> dict[str, str]:
    """Headers by which a caller proves who it is."""
    return {**({_KEY: key} if key else {}), **({"authorization": f"Bearer {token}"} if token else {})}


def _parse_rankings(response: httpx.Response) -> list[ServedRanking]:
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


def _parse_receipt(response: httpx.Response) -> Receipt:
    document = response.json()
    return Receipt(document["accepted"], document.get("duplicates", 0), document.get("rejected", []))


def _check_response(response: httpx.Response | httpx.TransportError) -> httpx.Response:
    """The answer, where it is a good one; `_Tries.after` has raised where there is none."""
    assert isinstance(response, httpx.Response)
    title = find_page_title(response.text, response.headers.get("content-type", ""))
    # A login answers with a page, or sends to one. Envoy's own words are plain text.
    if response.is_redirect or (title is not None and response.status_code in _PAGES):
        raise UserError(
            f"{response.request.url} answered {response.status_code} with a page for people ({title or 'no title'}), "
            "as a login does, and no ranking: log in, or ask the gateway behind the login",
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
    kinds: dict[int, type[EndcapError]] = {404: NotFoundError, **dict.fromkeys(_PASSING, TransientError)}
    kind = kinds.get(status, RequestError if status < 500 else EndcapError)
    error = kind(f"{url} answered {status}: {message}", code="client.refused", url=url, status=status)
    # What stands between may answer anything.
    if isinstance(answer.get("code"), str):
        error.code = answer["code"]
        fields = answer.get("fields")
        error.fields |= fields if isinstance(fields, dict) else {}
    raise error


def _drop_absent(record: Record) -> Json:
    return {key: value for key, value in record.items() if value is not None}


class Client:
    """Asks one gateway; from any number of threads. Close it, or use it as a context manager.

    `code` and `fields` of an error are the service's own, beside ``url`` and ``status`` of its answer. A code
    ``client.…`` stands where nobody answered, or somebody without a code.

    Parameters
    ----------
    url
        The gateway's, such as ``http://localhost:8080``.
    recommender
        Its name.
    timeout
        Seconds that a call may take in all, further tries included.
    retries
        How many further tries there may be. One waits for as long as an answer with Retry-After says, such as the 429
        of a gateway that limits its clients; where that is longer than the call's time, the error comes at once.
    key, token
        What the gateway knows this caller by: a key, or a token of an issuer. Left out: the caller is anonymous.

    Raises
    ------
    RequestError
        By each call, where what was given is wrong.
    NotFoundError
        Where there is no such recommender.
    TransientError
        Where nobody answered in time.
    UserError
        Where a login page answers, or the gateway's certificate is not trusted.
    EndcapError
        Where the service failed.

    Examples
    --------
    >>> with endcap.Client(address, "trial", timeout=10) as client:
    ...     ranking = client.rank(shopper="s1", items=[], k=3)
    >>> len(ranking.ids), ranking.variant
    (3, 'stable')
    """

    def __init__(
        self, url: str, recommender: str, *, timeout: float = 1.0, retries: int = 2, key: str = "", token: str = ""
    ) -> None:
        self._plan = _RequestPlan(url, recommender, timeout, retries)
        self._http = httpx.Client(headers=_make_credentials(key, token))

    def rank(self, *, shopper: str | None = None, request_id: str | None = None, **instance: Any) -> ServedRanking:
        """One ranking. instance: a request's keys, such as items, customer, candidates, k, filter, surface.

        shopper: who is shared out to the variants by it; the same shopper always meets the same variant.
        """
        return self.rank_many([_drop_absent(instance)], shopper=shopper, request_id=request_id)[0]

    def rank_many(
        self, instances: Sequence[Record], *, shopper: str | None = None, request_id: str | None = None
    ) -> list[ServedRanking]:
        """A ranking for each instance, in one call."""
        return _parse_rankings(self._post(*self._plan.ranking(instances, shopper, request_id)))

    def events(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """Report events. Each has `item`, `customer` or `session`, and may have `id`, `time`, `type`; see the guide.

        One that is about no item, such as a search, has a `type` and no `item`: it keeps its customer's visit alive.
        """
        return _parse_receipt(self._post(*self._plan.report("events", records, request_id)))

    def impressions(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """Report items that were seen: each has `ranking_id`, `item`, `position`."""
        return _parse_receipt(self._post(*self._plan.report("impressions", records, request_id)))

    def orders(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """Report orders: each has `customer` and `items`."""
        return _parse_receipt(self._post(*self._plan.report("orders", records, request_id)))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _post(self, url: str, request: Json) -> httpx.Response:
        tries = self._plan.tries(url)
        while True:
            try:
                outcome: httpx.Response | httpx.TransportError = self._http.post(url, **request, timeout=tries.left)
            except httpx.TransportError as error:
                outcome = error
            wait = tries.after(outcome)
            if wait is None:
                return _check_response(outcome)
            time.sleep(wait)


class AsyncClient:
    """The same for asyncio: every call is awaited.

    Examples
    --------
    >>> import asyncio
    >>> async def ask():
    ...     async with endcap.AsyncClient(address, "trial", timeout=10) as client:
    ...         return await client.rank(shopper="s1", items=[], k=3)
    >>> asyncio.run(ask()).variant
    'stable'
    """

    def __init__(
        self, url: str, recommender: str, *, timeout: float = 1.0, retries: int = 2, key: str = "", token: str = ""
    ) -> None:
        self._plan = _RequestPlan(url, recommender, timeout, retries)
        self._http = httpx.AsyncClient(headers=_make_credentials(key, token))

    async def rank(
        self, *, shopper: str | None = None, request_id: str | None = None, **instance: Any
    ) -> ServedRanking:
        """See `Client.rank`."""
        return (await self.rank_many([_drop_absent(instance)], shopper=shopper, request_id=request_id))[0]

    async def rank_many(
        self, instances: Sequence[Record], *, shopper: str | None = None, request_id: str | None = None
    ) -> list[ServedRanking]:
        """See `Client.rank_many`."""
        return _parse_rankings(await self._post(*self._plan.ranking(instances, shopper, request_id)))

    async def events(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """See `Client.events`."""
        return _parse_receipt(await self._post(*self._plan.report("events", records, request_id)))

    async def impressions(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """See `Client.impressions`."""
        return _parse_receipt(await self._post(*self._plan.report("impressions", records, request_id)))

    async def orders(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """See `Client.orders`."""
        return _parse_receipt(await self._post(*self._plan.report("orders", records, request_id)))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def _post(self, url: str, request: Json) -> httpx.Response:
        tries = self._plan.tries(url)
        while True:
            try:
                outcome: httpx.Response | httpx.TransportError = await self._http.post(
                    url, **request, timeout=tries.left
                )
            except httpx.TransportError as error:
                outcome = error
            wait = tries.after(outcome)
            if wait is None:
                return _check_response(outcome)
            await asyncio.sleep(wait)
