"""A run reads what is new or changed and refers to the rest; the snapshot is that of a full ingest."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import endcap.events.parsed_units
from endcap.errors import DataError, IntegrityError, NotFoundError, UserError
from endcap.events import ingest
from endcap.events.snapshot import EVENTS
from endcap.events.snapshot_days import find_units, open_snapshot
from endcap.features import build
from endcap.store import Store, open_store
from tests.events.shops import facts, make_shop, stored, write_csv
from tests.features.logs import shop
from tests.refusals import refused

DAYS = [f"2024-03-{day:02}" for day in range(1, 8)]


def write_day(folder: Path, day: str, rows: int = 4, name: str | None = None) -> Path:
    """A file of a day's events, in a folder of its own, so that it is a unit."""
    lines = [f"s{day}-{n},c{n % 3},i{n % 5},{day}T10:{n:02}:00Z,view" for n in range(rows)]
    return write_csv(folder / day / f"{name or day}.csv", lines)


def reuse(store: Store, address: str) -> dict[str, int]:
    counts: dict[str, int] = facts(store, address)["reuse"]
    return counts


def test_a_new_day_reads_its_file_alone(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log"
    for day in DAYS[:6]:
        write_day(log, day)
    its = make_shop(str(log))
    lines: list[str] = []
    first = ingest(its, store, progress=lambda line: lines.append(str(line)))
    counts = {"days": 6, "new": 6, "changed": 0, "unchanged": 0, "gone": 0, "read": 6, "again": 0, "kept": 0}
    assert reuse(store, first) == counts
    write_day(log, DAYS[6])
    second = ingest(its, store, progress=lambda line: lines.append(str(line)))
    assert reuse(store, second) == {**counts, "days": 7, "new": 1, "unchanged": 6, "read": 1, "kept": 6}
    assert "7 days: 1 new, 0 changed, 6 kept (1 file read, 6 kept)" in lines
    assert set(find_units(facts(store, first))) < set(find_units(facts(store, second)))
    # A day knows which files fed it, as numbers among those of events.
    assert [day["fed_by"] for day in facts(store, second)["days"]] == [[number] for number in range(7)]


def test_small_files_are_read_again_with_a_new_neighbour(tmp_path: Path, store: Store) -> None:
    for day in DAYS[:2]:
        write_csv(tmp_path / "log" / f"{day}.csv", [f"s1,c1,i1,{day}T10:00:00Z,view"])
    its = make_shop(str(tmp_path / "log"))
    ingest(its, store)
    write_csv(tmp_path / "log" / f"{DAYS[2]}.csv", [f"s2,c1,i1,{DAYS[2]}T10:00:00Z,view"])
    counts = reuse(store, ingest(its, store))
    assert counts["unchanged"] == 2
    assert (counts["read"] - counts["again"], counts["again"] + counts["kept"]) == (1, 2)


def test_a_late_row_changes_its_day_alone(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log"
    for day in DAYS:
        write_day(log, day)
    its = make_shop(str(log))
    before = facts(store, ingest(its, store))
    write_csv(log / "late" / "late.csv", [f"s1,c1,i1,{DAYS[2]}T23:00:00Z,view"])
    address = ingest(its, store)
    after = facts(store, address)
    changed = [day["day"] for day, old in zip(after["days"], before["days"], strict=True) if day["key"] != old["key"]]
    assert changed == [DAYS[2]]
    assert (after["reuse"]["changed"], after["reuse"]["unchanged"]) == (1, 6)
    (day,) = open_snapshot(store, address, days={DAYS[2]}).days
    assert (day.events, len(day.files)) == (5, 2)


def test_a_file_that_comes_late_changes_one_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store) -> None:
    monkeypatch.setattr(endcap.events.parsed_units, "ONE_IN", 4)
    log = tmp_path / "log"
    for number in range(0, 80, 2):
        write_csv(log / f"{number:02}.csv", [f"s{number},c,i,{DAYS[number % 7]}T10:00:{number % 60:02}Z,view"])
    its = make_shop(str(log))
    first = find_units(facts(store, ingest(its, store)))
    write_csv(log / "41.csv", [f"s41,c,i,{DAYS[0]}T11:00:00Z,view"])
    second = find_units(facts(store, ingest(its, store)))
    assert len(first) > 5
    assert 1 <= len(second - first) <= 2


def test_a_renamed_file_is_not_read_again(tmp_path: Path, store: Store) -> None:
    bad = "s,c,i,never,view"
    log = write_csv(tmp_path / "log" / "a.csv", [*(f"s,c,i{n},{DAYS[0]},view" for n in range(9)), bad])
    its = make_shop(str(log.parent), events={"max_bad_share": 0.5})
    ingest(its, store)
    log.rename(log.with_name("b.csv"))
    write_day(log.parent, DAYS[1])
    address = ingest(its, store)
    assert (reuse(store, address)["read"], reuse(store, address)["kept"]) == (1, 1)
    (example,) = facts(store, address)["examples"]["events"].values()
    assert example["source"] == str(log.with_name("b.csv"))
    assert f'"source": "{log.with_name("b.csv")}"' in (store.fetch(address) / "quarantine.jsonl").read_text()


def test_bad_rows_of_all_units_count_together(tmp_path: Path, store: Store) -> None:
    for day in DAYS[:3]:
        write_day(tmp_path / "log", day)
    ingest(make_shop(str(tmp_path / "log")), store)
    write_csv(tmp_path / "log" / "x" / "x.csv", ["s,c,i,never,view"])
    its = make_shop(str(tmp_path / "log"), events={"max_bad_share": 0.05})
    for _ in range(2):
        with refused(DataError, "events.bad-rows", bad=1, rows=13) as stopped:
            ingest(its, store)
        assert str(tmp_path / "log" / "x" / "x.csv") in Path(stopped.value.fields["path"]).read_text()
    assert facts(store, ingest(make_shop(str(tmp_path / "log"), events={"max_bad_share": 0.1}), store))["events"] == 12


def test_rows_of_the_future_are_read_again_the_next_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store
) -> None:
    day = 86_400
    write_csv(
        tmp_path / "log" / "a" / "a.csv", [*(f"s,c,i{n},{DAYS[0]},view" for n in range(9)), "s,c,i,2030-01-01,view"]
    )
    its = make_shop(str(tmp_path / "log"), events={"max_bad_share": 0.5})
    ingest(its, store)
    write_day(tmp_path / "log", DAYS[1])
    monkeypatch.setattr("time.time", lambda: 1_893_456_000.0 + day)
    address = ingest(its, store)
    assert reuse(store, address)["read"] == 2
    assert facts(store, address)["events"] == 14


def test_rows_that_units_share_are_dropped_once(tmp_path: Path, store: Store) -> None:
    rows = [f"s{n},c,i{n},{DAYS[0]}T10:00:00Z,view" for n in range(6)]
    write_csv(tmp_path / "log" / "a" / "a.csv", rows[:4])
    write_csv(tmp_path / "log" / "b" / "b.csv", rows[2:])
    write_day(tmp_path / "log", DAYS[1])
    its = make_shop(str(tmp_path / "log"), events={"drop_duplicates": True})
    address = ingest(its, store)
    sessions = [row[0] for row in stored(store, address)]
    assert sessions[4:] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert facts(store, address)["duplicates"] == 2
    units = set(store.list("parsed/test"))
    write_day(tmp_path / "log", DAYS[2])
    assert facts(store, ingest(its, store))["duplicates"] == 2
    assert len(set(store.list("parsed/test")) - units) == 1


def test_a_damaged_part_is_refused_and_made_again(tmp_path: Path, store: Store) -> None:
    for day in DAYS[:3]:
        write_day(tmp_path / "log", day)
    its = make_shop(str(tmp_path / "log"))
    address = ingest(its, store)
    unit = store.fetch(sorted(find_units(facts(store, address)))[0])
    (part,) = (unit / "events").rglob("*.parquet")
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError):
        open_snapshot(store, address, verify=True)
    part.write_bytes(content[:-1])
    with pytest.raises(IntegrityError):
        open_snapshot(store, address)
    for file in sorted(unit.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    unit.rmdir()
    with pytest.raises(NotFoundError):
        open_snapshot(store, address)
    assert ingest(its, store) == address
    assert len(open_snapshot(store, address, verify=True).days) == 3


def test_a_snapshot_without_days_can_be_read_but_makes_no_features(tmp_path: Path, store: Store) -> None:
    old = pa.schema([*list(EVENTS)[:6], ("row", pa.int64())])
    row = {"session": "s", "customer": "c", "item": "i", "type": "view", "part": "train"}
    with store.publish("snapshots/shop", "0" * 20) as draft:
        for number in range(2):
            folder = draft.path / "events" / f"day={DAYS[number]}"
            folder.mkdir(parents=True)
            time = 1_709_287_200_000 + number * 86_400_000
            table = pa.Table.from_pylist([{**row, "time": time, "row": number}], old)
            pq.write_table(table, folder / "part-0.parquet")
    opened = open_snapshot(store, draft.address)
    assert [(day.day, day.events, day.without_customer, day.test) for day in opened.days] == [
        (DAYS[0], 1, 0, 0),
        (DAYS[1], 1, 0, 0),
    ]
    with refused(UserError, "events.snapshot-older"):
        build(shop(), draft.address, store)


def test_a_table_is_kept_until_a_file_of_it_changes(tmp_path: Path, store: Store) -> None:
    write_day(tmp_path / "log", DAYS[0])
    items = write_csv(tmp_path / "items.csv", ["i0,red", "i1,blue"], "item,colour")
    declared = {"sources": [{"path": str(items)}], "categorical": ["colour"]}
    lines: list[str] = []
    its = make_shop(str(tmp_path / "log"), items=declared)
    first = ingest(its, store)
    units = set(store.list("parsed/test"))
    write_day(tmp_path / "log", DAYS[1])
    second = ingest(its, store, progress=lambda line: lines.append(str(line)))
    assert len(set(store.list("parsed/test")) - units) == 1
    assert facts(store, first)["items"] == facts(store, second)["items"]
    write_csv(items, ["i0,red", "i1,green"], "item,colour")
    assert facts(store, ingest(its, store))["items"]["content"] != facts(store, second)["items"]["content"]


# Any sequence of runs, against a full ingest in an empty store


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """What happens to a log between runs."""
    kinds = ["add", "add", "replace", "delete", "late", "bad", "rules", "duplicates"]
    return [(draw(st.sampled_from(kinds)), draw(st.integers(0, 1000))) for _ in range(draw(st.integers(1, 4)))]


def change(log: Path, kind: str, seed: int, rules: dict[str, Any]) -> None:
    chance = random.Random(seed)
    files = sorted(log.rglob("*.csv"))
    rows = [
        f"s{chance.randrange(5)},c{chance.randrange(3)},i{chance.randrange(6)},"
        f"{chance.choice(DAYS)}T10:{chance.randrange(4):02}:00Z,{chance.choice(['view', 'cart'])}"
        for _ in range(chance.randrange(1, 8))
    ]
    place = log / chance.choice(["a", "b"]) / f"{chance.randrange(40):02}.csv"
    if kind == "bad":
        rows.append("s,c,i,never,view")
    if kind == "delete" and len(files) > 1:
        chance.choice(files).unlink()
    elif kind == "replace" and files:
        write_csv(chance.choice(files), rows)
    elif kind == "rules":
        rules["types"] = chance.choice([None, ["view"], ["view", "cart"]])
    elif kind == "duplicates":
        rules["drop_duplicates"] = not rules.get("drop_duplicates", False)
    else:
        write_csv(place, rows)


def content(store: Store, address: str) -> Any:
    """All that a snapshot says, beside what could be kept, and where: other rules may have kept the same rows."""
    its = {name: value for name, value in facts(store, address).items() if name != "reuse"}
    its["days"] = [{name: value for name, value in day.items() if name != "parts"} for day in its["days"]]
    return its, stored(store, address, "*"), (store.fetch(address) / "quarantine.jsonl").read_text()


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(changes(), min_size=2, max_size=4), by=st.sampled_from(["given", "gap"]))
def test_any_sequence_of_runs_gives_what_a_full_ingest_gives(rounds: list[list[tuple[str, Any]]], by: str) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(endcap.events.parsed_units, "ONE_IN", 3)
        log, store = Path(name) / "log", open_store(f"{name}/store")
        rules: dict[str, Any] = {"max_bad_share": 0.9}
        write_csv(log / "a" / "00.csv", [f"s,c,i,{DAYS[0]}T09:00:00Z,view"] * 2)
        for number, round_ in enumerate(rounds):
            for kind, seed in round_:
                change(log, kind, seed, rules)
            its = make_shop(
                str(log), events=dict(rules), sessions={"by": by, "gap": "30m"} if by == "gap" else {"by": by}
            )
            empty = open_store(f"{name}/full-{number}")
            try:
                address = ingest(its, empty)
            except DataError as error:
                with refused(DataError, error.code):
                    ingest(its, store)
                continue
            again = ingest(its, store)
            assert again.rsplit("/", 1)[-1] == address.rsplit("/", 1)[-1]
            assert content(store, again) == content(empty, address)


def test_bad_rows_of_a_file_and_its_copy_are_kept_under_both_names(store: Store, tmp_path: Path) -> None:
    # Files of two folders are two units, which are read one beside the other.
    files = [
        write_csv(tmp_path / "log" / name / "log.csv", ["s,c,i,2024-03-01T10:00:00Z,view", "s,c,i,never,view"])
        for name in ("a", "b")
    ]
    both = make_shop(tmp_path / "log" / "*" / "log.csv", events={"max_bad_share": 1})
    folder = store.fetch(ingest(both, store))
    rows = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == [str(file) for file in files]
