"""One try to post a message, which ends within a bound whatever the receiver does."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from endcap.messages.addresses import MessageAddress
from endcap.messages.formats import format_message
from endcap.messages.message import Message
from endcap.messages.outbox import Delivery

POST_WITHIN = 10.0
"""Seconds that one try may take in all, also if the receiver answers byte by byte."""
_RETRIED = frozenset({408, 425, 429})


def post_message(message: Message, address: MessageAddress) -> Delivery:
    """Post a message once. Raises nothing that the receiver or the network causes.

    Redirects are not followed: they would take the message where nobody named.
    """
    headers, body = format_message(message, address.format)
    _SILENCE.begin()
    try:
        status, answered = asyncio.run(asyncio.wait_for(_post(address.url, headers, body), POST_WITHIN))
    except TimeoutError:
        return Delivery("failed", f"{address.name} did not answer within {POST_WITHIN:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        return Delivery("failed", f"{type(error).__name__} at {address.name}")
    finally:
        _SILENCE.end()
    if 200 <= status < 300:
        return Delivery("delivered")
    problem = f"status {status} from {address.name}"
    if status in _RETRIED or status >= 500:
        return Delivery("failed", problem, read_retry_after(answered.get("retry-after", ""), datetime.now(UTC)))
    return Delivery("refused", problem)


def read_retry_after(text: str, now: datetime) -> timedelta | None:
    """Read the header Retry-After, in seconds or as a date (RFC 9110, 10.2.3); None if it is neither."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return timedelta(seconds=int(text))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(timedelta(), (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now)


async def _post(url: str, headers: dict[str, str], body: bytes) -> tuple[int, httpx.Headers]:
    # The status is all that counts: a body is not read.
    async with (
        httpx.AsyncClient(timeout=POST_WITHIN, follow_redirects=False) as client,
        client.stream("POST", url, content=body, headers=headers) as answer,
    ):
        return answer.status_code, answer.headers


class _Silence(logging.Filter):
    """Drops what httpx logs while a thread posts: each of its lines has the address."""

    def __init__(self) -> None:
        super().__init__()
        self._threads: set[int] = set()
        for name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
            logging.getLogger(name).addFilter(self)

    def begin(self) -> None:
        self._threads.add(threading.get_ident())

    def end(self) -> None:
        self._threads.discard(threading.get_ident())

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread not in self._threads


_SILENCE = _Silence()
