"""The door for whoever reads the events of a snapshot: its days, each with its files and what is known of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endcap.errors import IntegrityError, UserError
from endcap.events.older_snapshots import read_older_days
from endcap.store import Store, get_content_key

Json = dict[str, Any]
PARALLEL = 8
"""Units that are fetched at a time."""


@dataclass(frozen=True)
class DayPart:
    """A day of a snapshot (UTC).

    Attributes
    ----------
    day
        Its name, such as 2024-03-01.
    key
        A fingerprint of its rows in their order: equal keys, equal rows.
    events
        How many events it has; 0 where a day has activity alone.
    first, last
        Their times, epoch ms; None without events.
    test, without_session, without_customer
        How many of the events are of the test part, name no session, name no customer.
    types
        How many events each type has, the empty text for none; None if there are too many types.
    files
        Parquet files of `endcap.events.snapshot.EVENTS`. Their rows, file by file, are in the order in which they were
        read.
    first_files
        For each of `files` a number to add to its rows' `file`: the sums order the day's rows as files are ordered.
    activity
        Parquet files of `endcap.events.snapshot.ACTIVITY`.
    """

    day: str
    key: str
    events: int
    first: int | None
    last: int | None
    test: int
    without_session: int
    without_customer: int
    types: Mapping[str, int] | None
    files: tuple[Path, ...]
    first_files: tuple[int, ...]
    activity: tuple[Path, ...]


@dataclass(frozen=True)
class SnapshotDays:
    """A snapshot on this machine, or with `fetches=False` what its manifest says of one in the store.

    Paths are those of this machine, or relative ones in the store: kind, key, and a file's name.

    Attributes
    ----------
    path
        The folder with ``items.parquet``, ``customers.parquet`` and ``quarantine.jsonl``, as far as there are such.
    tables
        The files of its tables by name: ``items``, ``customers``, as far as there are such.
    facts
        The facts of its manifest.
    days
        Its days in order, all of them or those that were chosen.
    older
        Whether an earlier release made it. Its events can be read, but have no places, so no features are made of it.
    """

    path: Path
    facts: Json
    days: tuple[DayPart, ...]
    tables: Mapping[str, Path]
    older: bool = False

    @property
    def files(self) -> list[Path]:
        """The files of events, day by day, in reading order within a day."""
        return [file for day in self.days for file in day.files]

    @property
    def activity(self) -> list[Path]:
        """The files of activity, day by day."""
        return [file for day in self.days for file in day.activity]

    def check_places(self) -> None:
        """Raise UserError (`events.snapshot-older`) if the events have no places."""
        if self.older:
            raise UserError(
                f"{self.path} was made by an earlier release, which did not keep the places of events; run ingest "
                "again, which makes a new snapshot: endcap run SPEC --pipeline features",
                code="events.snapshot-older",
                path=str(self.path),
            )


def open_snapshot(
    store: Store, address: str, *, days: Collection[str] | None = None, verify: bool = False, fetches: bool = True
) -> SnapshotDays:
    """Bring a snapshot to this machine, or only see that its parts are in the store.

    Parameters
    ----------
    store
        The store that holds it.
    address
        The snapshot's address.
    days
        The names of the days that are needed. None: all.
    verify
        Compare the checksum of every file; otherwise only the sizes are compared.
    fetches
        Whether files are brought to this machine. Otherwise only manifests are read, and paths are those in the store.

    Raises
    ------
    NotFoundError
        There is no such snapshot, or a unit that it refers to is gone.
    IntegrityError
        A file of it is missing or damaged.
    """
    manifest = store.manifest(address)
    facts = manifest["facts"]
    older = "days" not in facts
    whole = _fetch(store, address, verify) if fetches or older else _see(store, address)
    path = whole.path
    listed = read_older_days(path, manifest["files"]) if older else facts["days"]
    chosen = [day for day in listed if days is None or day["day"] in days]
    units = sorted({part["unit"] for day in chosen for part in day["parts"] if part["unit"] is not None})
    with ThreadPoolExecutor(PARALLEL) as pool:
        opened = pool.map(lambda unit: _fetch(store, unit, verify) if fetches else _see(store, unit), units)
        folders = {None: whole, **dict(zip(units, opened, strict=True))}
    named = {name: f"{name}.parquet" for name in ("items", "customers")}
    tables = {name: path / file for name, file in named.items() if file in manifest["files"]}
    parts = tuple(_open_day(folders, day) for day in chosen)
    return SnapshotDays(path, {**facts, "days": listed}, parts, tables, older)


def find_units(facts: Json) -> set[str]:
    """Find the addresses, as kind and key, of all units that a snapshot's facts refer to."""
    return {part["unit"] for day in facts.get("days", []) for part in day["parts"] if part["unit"] is not None}


@dataclass(frozen=True)
class _Folder:
    """An artifact's folder: on this machine, or (with the names of its files) in the store."""

    path: Path
    names: Collection[str] | None = None

    def has(self, name: str) -> bool:
        return (self.path / name).is_file() if self.names is None else name in self.names


def _fetch(store: Store, address: str, verify: bool) -> _Folder:
    return _Folder(store.fetch(address, verify=verify))


def _see(store: Store, address: str) -> _Folder:
    content_key = get_content_key(address)
    kind, _, key = content_key.rpartition("/")
    store.find(kind, key)  # which notes that it is used; others fetch it later
    return _Folder(Path(content_key), frozenset(store.manifest(address)["files"]))


def _open_day(folders: Mapping[str | None, _Folder], facts: Json) -> DayPart:
    files, activity = (
        tuple(_find_file(folders[part["unit"]], name) for part in facts["parts"] for name in part[kind])
        for kind in ("files", "activity")
    )
    names = ("day", "key", "events", "first", "last", "test", "without_session", "without_customer", "types")
    first_files = tuple(part["first_file"] for part in facts["parts"] for _ in part["files"])
    return DayPart(**{name: facts[name] for name in names}, files=files, first_files=first_files, activity=activity)


def _find_file(folder: _Folder, name: str) -> Path:
    file = folder.path / name
    if not folder.has(name):
        raise IntegrityError(
            f"{file} is missing: the snapshot is damaged; remove {folder.path} and run ingest again",
            code="events.day-damaged",
            path=str(file),
        )
    return file
