"""Nested exports as they are published, by the guide alone: docs/log-formats.md."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.events import convert, ingest
from endcap.features import build
from endcap.spec.shop import Shop
from endcap.store import Store
from tests.events.shops import facts, make_shop, open_snapshot, stored
from tests.guides import specs

NAMES = ("ga4", "ga4-own", "segment", "snowplow", "otto")
SHOPS = {shop["name"]: shop for shop in specs("log-formats.md") if shop["name"] in NAMES}
T = 1_772_442_000_000
"""2 March 2026, 9:00 UTC, in ms."""
VIEWS = [
    # user, session, seconds, items
    ("u1", "1772442000", 0, ["A-01"]),
    ("u1", "1772442000", 60, ["A-02"]),
    ("u2", "1772442000", 5, ["B-01", "A-01"]),
    ("u2", "1772442000", 90, ["(not set)"]),
    ("u2", "1772442000", 95, ["B-02"]),
]
ENTITY = "contexts_com_snowplowanalytics_snowplow_ecommerce_product_1"
ACTION = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1"
PRODUCT = {"A-01": ("Tent", "Outdoor", 120.5), "A-02": ("Stove", "Outdoor", 30.0), "B-01": ("Mug", None, 5.0)}


def ga4_rows() -> list[dict[str, Any]]:
    """A day of events as BigQuery writes them as JSON: integers are text, what is null is left out."""

    def row(user: str, session: str, second: int, name: str, items: list[str]) -> dict[str, Any]:
        parameters = [
            {"key": "ga_session_id", "value": {"int_value": session}},
            {"key": "visit", "value": {"string_value": f"v-{session}"}},
            {"key": "page_location", "value": {"string_value": "https://shop.example/"}},
        ]
        return {
            "event_date": "20260302",
            "event_timestamp": str((T + 1000 * second) * 1000 + 7),
            "event_name": name,
            "event_params": parameters,
            "user_pseudo_id": user,
            "items": [ga4_item(item) for item in items],
        }

    rows = [row(user, session, second - 1, "page_view", []) for user, session, second, _ in VIEWS]
    rows += [row(user, session, second, "view_item", items) for user, session, second, items in VIEWS]
    rows += [row("u1", "1772442000", 400, "purchase", ["A-01", "A-02"])]
    return sorted(rows, key=lambda one: int(one["event_timestamp"]))


def ga4_item(item: str) -> dict[str, Any]:
    title, category, price = PRODUCT.get(item, ("Else", "Else", 1.0))
    known = {"item_id": item, "item_name": title, "item_category": category, "price": price, "quantity": "1"}
    known["item_brand"] = "Endcap" if item == "A-01" else None
    return {key: value for key, value in known.items() if value is not None}


def write_ga4_json(folder: Path) -> Path:
    file = folder / "ga4" / "events_20260302_000000000000.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{json.dumps(row)}\n" for row in ga4_rows()))
    return file


def write_ga4_parquet(folder: Path) -> Path:
    file = folder / "ga4" / "events_20260302.parquet"
    file.parent.mkdir(exist_ok=True)
    value = pa.struct([("string_value", pa.string()), ("int_value", pa.int64()), ("double_value", pa.float64())])
    fields = [("item_id", pa.string()), ("item_name", pa.string()), ("item_brand", pa.string())]
    fields += [("item_category", pa.string()), ("price", pa.float64()), ("quantity", pa.int64())]
    schema = pa.schema(
        [
            ("event_date", pa.string()),
            ("event_timestamp", pa.int64()),
            ("event_name", pa.string()),
            ("event_params", pa.list_(pa.struct([("key", pa.string()), ("value", value)]))),
            ("user_id", pa.string()),
            ("user_pseudo_id", pa.string()),
            ("items", pa.list_(pa.struct(fields))),
        ]
    )
    rows = ga4_rows()
    for row in rows:
        row["event_timestamp"] = int(row["event_timestamp"])
        for one in row["event_params"]:
            one["value"] = (
                {"int_value": int(one["value"]["int_value"])} if "int_value" in one["value"] else one["value"]
            )
        row["items"] = [item | {"quantity": 1} for item in row["items"]]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return file


def write_segment(folder: Path) -> Path:
    """Calls of a browser and of a server, in a file that is named as Segment's archive names it."""

    def call(kind: str, second: int, user: str, event: str | None = None, **properties: Any) -> dict[str, Any]:
        return {
            "type": kind,
            "event": event,
            "anonymousId": user if user[0] == "u" else None,
            "userId": None if user == "u1" else "account-7",
            "messageId": f"{kind}-{second}",
            "properties": properties,
            "context": {"library": {"name": "analytics.js"}},
            "originalTimestamp": f"2026-03-02T09:0{second // 60}:{second % 60:02}.500Z",
            "timestamp": f"2026-03-02T09:0{second // 60}:{second % 60:02}.000Z",
        }

    def product(item: str) -> dict[str, Any]:
        title, category, price = PRODUCT.get(item, ("Else", None, None))
        return {"product_id": item, "name": title, "category": category, "price": price}

    calls = [call("page", second - 1, user, title="Shop", url="/") for user, _, second, _ in VIEWS if second]
    for user, _, second, items in VIEWS[:3]:
        calls += [call("track", second, user, "Product Viewed", **product(item)) for item in items]
    calls += [call("track", 120, "u2", "Product List Viewed", list_id="l", products=[product("A-02")])]
    calls += [
        call("track", 200, "server", "Order Completed", order_id="o", products=[product("A-01"), product("B-01")])
    ]
    calls += [call("identify", 220, "u2")]
    file = folder / "segment-logs" / "source" / "1772409600000" / "1772442000000.f3a.1a2b3c.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("".join(f"{json.dumps(one)}\n" for one in calls).encode()))
    return file


def snowplow_rows() -> list[dict[str, Any]]:
    def row(user: str, second: int, action: str | None, items: list[str]) -> dict[str, Any]:
        products = [dict(zip(("name", "category", "price"), PRODUCT[item], strict=True), id=item) for item in items]
        return {
            "app_id": "shop",
            "event": "unstruct" if action else "page_view",
            "event_name": "snowplow_ecommerce_action" if action else "page_view",
            "se_action": None,
            "collector_tstamp": f"2026-03-02T09:0{second // 60}:{second % 60:02}.900Z",
            "derived_tstamp": f"2026-03-02T09:0{second // 60}:{second % 60:02}.123Z",
            "domain_userid": user,
            "domain_sessionid": f"session of {user}",
            ACTION: {"type": action} if action else None,
            ENTITY: products or None,
        }

    return [
        row("u1", 0, None, []),
        row("u1", 1, "product_view", ["A-01"]),
        row("u1", 60, "list_view", ["A-02", "B-01"]),
        row("u2", 61, "transaction", ["B-01", "A-01"]),
    ]


def write_snowplow_json(folder: Path) -> Path:
    file = folder / "snowplow" / "part-00000.jsonl"
    file.parent.mkdir(exist_ok=True)
    # The SDK leaves out entities and events that a row does not have.
    rows = ({key: value for key, value in row.items() if value is not None or key[0] != "c"} for row in snowplow_rows())
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def write_snowplow_parquet(folder: Path) -> Path:
    """As a lake or a warehouse has it: typed times, entities by the whole version of their schema."""
    file = folder / "snowplow" / "part-00000.parquet"
    file.parent.mkdir(exist_ok=True)
    names = {ENTITY: f"{ENTITY}_0_0", ACTION: f"{ACTION}_0_2"}
    table = pa.Table.from_pylist([{names.get(key, key): one for key, one in row.items()} for row in snowplow_rows()])
    with duckdb.connect() as connection:
        connection.register("rows", table)
        connection.execute(
            "COPY (SELECT * REPLACE (derived_tstamp::TIMESTAMPTZ AS derived_tstamp, "
            f"collector_tstamp::TIMESTAMPTZ AS collector_tstamp) FROM rows) TO '{file}' (FORMAT parquet)"
        )
    return file


def write_otto(folder: Path) -> Path:
    file = folder / "otto-recsys-train.jsonl"
    sessions = [[(37, 0, "clicks"), (22, 60, "clicks"), (22, 61, "carts")], [(5, 3, "clicks"), (37, 9, "clicks")]]
    lines = (
        {"session": at, "events": [{"aid": aid, "ts": T + 1000 * second, "type": kind} for aid, second, kind in events]}
        for at, events in enumerate(sessions)
    )
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


SESSION = "1772442000"
GA4_VIEWS = [
    (SESSION, "u1", "A-01", T, "view_item"),
    (SESSION, "u2", "B-01", T + 5000, "view_item"),
    (SESSION, "u2", "A-01", T + 5000, "view_item"),
    (SESSION, "u1", "A-02", T + 60_000, "view_item"),
    (SESSION, "u2", "B-02", T + 95_000, "view_item"),
]
OWN = [(f"v-{session}", *rest) for session, *rest in GA4_VIEWS]
SEGMENT = [
    (None, "u1", "A-01", T, "Product Viewed"),
    (None, "u1", "A-02", T + 60_000, "Product Viewed"),
    (None, "u2", "B-01", T + 5000, "Product Viewed"),
    (None, "u2", "A-01", T + 5000, "Product Viewed"),
    (None, "account-7", "A-01", T + 200_000, "Order Completed"),
    (None, "account-7", "B-01", T + 200_000, "Order Completed"),
]
SNOWPLOW = [
    ("session of u1", "u1", "A-01", T + 1123, "product_view"),
    ("session of u2", "u2", "B-01", T + 61_123, "transaction"),
    ("session of u2", "u2", "A-01", T + 61_123, "transaction"),
]
OTTO = [("0", None, "37", T, "clicks"), ("0", None, "22", T + 60_000, "clicks")]
OTTO += [("1", None, "5", T + 3000, "clicks"), ("1", None, "37", T + 9000, "clicks")]


@pytest.mark.parametrize(
    ("name", "write", "events", "sessions"),
    [
        ("ga4", write_ga4_json, GA4_VIEWS, 2),
        ("ga4", write_ga4_parquet, GA4_VIEWS, 2),
        ("segment", write_segment, SEGMENT, 3),
        ("snowplow", write_snowplow_json, SNOWPLOW, 1),
        ("snowplow", write_snowplow_parquet, SNOWPLOW, 1),
        ("otto", write_otto, OTTO, 2),
    ],
)
def test_an_export_becomes_a_dataset_by_the_guides_file(
    tmp_path: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    write: Callable[[Path], Path],
    events: list[Any],
    sessions: int,
) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    shop = Shop.model_validate(SHOPS[name])
    snapshot = ingest(shop, store)
    assert stored(store, snapshot) == events
    assert facts(store, snapshot)["bad"] == {}
    assert facts(store, build(shop, snapshot, store))["sessions"] == sessions
    file = open_snapshot(store, snapshot).items
    if file is not None:
        items = {item: rest for item, *rest in duckdb.sql(f"SELECT item, title, price FROM '{file}'").fetchall()}
        assert {item: items.get(item) for item in PRODUCT} == {
            item: [title, price] for item, (title, _, price) in PRODUCT.items()
        }
        assert "(not set)" not in items


@pytest.mark.parametrize("write", [write_ga4_json, write_ga4_parquet])
def test_an_export_by_columns_of_ones_own(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path]
) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    shop = Shop.model_validate(SHOPS["ga4-own"])
    rows = stored(store, ingest(shop, store))
    assert [row for row in rows if row[2] != "(not set)"] == OWN
    assert len(rows) == len(OWN) + 1


@pytest.mark.parametrize(
    ("layout", "write", "events"),
    [
        ("ga4", write_ga4_json, 7),
        ("ga4", write_ga4_parquet, 7),
        ("segment", write_segment, 7),
        ("snowplow", write_snowplow_json, 5),
        ("otto", write_otto, 5),
    ],
)
def test_a_nested_export_is_written_flat(
    tmp_path: Path, store: Store, layout: Any, write: Callable[[Path], Path], events: int
) -> None:
    source, target = write(tmp_path), tmp_path / "flat.csv"
    counts = convert(source, layout, target)
    assert (counts["events"], counts["bad_rows"]) == (events, 0)
    by = "gap" if layout == "segment" else "given"
    flat, nested = (
        stored(store, ingest(make_shop(one, sessions={"by": by}), store))
        for one in (target, {"path": str(source), "layout": layout})
    )
    assert flat == nested
