"""The online store on a server that speaks the Redis protocol: Redis from 6.2 on, or Valkey; no modules.

Keys of shop `S` all start with ``endcap:S:``

    e:<owner>              sorted set: an event as JSON, by its time
    s:<set>:<owner>        sorted set: a member as JSON, by when it is forgotten (epoch ms of the server's clock)
    t:<table>              hash: `published`, `previous`, and `keep:<version>` of each version that is not forgotten
    v:<table>:<version>    that the version is there: expires with it
    v:<table>:<version>:N  hash: the rows of bucket N

Each call is a script (Lua) that the server runs in one piece: one round trip, nothing between its parts. Rows lie in
BUCKETS hashes, since a hash of a million rows would hold the server up when it expires. The scripts' keys lie in any of
a cluster's slots, so Redis Cluster is not supported: one primary, with replicas and failover as you like.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice, starmap
from typing import Any, TypeVar

import orjson
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.retry import Retry

from endcap.addresses import ENCODED
from endcap.causes import tls_trouble
from endcap.errors import OnlineStoreError
from endcap.online.address import parse_address
from endcap.online.base import (
    Found,
    OnlineStore,
    RecentEvent,
    Wanted,
    checked,
    milliseconds,
    nothing_written,
    packed,
)
from endcap.online.scripts import ADD, APPEND, DROP, PUBLISH, READ, VERSIONS, WRITE

BUCKETS = 1024
AT_ONCE = 500
"""Owners or rows that one script takes on: a few milliseconds of the server's one thread."""
AT_ONCE_BYTES = 4_000_000
NEVER = 100 * 365 * 24 * 3_600_000
"""A member that is never forgotten is kept for a hundred years: so the oldest of too many are known."""
Item = TypeVar("Item")


class RedisStore(OnlineStore):
    """See the module. Connections are kept and shared by threads; one that broke is opened anew by the next call."""

    def __init__(self, url: str, shop: str, timeout: float) -> None:
        self._prefix = f"endcap:{checked(shop)}:"
        address = parse_address(url)
        # No tries again: whoever serves has no time for them, and whoever writes tries the whole again.
        self._redis = Redis(
            host=address.host,
            port=address.port,
            ssl=address.tls,
            **address.options,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        # The password is part of the address, and of no message.
        self._where = address.shown
        texts = (READ, APPEND, ADD, WRITE, PUBLISH, VERSIONS, DROP)
        self._scripts = {text: self._redis.register_script(text) for text in texts}

    def read(self, wanted: Wanted) -> Found:
        events = [self._key("e", owner) for owner in wanted.events]
        sets = [self._key("s", checked(name), owner) for name, owners in wanted.sets for owner in owners]
        arguments: list[Any] = [wanted.most, len(events), len(sets)]
        for asked in wanted.rows:
            arguments += [checked(asked.table), checked(asked.version) if asked.version else "", len(asked.keys)]
            for key in asked.keys:
                arguments += [_bucket(key), key]
        if not (events or sets or any(asked.keys for asked in wanted.rows)):
            return Found([], [[] for _ in wanted.sets], [[] for _ in wanted.rows])
        histories, members, rows = self._run(READ, [*events, *sets], arguments)
        found_sets = iter([set(one) for one in orjson.loads(members)])
        found_rows = iter(rows)
        return Found(
            [list(starmap(RecentEvent, history)) for history in orjson.loads(histories)],
            [list(islice(found_sets, len(owners))) for _, owners in wanted.sets],
            [list(islice(found_rows, len(asked.keys))) for asked in wanted.rows],
        )

    def append(self, events: Mapping[str, Sequence[RecentEvent]], keep: timedelta) -> None:
        for part in _parts(((owner, some) for owner, some in events.items() if some), lambda one: 64 * len(one[1])):
            arguments: list[Any] = [milliseconds(keep), self.MOST_EVENTS]
            for _, some in part:
                arguments.append(len(some))
                for event in some:
                    arguments += [event.time, packed(event)]
            self._run(APPEND, [self._key("e", owner) for owner, _ in part], arguments)

    def add(
        self, name: str, members: Mapping[str, Iterable[str]], keep: timedelta | None, most: int | None = None
    ) -> None:
        listed = ((owner, list(some)) for owner, some in members.items())
        for part in _parts(((owner, some) for owner, some in listed if some), lambda one: 32 * len(one[1])):
            arguments: list[Any] = [NEVER if keep is None else milliseconds(keep), most or self.MOST_MEMBERS]
            for _, some in part:
                arguments += [len(some), *map(orjson.dumps, some)]
            self._run(ADD, [self._key("s", checked(name), owner) for owner, _ in part], arguments)

    def write(self, table: str, version: str, rows: Mapping[str, bytes], keep: timedelta | None = None) -> bool:
        head = [version, milliseconds(self.UNPUBLISHED), 0 if keep is None else milliseconds(keep)]
        keys = [self._key("t", checked(table)), self._key("v", table, checked(version))]
        # Without rows too: a version may be empty.
        for part in _parts(rows.items(), lambda row: len(row[1])) if rows else [[]]:
            values = [value for key, row in part for value in (_bucket(key), key, row)]
            if not self._run(WRITE, keys, [*head, *values]):
                return False
        return True

    def publish(self, table: str, version: str) -> None:
        if not self._run(PUBLISH, self._table(table), [checked(version), BUCKETS]):
            raise nothing_written(table, version, self.versions(table))

    def published(self, table: str) -> str | None:
        return self._versions(table)[0]

    def versions(self, table: str) -> list[str]:
        return [version for version in self._versions(table) if version]

    def _versions(self, table: str) -> list[str | None]:
        """The published one or None, the one before it or None, the others."""
        return [version.decode() if version else None for version in self._run(VERSIONS, self._table(table), [])]

    def drop(self, table: str, version: str) -> None:
        self._run(DROP, self._table(table), [checked(version), BUCKETS])

    def ping(self) -> None:
        with self._errors():
            self._redis.ping()

    def close(self) -> None:
        self._redis.close()

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _table(self, table: str) -> list[str]:
        return [self._key("t", checked(table)), self._key("v", table) + ":"]

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        with self._errors():
            return self._scripts[script](keys=[self._prefix, *keys], args=arguments)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            if isinstance(error, ReadOnlyError):
                # The server was the primary when it was connected to; who connects anew is led to the one that is now.
                self._redis.connection_pool.disconnect(inuse_connections=False)
            raise _refused(self._where, error) from error


def _refused(where: str, error: Exception) -> OnlineStoreError:
    """What a server's or the client's error means, and what to do."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        told = f"online store {where}: it is full; give it more memory, or write less ({text})"
        return OnlineStoreError(told, code="online.full", store=where, reason=text)
    if isinstance(error, (MovedError, ClusterCrossSlotError, ClusterDownError)):
        told = f"online store {where}: Redis Cluster is not supported; use one primary, with replicas if you like"
        return OnlineStoreError(f"{told} ({text})", code="online.cluster-unsupported", store=where, reason=text)
    if isinstance(error, AuthenticationError):
        told = f"online store {where}: it wants another user or password, which are part of the address ({text})"
        return OnlineStoreError(f"{told}; {ENCODED}", code="online.credentials-refused", store=where, reason=text)
    if (no_tls := tls_trouble(error)) is not None:
        told = (
            f"online store {where}: no TLS ({no_tls}); name its authority in the address by ?ssl_ca_certs=FILE, or "
            "give redis:// where it speaks no TLS"
        )
        return OnlineStoreError(told, code="online.no-tls", store=where, reason=no_tls)
    return OnlineStoreError(f"online store {where}: {text}", code="online.unavailable", store=where, reason=text)


def _bucket(key: str) -> int:
    return zlib.crc32(key.encode()) % BUCKETS


def _parts(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """The items in parts of at most AT_ONCE, which a part goes over in bytes by one item at most."""
    part: list[Item] = []
    bytes_ = 0
    for item in items:
        part.append(item)
        bytes_ += size(item)
        if len(part) >= AT_ONCE or bytes_ >= AT_ONCE_BYTES:
            yield part
            part, bytes_ = [], 0
    if part:
        yield part
