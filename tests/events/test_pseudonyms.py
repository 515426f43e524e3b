"""A shop with `events.pseudonyms`: the same snapshot and dataset but for the ids, and no plain id on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from endcap.cli.main import main
from endcap.errors import DataError, UserError
from endcap.events import ingest
from endcap.events.forget_list import add_forgotten
from endcap.features import build
from endcap.features.content_digest import digest_content
from endcap.pseudonyms import KEY, Pseudonymiser
from endcap.store import Store, open_store
from tests.cli.printed_errors import parse_error
from tests.events.shops import COLUMNS, HEADER, facts, make_shop, open_snapshot, stored, write_csv
from tests.refusals import refused

FIRST, SECOND = "the first key of this test", "the second key of this test"
MAKER = Pseudonymiser(FIRST.encode())
OWNERS = [f"{kind}-of-{number:04}" for kind in ("sess", "cust") for number in range(40)]
"""All ids of customers and sessions. None is a part of any other text here."""
ROWS = [
    f"sess-of-{n:04},{f'cust-of-{n % 7:04}' if n % 5 else ''},i{step},2024-03-0{1 + n % 3}T10:{n:02}:{step:02}Z,view"
    for n in range(30)
    for step in range(4)
]
BAD = [
    "sess-of-0031,cust-of-0031,,2024-03-02T08:00:00Z,view",
    "sess-of-0032,cust-of-0032\x01,i1,2024-03-02T08:00:00Z,view",
    "sess-of-0033,cust-of-0033,i1,2024-03-02T08:00:00Z,view,one,too,many",
    "sess-of-0034,cust-of-0034,i1,never,view",
]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, FIRST)


def declare(log: Path, *, pseudonyms: bool = True, **more: Any) -> Any:
    events = {"columns": COLUMNS, "max_bad_share": 0.5, "pseudonyms": pseudonyms}
    return make_shop(str(log), events=events, **more)


def with_customers(folder: Path) -> dict[str, Any]:
    path = write_csv(folder / "customers.csv", [f"cust-of-{n:04},{n % 2}" for n in range(7)], "customer,tier")
    return {"customers": {"sources": [{"path": str(path)}], "categorical": ["tier"]}}


def find_plain_ids(folder: Path) -> dict[str, list[str]]:
    """The files below a folder that hold an id, as plain text or in a Parquet file, and the ids."""
    results = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes().decode("utf-8", "replace") + str(file.relative_to(folder))
        if file.suffix == ".parquet":
            table = pq.ParquetFile(file).read()
            texts = [
                table[name].to_pylist()
                for name, kind in zip(table.column_names, table.schema.types, strict=True)
                if pa.types.is_string(kind) or pa.types.is_large_string(kind)
            ]
            content += "\n".join(str(text) for column in texts for text in column)
        if plain := [owner for owner in OWNERS if owner in content]:
            results[str(file)] = plain
    return results


def read_rows(dataset: Path, name: str, maker: Pseudonymiser | None = None) -> list[str]:
    """A table's rows with customers by their ids, in place of their numbers, and with pseudonyms of `maker`."""
    ids = pq.read_table(dataset / "customers.parquet")["customer"].to_pylist()
    rows = pq.read_table(dataset / name).to_pylist()
    for row in rows:
        if isinstance(number := row.get("customer"), int):
            row["customer"] = ids[number] if number >= 0 else None
        for name in ("id", "customer"):  # a session's id is made of the customer's and its own
            if maker is not None and isinstance(row.get(name), str):
                row[name] = "|".join(part and maker.pseudonymise(part) for part in row[name].split("|"))
    return sorted(map(repr, rows))


def test_a_dataset_differs_by_ids_alone(tmp_path: Path, store: Store) -> None:
    log, customers = write_csv(tmp_path / "log.csv", ROWS), with_customers(tmp_path)
    plain, hidden = (declare(log, pseudonyms=on, **customers) for on in (False, True))
    of_plain, of_hidden = ingest(plain, store), ingest(hidden, store)
    mapped = [
        (MAKER.pseudonymise(session), customer and MAKER.pseudonymise(customer), *rest)
        for session, customer, *rest in stored(store, of_plain)
    ]
    assert stored(store, of_hidden) == mapped
    first, second = (store.fetch(build(shop, made, store)) for shop, made in ((plain, of_plain), (hidden, of_hidden)))
    assert sorted(path.name for path in first.glob("*.parquet")) == sorted(
        path.name for path in second.glob("*.parquet")
    )
    for file in first.glob("*.parquet"):
        assert read_rows(second, file.name) == read_rows(first, file.name, MAKER), file.name
    assert digest_content(first) != digest_content(second)
    # The table of customers joins with the events, as it did.
    table = pq.read_table(open_snapshot(store, of_hidden).customers)
    assert dict(zip(table["customer"].to_pylist(), table["tier"].to_pylist(), strict=True)) == {
        MAKER.pseudonymise(f"cust-of-{n:04}"): str(n % 2) for n in range(7)
    }


def test_no_plain_id_is_kept_of_good_or_bad_rows(tmp_path: Path) -> None:
    rows = [*(f"{row},by sess-of-0039" for row in ROWS), *(f"{row},x" for row in BAD)]
    log = write_csv(tmp_path / "log.csv", rows, f"{HEADER},note")
    kept = open_store(str(tmp_path / "store"))
    address = ingest(declare(log, **with_customers(tmp_path)), kept)
    build(declare(log, **with_customers(tmp_path)), address, kept)
    assert sum(facts(kept, address)["bad"]["events"].values()) == len(BAD)
    assert find_plain_ids(tmp_path / "store") == {}
    plain = ingest(declare(log, pseudonyms=False), kept)
    assert find_plain_ids(kept.fetch(plain))  # the search itself finds what is there


def test_an_error_about_bad_rows_quotes_no_plain_id(tmp_path: Path, store: Store) -> None:
    rows = ["sess-of-0001,1.5E+08,i1,2024-03-02T08:00:00Z,view", *BAD, ROWS[0]]
    with pytest.raises(DataError) as caught:
        ingest(declare(write_csv(tmp_path / "log.csv", rows)), store)
    text = json.dumps(caught.value.to_json())
    assert caught.value.code == "events.bad-rows"
    assert not [owner for owner in [*OWNERS, "1.5E+08"] if owner in text]


def test_an_error_about_no_rows_quotes_no_plain_id(tmp_path: Path, store: Store) -> None:
    source = {"path": str(write_csv(tmp_path / "log.csv", ROWS)), "where": {"customer": ["nobody"]}}
    with pytest.raises(DataError) as caught:
        ingest(make_shop(source, events={"columns": COLUMNS, "pseudonyms": True}), store)
    assert caught.value.code == "events.none-left"
    assert not [owner for owner in OWNERS if owner in json.dumps(caught.value.to_json())]


def test_another_key_makes_another_snapshot_and_its_pseudonyms_are_bad_rows(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = declare(write_csv(tmp_path / "log.csv", ROWS))
    first = ingest(shop, store)
    assert facts(store, first)["pseudonyms"] == MAKER.key_id
    # What was mapped before it was written, as the intake does, joins with the rest.
    mapped = [",".join([*(MAKER.pseudonymise(part) if part else "" for part in row.split(",")[:2]),
                        *row.split(",")[2:]]) for row in ROWS]  # fmt: skip
    again = declare(write_csv(tmp_path / "mapped.csv", mapped))
    assert stored(store, ingest(again, store)) == stored(store, first)
    monkeypatch.setenv(KEY, SECOND)
    second = ingest(shop, store)
    assert first != second
    assert not {row[0] for row in stored(store, first)} & {row[0] for row in stored(store, second)}
    with refused(DataError, "events.bad-rows", bad=len(ROWS), rows=len(ROWS)):
        ingest(again, store)


def test_without_a_key_nothing_is_read(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY)
    with refused(UserError, "pseudonyms.key-missing", variable=KEY):
        ingest(declare(tmp_path / "there-is-no-log.csv"), store)


def test_sources_that_a_step_of_sql_keeps_with_plain_ids_are_refused() -> None:
    with pytest.raises(ValidationError, match="step of SQL"):
        make_shop({"step": "clean"}, events={"columns": COLUMNS, "pseudonyms": True})


def test_a_forgotten_customer_does_not_come_back_under_a_pseudonym(tmp_path: Path, store: Store) -> None:
    bad = ["sess-of-0033,cust-of-0003,i1,2024-03-02T08:00:00Z,view,one,too,many", "s,cust-of-0003,i1,never,view"]
    shop = declare(write_csv(tmp_path / "log.csv", [*ROWS, *bad]), **with_customers(tmp_path))
    other = open_store(str(tmp_path / "other"))
    forgotten = MAKER.pseudonymise("cust-of-0003")
    add_forgotten(other, shop.name, ["cust-of-0003", forgotten])
    for place, is_there in ((store, True), (other, False)):
        snapshot = open_snapshot(place, ingest(shop, place))
        assert snapshot.customers is not None
        assert (forgotten in {row[1] for row in stored(place, snapshot.address)}) == is_there
        assert (forgotten in pq.read_table(snapshot.customers)["customer"].to_pylist()) == is_there
        assert (forgotten in snapshot.quarantine.read_text()) == is_there


def test_nobody_is_forgotten_without_the_key(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = declare(write_csv(tmp_path / "log.csv", ROWS))
    ingest(shop, store)
    monkeypatch.delenv(KEY)
    with pytest.raises(SystemExit):
        main(["events", "forget", shop.name, "cust-of-0003", "--store", store.root, "--online", "none", "--json"])
    assert parse_error(capsys.readouterr().out)["code"] == "pseudonyms.key-missing"
