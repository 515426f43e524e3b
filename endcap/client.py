"""Clients that ask for rankings and report what shoppers did: ``endcap.Client`` and ``endcap.AsyncClient``.

Both keep their connections to the gateway open. They repeat a call that failed for a reason that may pass: no
connection, a broken connection, or the statuses 429, 502, 503 and 504. They wait between tries, longer each time and
with a random part, and stay within the call's time limit. Repeating is safe: rankings change nothing, and for a day the
intake ignores an event whose id it has already seen.
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


class _RequestPlan:
    """What both clients share: the requests that they send, and when they try again."""

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
    """Encode a shopper's id as a header, whose bytes the gateway hashes. Raises UserError if no header can hold it."""
    why: str | None = ids.find_id_fault(shopper)
    # A header ends where its last blank begins, and two shoppers would be one.
    if why is None and shopper != shopper.strip(" "):
        why = "blank-at-end"
    if why is not None:
        raise _make_id_error("shopper", why, f"{ids.ALLOWED}, and without blanks at its ends")
    return shopper.encode()


def _encode_request_id(request_id: str) -> bytes:
    """Encode a request id as a header. Raises UserError if the service would replace the id by another one."""
    if len(request_id) > _LONGEST_REQUEST_ID:
        raise _make_id_error("request_id", "too-long", _REQUEST_IDS)
    if not (request_id.isascii() and request_id.isprintable()) or request_id != request_id.strip():
        raise _make_id_error("request_id", "not-printable", _REQUEST_IDS)
    return request_id.encode()


def _make_id_error(at: str, fault: str, allowed: str) -> UserError:
    text = f"{at}: found a text that no header can hold ({fault}); allowed: {allowed}"
    return UserError(text, code="client.id-malformed", at=at, fault=fault, allowed=allowed)


class _RetryTimer:
    """Counts the tries of one call and the time that it has left."""

    def __init__(self, url: str, timeout: float, retries: int) -> None:
        self._url, self._timeout = url, timeout
        self._deadline = time.monotonic() + timeout
        self._waits = (min(_FIRST_WAIT * 2**number, _LONGEST_WAIT) for number in range(retries))

    @property
    def left(self) -> float:
        """The seconds that the call has left, more than 0."""
        return max(self._deadline - time.monotonic(), 0.001)

    def after(self, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Return the seconds to wait before the next try; None if there is none and this outcome is the answer.

        Raises TransientError if there is no further try and no answer, and UserError if TLS is not possible.
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
    """Return the seconds that the Retry-After header asks for, as a number or a time; 0 without one."""
    retry_after = "" if response is None else response.headers.get("retry-after", "")
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max((parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def _make_credentials(key: str, token: str) -> dict[str, str]:
    """Make the headers that identify the caller."""
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
    """Return the answer if the call succeeded; raise the error that it stands for otherwise."""
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
    """Ask one gateway for rankings, and report events, impressions and orders to it.

    Any number of threads may share a client. Close it, or use it as a context manager. Every call raises the errors
    below. An error has the service's own `code` and `fields`, and in its fields also ``url`` and ``status``. Its code
    begins with ``client.`` if nobody answered, or if the answer had no code.

    Parameters
    ----------
    url
        The gateway's address, such as ``http://localhost:8080``.
    recommender
        The recommender's name.
    timeout
        The seconds that a call may take, including all further tries.
    retries
        The number of further tries. If an answer has a Retry-After header, such as the 429 of a gateway that limits its
        clients, the client waits at least that long. If the call has less time left, it raises the error at once.
    key, token
        The key, or the token of an issuer, that identifies the caller. Without either, the caller is anonymous.

    Raises
    ------
    RequestError
        The request is wrong.
    NotFoundError
        There is no such recommender.
    TransientError
        Nobody answered in time.
    UserError
        A shopper or request id cannot be a header, a login page answered, or the gateway's certificate is not trusted.
    EndcapError
        The service failed.

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
        """Ask for one ranking.

        Parameters
        ----------
        shopper
            The id that decides between the variants: the same shopper always gets the same variant.
        request_id
            An id for the service's logs; a random one by default.
        instance
            The keys of a ranking request, such as items, customer, candidates, k, filter and surface. None leaves a key
            out.

        Returns
        -------
        ServedRanking
            The items, best first, and who ranked them.
        """
        return self.rank_many([_drop_absent(instance)], shopper=shopper, request_id=request_id)[0]

    def rank_many(
        self, instances: Sequence[Record], *, shopper: str | None = None, request_id: str | None = None
    ) -> list[ServedRanking]:
        """Ask for several rankings in one call.

        Parameters
        ----------
        instances
            The ranking requests, as mappings.
        shopper, request_id
            See `rank`.

        Returns
        -------
        list of ServedRanking
            A ranking for each request, in the same order.
        """
        return _parse_rankings(self._post(*self._plan.ranking(instances, shopper, request_id)))

    def events(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """Report events.

        Parameters
        ----------
        records
            The events. Each has an `item` and a `customer` or a `session`, and may have `id`, `time` and `type`. An
            event without an item, such as a search, has a `type` and no `item`. It keeps the customer's visit alive.
        request_id
            An id for the service's logs.

        Returns
        -------
        Receipt
            How many events the intake took, and which it refused.
        """
        return _parse_receipt(self._post(*self._plan.report("events", records, request_id)))

    def impressions(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """Report items that a shopper saw. Each record has `ranking_id`, `item` and `position`; see `events`."""
        return _parse_receipt(self._post(*self._plan.report("impressions", records, request_id)))

    def orders(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """Report orders. Each record has `customer` and `items`; see `events`."""
        return _parse_receipt(self._post(*self._plan.report("orders", records, request_id)))

    def close(self) -> None:
        """Close the connections."""
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
    """The same as `Client` for asyncio: await every call.

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
        """Close the connections."""
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
