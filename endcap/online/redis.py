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

import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar, cast

import orjson
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.retry import Retry

from endcap.addresses import ENCODED
from endcap.client_faults import explain_tls_failure
from endcap.errors import OnlineStoreError
from endcap.online.address import parse_address
from endcap.online.base import (
    EVENTS,
    KeyFault,
    OnlineQuery,
    OnlineResult,
    OnlineStore,
    RecentEvent,
    check_key_name,
    encode_event,
    make_nothing_written_error,
    parse_events,
    parse_members,
    to_milliseconds,
)
from endcap.online.key_names import CUSTOMERS, make_session_prefix, name_customer_owner
from endcap.online.scripts import ADD, APPEND, DROP, PUBLISH, READ, VERSIONS, WRITE

BUCKETS = 1024
MAX_BATCH_ITEMS = 500
"""Owners or rows that one script takes on: a few milliseconds of the server's one thread."""
MAX_BATCH_BYTES = 4_000_000
SCANNED = 1000
"""Keys that the server goes through at a time when all are looked through."""
NEVER_MS = 100 * 365 * 24 * 3_600_000
"""A member that is never forgotten is kept for a hundred years: so the oldest of too many are known."""
_NOT_ALLOWED = ("NOPERM", "ACL failure in script", "The user executing the script can't")
"""Within a script the refusal of a command is an error of the script."""
Item = TypeVar("Item")
Read = TypeVar("Read")


class RedisStore(OnlineStore):
    """The online store on a server with the Redis protocol; see `OnlineStore`.

    Threads share its connections. The next call replaces a broken connection.
    """

    def __init__(self, url: str, shop: str, timeout: float) -> None:
        self._prefix = f"endcap:{check_key_name(shop)}:"
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

    def read(self, query: OnlineQuery) -> OnlineResult:
        events = [self._make_key("e", owner) for owner in query.events]
        sets = [self._make_key("s", check_key_name(name), owner) for name, owners in query.sets for owner in owners]
        arguments: list[Any] = [query.most, len(events), len(sets), 0]
        for table_keys in query.rows:
            arguments += [
                check_key_name(table_keys.table),
                check_key_name(table_keys.version) if table_keys.version else "",
                len(table_keys.keys),
            ]
            for key in table_keys.keys:
                arguments += [_get_bucket(key), key]
        if not (events or sets or any(table_keys.keys for table_keys in query.rows)):
            return OnlineResult([], [[] for _ in query.sets], [[] for _ in query.rows])
        histories, members, rows, bad = self._run(READ, [*events, *sets], arguments)
        try:
            parts = _parse_joined_lists(histories, len(events)), _parse_joined_lists(members, len(sets))
        except ValueError:
            # A key holds what is no JSON, or more than it looks like: now each owner's apart.
            arguments[3] = 1
            histories, members, rows, bad = self._run(READ, [*events, *sets], arguments)
            parts = _parse_separate_lists(histories), _parse_separate_lists(members)
        places = _list_places(query)
        faults: dict[tuple[str, str], KeyFault] = {places[number - 1]: "wrong-type" for number in bad}
        read = _read_each(parts[0], parse_events, places, faults)
        found_sets = iter(_read_each(parts[1], parse_members, places[len(events) :], faults))
        found_rows = iter(rows)
        return OnlineResult(
            read,
            [list(islice(found_sets, len(owners))) for _, owners in query.sets],
            [list(islice(found_rows, len(table_keys.keys))) for table_keys in query.rows],
            faults,
        )

    def append(self, events: Mapping[str, Sequence[RecentEvent]], keep: timedelta) -> Mapping[str, KeyFault]:
        passed: dict[str, KeyFault] = {}
        for part in _split_parts(
            ((owner, some) for owner, some in events.items() if some), lambda owner_events: 64 * len(owner_events[1])
        ):
            arguments: list[Any] = [to_milliseconds(keep), self.MOST_EVENTS]
            for _, some in part:
                arguments.append(len(some))
                for event in some:
                    arguments += [event.time, encode_event(event)]
            bad = self._run(APPEND, [self._make_key("e", owner) for owner, _ in part], arguments)
            passed |= {part[number - 1][0]: "wrong-type" for number in bad}
        return passed

    def add(
        self, name: str, members: Mapping[str, Iterable[str]], keep: timedelta | None, most: int | None = None
    ) -> Mapping[str, KeyFault]:
        passed: dict[str, KeyFault] = {}
        listed = ((owner, list(some)) for owner, some in members.items())
        for part in _split_parts(
            ((owner, some) for owner, some in listed if some), lambda owner_members: 32 * len(owner_members[1])
        ):
            arguments: list[Any] = [NEVER_MS if keep is None else to_milliseconds(keep), most or self.MOST_MEMBERS]
            for _, some in part:
                arguments += [len(some), *map(orjson.dumps, some)]
            bad = self._run(ADD, [self._make_key("s", check_key_name(name), owner) for owner, _ in part], arguments)
            passed |= {part[number - 1][0]: "wrong-type" for number in bad}
        return passed

    def write(self, table: str, version: str, rows: Mapping[str, bytes], keep: timedelta | None = None) -> bool:
        head = [version, to_milliseconds(self.UNPUBLISHED), 0 if keep is None else to_milliseconds(keep)]
        keys = [self._make_key("t", check_key_name(table)), self._make_key("v", table, check_key_name(version))]
        # Without rows too: a version may be empty.
        for part in _split_parts(rows.items(), lambda row: len(row[1])) if rows else [[]]:
            values = [value for key, row in part for value in (_get_bucket(key), key, row)]
            if not self._run(WRITE, keys, [*head, *values]):
                return False
        return True

    def publish(self, table: str, version: str) -> None:
        if not self._run(PUBLISH, self._table(table), [check_key_name(version), BUCKETS]):
            raise make_nothing_written_error(table, version, self.versions(table))

    def published(self, table: str) -> str | None:
        return self._read_versions(table)[0]

    def versions(self, table: str) -> list[str]:
        return [version for version in self._read_versions(table) if version]

    def _read_versions(self, table: str) -> list[str | None]:
        """The published one or None, the one before it or None, the others."""
        return [version.decode() if version else None for version in self._run(VERSIONS, self._table(table), [])]

    def drop(self, table: str, version: str) -> None:
        self._run(DROP, self._table(table), [check_key_name(version), BUCKETS])

    def forget(self, customers: Collection[str], tables: Collection[str], *, erase: bool = True) -> int:
        chosen = frozenset(customers)
        owners = {name_customer_owner(customer) for customer in chosen}
        sessions = tuple(make_session_prefix(customer) for customer in chosen)
        fields: dict[str, list[str]] = {}
        for customer in chosen:
            fields.setdefault(str(_get_bucket(customer)), []).append(customer)
        members = [orjson.dumps(customer) for customer in chosen]
        total = 0
        with self._report_errors():
            for raw in self._redis.scan_iter(match=f"{_escape_glob(self._prefix)}*", count=SCANNED):
                kind, _, name = raw.decode(errors="replace").removeprefix(self._prefix).partition(":")
                if kind == "s":
                    of_set, _, name = name.partition(":")
                if kind in ("e", "s") and (name in owners or name.startswith(sessions)):
                    total += cast(int, self._redis.zcard(raw))
                    if erase:
                        self._redis.delete(raw)
                elif kind == "s" and of_set == CUSTOMERS:
                    listed = [member for member in members if self._redis.zscore(raw, member) is not None]
                    total += len(listed)
                    if listed and erase:
                        self._redis.zrem(raw, *listed)
                elif kind == "v" and name.startswith(tuple(tables)) and name.rpartition(":")[2] in fields:
                    keys = [key for key in fields[name.rpartition(":")[2]] if self._redis.hexists(raw, key)]
                    total += len(keys)
                    if keys and erase:
                        self._redis.hdel(raw, *keys)
        return total

    def ping(self) -> None:
        with self._report_errors():
            self._redis.ping()

    def close(self) -> None:
        self._redis.close()

    def _make_key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _table(self, table: str) -> list[str]:
        return [self._make_key("t", check_key_name(table)), self._make_key("v", table) + ":"]

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        with self._report_errors():
            return self._scripts[script](keys=[self._prefix, *keys], args=arguments)

    @contextmanager
    def _report_errors(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            if isinstance(error, ReadOnlyError):
                # The server was the primary when it was connected to; who connects anew is led to the one that is now.
                self._redis.connection_pool.disconnect(inuse_connections=False)
            raise _translate_error(self._where, error) from error


def _translate_error(where: str, error: Exception) -> OnlineStoreError:
    """What a server's or the client's error means, and what to do."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        message = f"online store {where}: it is full; give it more memory, or write less ({text})"
        return OnlineStoreError(message, code="online.full", store=where, reason=text)
    if isinstance(error, (MovedError, ClusterCrossSlotError, ClusterDownError)):
        message = f"online store {where}: Redis Cluster is not supported; use one primary, with replicas if you like"
        return OnlineStoreError(f"{message} ({text})", code="online.cluster-unsupported", store=where, reason=text)
    if isinstance(error, AuthenticationError):
        message = (
            f"online store {where}: the server refuses the user or the password; correct them in the address ({text})"
        )
        return OnlineStoreError(f"{message}; {ENCODED}", code="online.credentials-refused", store=where, reason=text)
    if "WRONGTYPE" in text:
        message = (
            f"online store {where}: a key holds a value of another type; remove the key, so that it is written again"
        )
        return OnlineStoreError(f"{message} ({text})", code="online.key-unreadable", store=where, reason=text)
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        message = f"online store {where}: it is a replica, which takes no writes; give the primary's address ({text})"
        return OnlineStoreError(message, code="online.read-only", store=where, reason=text)
    if isinstance(error, BusyLoadingError) or "LOADING" in text:
        message = f"online store {where}: the server is still loading its data; try again in a while ({text})"
        return OnlineStoreError(message, code="online.loading", store=where, reason=text)
    if isinstance(error, NoPermissionError) or any(words in text for words in _NOT_ALLOWED):
        message = (
            f"online store {where}: the user lacks a permission; grant those that docs/online-store.md lists ({text})"
        )
        return OnlineStoreError(message, code="online.not-allowed", store=where, reason=text)
    if (no_tls := explain_tls_failure(error)) is not None:
        message = (
            f"online store {where}: no TLS ({no_tls}); name its authority in the address by ?ssl_ca_certs=FILE, or "
            "give redis:// where it speaks no TLS"
        )
        return OnlineStoreError(message, code="online.no-tls", store=where, reason=no_tls)
    return OnlineStoreError(f"online store {where}: {text}", code="online.unavailable", store=where, reason=text)


def _list_places(query: OnlineQuery) -> list[tuple[str, str]]:
    """Where and under which name each thing is wanted, in the order of the script's numbers."""
    return [
        *((EVENTS, owner) for owner in query.events),
        *((name, owner) for name, owners in query.sets for owner in owners),
        *((table_keys.table, key) for table_keys in query.rows for key in table_keys.keys),
    ]


def _parse_joined_lists(text: bytes, count: int) -> list[Any]:
    """The lists of so many owners. Raises ValueError where they are more: what one holds reads as two."""
    lists: list[Any] = orjson.loads(text)
    if len(lists) != count:
        raise ValueError("more lists than owners")
    return lists


def _parse_separate_lists(texts: Sequence[bytes]) -> list[Any]:
    """Each owner's list; None where it is no JSON."""
    lists: list[Any] = []
    for text in texts:
        try:
            lists.append(orjson.loads(text))
        except ValueError:
            lists.append(None)
    return lists


def _read_each(
    lists: Sequence[Any],
    read: Callable[[Any], Read],
    places: Sequence[tuple[str, str]],
    faults: dict[tuple[str, str], KeyFault],
) -> list[Read]:
    """What is read of each list; nothing where that cannot be, which is noted among the faults."""
    readings = []
    for value, place in zip(lists, places, strict=False):
        try:
            readings.append(read(value))
        except ValueError:
            faults[place] = "unreadable"
            readings.append(read([]))
    return readings


def _escape_glob(text: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)


def _get_bucket(key: str) -> int:
    return zlib.crc32(key.encode()) % BUCKETS


def _split_parts(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """The items in parts of at most AT_ONCE, which a part goes over in bytes by one item at most."""
    part: list[Item] = []
    bytes_ = 0
    for item in items:
        part.append(item)
        bytes_ += size(item)
        if len(part) >= MAX_BATCH_ITEMS or bytes_ >= MAX_BATCH_BYTES:
            yield part
            part, bytes_ = [], 0
    if part:
        yield part
