"""Published logs and item tables, from lines as they were published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from endcap.errors import DataError
from endcap.events import convert, ingest
from endcap.store import Store
from tests.events.shops import facts, make_shop, open_snapshot, stored
from tests.refusals import mistaken, refused

RETAILROCKET = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,addtocart,248676,
1433222276276,599528,transaction,356475,4000
"""
PROPERTIES = """timestamp,itemid,property,value
1433041200000,355908,categoryid,1338
1433220000000,355908,categoryid,1114
1433041200000,248676,888,1116713 960601 n277.200
1433224214164,248676,categoryid,209
1433224214165,248676,categoryid,1
1433646000000,356475,categoryid,1509
"""
REES46 = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,3900821,2053013552326770905,appliances.water_heater,aqua,33.20,554748717,s1
2019-10-02 00:00:00 UTC,cart,3900821,2053013552326770905,appliances.water_heater,aqua,30.00,554748717,s2
2019-10-01 12:00:00 UTC,view,3900821,2053013552326770905,appliances.water_heater,aqua,35.00,554748717,s1
"""
RATINGS = {
    "movielens-recbole": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t1193\t5\t978300760.0\n",
    "movielens-100k": "1\t1193\t5\t978300760\n",
    "movielens-1m": "1::1193::5::978300760\n",
    "movielens-20m": "userId,movieId,rating,timestamp\n1,1193,5.0,978300760\n",
}
RECBOLE_ITEMS = "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq\n"
MOVIES = {
    "movielens-recbole": f'{RECBOLE_ITEMS}1193\t"Alien: Misérables"\t1979\tDrama War\n'.encode(),
    "movielens-100k": (
        '1193|"Alien: Misérables"|01-Jan-1979||http://us.imdb.com/M/x|0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|1|0\n'
    ).encode("latin-1"),
    "movielens-1m": '1193::"Alien: Misérables"::Drama|War\n'.encode("latin-1"),
    "movielens-20m": 'movieId,title,genres\n1193,"""Alien: Misérables""",Drama|War\n'.encode(),
}


def source(file: Path, layout: str, content: str | bytes) -> dict[str, Any]:
    """A source of this layout, its file written."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {"path": str(file), "layout": layout}


def items_of(store: Store, address: str) -> list[dict[str, Any]]:
    file = open_snapshot(store, address).items
    assert file is not None
    return list(pq.read_table(file).to_pylist())


def test_retailrocket_has_customers_and_no_sessions(tmp_path: Path, store: Store) -> None:
    log = source(tmp_path / "events.csv", "retailrocket", RETAILROCKET)
    address = ingest(make_shop(log, sessions={"by": "gap"}), store)
    assert stored(store, address) == [
        (None, "257597", "355908", 1433221332117, "view"),
        (None, "992329", "248676", 1433224214164, "addtocart"),
        (None, "599528", "356475", 1433222276276, "transaction"),
    ]
    with mistaken((("sessions", "by"), "conflict")):
        make_shop(log)


def test_retailrocket_items_have_the_last_category_that_the_log_could_know(tmp_path: Path, store: Store) -> None:
    log = source(tmp_path / "events.csv", "retailrocket", RETAILROCKET)
    # The older row comes last: its time counts, not its place.
    head, first, *others = PROPERTIES.splitlines(keepends=True)
    parts = [
        source(tmp_path / "item_properties_part1.csv", "retailrocket", head + "".join(others)),
        source(tmp_path / "item_properties_part2.csv", "retailrocket", head + first),
    ]
    address = ingest(make_shop(log, sessions={"by": "gap"}, items={"sources": parts}), store)
    assert items_of(store, address) == [{"item": "248676", "category": "209"}, {"item": "355908", "category": "1114"}]
    assert facts(store, address)["items"]["until"] == facts(store, address)["last"] == 1433224214164


def test_an_item_table_that_is_all_later_than_the_log_is_refused(tmp_path: Path, store: Store) -> None:
    log = source(tmp_path / "events.csv", "retailrocket", RETAILROCKET)
    late = source(tmp_path / "late.csv", "retailrocket", PROPERTIES.replace("1433", "1533"))
    with refused(DataError, "events.table-empty", table="item", later=True):
        ingest(make_shop(log, sessions={"by": "gap"}, items={"sources": [late]}), store)


def test_rees46_items_are_as_their_last_event_says(tmp_path: Path, store: Store) -> None:
    log = source(tmp_path / "2019-Oct.csv", "rees46", REES46)
    address = ingest(make_shop(log, items={"sources": [log], "categorical": ["brand"]}), store)
    assert [row[0] for row in stored(store, address)] == ["s1", "s2", "s1"]
    (item,) = items_of(store, address)
    assert item == {"item": "3900821", "category": "appliances.water_heater", "brand": "aqua", "price": 30.0}


@pytest.mark.parametrize("layout", RATINGS)
def test_movielens_in_each_of_its_forms(tmp_path: Path, store: Store, layout: str) -> None:
    log = source(tmp_path / "ratings", layout, RATINGS[layout])
    movies = source(tmp_path / "movies", layout, MOVIES[layout])
    address = ingest(make_shop(log, items={"sources": [movies]}), store)
    assert stored(store, address) == [("1", "1", "1193", 978300760000, "rating")]
    (item,) = items_of(store, address)
    assert (item["item"], item["title"]) == ("1193", '"Alien: Misérables"')
    assert item["category"] in ("Drama|War", "Drama War")
    assert facts(store, address)["bad"] == {}


@pytest.mark.parametrize(
    ("layout", "content", "row", "reason"),
    [
        ("retailrocket", RETAILROCKET, "yesterday,1,view,2,", "time is not a number"),
        ("retailrocket", RETAILROCKET, "1433221332,1,view,2,", "time lies before 1990"),
        ("rees46", REES46, "2019-10-01 00:00:00 UTC,view,1,2,,,1.0,3,", "session is empty"),
        ("movielens-1m", RATINGS["movielens-1m"], "1::1193::5", "3 columns where 4 are expected"),
        ("movielens-100k", RATINGS["movielens-100k"], "1\t\t5\t978300760", "item is empty"),
        ("movielens-20m", RATINGS["movielens-20m"], "1,2,5.0,never", "time is not a number"),
    ],
)
def test_bad_rows_are_set_aside(tmp_path: Path, store: Store, layout: str, content: str, row: str, reason: str) -> None:
    log = source(tmp_path / "log", layout, f"{content}{row}\n")
    by = "gap" if layout == "retailrocket" else "given"
    address = ingest(make_shop(log, events={"max_bad_share": 1.0}, sessions={"by": by}), store)
    ((found, count),) = facts(store, address)["bad"]["events"].items()
    assert (found.startswith(reason), count) == (True, 1)


def test_a_bad_item_row_is_set_aside(tmp_path: Path, store: Store) -> None:
    log = source(tmp_path / "events.csv", "retailrocket", RETAILROCKET)
    table = source(tmp_path / "items.csv", "retailrocket", PROPERTIES * 20 + "soon,1,categoryid,2\n")
    with refused(DataError, "events.bad-rows", table="items", reasons={"time is not a number": 20}):
        ingest(make_shop(log, sessions={"by": "gap"}, items={"sources": [table]}), store)


def test_another_file_than_the_layouts_is_told(tmp_path: Path, store: Store) -> None:
    log = source(tmp_path / "log.csv", "rees46", RETAILROCKET)
    with refused(DataError, "events.column-missing") as stopped:
        ingest(make_shop(log), store)
    missing = {one["column"]: one["key"] for one in stopped.value.fields["missing"]}
    assert missing["product_id"] == "the layout rees46"
    log = source(tmp_path / "events.csv", "retailrocket", RETAILROCKET)
    with refused(DataError, "events.column-missing") as stopped:
        ingest(make_shop(log, sessions={"by": "gap"}, items={"sources": [log]}), store)
    missing = {one["column"]: one["key"] for one in stopped.value.fields["missing"]}
    assert missing["property"] == "the layout retailrocket"


def test_a_layout_of_items_names_its_own_columns() -> None:
    table = {"path": "movies.csv", "layout": "movielens-20m"}
    with mistaken((("items", "columns"), "conflict")):
        make_shop("log.csv", items={"sources": [table], "columns": {"item": "movieId"}})
    with mistaken((("items", "sources", 1, "layout"), "conflict")):
        make_shop("log.csv", items={"sources": [table, {"path": "more.csv"}]})
    with mistaken((("sessions", "by"), "conflict")):
        make_shop({"path": "buys.dat", "layout": "yoochoose-buys"}, sessions={"by": "gap"})


def test_a_log_without_sessions_is_converted_without(tmp_path: Path) -> None:
    log = source(tmp_path / "events.csv", "retailrocket", f"{RETAILROCKET}1433221332117,,view,2,\n")
    assert convert(log["path"], "retailrocket", tmp_path / "out.csv") == {"events": 3, "bad_rows": 0, "left_out": 1}
    assert (tmp_path / "out.csv").read_text().replace('"', "").splitlines()[1] == (
        ",257597,355908,2015-06-02T05:02:12.117Z,view"
    )
