"""The online store in one file of this machine (SQLite), for a laptop: readers and a writer do not wait for each other.

Several processes may have it open, but not over a network's file system, which SQLite's locks do not reach. What all
shops have lies in the same tables, by names that start with the shop's. Times are by this machine's clock.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import orjson

from endcap.errors import OnlineStoreError
from endcap.online.base import (
    EVENTS,
    KeyFault,
    OnlineQuery,
    OnlineResult,
    OnlineStore,
    RecentEvent,
    TableKeys,
    check_key_name,
    encode_event,
    make_nothing_written_error,
    parse_events,
    parse_members,
    to_milliseconds,
)
from endcap.online.key_names import CUSTOMERS, OWNED, make_session_prefix, name_customer_owner

LAYOUT = 1
"""Raised where the tables below change."""
OPENING_SECONDS = 5.0
"""Seconds that the first to open a file may take to lay it out, and the others wait for that."""
MAX_BATCH_ITEMS = 1000
"""Rows that one transaction writes or deletes: another writer waits for no more than those."""
PURGED = 100
"""Owners and members that are looked through for forgotten ones with each addition."""
NEVER = 2**62
Read = TypeVar("Read")
TABLES = """
CREATE TABLE owners (owner TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX owners_until ON owners (until);
CREATE TABLE events (
    owner TEXT NOT NULL, time INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (owner, time, event)
) WITHOUT ROWID;
CREATE TABLE members (
    owner TEXT NOT NULL, member TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (owner, member)
) WITHOUT ROWID;
CREATE INDEX members_until ON members (until);
CREATE TABLE versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, version TEXT NOT NULL,
    place INTEGER NOT NULL,
    keep INTEGER, until INTEGER NOT NULL, UNIQUE (name, version)
);
CREATE TABLE table_rows (id INTEGER NOT NULL, key TEXT NOT NULL, row BLOB NOT NULL, UNIQUE (id, key));
"""
PUBLISHED, PREVIOUS, UNPUBLISHED, DROPPED = 0, 1, 2, 3
"""A version's place. The rows of one that is dropped are still to be deleted, part by part."""
SOME_EVENTS = "SELECT event FROM events WHERE owner = ? ORDER BY time DESC, event DESC LIMIT ?"
FORGET_EVENTS = """
DELETE FROM events WHERE owner = ?1 AND EXISTS (SELECT 1 FROM owners WHERE owner = ?1 AND until <= ?2)
"""
TRIM_EVENTS = """
DELETE FROM events WHERE owner = ?1 AND (time, event) <
    (SELECT time, event FROM events WHERE owner = ?1 ORDER BY time DESC, event DESC LIMIT 1 OFFSET ?2 - 1)
"""
ADD_MEMBER = """
INSERT INTO members VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = max(until, excluded.until)
"""
FORGET_MEMBERS = """
DELETE FROM members WHERE (owner, member) IN (SELECT owner, member FROM members WHERE until <= ? LIMIT ?)
"""
TRIM_MEMBERS = """
DELETE FROM members WHERE owner = ?1 AND member IN
    (SELECT member FROM members WHERE owner = ?1 ORDER BY until DESC, member DESC LIMIT -1 OFFSET ?2)
"""
DROP = "UPDATE versions SET place = 3, version = version || ':' || id WHERE place < 3 AND "
"""Its name may be written anew at once, so the one that is dropped takes another, which no version can have."""
UNPUBLISHED_VERSION = """
INSERT INTO versions (name, version, place, keep, until) VALUES (?, ?, 2, ?, ?)
    ON CONFLICT DO UPDATE SET keep = excluded.keep, until = excluded.until WHERE place = 2
"""
SOME_ROWS = "DELETE FROM table_rows WHERE rowid IN (SELECT rowid FROM table_rows WHERE id = ? LIMIT ?)"


class SQLiteStore(OnlineStore):
    """The online store in a file, for one machine; see `OnlineStore`.

    Parameters
    ----------
    file
        The file.
    timeout
        The seconds that a writer waits for another one. Readers wait only while the file is created.
    """

    def __init__(self, file: Path, shop: str, timeout: float) -> None:
        self._file, self._shop, self._timeout = file, check_key_name(shop), timeout
        self._idle: deque[sqlite3.Connection] = deque()
        self._process = os.getpid()

    def read(self, query: OnlineQuery) -> OnlineResult:
        now = _get_epoch_ms()
        faults: dict[tuple[str, str], KeyFault] = {}
        # One transaction reads as of one moment: a version's name and its rows too.
        with self._connection() as db, _transaction(db, "DEFERRED"):
            return OnlineResult(
                [
                    _read_or_default(
                        partial(self._read_recent, db, owner, query.most, now), list, (EVENTS, owner), faults
                    )
                    for owner in query.events
                ],
                [
                    [
                        _read_or_default(partial(self._read_members, db, name, owner, now), set, (name, owner), faults)
                        for owner in owners
                    ]
                    for name, owners in ((check_key_name(name), owners) for name, owners in query.sets)
                ],
                [self._read_rows(db, keys, now) for keys in query.rows],
                faults,
            )

    def _read_recent(self, db: sqlite3.Connection, owner: str, most: int, now: int) -> list[RecentEvent]:
        """Raises ValueError where what is there was not written by `append`."""
        name = self._name(owner)
        if db.execute("SELECT 1 FROM owners WHERE owner = ? AND until > ?", (name, now)).fetchone() is None:
            return []
        stored = [event for (event,) in db.execute(SOME_EVENTS, (name, max(most, 0)))]
        return parse_events([orjson.loads(event) for event in reversed(stored)])

    def _read_members(self, db: sqlite3.Connection, name: str, owner: str, now: int) -> set[str]:
        """Raises ValueError where a member is no text."""
        read = "SELECT CAST(member AS BLOB) FROM members WHERE owner = ? AND until > ?"
        stored = db.execute(read, (self._name(name, owner), now))
        return parse_members([member.decode() for (member,) in stored])

    def _read_rows(self, db: sqlite3.Connection, table_keys: TableKeys, now: int) -> list[bytes | None]:
        which, value = (
            ("place", PUBLISHED) if table_keys.version is None else ("version", check_key_name(table_keys.version))
        )
        version = db.execute(
            f"SELECT id FROM versions WHERE name = ? AND {which} = ? AND until > ?",  # noqa: S608 (one of two words)
            (self._name(check_key_name(table_keys.table)), value, now),
        ).fetchone()
        if version is None:
            return [None for _ in table_keys.keys]
        rows = (
            db.execute("SELECT row FROM table_rows WHERE id = ? AND key = ?", (*version, key))
            for key in table_keys.keys
        )
        return [row[0] if row else None for row in (cursor.fetchone() for cursor in rows)]

    def append(self, events: Mapping[str, Sequence[RecentEvent]], keep: timedelta) -> Mapping[str, KeyFault]:
        now = _get_epoch_ms()
        owners = [self._name(owner) for owner, some in events.items() if some]
        rows = [
            (self._name(owner), event.time, encode_event(event)) for owner, some in events.items() for event in some
        ]
        with self._begin_write() as db:
            old = db.execute("SELECT owner FROM owners WHERE until <= ? LIMIT ?", (now, PURGED)).fetchall()
            db.executemany(FORGET_EVENTS, [(owner, now) for owner in [*owners, *(owner for (owner,) in old)]])
            db.executemany("DELETE FROM owners WHERE owner = ?", old)
            db.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?)", rows)
            db.executemany(TRIM_EVENTS, [(owner, self.MOST_EVENTS) for owner in owners])
            until = now + to_milliseconds(keep)
            db.executemany("INSERT OR REPLACE INTO owners VALUES (?, ?)", [(owner, until) for owner in owners])
        return {}

    def add(
        self, name: str, members: Mapping[str, Iterable[str]], keep: timedelta | None, most: int | None = None
    ) -> Mapping[str, KeyFault]:
        now = _get_epoch_ms()
        until = NEVER if keep is None else now + to_milliseconds(keep)
        owners = [self._name(check_key_name(name), owner) for owner in members]
        rows = [(owner, member, until) for owner, some in zip(owners, members.values(), strict=True) for member in some]
        with self._begin_write() as db:
            db.execute(FORGET_MEMBERS, (now, PURGED + len(rows)))
            db.executemany(ADD_MEMBER, rows)
            db.executemany(TRIM_MEMBERS, [(owner, most or self.MOST_MEMBERS) for owner in owners])
        return {}

    def write(self, table: str, version: str, rows: Mapping[str, bytes], keep: timedelta | None = None) -> bool:
        name, left = self._name(check_key_name(table)), iter(rows.items())
        kept = None if keep is None else to_milliseconds(keep)
        part = list(islice(left, MAX_BATCH_ITEMS))
        while True:  # once without rows too: a version may be empty
            with self._begin_write() as db:
                now = _get_epoch_ms()
                db.execute(DROP + "name = ? AND version = ? AND until <= ?", (name, check_key_name(version), now))
                db.execute(UNPUBLISHED_VERSION, (name, version, kept, now + to_milliseconds(self.UNPUBLISHED)))
                statement = "SELECT id FROM versions WHERE name = ? AND version = ? AND place = ?"
                number = db.execute(statement, (name, version, UNPUBLISHED)).fetchone()
                if number is None:
                    return False
                values = [(*number, key, row) for key, row in part]
                db.executemany("INSERT OR REPLACE INTO table_rows VALUES (?, ?, ?)", values)
            part = list(islice(left, MAX_BATCH_ITEMS))
            if not part:
                return True

    def publish(self, table: str, version: str) -> None:
        name, now = self._name(check_key_name(table)), _get_epoch_ms()
        with self._begin_write() as db:
            row = db.execute(
                "SELECT id, place, keep FROM versions WHERE name = ? AND version = ? AND until > ?",
                (name, version, now),
            ).fetchone()
            if row is not None:
                number, place, keep = row
                if place != PUBLISHED:
                    self._make_room(db, name, number)
                until = NEVER if keep is None else now + keep
                db.execute("UPDATE versions SET place = ?, until = ? WHERE id = ?", (PUBLISHED, until, number))
        if row is None:
            raise make_nothing_written_error(table, version, self.versions(table))
        self._sweep()

    def _make_room(self, db: sqlite3.Connection, name: str, number: int) -> None:
        """Move the published version, if there is one, to the place of the one before it."""
        published = db.execute("SELECT id FROM versions WHERE name = ? AND place = ?", (name, PUBLISHED)).fetchone()
        if published is not None:
            db.execute(DROP + "name = ? AND place = ? AND id <> ?", (name, PREVIOUS, number))
            db.execute("UPDATE versions SET place = ? WHERE id = ?", (PREVIOUS, *published))

    def published(self, table: str) -> str | None:
        places = self._read_versions(table)
        return next((version for version, place in places if place == PUBLISHED), None)

    def versions(self, table: str) -> list[str]:
        return [version for version, _ in self._read_versions(table)]

    def _read_versions(self, table: str) -> list[tuple[str, int]]:
        statement = (
            "SELECT version, place FROM versions WHERE name = ? AND place < ? AND until > ? ORDER BY place, version"
        )
        with self._connection() as db:
            return db.execute(statement, (self._name(check_key_name(table)), DROPPED, _get_epoch_ms())).fetchall()

    def drop(self, table: str, version: str) -> None:
        with self._begin_write() as db:
            db.execute(DROP + "name = ? AND version = ?", (self._name(check_key_name(table)), check_key_name(version)))
        self._sweep()

    def _sweep(self) -> None:
        """Delete what is dropped or forgotten of tables, a part a transaction, so that other writers get in."""
        with self._connection() as db:
            old = db.execute(
                "SELECT id FROM versions WHERE place = ? OR until <= ?", (DROPPED, _get_epoch_ms())
            ).fetchall()
        for number in old:
            deleted = MAX_BATCH_ITEMS
            while deleted == MAX_BATCH_ITEMS:
                with self._begin_write() as db:
                    deleted = db.execute(SOME_ROWS, (*number, MAX_BATCH_ITEMS)).rowcount
                    if deleted < MAX_BATCH_ITEMS:
                        db.execute("DELETE FROM versions WHERE id = ?", number)

    def forget(self, customers: Collection[str], tables: Collection[str], *, erase: bool = True) -> int:
        conditions: list[tuple[str, str, Sequence[str]]] = []
        for customer in customers:
            for kind, name in (("events", ()), ("members", (OWNED,)), ("members", (CUSTOMERS,))):
                owner = self._name(*name, name_customer_owner(customer))
                prefix = self._name(*name, make_session_prefix(customer))
                conditions.append((kind, "owner = ? OR substr(owner, 1, ?) = ?", (owner, str(len(prefix)), prefix)))
            sessions = self._name(CUSTOMERS, "")
            conditions.append(
                ("members", "member = ? AND substr(owner, 1, ?) = ?", (customer, str(len(sessions)), sessions))
            )
            for table in tables:
                named = self._name(table)
                chosen = "key = ? AND id IN (SELECT id FROM versions WHERE substr(name, 1, ?) = ?)"
                conditions.append(("table_rows", chosen, (customer, str(len(named)), named)))
        with self._begin_write() as db:
            total: int = sum(
                db.execute(f"SELECT count(*) FROM {kind} WHERE {where}", values).fetchone()[0]  # noqa: S608 (our names)
                for kind, where, values in conditions
            )
            for kind, where, values in conditions if erase else ():
                db.execute(f"DELETE FROM {kind} WHERE {where}", values)  # noqa: S608 (as above)
                if kind == "events":
                    db.execute(f"DELETE FROM owners WHERE {where}", values)  # noqa: S608 (as above)
        if erase:
            # Pages that are free keep what was deleted, also what was deleted before.
            with self._connection() as db:
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return total

    def ping(self) -> None:
        with self._connection() as db:
            db.execute("SELECT 1 FROM versions LIMIT 1").fetchone()

    def close(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took the last
                self._idle.pop().close()

    def _name(self, *parts: str) -> str:
        return ":".join((self._shop, *parts))

    @contextmanager
    def _begin_write(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as db, _transaction(db, "IMMEDIATE"):
            yield db

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread uses meanwhile. Raises OnlineStoreError for all that goes wrong with it."""
        if self._process != os.getpid():
            # A fork's connections are its parent's, and must not even be closed here.
            self._process, self._idle = os.getpid(), deque()
        try:
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._open()
            try:
                yield db
            except BaseException:
                db.close()
                raise
            self._idle.append(db)
        except (sqlite3.Error, OSError) as error:
            raise _translate_error(self._file, error) from error

    def _open(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._file, timeout=OPENING_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _lay_out(db, self._file)
            db.execute("PRAGMA synchronous = NORMAL")  # a crash of the machine may cost the last second, never the file
            db.execute(f"PRAGMA busy_timeout = {round(self._timeout * 1000)}")
        except BaseException:
            db.close()
            raise
        return db


def _lay_out(db: sqlite3.Connection, file: Path) -> None:
    if db.execute("PRAGMA user_version").fetchone() == (LAYOUT,):
        return
    db.execute("PRAGMA journal_mode = WAL")
    with _transaction(db, "EXCLUSIVE"):
        (layout,) = db.execute("PRAGMA user_version").fetchone()  # another may have been first
        if layout not in (0, LAYOUT):
            raise OnlineStoreError(
                f"online store {file}: its layout is {layout}, and this Endcap's is {LAYOUT}; remove the file: what it "
                "holds is made again",
                code="online.layout-differs",
                store=str(file),
                found=layout,
                allowed=LAYOUT,
            )
        if not layout:
            for statement in TABLES.split(";")[:-1]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {LAYOUT}")


@contextmanager
def _transaction(db: sqlite3.Connection, kind: str) -> Iterator[None]:
    db.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back by itself
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _read_or_default(
    read: Callable[[], Read],
    nothing: Callable[[], Read],
    place: tuple[str, str],
    faults: dict[tuple[str, str], KeyFault],
) -> Read:
    """What is read; nothing where it cannot be, which is noted among the faults."""
    try:
        return read()
    except ValueError:
        faults[place] = "unreadable"
        return nothing()


def _translate_error(file: Path, error: Exception) -> OnlineStoreError:
    text, store = str(error) or type(error).__name__, str(file)
    name = str(getattr(error, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        message = f"online store {store}: another process was writing for too long ({text})"
        return OnlineStoreError(message, code="online.busy", store=store, reason=text)
    if name == "SQLITE_FULL":
        message = f"online store {store}: its disk is full ({text})"
        return OnlineStoreError(message, code="online.full", store=store, reason=text)
    return OnlineStoreError(f"online store {store}: {text}", code="online.unavailable", store=store, reason=text)


def _get_epoch_ms() -> int:
    return time.time_ns() // 1_000_000
