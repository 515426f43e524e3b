"""A log that changes by days: what is made of what is new or changed equals what is made of all.

A small shop's log lies in files by day. After each of a series of changes, ingest and features run in a store that has
seen all states before, and in an empty one. Both must make the same dataset.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endcap.errors import DataError
from endcap.events import ingest
from endcap.features import build
from endcap.spec import Shop
from endcap.store import Store, get_content_key, open_store
from tests.features import logs

FIRST = datetime(2024, 6, 3, tzinfo=UTC)
HEADER = "session,customer,item,time,type,line"
MINUTES = (0, 1, 10, 45, 700, 710, 745, 1380, 1415, 1439)
"""Few moments of a day, so that many events have one time, and some sessions go on over midnight."""


@dataclass(frozen=True)
class Row:
    """A row of the log, `minute` minutes after the begin of its file's day."""

    session: str
    customer: str
    item: str
    minute: int
    type: str
    line: str

    def write(self, day: int) -> str:
        moment = FIRST + timedelta(days=day, minutes=self.minute)
        return f"{self.session},{self.customer},{self.item},{moment:%Y-%m-%dT%H:%M:%SZ},{self.type},{self.line}"


ROWS = st.builds(
    Row,
    session=st.sampled_from(["s1", "s2", "s3", "s4", "s5", "s6", ""]),
    customer=st.sampled_from(["c1", "c1", "c2", "c3", "ç4", ""]),
    item=st.sampled_from(["i1", "i1", "i1", "i2", "i2", "i3", "i4", "ï5"]),
    # A file may hold rows of the day before, and of the day after.
    minute=st.builds(
        lambda day, minute: 1440 * day + minute, st.sampled_from([0, 0, 0, -1, 1]), st.sampled_from(MINUTES)
    ),
    type=st.sampled_from(["view", "view", "buy", "search"]),
    line=st.sampled_from(["1", "2", "-1", "7", "none"]),
)
FILES = st.lists(ROWS, min_size=1, max_size=12)


@dataclass(frozen=True)
class World:
    """A state of the shop: the files of its log by name with their day and rows, and the keys of its spec."""

    files: Mapping[str, tuple[int, tuple[Row, ...]]]
    test: tuple[Row, ...] = ()
    colours: tuple[str, ...] = ("red", "blue", "")
    keys: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, Any] = field(default_factory=dict)
    until: int | None = None

    def write(self, folder: Path) -> None:
        (folder / "log").mkdir(exist_ok=True)
        for file in (folder / "log").iterdir():
            file.unlink()
        for name, (day, rows) in self.files.items():
            _write_file(folder / "log" / name, [row.write(day) for row in rows])
        if self.test:
            _write_file(folder / "test.csv", [row.write(1) for row in self.test])
        items = [f"i{number},{colour}" for number, colour in enumerate(self.colours, 1)]
        (folder / "items.csv").write_text("\n".join(["item,colour", *items]) + "\n")

    def make_shop(self, folder: Path) -> Shop:
        sources = [{"path": str(folder / "log")}]
        sources += [{"path": str(folder / "test.csv"), "part": "test"}] if self.test else []
        columns = {"session": "session", "customer": "customer", "type": "type", **self.events.get("columns", {})}
        return Shop.model_validate(
            {
                "apiVersion": "endcap/v2",
                "kind": "Shop",
                "name": "shop",
                "events": {"sources": sources, "max_bad_share": 1, **self.events, "columns": columns},
                "items": {"sources": [{"path": str(folder / "items.csv")}], "categorical": ["colour"]},
                "features": {
                    "events": [{"name": kind, "kind": kind} for kind in ("position", "gap", "repeat", "hour")]
                },
                **self.keys,
            }
        )


def _write_file(file: Path, rows: list[str]) -> None:
    file.write_text("\n".join([HEADER, *rows]) + "\n")


def _name(day: int, number: int = 0) -> str:
    return f"{FIRST + timedelta(days=day):%Y-%m-%d}-{number}.csv"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A shop with three or four days."""
    files = {_name(day): (day, tuple(draw(FILES))) for day in range(draw(st.integers(3, 4)))}
    keys: dict[str, Any] = {"sessions": {"by": draw(st.sampled_from(["given", "gap"]))}, "filters": draw(FILTERS)}
    events: dict[str, Any] = {"drop_duplicates": draw(st.booleans())}
    if draw(st.booleans()):
        events["types"] = ["view"]
        keys["rules"] = draw(st.sampled_from([{}, {"owned": {"types": ["buy"]}}]))
    if draw(st.booleans()):
        events["columns"] = {"order": "line"}
    return World(files, tuple(draw(st.sampled_from([[], draw(FILES)]))), keys=keys, events=events)


FILTERS = st.fixed_dictionaries(
    {
        "min_session_events": st.integers(1, 2),
        "min_item_events": st.integers(1, 3),
        "min_customer_events": st.integers(1, 3),
    }
)


@st.composite
def changes(draw: st.DrawFn, world: World) -> World:
    """The world after a change that shops meet."""
    files = dict(world.files)
    names = sorted(files)
    name = draw(st.sampled_from(names))
    day, rows = files[name]
    match draw(
        st.sampled_from(["new", "late", "grow", "delete", "replace", "rename", "copy", "filters", "window", "items"])
    ):
        case "new":
            last = max(day for day, _ in files.values())
            files[_name(last + 1)] = (last + 1, tuple(draw(FILES)))
        case "late":  # a file of its own, whose name may come before those that are there
            files[_name(day, draw(st.integers(-3, 3)))] = (day, tuple(draw(FILES)))
        case "grow":
            files[name] = (day, (*rows, *draw(FILES)))
        case "delete" if len(files) > 1:
            del files[name]
        case "replace":
            files[name] = (day, tuple(draw(FILES)))
        case "rename":
            files[f"{draw(st.sampled_from('az'))}{name}"] = files.pop(name)
        case "copy":
            files[_name(day, draw(st.integers(-3, 3)))] = (day, rows)
        case "filters":
            return dataclasses.replace(world, keys={**world.keys, "filters": draw(FILTERS)})
        case "window":
            window, until = draw(st.sampled_from([None, "36h", "2d"])), draw(st.sampled_from([None, 1, 2, 4]))
            return dataclasses.replace(world, keys={**world.keys, "window": window}, until=until)
        case "items":
            return dataclasses.replace(world, colours=(*world.colours, "green"))
    return dataclasses.replace(world, files=files)


@st.composite
def histories(draw: st.DrawFn) -> list[World]:
    """A world and what becomes of it."""
    worlds_so_far = [draw(worlds())]
    for _ in range(draw(st.integers(1, 4))):
        worlds_so_far.append(draw(changes(worlds_so_far[-1])))
    return worlds_so_far


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
@given(histories())
def test_what_is_made_of_changes_equals_what_is_made_of_all(history: list[World]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = open_store(str(folder / "kept"))
        for number, world in enumerate(history):
            world.write(folder)
            shop, until = world.make_shop(folder), None if world.until is None else FIRST + timedelta(days=world.until)
            incremental = _make(shop, kept, until)
            assert incremental == _make(shop, open_store(str(folder / f"empty-{number}")), until)


def _make(shop: Shop, store: Store, until: datetime | None) -> dict[str, Any]:
    """What a reader meets: of the snapshot, and of the dataset, or the code of the error."""
    try:
        snapshot = ingest(shop, store)
    except DataError as error:
        return {"code": error.code}
    facts = store.manifest(snapshot)["facts"]
    made = {
        name: facts[name] for name in ("fingerprint", "events", "first", "last", "read", "bad", "left_out", "parts")
    }
    made |= {"snapshot": get_content_key(snapshot), "days": [(day["day"], day["key"]) for day in facts["days"]]}
    try:
        dataset = build(shop, snapshot, store, until=until)
    except DataError as error:
        return {**made, "code": error.code}
    facts = store.manifest(dataset)["facts"]
    made["dataset"] = {name: value for name, value in facts.items() if name not in ("snapshot", "reuse")}
    folder = store.fetch(dataset)
    return made | {name: pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("items", "customers")}


def test_days_need_no_ibis(store: Store) -> None:
    """Its import takes half a second, which a new day of a small log would pay."""
    address = logs.snapshot(store, logs.sessions("abc abd"))
    script = (
        "import sys; from endcap.features import build; from endcap.spec import Shop;"
        "from endcap.store import open_store;"
        "build(Shop.model_validate_json(sys.argv[1]), sys.argv[2], open_store(sys.argv[3]));"
        "assert 'ibis' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, logs.shop().model_dump_json(), address, store.root], check=True)
