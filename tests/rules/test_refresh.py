"""`endcap refresh`: from a shop's files to the online store, and to whoever reads it there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from endcap.cli import refresh
from endcap.cli.main import main
from endcap.online import OnlineStore, open_online
from endcap.rules import Catalogue, fetch_catalogue, publish_catalogue
from endcap.rules.publish import CATALOGUE
from endcap.spec.rules import Rules
from tests.events.shops import write_csv

SHOP = """\
apiVersion: endcap/v2
kind: Shop
name: toys
events: {sources: [{path: events.csv}], columns: {session: sid}}
items:
  sources: [{path: items.csv}]
  columns: {category: category}
  numeric: [stock]
rules:
  blacklist: {sources: [{path: black.csv}]}
  stock: {}
"""
HEADER = "item,category,stock"
Refresh = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toys.yaml").write_text(SHOP)
    (tmp_path / "home.yaml").write_text(
        "apiVersion: endcap/v2\nkind: Recommender\nname: home\nshop: toys.yaml\nmodel: {name: popularity}\n"
    )
    write_csv(tmp_path / "items.csv", ["ball,outdoor,4", "kite,outdoor,0", "lego,indoor,9"], HEADER)
    write_csv(tmp_path / "black.csv", ["lego"], "item")
    return tmp_path


@pytest.fixture
def online(folder: Path) -> OnlineStore:
    return open_online(f"sqlite://{folder}/online.sqlite", shop="toys", timeout=5)


@pytest.fixture
def refreshed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Refresh:
    def run(*more: str) -> Any:
        main(["refresh", str(folder / "home.yaml"), "--online", f"sqlite://{folder}/online.sqlite", "--json", *more])
        return json.loads(capsys.readouterr().out)

    return run


def test_what_changed_is_told_and_what_is_published_is_read(
    folder: Path, online: OnlineStore, refreshed: Refresh
) -> None:
    first = refreshed()
    assert (first["changed"], first["items"]) == (True, {"now": 3, "came": 3, "went": 0})
    write_csv(folder / "items.csv", ["ball,outdoor,0", "lego,indoor,9", "dart,indoor,"], HEADER)
    write_csv(folder / "black.csv", ["dart", "lego"], "item")
    second = refreshed()
    assert second["items"] == {"now": 3, "came": 1, "went": 1}
    assert second["blacklisted"] == {"now": 2, "came": 1, "went": 0}
    assert second["out_of_stock"] == {"now": 1, "came": 1, "went": 1}
    assert (second["other_values"], second["rules"]) == (1, False)
    found = fetch_catalogue(online)
    assert found is not None
    assert (found.version, found.blacklist) == (second["version"], {"dart", "lego"})
    # The one before is kept, for going back.
    assert online.versions(CATALOGUE) == [second["version"], first["version"]]


def test_the_same_content_is_not_sent_again_and_yet_is_known_to_be_fresh(
    online: OnlineStore, refreshed: Refresh
) -> None:
    first = refreshed()
    have = fetch_catalogue(online)
    assert have is not None
    again = refreshed()
    assert (again["changed"], again["version"], again["other_values"]) == (False, first["version"], 0)
    newer = fetch_catalogue(online, have)
    assert newer is not None
    assert newer.read_time == again["made"] > have.read_time
    assert newer.items is have.items  # it was not read again
    assert fetch_catalogue(online, newer) is newer


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("black.csv", "", "lacks even its header"),
        ("black.csv", "sku\nlego\n", "'item' (rules.blacklist.column)"),
        ("items.csv", f"{HEADER}\nball,outdoor,many\n", "stock is not a number"),
        ("toys.yaml", SHOP.replace("stock: {}", "stock: {atleast: 3}"), "rules.stock.atleast: found an unknown key"),
    ],
)
def test_a_mistake_leaves_the_old_rules_and_says_so(
    folder: Path, online: OnlineStore, refreshed: Refresh, capsys: pytest.CaptureFixture[str],
    file: str, text: str, said: str,
) -> None:  # fmt: skip
    first = refreshed()
    (folder / file).write_text(text)
    with pytest.raises(SystemExit) as ended:
        refreshed()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Nothing was published. Predictors go on with what was" in told
    assert online.published(CATALOGUE) == first["version"]


def test_watching_says_a_mistake_and_goes_on(
    folder: Path, online: OnlineStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = iter([lambda: (folder / "black.csv").unlink(), lambda: write_csv(folder / "black.csv", ["kite"], "item")])

    def sleep(seconds: float) -> None:
        change = next(rounds, None)
        if change is None:
            raise KeyboardInterrupt
        change()

    monkeypatch.setattr(refresh.time, "sleep", sleep)
    with pytest.raises(SystemExit) as ended:
        main(["refresh", str(folder / "home.yaml"), "--online", f"sqlite://{folder}/online.sqlite", "--watch", "5"])
    assert ended.value.code == 130
    told = capsys.readouterr()
    assert told.out.count("✓ shop toys") == 2
    assert "black.csv: no such file" in told.err
    found = fetch_catalogue(online)
    assert found is not None
    assert found.blacklist == {"kite"}


def test_a_damaged_catalogue_is_replaced(online: OnlineStore, refreshed: Refresh) -> None:
    online.write(CATALOGUE, "damaged", {CATALOGUE: b"none"})
    online.publish(CATALOGUE, "damaged")
    assert refreshed()["changed"]
    assert fetch_catalogue(online) is not None


def test_going_back_is_read_as_what_it_was(online: OnlineStore) -> None:
    first = Catalogue(Rules(), pa.table({"item": ["a"]}), frozenset({"a"}), read_time=1)
    second = replace(first, blacklist=frozenset(), read_time=2)
    assert publish_catalogue(online, first)
    assert publish_catalogue(online, second)
    online.publish(CATALOGUE, first.version)
    back = fetch_catalogue(online, second)
    assert back is not None
    assert (back.blacklist, back.read_time) == ({"a"}, 1)
    assert publish_catalogue(online, replace(second, read_time=3))
    assert fetch_catalogue(online, back) == replace(second, read_time=3)


def test_content_that_another_release_counts_otherwise_is_not_read_again_and_again(online: OnlineStore) -> None:
    online.write(CATALOGUE, "of-another-release", {CATALOGUE: Catalogue(Rules(), read_time=1).to_bytes()})
    online.publish(CATALOGUE, "of-another-release")
    have = fetch_catalogue(online)
    assert have is not None
    assert fetch_catalogue(online, have) is have


def test_rules_that_meet_no_item_of_the_log_are_told(
    folder: Path, tmp_path: Path, refreshed: Refresh, capsys: pytest.CaptureFixture[str]
) -> None:
    """Item table and blacklist agree with each other, and yet bar nothing: both lost what the log's ids begin with."""
    write_csv(folder / "items.csv", ["7,outdoor,4", "8,outdoor,", "9,indoor,9"], HEADER)
    write_csv(folder / "black.csv", ["9"], "item")
    store = ["--store", str(tmp_path / "store")]
    assert refreshed(*store)["warnings"] == []  # nothing is known of a log yet
    rows = ["s1,007,2024-03-01T10:00:00Z", "s1,008,2024-03-01T10:01:00Z", "s1,009,2024-03-01T10:02:00Z"]
    write_csv(folder / "events.csv", rows, "sid,item,time")
    main(["events", "describe", str(folder / "home.yaml"), *store])
    capsys.readouterr()
    told = refreshed(*store)
    assert [warning["name"] for warning in told["warnings"]] == [
        "blacklist_unmatched", "item_table_unmatched", "stock_unmatched",
    ]  # fmt: skip
    assert told["unmatched"]["blacklist"]["likely"] == {"reason": "leading_zeros", "ids": 1, "example": ["9", "009"]}
    main(["refresh", str(folder / "home.yaml"), "--online", f"sqlite://{folder}/online.sqlite", *store])
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("  ! ")]) == 3
    write_csv(folder / "items.csv", ["007,outdoor,4", "008,outdoor,", "009,indoor,9"], HEADER)
    write_csv(folder / "black.csv", ["009"], "item")
    assert refreshed(*store)["warnings"] == []
