"""Whose session a row is of, where customers share the ids of sessions and rows lack a customer."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.features.engines.duckdb import open_tables
from endcap.online.key_names import make_session_id
from endcap.sources.values.ids import convert_to_id
from endcap.store import Store
from tests.features.logs import MONDAY, dataset, event, shop, snapshot, table, words

pytestmark = pytest.mark.usefixtures("engine")
ALL = {"filters": {"min_session_events": 1}}
COUNTS = ("shared_sessions", "adopted_events", "anonymous_events")
ODD = ["a", "b", "a|b", "a\\", "\\|", "|", "größe 🛒", " ", "a\\|b", "-1"]


def counts(store: Store, folder: Path, part: str | None = None) -> tuple[int, ...]:
    facts = store.manifest(f"file://{folder}")["facts"]
    facts = facts if part is None else facts[part]
    return tuple(facts[name] for name in COUNTS)


def spelled(text: str, part: str = "train") -> list[dict[str, Any]]:
    """Rows `session customer item`, a second apart; `-` for nobody."""
    rows = []
    for place, word in enumerate(text.split()):
        session, customer, item = word.split(":")
        rows.append(event(session, item, 1000 * place, None if customer == "-" else customer, part))
    return rows


def test_customers_of_one_session_id_have_sessions_of_their_own(store: Store) -> None:
    folder = dataset(store, spelled("s:ann:a s:bob:x s:ann:b t:ann:c s:bob:y s:ann:c t:ann:a"), shop(**ALL))
    assert words(folder) == {"ann|s": "abc", "bob|s": "xy", "ann|t": "ca"}
    customers = [row["customer"] for row in table(folder, "customers")]
    assert {row["id"]: customers[row["customer"]] for row in table(folder, "sessions")} == {
        "ann|s": "ann",
        "ann|t": "ann",
        "bob|s": "bob",
    }
    spans = {
        row["id"]: (row["start"] - MONDAY, row["end"] - MONDAY, row["events"]) for row in table(folder, "sessions")
    }
    assert spans == {"ann|s": (0, 5000, 3), "bob|s": (1000, 4000, 2), "ann|t": (3000, 6000, 2)}
    assert counts(store, folder) == (1, 0, 0)


def test_a_row_without_customer_is_of_its_sessions_only_customer(store: Store) -> None:
    folder = dataset(store, spelled("s:-:a s:-:b s:ann:c t:bob:a s:-:d u:-:a"), shop(**ALL))
    assert words(folder) == {"ann|s": "abcd", "bob|t": "a", "|u": "a"}
    assert [(row["customer"], row["events"]) for row in table(folder, "customers")] == [("ann", 4), ("bob", 1)]
    assert [row["customer"] for row in table(folder, "events")] == [0, 0, 0, 0, 1, -1]
    assert counts(store, folder) == (0, 3, 0)


def test_a_row_without_customer_is_nobodys_where_its_session_has_several(store: Store) -> None:
    folder = dataset(store, spelled("s:-:a s:ann:b s:bob:c s:-:d t:ann:a t:-:b"), shop(**ALL))
    assert words(folder) == {"|s": "ad", "ann|s": "b", "bob|s": "c", "ann|t": "ab"}
    assert counts(store, folder) == (1, 1, 2)


def test_each_part_counts_by_itself(store: Store) -> None:
    rows = spelled("s:ann:a s:-:b") + spelled("s:bob:a s:-:b u:ann:a u:bob:a", part="test")
    folder = dataset(store, rows, shop(**ALL))
    assert words(folder) == {"ann|s": "ab"}
    assert words(folder, "test_") == {"bob|s": "ab", "ann|u": "a", "bob|u": "a"}
    assert counts(store, folder) == (0, 1, 0)
    assert counts(store, folder, "test") == (1, 1, 0)


def test_a_log_without_customers_keeps_its_ids(store: Store) -> None:
    folder = dataset(store, spelled("s|1:-:a s|1:-:b t:-:a"), shop(**ALL))
    assert words(folder) == {"s|1": "ab", "t": "a"}
    assert counts(store, folder) == (0, 0, 0)


def test_sessions_that_begin_together_lie_by_their_id_in_the_log_and_then_by_customer(store: Store) -> None:
    rows = [event(session, "a", 0, customer) for session in "ts" for customer in ("bob", "ann", None, "zoe")]
    rows += [event("r", "a", 0, "yan"), event("u", "a", 0, "abe")]
    folder = dataset(store, rows, shop(**ALL))
    order = ["yan|r", "|s", "ann|s", "bob|s", "zoe|s", "|t", "ann|t", "bob|t", "zoe|t", "abe|u"]
    assert [row["id"] for row in table(folder, "sessions")] == order


def test_an_id_reads_as_one_session_and_customer_only(store: Store) -> None:
    pairs = [(session, customer) for session in ODD for customer in [*ODD, None]]
    folder = dataset(store, [event(session, "a", 0, customer) for session, customer in pairs], shop(**ALL))
    ids = [row["id"] for row in table(folder, "sessions")]
    assert sorted(ids) == sorted(make_session_id(*pair) for pair in pairs)
    assert len(set(ids)) == len(pairs)


def test_ids_of_several_columns_are_written_alike(tmp_path: Path) -> None:
    ids = [one for one in ODD if one != " "]  # which is none
    pairs = [(first, second) for first in ids for second in ids]
    pq.write_table(pa.table({"first": [one for one, _ in pairs], "second": [two for _, two in pairs]}), tmp_path / "p")
    with open_tables(tmp_path) as engine:
        sql = f"SELECT {convert_to_id(['first', 'second'])} FROM read_parquet('{tmp_path / 'p'}')"
        found = [id_ for (id_,) in engine.backend.raw_sql(sql).fetchall()]
    assert found == [make_session_id(session, customer) for customer, session in pairs]


def in_words(rows: Sequence[dict[str, Any]], least: dict[str, int]) -> dict[str, str]:
    """What the dataset is to be, row by row in Python."""
    customers = defaultdict(set)
    for row in rows:
        customers[row["session"]].add(row["customer"])
    kept = []
    for row in sorted(rows, key=lambda one: one["time"]):  # stable: equal times stay in the reading order
        known = customers[row["session"]] - {None}
        owner = row["customer"] or (min(known) if len(known) == 1 else None)
        kept.append((make_session_id(row["session"], owner), row["item"], owner))
    while True:
        times = [Counter(row[place] for row in kept) for place in range(3)]
        times[2][None] = least["customer"]
        left = [
            row
            for row in kept
            if all(count[part] >= least[name] for count, part, name in zip(times, row, least, strict=True))
        ]
        if len(left) == len(kept):
            break
        kept = left
    found: dict[str, str] = defaultdict(str)
    for id_, item, _ in kept:
        found[id_] += item
    return dict(found)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("salted", [False, True])
def test_sessions_are_those_of_plain_python(
    store: Store, request: pytest.FixtureRequest, seed: int, salted: bool
) -> None:
    if salted:
        request.getfixturevalue("colliding_hashes")
    draw = random.Random(seed)
    rows = [
        event(f"s{draw.randrange(30)}", draw.choice("abcdef"), draw.randrange(10**6), draw.choice([None, *customers]))
        for customers in [[f"c{number}" for number in draw.sample(range(9), seed % 3 + 1)] for _ in range(40)]
        for _ in range(3)
    ]
    least = {"session": 2, "item": 1 + seed, "customer": 1 + seed % 4}
    address = snapshot(store, rows, files=3)
    from endcap.features import build

    folder = store.fetch(build(shop(filters={f"min_{name}_events": at for name, at in least.items()}), address, store))
    assert words(folder) == in_words(rows, least)
