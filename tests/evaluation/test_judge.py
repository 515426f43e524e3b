"""Verdicts on a shop where after each item comes the next of a circle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endcap import training as steps
from endcap.errors import IntegrityError
from endcap.evaluation import describe_verdict, judge
from endcap.features import build
from endcap.features.view import open_view
from endcap.models import Fitting, make
from endcap.registry import Registry, get_default_uri, register
from endcap.registry.package import RULES, load_package, write_package
from endcap.spec import Recommender, Shop
from endcap.spec.gate import Gate
from endcap.store import Store, fingerprint
from tests.features.logs import DAY, MONDAY, dataset, event, recommender, sessions, shop, snapshot
from tests.refusals import refused

CIRCLE = "abcdef"
BASELINES = [{"name": "popularity"}]
GATE = [
    {"metric": "mrr@5", "against": "best-baseline", "min": 0.1, "bound": "lower"},
    {"metric": "hr@5", "against": "champion", "min": 0.0},
]


EVIDENCE = {"min_sessions": 1, "max_half_width": 10.0}
"""These logs are toys."""


def walks(letters: str, count: int) -> str:
    return " ".join("".join(letters[(start + step) % len(letters)] for step in range(5)) for start in range(count))


def log(store: Store, letters: str = CIRCLE) -> str:
    """Test sessions are given, and begin when the training sessions do."""
    rows = sessions(walks(letters, 40)) + sessions(walks(letters, 20), part="test")
    return f"file://{dataset(store, rows)}"


def spec(**keys: Any) -> Recommender:
    given = {"by": "given", "validation": 0.2}
    model = {"name": "sequential-rules"}
    evaluation = {"cutoffs": [2, 5], "bootstrap": 200}
    defaults = {"split": given, "model": model, "baselines": BASELINES, "gate": GATE, "evaluation": evaluation}
    merged = {**defaults, **keys}
    return recommender(**{**merged, "gate": {"evidence": EVIDENCE, "conditions": merged["gate"]}})


def train(wanted: Recommender, data: str, store: Store) -> str:
    view = open_view(store.fetch(data), wanted)
    model = make(wanted.model)
    model.fit(view.training, len(view.vocabulary), Fitting())
    with store.publish("trained/test", fingerprint(data, wanted.model_dump(mode="json"))) as draft:
        (draft.path / "model").mkdir()
        model.save(draft.path / "model")
        view.vocabulary.save(draft.path / "vocabulary.json")
        draft.facts.update(dataset=data, model=wanted.model.model_dump(mode="json"), epochs=0, history=[])
    return draft.address


def promote(wanted: Recommender, data: str, verdict: str, store: Store, fitted_until: int) -> str:
    """Package what was judged, and register it."""
    view = open_view(store.fetch(data), wanted)
    model = make(wanted.model)
    model.fit(view.training, len(view.vocabulary), Fitting())
    with store.publish("packages/test", fingerprint(verdict)) as draft:
        write_package(
            draft.path,
            model=model,
            vocabulary=view.vocabulary,
            items=view.items,
            recommender=wanted,
            fitted_until=fitted_until,
            recipe={"model": wanted.model.model_dump(mode="json"), "found": {}},
            lineage={},
        )
    return register(wanted, draft.address, verdict, store)


def test_a_better_model_passes_and_its_verdict_is_found_again(shop_store: Store) -> None:
    data = log(shop_store)
    trained = train(spec(), data, shop_store)
    verdict = judge(spec(), data, trained, shop_store)
    facts = shop_store.manifest(verdict)["facts"]
    assert facts["passed"]
    assert facts["metrics"]["challenger"]["mrr@5"] == 1.0
    assert facts["predictions"] == facts["segments"]["challenger"]["prefix"]["1"]["predictions"] * 4 == 80
    assert facts["metrics"]["popularity"]["mrr@5"] < 0.6
    lower, upper = facts["intervals"]["popularity"]["mrr@5"]
    assert lower <= facts["metrics"]["popularity"]["mrr@5"] <= upper
    first, second = facts["conditions"]
    assert first["text"].startswith("mrr@5 minus popularity's (lower end) is 0.")
    assert second["note"] == "no champion yet"
    assert describe_verdict(facts).startswith("gate passed: mrr@5 minus popularity's")
    rows = json.loads((shop_store.fetch(verdict) / "report.json").read_text())["table"]
    assert {row["model"] for row in rows} == {"challenger", "popularity"}
    assert Registry(get_default_uri(shop_store)).client.get_run(facts["mlflow_run"]).data.metrics["mrr_at_5"] == 1.0
    assert judge(spec(), data, trained, shop_store) == verdict
    assert len(shop_store.list("verdicts/test")) == 1


def test_a_worse_model_fails_and_the_verdict_says_by_what(shop_store: Store) -> None:
    worse = spec(model={"name": "popularity"}, baselines=[{"name": "sequential-rules"}])
    data = log(shop_store)
    facts = shop_store.manifest(judge(worse, data, train(worse, data, shop_store), shop_store))["facts"]
    assert not facts["passed"]
    assert describe_verdict(facts).startswith("gate failed: mrr@5 minus sequential-rules's (lower end) is -")
    assert "no champion" not in describe_verdict(facts)


def test_the_champion_is_judged_in_its_own_vocabulary_on_the_same_sessions(shop_store: Store) -> None:
    """The champion learnt on a circle from d to i: of the later one, from a to f, it knows d, e and f only."""
    old, new = log(shop_store, "defghi"), log(shop_store)
    trained = train(spec(), old, shop_store)
    verdict = judge(spec(), old, trained, shop_store)
    assert promote(spec(), old, verdict, shop_store, fitted_until=MONDAY - 1) == "1"
    assert judge(spec(), old, trained, shop_store) == verdict, "not judged against itself"
    facts = shop_store.manifest(judge(spec(), new, train(spec(), new, shop_store), shop_store))["facts"]
    assert (facts["champion"]["version"], facts["champion"]["judged"]) == ("1", "package")
    # It is right where the last known item is d or e and the next one e or f: 2 of 6 places of the circle.
    assert 0.2 < facts["metrics"]["champion"]["mrr@5"] < 0.5
    assert facts["conditions"][1]["number"] > 0.5
    # Test sessions go the same ways at the same times.
    assert (facts["overlap"]["early"], facts["overlap"]["same_id"], facts["overlap"]["same_events"]) == (20, 0, 20)
    assert facts["metrics"]["champion"]["mrr@5"] < facts["metrics"]["challenger"]["mrr@5"] == 1.0
    assert not [warning for warning in facts["warnings"] if "champion" in warning]


def test_a_champion_that_saw_one_predicted_event_is_not_judged_by_its_package(shop_store: Store) -> None:
    old, new = log(shop_store, "defghi"), log(shop_store)
    trained = train(spec(), old, shop_store)
    promote(spec(), old, judge(spec(), old, trained, shop_store), shop_store, fitted_until=MONDAY + 1000)
    facts = shop_store.manifest(judge(spec(), new, train(spec(), new, shop_store), shop_store))["facts"]
    assert facts["champion"]["judged"] is None
    assert "until 2024-06-03T00:00:01+00:00, and 1 of 80 predicted events" in facts["champion"]["reason"]
    assert "champion" not in facts["metrics"]
    assert [one["passed"] for one in facts["conditions"]] == [True, False]
    assert (facts["outcome"], facts["passed"]) == ("failed", False)


def test_three_test_sessions_decide_nothing(shop_store: Store) -> None:
    rows = sessions(walks(CIRCLE, 40)) + sessions(walks(CIRCLE, 3), part="test")
    data = f"file://{dataset(shop_store, rows)}"
    wanted = spec().model_copy(update={"gate": Gate(conditions=spec().gate.conditions)})
    facts = shop_store.manifest(judge(wanted, data, train(wanted, data, shop_store), shop_store))["facts"]
    assert (facts["outcome"], facts["passed"]) == ("undecided", False)
    (missing,) = facts["evidence"]["lacking"]
    assert numbers(missing) == ["3", "100"]
    assert describe_verdict(facts).startswith("gate undecided: the test has 3 sessions")
    run = Registry(get_default_uri(shop_store)).client.get_run(facts["mlflow_run"])
    assert run.data.tags["gate"] == "undecided"
    assert run.data.tags["verdict"].startswith("undecided: the test has 3 sessions")


def test_a_model_of_another_view_is_refused(shop_store: Store) -> None:
    with refused(IntegrityError, "evaluation.other-view"):
        judge(spec(), log(shop_store), train(spec(), log(shop_store, "uvwxyz"), shop_store), shop_store)


def visits(store: Store, likes: dict[str, str], test: dict[str, str]) -> str:
    """A log in which customers had these items in one session each; a day later each of test saw n, then one."""
    parts = {"train": likes, "test": {customer: f"n{item}" for customer, item in test.items()}}
    rows = [
        event(f"{part}-{customer}", item, (part == "test") * DAY + 100_000 * number + 1000 * step, customer, part)
        for part, had in parts.items()
        for number, (customer, items) in enumerate(had.items())
        for step, item in enumerate(items)
    ]
    return f"file://{dataset(store, rows)}"


def test_the_champion_is_told_who_the_customers_are_by_their_ids(shop_store: Store) -> None:
    """In the later log those who had much before had little: there all customers have other numbers."""
    wanted = spec(
        model={"name": "ease", "history": "customer", "regularisation": 1.0},
        evaluation={"cutoffs": [3], "bootstrap": 200},
        gate=[{"metric": "hr@3", "against": "champion", "min": -1.0}],
    )
    ps, qs = [f"p{number}" for number in range(4)], [f"q{number}" for number in range(4)]
    test = {**dict.fromkeys(ps, "a"), **dict.fromkeys(qs, "x")}
    old = visits(shop_store, {**dict.fromkeys(ps, "nabcabc"), **dict.fromkeys(qs, "nxyz")}, test)
    later = {**dict.fromkeys(ps, "nabc"), **dict.fromkeys(qs, "nxyzxyz"), "r": "n"}
    new = visits(shop_store, later, {**test, "r": "a"})
    trained = steps.train(wanted, old, shop_store)
    verdict = judge(wanted, old, trained, shop_store)
    assert register(wanted, steps.refit(wanted, old, trained, verdict, shop_store), verdict, shop_store) == "1"
    facts = shop_store.manifest(judge(wanted, new, steps.train(wanted, new, shop_store), shop_store))["facts"]
    # After n alone a and x tie, and only who asks tells them apart; r is unknown to the champion.
    assert facts["metrics"]["champion"]["hr@3"] >= 8 / 9
    assert facts["metrics"]["challenger"]["hr@3"] >= 8 / 9


def test_the_members_of_a_blend_are_shown_beside_it(shop_store: Store) -> None:
    members = {"rules": {"name": "sequential-rules"}, "counts": {"name": "popularity"}}
    blend, data = spec(model={"name": "blend", "members": members}), log(shop_store)
    verdict = judge(blend, data, train(blend, data, shop_store), shop_store)
    facts = shop_store.manifest(verdict)["facts"]
    assert set(facts["metrics"]) == {"challenger", "challenger/rules", "challenger/counts", "popularity"}
    # The very members, not fitted anew: the counts rank as the baseline does, to the digit.
    for metric, value in facts["metrics"]["popularity"].items():
        assert metric == "p90_ms" or facts["metrics"]["challenger/counts"][metric] == value
    rows = json.loads((shop_store.fetch(verdict) / "report.json").read_text())["table"]
    assert all("difference" in row for row in rows if row["model"] == "challenger/rules")


def test_without_baselines_popularity_is_put_in_and_said(shop_store: Store) -> None:
    alone, data, said = spec(baselines=[], gate=[GATE[0]]), log(shop_store), []
    trained = train(alone, data, shop_store)
    facts = shop_store.manifest(judge(alone, data, trained, shop_store, progress=said.append))["facts"]
    assert facts["passed"]
    assert "minus popularity's" in facts["conditions"][0]["text"]
    assert "baseline popularity was added" in facts["warnings"][0]
    assert f"warning: {facts['warnings'][0]}" in said


def test_a_gate_may_ask_for_quick_predictions(shop_store: Store) -> None:
    gate = [{"metric": "p90_ms", "max": 10_000}, {"metric": "p90_ms", "against": "best-baseline", "max": -1000}]
    quick, data = spec(gate=gate), log(shop_store)
    facts = shop_store.manifest(judge(quick, data, train(quick, data, shop_store), shop_store))["facts"]
    assert [one["passed"] for one in facts["conditions"]] == [True, False]
    lower, upper = facts["intervals"]["challenger"]["p90_ms"]
    assert 0 < lower <= facts["metrics"]["challenger"]["p90_ms"] <= upper


def test_leave_one_out_among_sampled_items_warns_of_both(shop_store: Store) -> None:
    evaluation = {"cutoffs": [2, 5], "bootstrap": 200, "negatives": {"count": 3, "draws": 2}}
    sampled, data = spec(split={"by": "leave-one-out"}, evaluation=evaluation), log(shop_store)
    facts = shop_store.manifest(judge(sampled, data, train(sampled, data, shop_store), shop_store))["facts"]
    assert facts["protocol"] == "leave-one-out"
    assert facts["predictions"] == facts["sessions"] == 40
    later, *misleading = facts["warnings"]
    assert numbers(later)[:2] == ["39", "40"]  # test events before the last that was trained on
    found = facts["candidates"]
    assert (found["targets"], found["fewer"], found["within"]) == (40, 40, 40)
    assert len(misleading) == 2


def numbers(sentence: str) -> list[str]:
    return re.findall(r"\b\d[\d,]*", sentence)


def circle_shop(tmp_path: Path, **rules: Any) -> Shop:
    (tmp_path / "black.csv").write_text("item\nb\n")
    events = {
        "sources": [{"path": "events.csv"}],
        "columns": {"session": "session", "customer": "customer", "type": "type"},
        "types": ["view"],
    }
    blacklist = {"sources": [{"path": str(tmp_path / "black.csv")}]}
    return shop(events=events, rules={"blacklist": blacklist, "owned": {"types": ["buy"]}, **rules})


def circle_log(store: Store, chosen: Shop) -> str:
    """Sessions go round a circle; ann, whose the test sessions are, bought c before and e in the midst of them."""
    parts = [("train", 40, 0), ("test", 12, 10_000_000)]
    rows = [
        event(f"{part}{number}", CIRCLE[(number + step) % 6], begin + 10_000 * number + step, "ann", part)
        | {"type": "view"}
        for part, count, begin in parts
        for number in range(count)
        for step in range(5)
    ]
    bought = [("c", 5), ("e", 10_000_000 + 59_995)]
    rows += [event("till", item, time, "ann") | {"type": "buy"} for item, time in bought]
    return build(chosen, snapshot(store, rows), store)


def test_a_verdict_says_what_the_rules_took_and_hands_them_to_the_package(shop_store: Store, tmp_path: Path) -> None:
    chosen = circle_shop(tmp_path)
    data = circle_log(shop_store, chosen)
    wanted = spec(gate=[])
    trained = steps.train(wanted, data, shop_store)
    free = shop_store.manifest(judge(wanted, data, trained, shop_store))["facts"]
    assert free["metrics"]["challenger"]["hr@5"] == 1.0
    verdict = judge(wanted, data, trained, shop_store, shop=chosen)
    facts = shop_store.manifest(verdict)["facts"]
    # Of 48 next items 8 are each letter: b and c are never found, e is not in the later half of the sessions.
    assert facts["rules"] == {"items": {"blacklist": 1}, "targets": {"blacklist": 8, "owned": 8 + 4}}
    assert facts["metrics"]["challenger"]["hr@5"] == pytest.approx(28 / 48)
    assert facts["metrics"]["popularity"]["hr@5"] <= 28 / 48
    (warning,) = (told for told in facts["warnings"] if "rules" in told)
    assert "take away 20 of 48 next items (blacklist 8, owned 12)" in warning
    assert judge(wanted, data, trained, shop_store, shop=chosen) == verdict

    package = load_package(shop_store.fetch(steps.refit(wanted, data, trained, verdict, shop_store), verify=True))
    package.check()
    (answer,) = package.ranker.rank([package.ranker.parse({"items": ["a"]})])
    assert set(answer.ids) >= {"c", "d", "e", "f"}
    assert "b" not in answer.ids
    assert package.ranker.rulebook.catalogue.read_time > 0

    (tmp_path / "black.csv").write_text("item\nd\n")
    other = judge(wanted, data, trained, shop_store, shop=chosen)
    assert other != verdict
    packed = steps.refit(wanted, data, trained, other, shop_store)
    assert load_package(shop_store.fetch(packed)).ranker.rulebook.find_rule("d") == "blacklist"
    unruled = judge(wanted, data, trained, shop_store)
    assert not (shop_store.fetch(steps.refit(wanted, data, trained, unruled, shop_store)) / RULES).exists()


def test_the_champion_is_judged_by_the_rules_of_today(shop_store: Store, tmp_path: Path) -> None:
    chosen = circle_shop(tmp_path)
    data = circle_log(shop_store, chosen)
    wanted = spec(gate=[])
    trained = steps.train(wanted, data, shop_store)
    verdict = judge(wanted, data, trained, shop_store)
    register(wanted, steps.refit(wanted, data, trained, verdict, shop_store), verdict, shop_store)
    facts = shop_store.manifest(judge(wanted, data, trained, shop_store, shop=chosen))["facts"]
    assert facts["metrics"]["champion"]["hr@5"] == pytest.approx(28 / 48)


@pytest.mark.parametrize(("listed", "told"), [("B", 1), ("gone", 1), ("b", 0), ("b\ngone", 0)])
def test_a_blacklist_that_bars_no_item_is_a_warning(listed: str, told: int, shop_store: Store, tmp_path: Path) -> None:
    chosen = circle_shop(tmp_path)
    data = circle_log(shop_store, chosen)
    wanted = spec(gate=[])
    (tmp_path / "black.csv").write_text(f"item\n{listed}\n")
    verdict = judge(wanted, data, steps.train(wanted, data, shop_store), shop_store, shop=chosen)
    warnings = shop_store.manifest(verdict)["facts"]["warnings"]
    assert len([warning for warning in warnings if warning.startswith("the blacklist: ")]) == told


def till(part: str, count: int) -> list[dict[str, Any]]:
    """Baskets of customers whose lines have one time, and every fourth of two times."""
    rng = np.random.default_rng(count)
    rows = []
    for number in range(count):
        start, customer = number * 60_000, f"c{number % 7}"
        items = rng.choice(list(CIRCLE), size=4, replace=False).tolist()
        times = [start, start, start + 1000, start + 1000] if number % 4 == 0 else [start] * 4
        rows += [event(f"{part}{number}", item, time, customer, part) for item, time in zip(items, times, strict=True)]
    return rows


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"order": "sets", "sessions": 5, "predictions": 5, "targets": 10}),
        ({"order": "file"}, {"order": "file", "sessions": 20, "predictions": 60, "targets": 60}),
        ({"protocol": "basket"}, {"basket": "complete", "sessions": 20, "predictions": 20, "targets": 20}),
        (
            {"protocol": "basket", "basket": "next"},
            {"basket": "next", "sessions": 20, "predictions": 20, "targets": 80},
        ),
    ],
)
def test_a_verdict_says_what_of_it_hangs_on_equal_times(
    shop_store: Store, asked: dict[str, Any], expected: dict[str, Any]
) -> None:
    wanted = spec(gate=[], evaluation={"cutoffs": [2, 5], "bootstrap": 200, **asked})
    rows = till("train", 40) + [{**row, "time": row["time"] + 10_000_000} for row in till("test", 20)]
    data = f"file://{dataset(shop_store, rows)}"
    verdict = judge(wanted, data, train(wanted, data, shop_store), shop_store)
    facts = shop_store.manifest(verdict)["facts"]
    assert {name: facts[name] for name in expected} == expected
    assert facts["equal_times"] == {"transitions": 60, "equal": 55, "share": 55 / 60}
    assert 0 < facts["metrics"]["challenger"]["hr@5"] <= 1
    assert 0 < facts["metrics"]["challenger"]["recall@5"] <= 1
    warned = " ".join(facts["warnings"])
    assert ("55 of 60 test transitions" in warned) == ("protocol" not in asked)
    assert ("15 of 20 sessions" in warned) == (asked == {})
    (sample, *_) = json.loads((shop_store.fetch(verdict) / "report.json").read_text())["samples"]["sessions"]
    of_a_moment = {"sets": 2, "file": 1, "complete": 1, "next": 4}[facts["basket"] or facts["order"]]
    assert len(sample["also"]) == of_a_moment - 1
