"""A dataset's content digest: the same in any layout of files, and another for any other content."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.features import build
from endcap.features.content_digest import ColumnDigest, digest_content
from endcap.store import Store
from tests.features.logs import sessions, shop, snapshot

ROWS = 1000


def _make_tables() -> dict[str, pa.Table]:
    """Tables with each kind of value that a dataset may hold."""
    rng = np.random.default_rng(1)
    gaps = rng.random(ROWS) < 0.1
    events = {
        "session": pa.array(np.sort(rng.integers(0, 300, ROWS))),
        "item": pa.array(rng.integers(0, 50, ROWS).astype(np.int32)),
        "place": pa.array(rng.random(ROWS).astype(np.float32)),
        "opened": pa.array(rng.random(ROWS) < 0.5, mask=gaps),
    }
    items = {
        "item": pa.array([f"ü{number}" * (number % 4) for number in range(ROWS)]),
        "price": pa.array(rng.random(ROWS), mask=gaps),
        "seen": pa.array(rng.integers(0, 10**12, ROWS), pa.timestamp("ms"), mask=gaps),
        "tags": pa.array([None if gaps[number] else ["a", None, "bc"][: number % 4] for number in range(ROWS)]),
    }
    return {"events": pa.table(events), "items": pa.table(items)}


TABLES = _make_tables()
Change = Callable[[dict[str, pa.Table]], dict[str, pa.Table]]


def _write(folder: Path, tables: dict[str, pa.Table], *, files: int = 1, declared: Any = (), **options: Any) -> str:
    """Write tables as a dataset's folder, and return its content digest."""
    folder.mkdir()
    for name, table in tables.items():
        if files == 1:
            pq.write_table(table, folder / f"{name}.parquet", **options)
            continue
        (folder / name).mkdir()
        edges = [0, *np.linspace(0, table.num_rows, files).astype(int).tolist()]  # the first file holds no row
        for number, (begin, end) in enumerate(itertools.pairwise(edges)):
            part = table.slice(begin, end - begin)
            pq.write_table(part, folder / name / f"part-{number:04}.parquet", **options)
    (folder / "features.json").write_text(json.dumps(list(declared), indent=2))
    return digest_content(folder)


def _set(tables: dict[str, pa.Table], table: str, column: str, values: pa.Array) -> dict[str, pa.Table]:
    place = tables[table].schema.get_field_index(column)
    return {**tables, table: tables[table].set_column(place, column, values)}


@pytest.mark.parametrize(
    "options",
    [
        {"row_group_size": 7},
        {"files": 3},
        {"compression": "zstd", "use_dictionary": False},
        {"version": "1.0", "compression": "none", "use_dictionary": True, "data_page_size": 64},
    ],
    ids=lambda options: ",".join(options),
)
def test_the_layout_of_the_files_does_not_count(tmp_path: Path, options: dict[str, Any]) -> None:
    assert _write(tmp_path / "other", TABLES, **options) == _write(tmp_path / "plain", TABLES)


def test_neither_wide_offsets_nor_dictionaries_count(tmp_path: Path) -> None:
    ids = TABLES["items"]["item"].combine_chunks()
    for number, column in enumerate([ids.cast(pa.large_string()), ids.dictionary_encode()]):
        # The Arrow schema in the file's footer brings the type back on reading.
        assert _write(tmp_path / str(number), _set(TABLES, "items", "item", column)) == _write(
            tmp_path / f"plain{number}", TABLES
        )
        assert str(pq.read_schema(tmp_path / str(number) / "items.parquet").field("item").type) != "string"


def _swap_rows(column: str) -> Change:
    def change(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
        values = tables["items"][column].to_pylist()
        other = next(place for place in range(1, ROWS) if values[place] != values[0])
        values[0], values[other] = values[other], values[0]
        return _set(tables, "items", column, pa.array(values, tables["items"][column].type))

    return change


def _replace(column: str, value: Any, place: int = ROWS - 1, table: str = "items") -> Change:
    def change(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
        values = tables[table][column].to_pylist()
        assert values[place] != value
        values[place] = value
        return _set(tables, table, column, pa.array(values, tables[table][column].type))

    return change


CHANGES: dict[str, Change] = {
    **{f"order of {name}": _swap_rows(name) for name in ("item", "price", "seen", "tags")},
    "a number": _replace("item", 7_000, table="events"),
    "a fraction": _replace("place", 0.5, table="events"),
    "a truth value": _replace("opened", None, 5, table="events"),
    "a text": _replace("item", "other"),
    "a null for a number": _replace("price", None, 1),
    "a null for an empty text": _replace("item", None, 0),
    "a list's element": _replace("tags", ["a", "x"]),
    "an empty list for null": _replace("tags", [], int(np.flatnonzero(TABLES["items"]["tags"].is_null())[0])),
    "a row less": lambda tables: {**tables, "events": tables["events"].slice(0, ROWS - 1)},
    "a column less": lambda tables: {**tables, "events": tables["events"].drop_columns(["place"])},
    "a column's name": lambda tables: {**tables, "events": tables["events"].rename_columns(["a", "b", "c", "d"])},
    "a column's place": lambda tables: {**tables, "items": tables["items"].select(["price", "item", "seen", "tags"])},
    "a column's type": lambda tables: _set(tables, "events", "item", tables["events"]["item"].cast(pa.int64())),
    "a table's name": lambda tables: {"events": tables["events"], "customers": tables["items"]},
    "a table less": lambda tables: {"events": tables["events"]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_of_the_content_counts(tmp_path: Path, change: Change) -> None:
    assert _write(tmp_path / "other", change(TABLES)) != _write(tmp_path / "plain", TABLES)


def test_declared_features_count(tmp_path: Path) -> None:
    declared = [{"name": "place", "kind": "position"}]
    assert _write(tmp_path / "other", TABLES, declared=declared) != _write(tmp_path / "plain", TABLES)


def test_neighbouring_texts_cannot_change_places() -> None:
    digests = set()
    for texts in (["ab", "c"], ["a", "bc"], ["", "abc"], ["abc", ""], ["abc"], [None, "abc"]):
        column = ColumnDigest(pa.string())
        column.update(pa.array(texts))
        digests.add(column.hexdigest())
    assert len(digests) == 6


def test_a_dataset_has_its_content_digest_beside_its_key(store: Store) -> None:
    rows = sessions("abc bcd abd")
    first = build(shop(), snapshot(store, rows), store)
    again = build(shop(), snapshot(store, rows, files=2), store)
    other = build(shop(), snapshot(store, sessions("abc bcd abe")), store)
    facts = [store.manifest(address)["facts"] for address in (first, again, other)]
    assert facts[0]["content"] == digest_content(store.fetch(first)) == facts[1]["content"] != facts[2]["content"]
    assert facts[0]["fingerprint"] != facts[1]["fingerprint"]
