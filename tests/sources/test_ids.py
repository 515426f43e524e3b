"""What of a file's values is an id: words for nothing, blanks, and ids of several columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.events import ingest
from endcap.store import Store
from tests.events.shops import facts, make_shop, stored, write_csv

TIME = "2024-03-01T10:00:00Z"
IDS = "session, customer, item, type"


def read(
    tmp_path: Path, store: Store, rows: list[str], header: str = "session,customer,item,time,type", **events: Any
) -> tuple[list[Any], dict[str, Any]]:
    shop = make_shop(write_csv(tmp_path / "log.csv", rows, header), events={"max_bad_share": 0.99, **events})
    address = ingest(shop, store)
    return stored(store, address, IDS), facts(store, address)


@pytest.mark.parametrize(
    "word", ["NULL", "None", "nan", "NA", "#N/A", "\\N", "(not set)", "undefined", '" "', "\t", '" \t\u00a0"']
)
def test_words_for_nothing_and_blanks_are_nobodys_and_no_session(tmp_path: Path, store: Store, word: str) -> None:
    rows = [f"s,{word},i,{TIME},{word}", f"{word},c,i,{TIME},view", f"s,c,i,{word},view", f"s,NULLA,i,{TIME},view"]
    found, told = read(tmp_path, store, rows)
    assert found == [("s", None, "i", None), ("s", "NULLA", "i", "view")]
    reasons = ["session is empty, and sessions.by is 'given'", "time is empty"]
    assert sorted(told["bad"]["events"].items()) == [(reason, 1) for reason in reasons]
    counted = {} if not word.strip('" \t\u00a0') else {"session": 1, "customer": 1, "time": 1, "type": 1}
    assert told["missing"] == counted


def test_such_a_word_may_be_an_item_unless_the_shop_says_else(tmp_path: Path, store: Store) -> None:
    rows = [f"s,c,NA,{TIME},view", f"s,c,None,{TIME},view", f"s,c,i,{TIME},view"]
    found, told = read(tmp_path, store, rows)
    assert [item for _, _, item, _ in found] == ["NA", "None", "i"]
    assert (told["words_as_items"], told["missing"]) == (2, {})
    found, told = read(tmp_path, store, [*rows, f's,c," ",{TIME},view'], null_item_values=["None", "-"])
    assert [item for _, _, item, _ in found] == ["NA", "i"]
    assert (told["words_as_items"], told["missing"]) == (1, {"item": 1})
    assert told["bad"]["events"] == {"item is empty": 2}


def test_a_shop_may_name_its_own_words(tmp_path: Path, store: Store) -> None:
    rows = [f"s,0,i,{TIME},view", f"s,guest,i,{TIME},view", f"s,NULL,i,{TIME},view"]
    found, told = read(tmp_path, store, rows, null_values=["0", "guest"])
    assert [customer for _, customer, _, _ in found] == [None, None, "NULL"]
    assert told["missing"] == {"customer": 2}


def test_words_are_none_in_published_layouts_and_in_parquet(tmp_path: Path, store: Store) -> None:
    header = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
    log = write_csv(
        tmp_path / "log.csv", [f"2019-10-01 00:00:0{at} UTC,view,1,2,,,3,NULL,s{at}" for at in range(3)], header
    )
    address = ingest(make_shop({"path": str(log), "layout": "rees46"}), store)
    assert stored(store, address, "customer") == [(None,)] * 3
    assert facts(store, address)["missing"] == {"customer": 3}
    table = pa.table({"session": ["s", "s"], "customer": ["None", "c"], "item": ["i", "i"], "time": [TIME, TIME]})
    pq.write_table(
        table.append_column("type", pa.array(["view", "<NA>"]).dictionary_encode()), tmp_path / "log.parquet"
    )
    address = ingest(make_shop(tmp_path / "log.parquet"), store)
    assert stored(store, address, IDS) == [("s", None, "i", "view"), ("s", "c", "i", None)]


def test_ids_of_several_columns_read_as_no_other(tmp_path: Path, store: Store) -> None:
    pairs = [("a|b", "c"), ("a", "b|c"), ("a\\", "b"), ("a", "\\b"), ("a\\|b", "c")]
    rows = [f"{visitor},{visit},{visitor},{visit},i,{TIME},view" for visitor, visit in pairs]
    rows += [f"NULL,1,u,1,i,{TIME},view", f"v,1,u,,i,{TIME},view"]
    columns = {"session": ["visitor", "visit"], "customer": ["shop", "user"], "type": "type"}
    found, told = read(tmp_path, store, rows, "visitor,visit,shop,user,item,time,type", columns=columns)
    ids = ["a\\|b|c", "a|b\\|c", "a\\\\|b", "a|\\\\b", "a\\\\\\|b|c"]
    assert found == [(id_, id_, "i", "view") for id_ in ids] + [("v|1", None, "i", "view")]
    assert told["bad"]["events"] == {"session is empty, and sessions.by is 'given'": 1}


@pytest.mark.parametrize("float_ids", ["refuse", "whole"])
@pytest.mark.parametrize("id_", ["1.2E+08", "1E+8", "1.2345678E7", "1.0E10", "-1.0E3", "inf", "-Infinity"])
def test_floats_that_may_have_lost_digits_are_no_ids(tmp_path: Path, store: Store, id_: str, float_ids: str) -> None:
    rows = [f"s,c,{id_},{TIME},view", f"s,{id_},i,{TIME},view", f"s,c,1e10,{TIME},view", f"s,c,1.2.3E4,{TIME},view"]
    found, told = read(tmp_path, store, rows, float_ids=float_ids)
    assert [item for _, _, item, _ in found] == ["1e10", "1.2.3E4"]
    assert sorted(told["bad"]["events"].values()) == [1, 1]


def test_ids_that_begin_with_blanks_stay(tmp_path: Path, store: Store) -> None:
    found, _ = read(tmp_path, store, [f'"  b", c,\u00a0i,{TIME},view'])
    assert found == [("  b", " c", "\u00a0i", "view")]
