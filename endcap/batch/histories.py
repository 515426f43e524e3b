"""Each customer's last events and owned items, in the dataset's own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.features.dataset_files import read_customer_ids, read_declared_features
from endcap.features.sessions import Sessions, Types
from endcap.features.split import where

OWNED = "owned.parquet"
"""The file of events that make an item a customer's: customer, item (by number) and time. It exists if the shop has
such a rule."""
NOBODY = -1
"""The customer of an event without one, and of a session whose customer a model does not know."""


@dataclass(frozen=True)
class Visit:
    """A customer's last visit, as a request would see it.

    `gap` is the time in ms without activity that ends a visit. `in_dataset` says whether the dataset's own sessions are
    cut by that gap; they know of activity that its events do not have.
    """

    gap: int
    in_dataset: bool


@dataclass(frozen=True)
class CustomerHistories:
    """The customers of a dataset, by number.

    `recent` has customer i's last events as session i, oldest first: of all sessions, or of the last visit. `owned` has
    the events by which customer i owns items, as session i. `ids` are strings [c].
    """

    ids: pa.Array
    recent: Sessions
    owned: Sessions

    @classmethod
    def read(cls, dataset: Path, most: int, owned_since: int | None, visit: Visit | None = None) -> CustomerHistories:
        """Read a dataset's folder.

        Sessions that the shop gives for the test alone are left out, because no package learns from them either.

        Parameters
        ----------
        dataset
            Its folder.
        most
            Events of each customer at most.
        owned_since
            What was bought from then on (epoch ms) is owned. None: there is no such rule.
        visit
            Which of a customer's events count. None: all.

        Raises
        ------
        DataError
            If the dataset was made without that rule.
        """
        ids = read_customer_ids(dataset)
        typed = next((feature for feature in read_declared_features(dataset) if feature.kind == "type"), None)
        names = ["customer", "item", "time", "session", *([typed.name] if typed else [])]
        events = _read_table(dataset / "events.parquet", names)
        if visit is not None and visit.in_dataset:
            events = _keep_last_sessions(events, len(ids))
        types = None
        if typed is not None:
            types = Types(tuple(typed.types or []), events[typed.name].to_numpy().astype(np.int16))
        recent = group_by_customer(events, len(ids), types)
        if visit is not None and not visit.in_dataset:
            recent = _cut_after_last_pause(recent, visit.gap)
        bought = events.slice(0, 0)
        if owned_since is not None:
            if not (dataset / OWNED).is_file():
                raise DataError(
                    f"{dataset} does not tell what customers own: it was made before the shop had rules.owned; make "
                    "another: endcap run SPEC --pipeline features",
                    code="batch.owned-unknown",
                    dataset=str(dataset),
                )
            bought = _read_table(dataset / OWNED, ["customer", "item", "time"])
            bought = bought.filter(pc.field("time") >= owned_since)
        return cls(ids, recent.last(most), group_by_customer(bought, len(ids)))


def group_by_customer(rows: pa.Table, customers: int, types: Types | None = None) -> Sessions:
    """Turn rows with the columns customer, item and time (epoch ms) into one session a customer, in the order of time.

    Events at the same time stay in the order of the rows. Rows without a customer (-1) are left out.
    """
    owner = rows["customer"].to_numpy()
    times = rows["time"].to_numpy()
    order = np.lexsort((times, owner))  # stable
    order = order[np.searchsorted(owner[order], NOBODY, side="right") :]
    counts = np.bincount(owner[order], minlength=customers)
    return Sessions(
        items=rows["item"].to_numpy()[order],
        times=times[order],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        customers=np.arange(customers, dtype=np.int32),
        types=None if types is None else types[order],
    )


def _keep_last_sessions(events: pa.Table, customers: int) -> pa.Table:
    """Keep the rows of each customer's last session: sessions are numbered by their start, and a gap lies between
    them."""
    owner, session = events["customer"].to_numpy(), events["session"].to_numpy()
    last = np.full(customers, -1, dtype=np.int64)
    known = owner != NOBODY
    np.maximum.at(last, owner[known], session[known])
    return events.filter(pa.array(known & (session == last[owner])))


def _cut_after_last_pause(sessions: Sessions, gap: int) -> Sessions:
    """Keep each session's events after its last pause longer than `gap` ms."""
    late = np.flatnonzero(np.diff(sessions.times) > gap) + 1
    # The last event after a pause that lies before the session's end, be it of an earlier session.
    place = np.searchsorted(late, sessions.offsets[1:], side="left") - 1
    begin = np.maximum(sessions.offsets[:-1], np.append(late, 0)[place]) if len(late) else sessions.offsets[:-1]
    return where(sessions, np.arange(len(sessions.items)) >= np.repeat(begin, sessions.lengths))


def find_last_events(dataset: Path, customers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Find the time of each customer's last event, epoch ms: int64 [customers]; the smallest integer if there is
    none."""
    events = _read_table(dataset / "events.parquet", ["customer", "time"])
    owner, times = events["customer"].to_numpy(), events["time"].to_numpy()
    last = np.full(customers, np.iinfo(np.int64).min, dtype=np.int64)
    known = owner != NOBODY
    np.maximum.at(last, owner[known], times[known])
    return last


def read_item_ids(dataset: Path) -> list[str]:
    """Read the ids of a dataset's items, by their number."""
    ids: list[str] = _read_table(dataset / "items.parquet", ["item"])["item"].cast(pa.string()).to_pylist()
    return ids


def _read_table(file: Path, columns: list[str]) -> pa.Table:
    # Without this, folders above the file that are named like `a=b` would become columns.
    return pq.read_table(file, columns=columns, partitioning=None)
