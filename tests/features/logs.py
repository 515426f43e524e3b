"""Snapshots and shops as tests of this room need them, written directly in the snapshot's format."""

from __future__ import annotations

import csv
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.features import build
from endcap.spec import Recommender, Shop
from endcap.store import Store, fingerprint
from tests.events.snapshots import write_snapshot

DAY = 86_400_000
MONDAY = 1_717_372_800_000
"""Monday, 3 June 2024, midnight UTC."""


def event(
    session: str | None, item: str, time: int, customer: str | None = None, part: str = "train"
) -> dict[str, Any]:
    """A row of a snapshot; time in ms after MONDAY."""
    return {"session": session, "customer": customer, "item": item, "time": MONDAY + time, "type": None, "part": part}


def sessions(text: str, *, every: int = 1000, gap: int = 60_000, part: str = "train") -> list[dict[str, Any]]:
    """Sessions s0, s1, … from words of one-letter items: ``"abc ab"``; one after the other."""
    rows, clock = [], 0
    for number, word in enumerate(text.split()):
        for letter in word:
            rows.append(event(f"{part[0] if part == 'test' else ''}s{number}", letter, clock, part=part))
            clock += every
        clock += gap
    return rows


def at_times(session: str, words: str, start: int = 0, customer: str | None = None) -> list[dict[str, Any]]:
    """A session of one-letter items; the letters of a word have one time, and words are a second apart."""
    moments = enumerate(words.split())
    return [event(session, letter, start + 1000 * place, customer) for place, word in moments for letter in word]


def snapshot(
    store: Store,
    rows: Sequence[dict[str, Any]],
    *,
    items: dict[str, list[Any]] | None = None,
    customers: dict[str, list[Any]] | None = None,
    activity: Sequence[dict[str, Any]] = (),
    files: int = 1,
) -> str:
    """Publish rows, in their reading order, as a snapshot of the way that ingest writes. activity: of the same columns;
    files: in how many a day's rows lie."""
    with store.publish("snapshots/shop", fingerprint(list(rows), files, items, customers, list(activity))) as draft:
        write_snapshot(
            draft, [{"file": 0, "position": place, **row} for place, row in enumerate(rows)], activity, files
        )
        for name, columns in (("items", items), ("customers", customers)):
            if columns is not None:
                pq.write_table(pa.table(columns), draft.path / f"{name}.parquet")
        return draft.address


def shop(**keys: Any) -> Shop:
    """A shop with session and customer columns; keys beside these as in its YAML file."""
    events = {"sources": [{"path": "events.csv"}], "columns": {"session": "session", "customer": "customer"}}
    return Shop.model_validate({"apiVersion": "endcap/v2", "kind": "Shop", "name": "shop", "events": events, **keys})


def recommender(**keys: Any) -> Recommender:
    """A popularity recommender of that shop."""
    head = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "test", "shop": "shop"}
    return Recommender.model_validate({**head, "model": {"name": "popularity"}, **keys})


def dataset(
    store: Store,
    rows: Sequence[dict[str, Any]],
    shop_: Shop | None = None,
    *,
    items: dict[str, list[Any]] | None = None,
) -> Path:
    """The folder of the dataset that a shop makes of rows, and of an item table."""
    return store.fetch(build(shop_ or shop(), snapshot(store, rows, items=items), store))


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a dataset's file."""
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def words(folder: Path, prefix: str = "") -> dict[str, str]:
    """Sessions of one-letter items, by id, as `sessions` takes them."""
    letters = [row["item"] for row in table(folder, "items")]
    spelled = {row["session"]: "" for row in table(folder, f"{prefix}sessions")}
    for row in table(folder, f"{prefix}events"):
        spelled[row["session"]] += letters[row["item"]]
    return {row["id"]: spelled[row["session"]] for row in table(folder, f"{prefix}sessions")}


def rsc15(file: Path, part: str) -> list[dict[str, Any]]:
    """Rows of a file of ``rsc15_100k``."""
    with lzma.open(file, "rt") as handle:
        return [
            {
                "session": row["SessionId"],
                "customer": None,
                "item": row["ItemId"],
                "time": int(float(row["Time"])) * 1000,
                "type": None,
                "part": part,
            }
            for row in csv.DictReader(handle, delimiter="\t")
        ]
