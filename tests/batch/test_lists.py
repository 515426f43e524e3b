"""What stands in a list: what a ranking of the customer would be, less what the rules take away."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from endcap.batch import find_served_versions
from endcap.deploy.state import CanaryTarget, Deployment, Target, write_state
from endcap.errors import DataError, NotFoundError, UserError
from endcap.features import build
from endcap.registry.package import load_package
from endcap.store import Store, fingerprint_code, open_store
from tests.batch import stand_ins
from tests.batch.conftest import Little
from tests.batch.given import NOW, FakeRegistry, kept, log, made, of, package, rows
from tests.features.logs import DAY, event, sessions, shop, snapshot, table
from tests.refusals import refused

MODELS: dict[str, dict[str, Any]] = {
    "sessions": {"name": "sequential-rules"},
    "customers": {"name": "ease", "history": "customer", "regularisation": 1.0},
    "features": {
        "name": "gru4rec",
        "width": 8,
        "batch_size": 4,
        "negatives": 4,
        "max_epochs": 2,
        "features": ["place"],
    },
}
EXCLUDE = {"sessions": "seen", "customers": "last", "features": "none"}
ALONE = {"min_session_events": 1}
PLACE = {"events": [{"name": "place", "kind": "position", "buckets": [1, 3]}]}


def histories(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Every customer's events in a dataset, oldest first."""
    items, customers = ([row[name] for row in table(folder, f"{name}s")] for name in ("item", "customer"))
    found: dict[str, list[tuple[str, int]]] = {customer: [] for customer in customers}
    for row in sorted(table(folder, "events"), key=lambda row: row["time"]):
        if row["customer"] >= 0:
            found[customers[row["customer"]]].append((items[row["item"]], row["time"]))
    return found


@pytest.fixture(scope="module")
def week_later(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, str]:
    """Two logs of one shop; in the second are more customers and items, and other numbers for all."""
    store, its = open_store(str(tmp_path_factory.mktemp("weeks"))), shop(features=PLACE)
    return store, log(store, its), log(store, its, sessions=60, customers=15)


@pytest.mark.parametrize("name", MODELS)
def test_a_list_is_the_ranking_of_the_customers_recent_events(
    week_later: tuple[Store, str, str], registry: FakeRegistry, name: str
) -> None:
    store, first, second = week_later
    spec = of(name, MODELS[name], exclude=EXCLUDE[name], serving={"recent_events": 7})
    registry.versions["4"] = package(store, spec, first)
    lists = rows(store, made(spec, store, shop(features=PLACE), dataset=second).address)
    ranker = load_package(store.fetch(registry.versions["4"])).ranker
    known = histories(store.fetch(second))
    assert len(lists) == len(known) == 15
    assert any(item in "mn" for events in known.values() for item, _ in events[-7:])
    for customer, events in known.items():
        asked = [{"item": item, "time": time} for item, time in events[-7:]]
        (answer,) = ranker.rank([ranker.parse({"events": asked, "customer": customer, "k": 6})])
        found = lists[customer]
        assert found["items"] == answer.ids, customer
        for score, wanted in zip(found["scores"], answer.scores, strict=True):
            assert score is wanted is None or score == pytest.approx(wanted, rel=1e-4, abs=1e-6)
        assert (found["model_version"], found["made"].timestamp() * 1000) == ("4", NOW)


MINUTES = [("a", 0), ("b", 10), ("c", 60), ("d", 85), ("e", 115)]
SEARCHES = [("", 100)]


@pytest.mark.parametrize(
    ("trained", "dataset", "expected"),
    [
        ("20m", "20m", "de"),  # the search holds two views together
        ("25m", "25m", "cde"),
        ("25m", "26m", "e"),  # by what the events of the dataset tell
        (None, "25m", "abcde"),
        ("25m", None, "e"),
        (None, None, "abcde"),
    ],
)
def test_a_customers_events_count_from_the_gap_on_by_which_the_model_learnt(
    store: Store, registry: FakeRegistry, trained: str | None, dataset: str | None, expected: str
) -> None:
    others = [event(f"s{n}", item, 1000 * n + at, f"c{n}") for n in range(1, 4) for at, item in enumerate("abcdexyz")]
    its = [event("s", item, at * 60_000, "c0") for item, at in MINUTES]
    taken = snapshot(store, [*its, *others], activity=[event("", item, at * 60_000, "c0") for item, at in SEARCHES])
    made_by = [
        build(shop(sessions={"by": "given"} if gap is None else {"by": "gap", "gap": gap}, filters=ALONE), taken, store)
        for gap in (trained, dataset)
    ]
    spec = of("gap", MODELS["sessions"], exclude="seen", batch={"k": 50})
    registry.versions["1"] = package(store, spec, made_by[0])
    lists = rows(store, made(spec, store, shop(), dataset=made_by[1]).address)
    # What is seen is not listed.
    assert set("abcdexyz") - set(lists["c0"]["items"]) == set(expected)


def test_what_the_rules_forbid_is_in_no_list_nor_what_a_customer_owns_in_that_customers(
    store: Store, registry: FakeRegistry, tmp_path: Path
) -> None:
    (tmp_path / "never.csv").write_text("item\na\nx\nnot-known\n")
    blacklist = {"sources": [{"path": str(tmp_path / "never.csv")}]}
    columns = {"session": "session", "customer": "customer", "type": "type"}
    its = shop(
        events={"sources": [{"path": "events.csv"}], "columns": columns},
        rules={"blacklist": blacklist, "owned": {"types": ["purchase"], "keep": "1d"}},
    )
    bought = {"c0": "by", "c3": "z"}
    events = [
        {**event(f"s{who}", item, 2 * DAY + 1000 * number, f"c{who}"), "type": kind}
        for who in range(5)
        for number, item in enumerate("abcxyzw")
        for kind in ["view", *(["purchase"] if item in bought.get(f"c{who}", "") else [])]
    ]
    # What was bought too long ago counts no more.
    events.append({**event("old", "w", 0, "c0"), "type": "purchase"})
    dataset = build(its, snapshot(store, events), store)
    spec = of("rules", MODELS["sessions"], batch={"k": 50})
    registry.versions["1"] = package(store, spec, dataset)
    lists = rows(store, made(spec, store, its).address)
    assert len(lists) == 5
    # All that is left is listed once, by score or to fill up.
    left = set("bcyzw")
    assert {who: set(row["items"]) for who, row in lists.items()} == {
        who: left - set(bought.get(who, "")) for who in lists
    }
    assert all(len(row["items"]) == len(set(row["items"])) for row in lists.values())
    assert any(None in row["scores"] for row in lists.values())


def test_lists_are_made_anew_only_where_something_changed(
    little: Little, registry: FakeRegistry, tmp_path: Path
) -> None:
    blacklist = tmp_path / "never.csv"
    blacklist.write_text("item\na\n")
    its = shop(rules={"blacklist": {"sources": [{"path": str(blacklist)}]}})
    registry.versions["1"] = little.package
    first = made(of("anew"), little.store, its).address
    assert made(of("anew", batch={"workers": 7, "keep": "1d"}), little.store, its).address == first
    assert made(of("anew", batch={"k": 3}), little.store, its).address != first
    blacklist.write_text("item\nb\n")
    assert made(of("anew"), little.store, its).address != first
    assert kept(little.store, "anew") == []


def test_customers_that_a_file_names(little: Little, registry: FakeRegistry, tmp_path: Path) -> None:
    spec, lines = of("named"), list[str]()
    registry.versions["1"] = little.package
    (tmp_path / "some.csv").write_text("customer\nc3\nnobody\nc0\nc3\n")
    found = made(spec, little.store, customers=str(tmp_path / "some.csv"), progress=lines.append)
    assert sorted(rows(little.store, found.address)) == ["c0", "c3"]
    assert found.facts["unknown"] == {"count": 1, "customers": ["nobody"]}
    assert any("1 customers of" in line and "not in the dataset: nobody" in line for line in lines)
    (tmp_path / "none.csv").write_text("customer\nnobody\n")
    none = str(tmp_path / "none.csv")
    with refused(DataError, "batch.customers-unknown", path=none, count=1, found=["nobody"]):
        made(spec, little.store, customers=str(tmp_path / "none.csv"))
    (tmp_path / "wrong.csv").write_text("id\nc0\n")
    with refused(DataError, "batch.column-missing", column="customer", found=["id"]):
        made(spec, little.store, customers=str(tmp_path / "wrong.csv"))


def test_only_customers_active_before_the_logs_end(little: Little, registry: FakeRegistry) -> None:
    # A session begins every 100 s, the last one's customer is c11.
    registry.versions["1"] = little.package
    found = made(of("active", batch={"active_within": "250s"}), little.store)
    assert sorted(rows(little.store, found.address)) == ["c10", "c11", "c9"]
    assert len(rows(little.store, made(of("active"), little.store).address)) == 12


def test_a_log_without_customers_is_told(store: Store, registry: FakeRegistry) -> None:
    dataset = build(shop(), snapshot(store, sessions("abc bca cab")), store)
    registry.versions["1"] = package(store, of("nobody"), dataset)
    with refused(DataError, "batch.no-customers", dataset=dataset):
        made(of("nobody"), store)


def test_versions_that_serve_have_lists_and_no_others(store: Store, registry: FakeRegistry) -> None:
    spec = of("served")
    with refused(NotFoundError, "batch.no-champion", recommender=spec.name):
        find_served_versions(spec, store, None, None)
    registry.versions |= {"3": "file:///three", "4": "file:///four", "5": "file:///five"}
    with refused(NotFoundError, "registry.version-not-found", found="9", allowed=["3", "4", "5"]):
        find_served_versions(spec, store, None, "9")
    assert [one.version for one in find_served_versions(spec, store, None, "5")] == ["5"]
    assert [one.version for one in find_served_versions(spec, store, None, None)] == ["3"]
    challenger = CanaryTarget(version="4", package="file:///four", share=0.1)
    stable = Target(version="3", package="file:///three")
    state = {"recommender": spec.name, "stable": stable, "canary": challenger, "salt": "ab", "changed": "2026-01-01"}
    write_state(Deployment.model_validate(state), store)
    assert [one.version for one in find_served_versions(spec, store, None, None)] == ["3", "4"]


def test_a_package_of_another_format_is_refused(little: Little, registry: FakeRegistry) -> None:
    store, place = little.store, little.store.fetch(little.package)
    with store.publish("packages/other", "format") as draft:
        shutil.copytree(place, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        info = draft.path / "info.json"
        info.write_text(json.dumps({**json.loads(info.read_text()), "format": 99}))
    registry.versions["1"] = draft.address
    with refused(UserError, "store.newer-format", kind="package", found=99):
        made(of("other"), store)
    assert store.list("recommendations/other") == []


def test_the_code_of_a_packages_own_class_counts_whatever_the_spec_names_since(
    store: Store, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(stand_ins.__file__).read_text(encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "acme_slow.py"
    file.write_text(source)
    path = "acme_slow:Slow"
    dataset = log(store)
    registry.versions["1"] = package(store, of("own", {"name": "custom", "class": path}, classes=[path]), dataset)
    spec = of("own")
    first = made(spec, store, dataset=dataset)
    assert made(spec, store, dataset=dataset) == first
    file.write_text(source.replace("np.abs(last", "-np.abs(last"))
    fingerprint_code.cache_clear()
    assert made(spec, store, dataset=dataset).address != first.address
