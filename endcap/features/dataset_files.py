"""The files of a dataset, read into sessions, a vocabulary and an item table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.features.event_features import select_model_features
from endcap.features.sessions import Ints, Sessions, Types
from endcap.features.split import NEVER
from endcap.features.vocabulary import UNKNOWN, Vocabulary
from endcap.spec.event_features import EventFeature
from endcap.spec.settings import ViewSettings

OWNED_FILE = "owned.parquet"
"""A row for each event that makes an item a customer's: customer, item (int32, numbers of the dataset's tables), time
(epoch ms); in that order. An item that was bought twice has two rows, because it is owned between them too."""


def read_refit_sessions(dataset: Path, settings: ViewSettings) -> tuple[Vocabulary, Sessions]:
    """Read all that the judged model is refitted on, with a vocabulary of its own.

    With a split by time this is training and test. Given test sessions stay apart, so the training part is all.
    """
    features = read_declared_features(dataset)
    select_model_features(settings, features)
    sessions = read_sessions(dataset, "", features)
    items = read_table(dataset / "items.parquet", ["item"])
    vocabulary, recode, _ = build_vocabulary(count_items(sessions, items), items)
    return vocabulary, recode_items(sessions, recode)


def read_declared_features(dataset: Path) -> list[EventFeature]:
    """Read the event features of a dataset, as the shop declared them."""
    return [EventFeature.model_validate(entry) for entry in json.loads((dataset / "features.json").read_text())]


def build_item_table(dataset: Path, vocabulary: Vocabulary, sessions: Sessions) -> pa.Table:
    """Return the item table in the vocabulary's order, with `events` and `first_seen` as of sessions
    (`read_refit_sessions`)."""
    counts = np.bincount(sessions.items, minlength=len(vocabulary))
    first_seen = find_first_seen(sessions, len(vocabulary))
    return align_items(read_table(dataset / "items.parquet"), vocabulary.ids, counts, first_seen)


def read_customer_ids(dataset: Path, customers: NDArray[np.int32] | None = None) -> pa.Array:
    """Read the ids of customers, given by their index in the dataset: strings [c]. None: of all customers."""
    ids = read_table(dataset / "customers.parquet", ["customer"])["customer"].combine_chunks().cast(pa.string())
    return ids if customers is None else ids.take(pa.array(customers))


def read_sessions(dataset: Path, prefix: str, features: Sequence[EventFeature]) -> Sessions:
    """Read a part of the dataset; its items are rows of the dataset's item table."""
    names = [feature.name for feature in features]
    events = read_table(dataset / f"{prefix}events.parquet", ["item", "time", *names])
    return build_sessions(events, read_table(dataset / f"{prefix}sessions.parquet", ["events", "customer"]), features)


def build_sessions(events: pa.Table, sessions: pa.Table, features: Sequence[EventFeature]) -> Sessions:
    """Build sessions from rows of a dataset's two tables."""
    offsets = np.concatenate([[0], np.cumsum(sessions["events"].to_numpy())]).astype(np.int64)
    typed = next((feature for feature in features if feature.kind == "type"), None)
    types = None
    if typed is not None:
        types = Types(tuple(typed.types or []), events[typed.name].to_numpy().astype(np.int16))
    return Sessions(
        items=events["item"].to_numpy(),
        times=events["time"].to_numpy(),
        offsets=offsets,
        customers=sessions["customer"].to_numpy(),
        features={feature.name: events[feature.name].to_numpy() for feature in features},
        types=types,
    )


def read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file of a dataset, or some of its columns."""
    # Without this, folders above the file that are named like `a=b` would become columns.
    return pq.read_table(file, columns=columns, partitioning=None)


def build_vocabulary(counts: Ints, items: pa.Table) -> tuple[Vocabulary, NDArray[np.int32], Ints]:
    """Build the vocabulary of a part from the events of each item.

    Parameters
    ----------
    counts
        int64: events in the part of each row of the item table.
    items
        The dataset's item table.

    Returns
    -------
    tuple
        The vocabulary; int32: each row's index in it, or -1; int64: the events of each index.
    """
    present = np.flatnonzero(counts)
    ids = items["item"].take(pa.array(present))
    by_id = pc.sort_indices(ids).to_numpy()
    # Sorted by id first, so that the stable sort by events leaves equal counts in the order of their ids.
    order = by_id[np.argsort(-counts[present][by_id], kind="stable")]
    recode = np.full(len(items), UNKNOWN, dtype=np.int32)
    recode[present[order]] = np.arange(len(present), dtype=np.int32)
    return Vocabulary(ids.take(pa.array(order)).to_pylist()), recode, counts[present[order]]


def count_items(sessions: Sessions, items: pa.Table) -> Ints:
    return np.bincount(sessions.items, minlength=len(items))


def recode_items(sessions: Sessions, recode: NDArray[np.int32]) -> Sessions:
    """Turn rows of the item table into indices of a vocabulary."""
    return dataclasses.replace(sessions, items=recode[sessions.items])


def find_first_seen(sessions: Sessions, n_items: int) -> NDArray[np.int64]:
    """Find when each item first occurs in the sessions: int64 [n_items], epoch ms."""
    first = np.full(n_items, NEVER, dtype=np.int64)
    np.minimum.at(first, sessions.items, sessions.times)
    return first


def align_items(items: pa.Table, ids: list[str], counts: NDArray[np.int64], first_seen: NDArray[np.int64]) -> pa.Table:
    """Return the item rows with these ids. Counts over the dataset's whole log, test included, are replaced by the
    given ones."""
    rows = pc.index_in(pa.array(ids, pa.string()), value_set=items["item"].cast(pa.string()))
    table = items.take(rows)
    for name, values in (("events", counts), ("first_seen", first_seen)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.int64()))
    return table
