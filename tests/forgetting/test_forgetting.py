"""Who is forgotten is in no file of the store, and does not come back from a log that still has the rows."""

from __future__ import annotations

import json
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import endcap
from endcap.batch.customers import select_customers
from endcap.cli.main import main
from endcap.errors import IntegrityError, NotFoundError, UserError
from endcap.events import ingest, snapshot_days
from endcap.features.daily.coded_day import CodedDay
from endcap.forgetting import forget, forget_customers, plan_forgetting
from endcap.lineage import compare_versions, trace_version
from endcap.online import RecentEvent, open_online
from endcap.online.key_names import list_owners
from endcap.pseudonyms import KEY, Pseudonymiser
from endcap.registry import open_registry
from endcap.registry.factory import get_default_uri
from endcap.reproduction import reproduce
from endcap.runs import Start, begin_run, end_run
from endcap.runs.fault import Fault
from endcap.samples.files import FileDescription, encode_file
from endcap.samples.key_file import find_key
from endcap.samples.places import open_place
from endcap.spec.batch import BatchSpec
from endcap.store import Store, get_content_key, open_store
from tests.cli.printed_errors import parse_error
from tests.events.shops import make_shop, stored, write_csv
from tests.lineage.test_lineage import HOME
from tests.refusals import refused
from tests.samples.examples import make_sample

ANNA, BERT = "anna-7", "anna-70"
"""The first is the beginning of the second, who stays."""
SHOP = """\
apiVersion: endcap/v2
kind: Shop
name: toys
events:
  sources: [{path: in}]
  columns: {session: session, customer: customer, type: type}
  types: [view]
  max_bad_share: 0.2
customers: {sources: [{path: customers.csv}], categorical: [tier]}
sessions: {by: gap}
"""
CUSTOMERS = [ANNA, BERT, "carl", "dora"]


def write_log(folder: Path) -> None:
    for day in range(1, 7):
        # Each file is a unit of its own. Of the last two days one customer is not.
        names = CUSTOMERS if day < 5 else CUSTOMERS[1:]
        rows = [
            f"s{day}-{name},{name},{letter},2024-03-{day:02}T10:0{step}:00Z,view"
            for place, name in enumerate(names)
            for step, letter in enumerate("abcdefg"[place : place + 3])
        ]
        rows += [f"s,{ANNA},,2024-03-{day:02}T10:30:00Z,search"] if day == 2 else []
        rows += [f"s,{ANNA},a,never,view", f"s,{ANNA},a,2024-03-03T10:00:00Z,view,more"] if day == 3 else []
        write_csv(folder / "in" / f"day-{day}" / "log.csv", rows)
    write_csv(folder / "customers.csv", [f"{name},gold" for name in CUSTOMERS], "customer,tier")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Path:
    """A shop with a version that knows its customers."""
    folder = tmp_path_factory.mktemp("forget")
    write_log(folder)
    (folder / "toys.yaml").write_text(SHOP)
    (folder / "home.yaml").write_text(HOME.replace("{name: popularity}", "{name: neumf, max_epochs: 1, width: 4}"))
    store = open_store(str(folder / "store"))
    shutil.copy(empty_registry, get_default_uri(store).removeprefix("sqlite:///"))
    make_version(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "shop")
    # MLflow remembers in its process where the files of a run lie, and the copy has runs of the same names.
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())
    return tmp_path / "shop"


def open_project(folder: Path) -> endcap.Project:
    return endcap.open(folder / "home.yaml", store=str(folder / "store"), online="none")


def make_version(folder: Path) -> None:
    project = open_project(folder)
    for step in (project.ingest, project.features, project.train, project.evaluate, project.refit, project.register):
        step()


def make_data(folder: Path) -> Callable[[], tuple[str, str]]:
    def make() -> tuple[str, str]:
        project = open_project(folder)
        return project.ingest().address, project.features().address

    return make


def list_texts(value: Any) -> set[str]:
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return set(map(str, value.to_pylist()))
    return set(re.split(r"[^\w.@-]+", value))


def read_all(store: Store) -> dict[str, set[str]]:
    """All words of each file of a store, whatever it is packed in."""
    root = Path(store.root.removeprefix("file://"))
    words = {}
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        if file.suffix == ".parquet":
            table = pq.read_table(file, partitioning=None)
            words[str(file.relative_to(root))] = set().union(*(list_texts(column) for column in table.columns))
        elif file.suffix == ".arrow":
            day = CodedDay.open(file)
            words[str(file.relative_to(root))] = list_texts(day.train.customers) | list_texts(day.test.customers)
        else:
            words[str(file.relative_to(root))] = list_texts(file.read_text(errors="replace"))
    return words


def find_all(store: Store, word: str) -> set[str]:
    return {name.split("/")[0] for name, words in read_all(store).items() if word in words}


def list_units(store: Store) -> dict[str, bool]:
    """The parsed units of the log, each with whether it has the customer."""
    units: dict[str, bool] = {}
    for name, words in read_all(store).items():
        if name.startswith("parsed/"):
            unit = name.split("/")[2]
            units[unit] = units.get(unit, False) or ANNA in words
    return units


@pytest.mark.slow
def test_nothing_of_a_customer_is_left_once_no_version_that_serves_knows_them(folder: Path) -> None:
    store = open_store(str(folder / "store"))
    holding = {"coded", "datasets", "packages", "parsed", "refitted", "snapshots"}
    assert find_all(store, BERT) == holding
    assert find_all(store, ANNA) == holding | {"reports", "mlflow-artifacts"}
    units = {name for name, has in list_units(store).items() if not has}
    before = snapshot_days.open_snapshot(store, store.list("snapshots/toys")[-1]).facts

    planned = plan_forgetting(store, "toys", [ANNA])
    assert store.read_document("forgotten/toys") is None
    first = forget_customers(store, "toys", [ANNA], why="asked on paper", remake=make_data(folder))
    assert {artifact.name for artifact in first.removed} == {artifact.name for artifact in planned.removed}
    assert [kept.artifact.kind for kept in first.kept] == ["packages"]
    assert not first.is_done
    assert first.versions == planned.versions == (("home", "1"),)
    assert find_all(store, ANNA) == {"packages"}
    after = snapshot_days.open_snapshot(store, store.list("snapshots/toys")[-1]).facts
    assert after["left_out"]["events"]["forgotten"] == 4 * 3 + 2
    assert after["left_out"]["customers"] == {"forgotten": 1}
    assert [sum(facts["bad"]["events"].values()) for facts in (before, after)] == [2, 1]
    assert len(units) == 2
    assert units <= list_units(store).keys()

    make_version(folder)
    open_registry(None, store).promote("home", "2", returns=True)
    second = forget_customers(store, "toys", [ANNA], remake=make_data(folder))
    assert second.is_done
    assert [artifact.kind for artifact in second.removed] == ["packages"]
    assert second.request == first.request
    assert find_all(store, ANNA) == set()
    assert BERT in set().union(*read_all(store).values())
    assert forget_customers(store, "toys", [ANNA], remake=make_data(folder)).removed == ()
    assert plan_forgetting(store, "toys", [BERT]).versions == (("home", "1"), ("home", "2"))


def test_reproduction_and_lineage_say_that_a_customer_is_forgotten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(folder / "store"))
    version = open_registry(None, store).get_version("home", "1")
    before = trace_version(version, store)
    done = forget_customers(store, "toys", [ANNA])
    differences = compare_versions(before, trace_version(version, store))
    assert (None, done.request) in {(row.first, row.second) for row in differences if row.name == "forgotten"}
    with refused(NotFoundError, "reproduction.forgotten", version="1"):
        reproduce(version, store)
    gone = {
        artifact.kind: artifact.tombstone for artifact in trace_version(version, store).artifacts if artifact.is_gone
    }
    assert gone.keys() >= {"datasets", "snapshots", "refitted"}
    assert {tombstone.request for tombstone in gone.values() if tombstone} == {done.request}
    capsys.readouterr()
    main(["lineage", "home", "--version", "1", "--store", store.root])
    assert done.request in capsys.readouterr().out


@pytest.mark.parametrize("step", ["replace_units", "list_earlier_runs", "_remove", "hide_in_run_records"])
def test_a_call_goes_on_where_a_killed_one_ended(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(folder / "store"))
    whole = getattr(forget, step)
    calls = []

    def kill(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == (3 if step == "_remove" else 1):
            raise KeyboardInterrupt
        return whole(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(forget, step, kill)
        with pytest.raises(KeyboardInterrupt):
            forget_customers(store, "toys", [ANNA], remake=make_data(folder))
    forget_customers(store, "toys", [ANNA], remake=make_data(folder))
    assert find_all(store, ANNA) == {"packages"}
    assert open_project(folder).ingest().address == store.list("snapshots/toys")[-1]
    assert find_all(store, ANNA) == {"packages"}


def test_runs_that_go_on_are_waited_for_and_their_errors_are_cleared(folder: Path) -> None:
    store = open_store(str(folder / "store"))
    begin_run(store, "home-long", Start(recommender="home"))
    begin_run(store, "home-failed", Start(recommender="home"))
    quoted = Fault(f"such as 's, {ANNA}, a' in line 3; {BERT} is another", code="events.bad-rows")
    end_run(store, "home-failed", "failed", [], quoted)
    waiting = forget_customers(store, "toys", [ANNA])
    assert (waiting.waiting_for, waiting.removed) == (("home-long",), ())
    assert {"datasets", "runs"} <= find_all(store, ANNA)
    end_run(store, "home-long", "succeeded", [])
    done = forget_customers(store, "toys", [ANNA])
    assert done.records == ("runs/home-failed",)
    assert find_all(store, ANNA) == {"packages"}
    assert "runs" in find_all(store, BERT)


def test_a_customer_of_another_shop_with_the_same_id_stays(folder: Path) -> None:
    store = open_store(str(folder / "store"))
    assert plan_forgetting(store, "other", [ANNA]).removed == ()
    forget_customers(store, "other", [ANNA])
    assert find_all(store, ANNA) >= {"datasets", "snapshots"}


def test_online_store_intake_and_samples_forget_a_customer_alike(folder: Path) -> None:
    store = open_store(str(folder / "store"))
    root = folder / "store"
    online = f"sqlite://{root}/online.sqlite"
    days, pseudonym = timedelta(days=1), Pseudonymiser(find_key(store, create=True).encode())
    with open_online(online, shop="toys") as opened:
        opened.append({owner: [RecentEvent("a", 1)] for name in (ANNA, BERT) for owner in list_owners("s", name)}, days)
    for kind, rows in (("events", [ANNA, BERT, None]), ("impressions", [BERT]), ("orders", [ANNA])):
        (root / "intake" / kind / "date=2024-03-07").mkdir(parents=True)
        table = pa.table({"customer": pa.array(rows, pa.string()), "item": ["a"] * len(rows)})
        pq.write_table(table, root / "intake" / kind / "date=2024-03-07" / "i-000000000001.parquet")
    place = open_place(str(root / "samples"))
    sampled = [make_sample(customer=pseudonym.pseudonymise(name)) for name in (ANNA, BERT)]
    place.write("home/date=2024-03-07/i-0.parquet", encode_file(sampled, FileDescription("i", 0)))
    (root / ".work" / "intake" / "home" / "segments").mkdir(parents=True)
    (root / ".work" / "intake" / "home" / "segments" / "1.log").write_text(f'{{"customer": "{ANNA}"}}')

    rows = {str(root / "intake"): 2, str(root / "samples"): 1}
    planned = plan_forgetting(store, "toys", [ANNA])
    assert (planned.online, planned.files) == (2, rows)
    done = forget_customers(store, "toys", [ANNA])
    assert (done.online, done.files, len(done.open_segments), done.is_done) == (2, rows, 1, False)
    with open_online(online, shop="toys") as opened:
        events = opened.recent(list_owners("s", ANNA) + list_owners("s", BERT), 1)
    assert events == [[], [], [RecentEvent("a", 1)], [RecentEvent("a", 1)]]
    # What the intake has accepted is not touched: it seals it first.
    assert find_all(store, ANNA) == {"packages", ".work"}
    assert find_all(store, pseudonym.pseudonymise(ANNA)) == set()
    assert {"intake", "online.sqlite"} <= find_all(store, BERT)
    assert find_all(store, pseudonym.pseudonymise(BERT)) == {"samples"}
    (root / ".work" / "intake" / "home" / "segments" / "1.log").unlink()
    again = forget_customers(store, "toys", [ANNA])
    assert (again.online, again.files, again.open_segments) == (0, {}, ())
    (root / "intake" / "events" / "date=2024-03-07" / "i-000000000001.parquet").write_bytes(b"damaged")
    with refused(IntegrityError, "forgetting.file-damaged"):
        plan_forgetting(store, "toys", [ANNA])


def test_an_id_that_is_another_value_of_a_bad_row_costs_no_data(folder: Path) -> None:
    store = open_store(str(folder / "store"))
    write_csv(folder / "in" / "day-6" / "log.csv", [f"s,carl,{ANNA},never,view", "s,carl,a,2024-03-06T10:00:00Z,view"])
    for _ in range(3):
        forget_customers(store, "toys", [ANNA], remake=make_data(folder))
        assert snapshot_days.open_snapshot(store, store.list("snapshots/toys")[-1]).files
        assert store.list("datasets/toys")


def test_who_has_a_pseudonym_is_forgotten_by_the_plain_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "a key of no use elsewhere")
    pseudonyms = Pseudonymiser(b"a key of no use elsewhere")
    store, sets = open_store(str(folder / "store")), ["shop.events.pseudonyms=true"]
    project = endcap.open(folder / "home.yaml", sets=sets, store=store.root, online="none")
    project.ingest()
    assert find_all(store, pseudonyms.pseudonymise(ANNA)) == {"parsed", "snapshots"}
    where = ["--store", store.root, "--online", "none", "--set", *sets]
    with pytest.raises(SystemExit, match="4"):
        main(["events", "forget", str(folder / "home.yaml"), ANNA, *where])
    assert find_all(store, pseudonyms.pseudonymise(ANNA)) == set()
    assert find_all(store, pseudonyms.pseudonymise(BERT)) >= {"parsed", "snapshots", "datasets"}
    assert find_all(store, ANNA) == {"packages"}


def test_a_snapshot_goes_with_the_units_that_it_refers_to(store: Store, tmp_path: Path) -> None:
    for name in (ANNA, BERT):
        write_csv(tmp_path / "log" / name / "log.csv", [f"s-{name},{name},a,2024-03-01T10:00:00Z,view"])
    shop = make_shop(str(tmp_path / "log"))
    before = ingest(shop, store)
    done = forget_customers(store, "test", [ANNA], remake=lambda: [ingest(shop, store)])
    assert [artifact.kind for artifact in done.removed] == ["snapshots", "parsed"]
    assert done.removed[0].address == before
    assert [row[1] for row in stored(store, *store.list("snapshots/test"))] == [BERT]
    assert len(store.list("parsed/test")) == 2


def test_the_command_shows_what_holds_a_customer_and_forgets_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, store = str(folder / "home.yaml"), open_store(str(folder / "store"))
    (folder / "who.txt").write_text(f"{ANNA}\n\n")

    def call(*arguments: str) -> Any:
        capsys.readouterr()
        where = ["--store", store.root, "--online", "none", "--json"]
        try:
            main(["events", "forget", spec, *arguments, *where])
        except SystemExit as ended:
            if ended.code != 4:
                return parse_error(capsys.readouterr().out)["code"]
        return json.loads(capsys.readouterr().out)

    planned = call(ANNA, "--dry-run")
    assert {get_content_key(name).split("/")[0] for name in planned["removed"]} >= {"datasets", "parsed"}
    done = call("--file", str(folder / "who.txt"))
    assert done["removed"] == planned["removed"]
    assert done["done"] is False
    assert find_all(store, ANNA) == {"packages"}
    (folder / "chosen.csv").write_text(f"customer\n{ANNA}\n{BERT}\n")
    chosen = select_customers(BatchSpec(), store.list("datasets/toys")[-1], store, str(folder / "chosen.csv"))
    assert chosen.ids.take(pa.array(chosen.customers)).to_pylist() == [BERT]
    assert chosen.facts["unknown"] == {"count": 0, "customers": []}
    assert call() == "forgetting.nobody"
    with refused(UserError, "forgetting.nobody"):
        forget_customers(store, "toys", [])
