"""Real logs, as they were published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from endcap.events import convert, ingest
from endcap.store import Store
from tests.events.shops import facts, make_shop, open_snapshot, stored

PUBLIC = {"columns": {"session": "SessionId", "item": "ItemId", "time": "Time"}, "time": {"unit": "s"}}


def tab_separated(folder: Path, *parts: tuple[str, str]) -> list[dict[str, str]]:
    return [{"path": str(folder / name), "format": "tsv", "part": part} for name, part in parts]


def test_rsc15(shared_data: Path, store: Store) -> None:
    prefix = "yoochoose-clicks-100k"
    sources = tab_separated(
        shared_data / "rsc15_100k", (f"{prefix}_train_full.txt.xz", "train"), (f"{prefix}_test.txt.xz", "test")
    )
    address = ingest(make_shop(*sources, events=PUBLIC | {"max_bad_share": 0.0}), store)
    assert facts(store, address)["parts"] == {"train": 70_278, "test": 13_568}
    events = stored(store, address, "session, customer, item, time, type, part")
    assert len({session for session, *_, part in events if part == "train"}) == 17_794
    assert len({item for _, _, item, *_, part in events if part == "train"}) == 2_933
    assert events[:2] == [
        ("3", None, "214716935", 1396437466940, None, "train"),
        ("3", None, "214832672", 1396438212318, None, "train"),
    ]


def test_serenade(shared_data: Path, store: Store) -> None:
    sources = tab_separated(shared_data / "serenade_example", ("train.txt.xz", "train"), ("test.txt.xz", "test"))
    address = ingest(make_shop(*sources, events=PUBLIC), store)
    assert (facts(store, address)["parts"]["train"], facts(store, address)["bad"]) == (113_601, {})


@pytest.mark.slow
def test_diginetica(shared_data: Path, store: Store) -> None:
    folder = shared_data / "diginetica_raw"
    items: dict[str, Any] = {
        "sources": [{"path": str(folder / "product-categories.csv.xz"), "delimiter": ";"}],
        "columns": {"item": "itemId", "category": "categoryId"},
    }
    shop = make_shop(
        {"path": str(folder / "sample_train-item-views.csv.xz"), "layout": "diginetica-views"},
        {"path": str(folder / "train-purchases.csv.xz"), "layout": "diginetica-purchases"},
        events={"max_bad_share": 0.0},
        items=items,
    )
    address = ingest(shop, store)
    assert facts(store, address)["events"] == 12_391 + 18_025
    assert facts(store, address)["items"]["rows"] == 184_047
    # 2016-05-09 and 526,309 ms; customer NA.
    assert stored(store, address)[0] == ("1", None, "81766", 1462752000000 + 526309, "view")
    assert stored(store, address)[12_391] == ("150", "18278", "25911", 1462492800000 + 17100868, "purchase")
    named = stored(store, address, "count(customer) OVER (PARTITION BY type), type, position")
    assert {(type_, count) for count, type_, _ in named} == {("view", 4_710), ("purchase", 6_703)}


def test_rees46_whose_events_are_its_item_table_too(shared_data: Path, store: Store) -> None:
    log = {"path": str(shared_data / "rees46_sample" / "2019-Oct-sample.csv.xz"), "layout": "rees46"}
    items = {"sources": [log], "categorical": ["brand"]}
    snapshot = open_snapshot(store, ingest(make_shop(log, events={"max_bad_share": 0.0}, items=items), store))
    assert snapshot.facts["events"] == 1_000
    assert snapshot.facts["items"]["until"] == snapshot.facts["last"]
    types = [row[-1] for row in stored(store, snapshot.address)]
    assert {name: types.count(name) for name in set(types)} == {"view": 987, "purchase": 10, "cart": 3}
    assert snapshot.facts["first"] == 1569888000000
    assert stored(store, snapshot.address)[0] == (
        "72d76fde-8bb3-4e00-8c23-a032dfed738c",
        "541312140",
        "44600062",
        1569888000000,
        "view",
    )
    assert snapshot.items is not None
    rows = {row["item"]: row for row in pq.read_table(snapshot.items).to_pylist()}
    heater = {"category": "appliances.environment.water_heater", "brand": "aqua", "price": 33.2}
    assert rows["3900821"] == {"item": "3900821"} | heater
    # It has no code.
    assert rows["44600062"]["category"] == "2103807459595387724"


def test_ml100k_with_its_typed_header(shared_data: Path, store: Store) -> None:
    folder = shared_data / "ml100k"
    source, items = (
        {"path": str(folder / f"ml-100k.{kind}.xz"), "layout": "movielens-recbole"} for kind in ("inter", "item")
    )
    snapshot = open_snapshot(store, ingest(make_shop(source, items={"sources": [items]}), store))
    assert snapshot.facts["events"] == 100_000
    assert len({session for (session,) in stored(store, snapshot.address, "session")}) == 943
    assert stored(store, snapshot.address)[0] == ("196", "196", "242", 881250949000, "rating")
    assert (snapshot.facts["items"]["rows"], snapshot.facts["bad"]) == (1_682, {})
    assert snapshot.items is not None
    assert pq.read_table(snapshot.items).to_pylist()[0] == {
        "item": "1",
        "title": "Toy Story",
        "category": "Animation Children's Comedy",
    }


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_converted_log_is_the_same_snapshot(shared_data: Path, tmp_path: Path, store: Store, suffix: str) -> None:
    views = shared_data / "diginetica_raw" / "sample_train-item-views.csv.xz"
    target = tmp_path / f"views{suffix}"
    assert convert(views, "diginetica-views", target) == {"events": 12_391, "bad_rows": 0, "left_out": 0}
    assert [path.name for path in tmp_path.iterdir() if path != tmp_path / "store"] == [target.name]
    direct = ingest(make_shop({"path": str(views), "layout": "diginetica-views"}), store)
    assert ingest(make_shop(target), store) == direct
