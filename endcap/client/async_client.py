"""`AsyncClient`, for programs that use asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from endcap.client.answers import Receipt, ServedRanking, check_response, parse_rankings, parse_receipt
from endcap.client.requests import GatewayRequests, Json, Record, drop_absent, make_credentials
from endcap.client.retry_timer import Outcome, RetryTimer


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
        self._requests = GatewayRequests(url, recommender)
        self._timeout, self._retries = timeout, retries
        self._http = httpx.AsyncClient(headers=make_credentials(key, token))

    async def rank(
        self, *, shopper: str | None = None, request_id: str | None = None, **instance: Any
    ) -> ServedRanking:
        """See `Client.rank`."""
        return (await self.rank_many([drop_absent(instance)], shopper=shopper, request_id=request_id))[0]

    async def rank_many(
        self, instances: Sequence[Record], *, shopper: str | None = None, request_id: str | None = None
    ) -> list[ServedRanking]:
        """See `Client.rank_many`."""
        return parse_rankings(await self._post(*self._requests.build_ranking(instances, shopper, request_id)))

    async def events(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """See `Client.events`."""
        return parse_receipt(await self._post(*self._requests.build_report("events", records, request_id)))

    async def impressions(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """See `Client.impressions`."""
        return parse_receipt(await self._post(*self._requests.build_report("impressions", records, request_id)))

    async def orders(self, records: Sequence[Record], *, request_id: str | None = None) -> Receipt:
        """See `Client.orders`."""
        return parse_receipt(await self._post(*self._requests.build_report("orders", records, request_id)))

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
        timer = RetryTimer(url, self._timeout, self._retries)
        while True:
            try:
                outcome: Outcome = await self._http.post(url, **request, timeout=timer.seconds_left)
            except httpx.TransportError as error:
                outcome = error
            wait = timer.choose_wait(outcome)
            if wait is None:
                return check_response(outcome)
            await asyncio.sleep(wait)
