"""`Client`, for programs that wait for each answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from endcap.client.answers import Receipt, ServedRanking, check_response, parse_rankings, parse_receipt
from endcap.client.requests import GatewayRequests, Json, Record, drop_absent, make_credentials
from endcap.client.retry_timer import Outcome, RetryTimer


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
        self._requests = GatewayRequests(url, recommender)
        self._timeout, self._retries = timeout, retries
        self._http = httpx.Client(headers=make_credentials(key, token))

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
        return self.rank_many([drop_absent(instance)], shopper=shopper, request_id=request_id)[0]

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
        return parse_rankings(self._post(*self._requests.build_ranking(instances, shopper, request_id)))

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
        return parse_receipt(self._post(*self._requests.build_report("events", records, request_id)))

    def impressions(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """Report items that a shopper saw. Each record has `ranking_id`, `item` and `position`; see `events`."""
        return parse_receipt(self._post(*self._requests.build_report("impressions", records, request_id)))

    def orders(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """Report orders. Each record has `customer` and `items`; see `events`."""
        return parse_receipt(self._post(*self._requests.build_report("orders", records, request_id)))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _post(self, url: str, request: Json) -> httpx.Response:
        timer = RetryTimer(url, self._timeout, self._retries)
        while True:
            try:
                outcome: Outcome = self._http.post(url, **request, timeout=timer.seconds_left)
            except httpx.TransportError as error:
                outcome = error
            wait = timer.choose_wait(outcome)
            if wait is None:
                return check_response(outcome)
            time.sleep(wait)
