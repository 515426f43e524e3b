"""What shoppers did, as the intake wrote it: each file once, as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import StorageError, UserError
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

KINDS = ("impressions", "events", "orders")
LONGEST_SEGMENT = 300.0
"""Seconds after which the intake closes a segment, where nobody is in a hurry."""
_SHORTEST_SEGMENT = 1.0
_SEALED_WITHIN = 0.2
"""The part of a segment's age that sealing and a busy machine may take on top of it."""


@dataclass(frozen=True)
class FeedBatch:
    """New rows of one kind. kind: one of `KINDS`; rows: as the intake writes them (`docs/intake-reference.md`)."""

    kind: str
    rows: pa.Table


def choose_segment_age(policy: RolloutSpec | None) -> float:
    """Return the seconds after which the intake closes a segment, so that a look sees what came before it."""
    if policy is None:
        return LONGEST_SEGMENT
    return min(LONGEST_SEGMENT, max(_SHORTEST_SEGMENT, policy.look_every.total_seconds() / 2))


def find_lag(policy: RolloutSpec) -> timedelta:
    """Return how long after a record was received its file is there."""
    age = choose_segment_age(policy)
    return timedelta(seconds=age * (1 + _SEALED_WITHIN) + _SHORTEST_SEGMENT)


class IntakeFeed:
    """The intake's files of a store in a folder, from a day on.

    Parameters
    ----------
    store
        The store that the intake of `endcap serve` writes beside.
    since
        Files of earlier days are left out.
    """

    def __init__(self, store: Store, since: datetime) -> None:
        self._root = store.root
        self._folder = Path(store.root.removeprefix("file://")) / "intake"
        # A segment that was open at midnight has the day before.
        self._first = (since - timedelta(days=1)).date()
        self._read: set[Path] = set()

    def read_new(self) -> Iterator[FeedBatch]:
        """Read the files that were not read yet, one at a time.

        Raises
        ------
        StorageError
            A file cannot be read. It is tried again at the next call.
        UserError
            The store is a bucket.
        """
        if not self._root.startswith("file://"):
            raise UserError(
                f"{self._root}: a rollout reads the intake's files of a store in a folder, and this is a bucket. Serve "
                "from a folder, or decide by hand: endcap rollout promote, endcap rollout abort",
                code="rollout.feed-in-bucket",
                store=self._root,
            )
        for kind in KINDS:
            for file in sorted(self._list_files(kind)):
                try:
                    rows = pq.ParquetFile(file).read()
                except (OSError, pa.ArrowException) as error:
                    raise StorageError(
                        f"{file} cannot be read ({error}); look at the disk, and restore the file or move it away",
                        code="rollout.feed-unreadable",
                        file=str(file),
                        reason=str(error),
                    ) from None
                self._read.add(file)
                yield FeedBatch(kind, rows)

    def _list_files(self, kind: str) -> Iterator[Path]:
        for folder in (self._folder / kind).glob("date=*"):
            if _read_day(folder.name) >= self._first:
                yield from (file for file in folder.glob("*.parquet") if file not in self._read)


def _read_day(name: str) -> date:
    try:
        return date.fromisoformat(name.removeprefix("date="))
    except ValueError:
        return date.min
