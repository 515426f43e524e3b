"""What a user is told of mistakes: all at once, each with place, key, found, allowed and the nearest word."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.errors import Problem, SpecError
from endcap.spec.load import load
from tests.spec.test_load import RECOMMENDER, SHOP, load_shop, problems, write

SHOP_WITH_MISTAKES = """\
apiVersion: endcap/v2
kind: Shop
name: Toys & Co
events:
  sources:
    - path: events.csv
      layout: yoochose-clicks
  colums: {item: sku}
  time: {unit: seconds, zone: Europe/Zurch}
  max_bad_share: 2
sessions: {gap: 30}
"""
RECOMMENDER_WITH_MISTAKES = """\
apiVersion: endcap-v1
kind: Recommender
name: home
shop: toys
sede: 3
split: {by: tme}
model: {name: gru4rek}
baselines:
  - name: vsknn
    sample: 0
    neighbors: 10
gate:
  - metric: mr@20
    min: 0
refit: "yes"
evaluation: {cutoffs: [5, ten]}
"""
EXPECTED: dict[tuple[str, str], tuple[str, str, str]] = {
    ("shops/toys.yaml:3", "name"): ("not-allowed", "'Toys & Co'", ""),
    ("shops/toys.yaml:7", "events.sources[0].layout"): ("not-allowed", "'yoochose-clicks'", "yoochoose-clicks"),
    ("shops/toys.yaml:8", "events.colums"): ("unknown-key", "an unknown key", "columns"),
    ("shops/toys.yaml:9", "events.time.unit"): ("not-allowed", "'seconds'", ""),
    ("shops/toys.yaml:9", "events.time.zone"): ("unknown-name", "'Europe/Zurch'", "Europe/Zurich"),
    ("shops/toys.yaml:10", "events.max_bad_share"): ("not-allowed", "2", ""),
    ("shops/toys.yaml:11", "sessions.gap"): ("not-allowed", "30", ""),
    ("home.yaml:1", "apiVersion"): ("not-allowed", "'endcap-v1'", "endcap/v2"),
    ("home.yaml:5", "sede"): ("unknown-key", "an unknown key", "seed"),
    ("home.yaml:6", "split.by"): ("not-allowed", "'tme'", "time"),
    ("home.yaml:7", "model.name"): ("not-allowed", "'gru4rek'", "gru4rec"),
    ("home.yaml:10", "baselines[0].sample"): ("not-allowed", "0", ""),
    ("home.yaml:11", "baselines[0].neighbors"): ("unknown-key", "an unknown key", "neighbours"),
    ("home.yaml:13", "gate[0].metric"): ("not-allowed", "'mr@20'", ""),
    ("home.yaml:15", "refit"): ("wrong-type", "'yes'", "without quotes"),
    ("home.yaml:16", "evaluation.cutoffs[1]"): ("wrong-type", "'ten'", ""),
}
ALLOWED = {
    "events.time.unit": "s, ms, us, ns, iso",
    "events.max_bad_share": "a number, at least 0.0 and at most 1.0",
    "sessions.gap": "a duration such as 30m",
    "model.name": "popularity, recent-popularity,",
    "gate[0].metric": "such as mrr@20",
    "refit": "true or false",
}
"""What some messages say is allowed: in words, where they are no list of the code's own."""


def test_every_mistake_of_both_files_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "shops" / "toys.yaml", SHOP_WITH_MISTAKES)
    write(tmp_path / "home.yaml", RECOMMENDER_WITH_MISTAKES)
    with pytest.raises(SpecError) as caught:
        load("home.yaml")
    found = {(problem.file, problem.key): problem for problem in caught.value.problems}
    assert set(found) == set(EXPECTED)
    for place, (code, value, hint) in EXPECTED.items():
        problem = found[place]
        assert (problem.code, problem.found) == (code, value)
        assert hint in problem.hint
        assert (hint == "") == (problem.hint == "")
        assert ALLOWED.get(problem.key, "") in problem.allowed
    text = str(caught.value)
    assert text.startswith("16 problems in the spec:\n")
    assert "  - home.yaml:5: sede: found an unknown key; allowed: apiVersion, " in text
    for jargon in ("Input should", "Extra inputs", "pattern", "Value error", "pydantic", "tag"):
        assert jargon not in text


def test_a_file_for_a_newer_endcap_is_refused_as_such(tmp_path: Path) -> None:
    text = RECOMMENDER.replace("endcap/v2", "endcap/v3") + "unknown_yet: true\n"
    (problem,) = recommender_problems(tmp_path, text)
    assert (problem.key, problem.found, problem.allowed) == ("apiVersion", "'endcap/v3'", "endcap/v2")
    assert "newer Endcap" in problem.hint


def shop_problems(tmp_path: Path, text: str) -> list[Problem]:
    return problems(load_shop, write(tmp_path / "toys.yaml", text))


def recommender_problems(tmp_path: Path, text: str, shop: str = SHOP) -> list[Problem]:
    write(tmp_path / "shops" / "toys.yaml", shop)
    return problems(load, write(tmp_path / "home.yaml", text))


@pytest.mark.parametrize(
    ("text", "key", "code"),
    [
        ("", "", "malformed"),
        ("# only a comment\n", "", "malformed"),
        ("- a list\n", "", "malformed"),
        ("kind: [Shop\n", "", "malformed"),
        ("kind: Shop\n---\nkind: Shop\n", "", "malformed"),
        (SHOP + "name: again\n", "name", "duplicate"),
        (SHOP + "window: !python/object:os.system x\n", "window", "malformed"),
        (SHOP + "filters: &loop {min_item_events: *loop}\n", "filters.min_item_events", "circle"),
        (SHOP + "? [a, b]\n: 1\n", "", "malformed"),
    ],
)
def test_what_is_no_plain_yaml_map_is_a_problem_too(tmp_path: Path, text: str, key: str, code: str) -> None:
    assert (key, code) in {(problem.key, problem.code) for problem in shop_problems(tmp_path, text)}


def test_bytes_folders_and_missing_files_are_problems(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    (tmp_path / "folder.yaml").mkdir()
    assert problems(load, tmp_path / "bytes.yaml")[0].code == "unreadable"
    assert problems(load, tmp_path / "folder.yaml")[0].code == "unreadable"
    (missing,) = problems(load, tmp_path / "byte.yaml")
    assert missing.code == "not-found"
    assert "bytes" in missing.allowed


def test_a_missing_shop_names_the_shops_there_are(tmp_path: Path) -> None:
    (problem,) = recommender_problems(tmp_path, RECOMMENDER.replace("shop: toys", "shop: tois"))
    assert (problem.key, problem.code) == ("shop", "unknown-name")
    assert problem.allowed.endswith(": toys")
    assert problem.hint == "Did you mean 'toys'?"


def test_a_file_of_the_other_kind_is_named_and_nothing_else(tmp_path: Path) -> None:
    (problem,) = problems(load, write(tmp_path / "toys.yaml", SHOP))
    assert (problem.key, problem.code) == ("kind", "not-allowed")
    assert (problem.found, problem.allowed) == ("'Shop'", "Recommender")
    assert "shop's file" in problem.hint


def test_missing_keys_stand_at_the_map_that_lacks_them(tmp_path: Path) -> None:
    found = shop_problems(tmp_path, "kind: Shop\nname: toys\nevents:\n  sources:\n    - format: csv\n")
    assert [(problem.key, problem.code, problem.file[-2:]) for problem in found] == [
        ("apiVersion", "missing", ":1"),
        ("sessions.by", "conflict", ":1"),
        ("events.sources[0].path", "missing", ":5"),
    ]


def test_a_model_without_a_name_is_told_the_names(tmp_path: Path) -> None:
    (problem,) = recommender_problems(tmp_path, RECOMMENDER.replace("name: vsknn, ", ""))
    assert (problem.key, problem.code) == ("model.name", "missing")
    assert "gru4rec" in problem.allowed


@pytest.mark.parametrize("value", ["1y", "3", "true", "[1]", "99999999999999w"])
def test_a_value_of_two_kinds_is_one_problem(tmp_path: Path, value: str) -> None:
    (problem,) = recommender_problems(tmp_path, RECOMMENDER + f"split: {{by: time, test: {value}}}\n")
    assert problem.key == "split.test"
    assert "a duration such as 30m" in problem.allowed
    assert "a number, at least 0.0 and less than 1.0" in problem.allowed


@pytest.mark.parametrize(
    ("more", "key", "code"),
    [
        ("gate: [{metric: mrr@20, against: vsknn, min: 0}]\n", "gate[0].against", "unknown-name"),
        ("gate: [{metric: mrr@7, min: 0}]\n", "gate[0].metric", "unknown-name"),
        ("gate: {conditions: [{metric: mrr@7, min: 0}]}\n", "gate.conditions[0].metric", "unknown-name"),
        ("gate: {evidence: {min_sessions: 0}}\n", "gate.evidence.min_sessions", "not-allowed"),
        ("gate: {condition: []}\n", "gate.condition", "unknown-key"),
        ("gate: [{metric: mrr@20}]\n", "gate[0]", "missing"),
        ("gate: [{metric: mrr@20, min: 0, max: 1}]\n", "gate[0]", "conflict"),
        ("baselines: [{name: vsknn}, {name: vsknn}]\n", "baselines[1].name", "duplicate"),
        ("split: {by: given}\n", "split.by", "conflict"),
        ("split: {by: time, test: 1.0}\n", "split.test", "not-allowed"),
        ("split: {by: time, test: 0.5, validation: 0.5}\n", "split.validation", "conflict"),
        ("serving: {k: 2000}\n", "serving.max_k", "conflict"),
        ("serving: {max_k: 10}\n", "serving.max_k", "conflict"),
    ],
)
def test_keys_that_contradict_each_other_are_named(tmp_path: Path, more: str, key: str, code: str) -> None:
    (problem,) = recommender_problems(tmp_path, RECOMMENDER + more)
    assert (problem.key, problem.code) == (key, code)


def test_a_cutoff_that_the_gate_needs_unasked_is_named_at_its_conditions(tmp_path: Path) -> None:
    found = recommender_problems(tmp_path, RECOMMENDER + "evaluation: {cutoffs: [5]}\n")
    assert [problem.key for problem in found] == ["gate.conditions[0].metric", "gate.conditions[1].metric"]


def test_contradictions_are_reported_beside_other_mistakes(tmp_path: Path) -> None:
    more = "sede: 1\ngate: [{metric: mrr@20, against: vsknn, min: 0}, {metric: mrr@7, min: 0}]\n"
    found = recommender_problems(tmp_path, RECOMMENDER + more)
    assert [problem.key for problem in found] == ["sede", "gate[0].against", "gate[1].metric"]


@pytest.mark.parametrize(
    ("more", "key", "code"),
    [
        ("sessions: {by: gap}\n", "sessions.by", "conflict"),
        ("features: {events: [{name: a, kind: gap}, {name: a, kind: hour}]}\n", "features.events[1].name", "duplicate"),
        ("features: {events: [{name: a, kind: gap, buckets: [3, 1]}]}\n", "features.events[0].buckets", "not-allowed"),
        ("features: {events: [{name: a, kind: type}]}\n", "features.events[0].types", "missing"),
        ("features: {events: [{name: a, kind: type, types: [x, x]}]}\n", "features.events[0].types", "not-allowed"),
        ("features: {events: [{name: a, kind: gap, types: [x]}]}\n", "features.events[0].types", "conflict"),
        (
            "features: {events: [{name: a, kind: type, types: [x], buckets: [1]}]}\n",
            "features.events[0].buckets",
            "conflict",
        ),
        (
            "features: {events: [{name: a, kind: type, types: [x]}, {name: b, kind: type, types: [y]}]}\n",
            "features.events[1].kind",
            "duplicate",
        ),
    ],
)
def test_contradictions_of_a_shop_are_named(tmp_path: Path, more: str, key: str, code: str) -> None:
    (problem,) = shop_problems(tmp_path, SHOP + more)
    assert (problem.key, problem.code) == (key, code)


def test_model_features_must_be_the_shops_and_of_limited_values(tmp_path: Path) -> None:
    declared = "{name: gap, kind: gap, buckets: [1]}, {name: place, kind: position}, {name: hour, kind: hour}"
    shop = SHOP + f"features: {{events: [{declared}]}}\n"
    text = RECOMMENDER.replace("{name: vsknn, neighbours: 50}", "{name: gru4rec, features: [gap, place, hour, gapp]}")
    first, second = recommender_problems(tmp_path, text, shop)
    assert (first.key, first.allowed.endswith(": gap, hour")) == ("model.features[1]", True)
    assert (second.key, second.hint) == ("model.features[3]", "Did you mean 'gap'?")
    assert {first.code, second.code} == {"unknown-name"}


def test_next_baskets_need_customers(tmp_path: Path) -> None:
    text = RECOMMENDER + "evaluation: {protocol: basket, basket: next}\n"
    (problem,) = recommender_problems(tmp_path, text, SHOP)
    assert (problem.key, problem.code) == ("evaluation.basket", "conflict")
    (tmp_path / "named").mkdir()
    named = SHOP.replace("item: sku", "item: sku, customer: who")
    write(tmp_path / "named" / "shops" / "toys.yaml", named)
    assert load(write(tmp_path / "named" / "home.yaml", text)).recommender.basket == "next"


def test_item_features_must_be_attributes_of_the_shops_items(tmp_path: Path) -> None:
    items = "items: {sources: [{path: i.csv}], columns: {category: c, title: t}, categorical: [brand]}\n"
    members = "{a: {name: gru4rec, item_features: [category, brnd]}, b: {name: vsknn}}"
    text = RECOMMENDER.replace("{name: vsknn, neighbours: 50}", f"{{name: blend, members: {members}}}")
    text += "baselines: [{name: sasrec, item_features: [price, title]}]\n"
    slip, unpriced, title = recommender_problems(tmp_path, text, SHOP + items)
    assert (slip.key, slip.hint) == ("model.members.a.item_features[1]", "Did you mean 'brand'?")
    assert slip.allowed == "attributes of the items of the shop toys: category, brand"
    assert [unpriced.key, title.key] == ["baselines[0].item_features[0]", "baselines[0].item_features[1]"]
    assert "home.yaml:" in unpriced.file
    without = recommender_problems(tmp_path, text, SHOP)
    assert [problem.code for problem in without] == ["unknown-name"] * 4
    assert {problem.allowed.rpartition(": ")[2] for problem in without} == {"none"}


@pytest.mark.parametrize(("text", "hint"), [("name: 12", "'12'"), ("name: true", "quotes")])
def test_text_that_yaml_takes_for_something_else_gets_a_hint(tmp_path: Path, text: str, hint: str) -> None:
    (problem,) = shop_problems(tmp_path, SHOP.replace("name: toys", text))
    assert hint in problem.hint


def test_scalars_are_read_as_yaml_1_2_has_them(tmp_path: Path) -> None:
    shop = load_shop(write(tmp_path / "toys.yaml", SHOP.replace("sid", "no") + "items: {sources: [{path: 12:30}]}\n"))
    assert shop.events.columns.session == "no"
    assert shop.items is not None
    assert shop.items.sources[0].path.endswith("12:30")


def test_rules_speak_of_attributes_of_their_kind_and_have_names_of_their_own(tmp_path: Path) -> None:
    items = "items: {sources: [{path: i.csv}], columns: {category: c, price: p}, categorical: [brand]}\n"
    rules = """\
rules:
  stock: {attribute: brand}
  blacklist: {sources: [{simulated: {}}]}
  attributes:
    - {name: cheap, attribute: price, only: ["1"]}
    - {name: cheap, attribute: brnd, never: [x]}
"""
    found = shop_problems(tmp_path, SHOP + items + rules)
    assert {problem.key: problem.code for problem in found} == {
        "rules.stock.attribute": "unknown-name",
        "rules.blacklist.sources[0].simulated": "not-allowed",
        "rules.attributes[0].attribute": "unknown-name",
        "rules.attributes[1].name": "duplicate",
        "rules.attributes[1].attribute": "unknown-name",
    }
    right = rules.replace("{simulated: {}}", "{path: b.csv}").replace(
        "- {name: cheap, attribute: b", "- {name: c, attribute: b"
    )
    found = shop_problems(tmp_path, SHOP + items + right)
    assert {problem.key: (problem.allowed.rpartition(": ")[2], problem.hint) for problem in found} == {
        "rules.stock.attribute": ("price", ""),
        "rules.attributes[0].attribute": ("category, brand", ""),
        "rules.attributes[1].attribute": ("category, brand", "Did you mean 'brand'?"),
    }
    assert {problem.code for problem in found} == {"unknown-name"}
