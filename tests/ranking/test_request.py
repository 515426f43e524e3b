from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from endcap.errors import RequestError
from endcap.ranking.request import parse_instance
from endcap.spec.recommender import Serving

LIMITS = Serving(k=5, max_k=50, max_events=4, max_candidates=3)
ATTRIBUTES = {"category": ["shoes", "shirts", "hats"], "brand": ["Fen", "Orn"]}
NOON = 1_767_268_800_000


def parse(value: Any) -> Any:
    return parse_instance(value, 2, LIMITS, ATTRIBUTES)


def test_a_session_is_items_or_events_or_one_item() -> None:
    assert parse({"items": ["a", "b"]}).items == ["a", "b"]
    assert parse({"items": []}).items == []
    assert parse({"item": "a"}).item == "a"
    timed = parse({"events": [{"item": "a", "time": NOON}, {"item": "b", "time": "2026-01-01T13:00:01+01:00"}]})
    assert [(event.item, event.time) for event in timed.events] == [("a", NOON), ("b", NOON + 1000)]


def test_without_a_session_the_online_store_is_asked_for_the_visits_events_and_then_for_the_customers() -> None:
    assert parse({"customer": "c"}).owners == ["customer:c"]
    assert parse({"customer": "c", "session": "s"}).owners == ["session:s", "customer:c"]
    assert parse({"customer": "c", "session": "s", "items": []}).owners == []


def test_odd_characters_in_ids_are_kept() -> None:
    odd = ['a"b', "ü\n", "日本 ', ;"]
    assert parse({"items": odd}).items == odd


def test_a_filter_takes_a_value_or_several() -> None:
    assert parse({"items": [], "filter": {"brand": "Fen", "category": ["hats", "shoes"]}}).filters == {
        "brand": ["Fen"],
        "category": ["hats", "shoes"],
    }


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("a", "instance 2: found 'a' (str); allowed: an object"),
        ({}, "none of items, events, item; allowed: exactly one"),
        ({"items": ["a"], "item": "b"}, "found items and item; allowed: exactly one"),
        ({"items": "a"}, "items: found 'a' (str); allowed: a list of item ids"),
        ({"items": ["a", 7]}, "items.1: found 7 (int); allowed: an item id as a string; a number is written in quotes"),
        ({"items": [""]}, "items.0: found a text of 0 characters"),
        ({"items": ["a"] * 5}, "items: found 5 entries; allowed: at most 4"),
        ({"items": [], "candidates": ["a"] * 4}, "candidates: found 4 entries; allowed: at most 3"),
        ({"items": [], "candidates": []}, "candidates: found an empty list; allowed: one id or more"),
        ({"items": [], "k": 0}, "k: found 0; allowed: 1 to 50"),
        ({"items": [], "k": 1_000_000}, "k: found 1000000; allowed: 1 to 50"),
        ({"items": [], "k": 2.0}, "k: found 2.0 (float); allowed: a whole number"),
        ({"items": [], "k": True}, "k: found True (bool)"),
        (json.loads('{"items": [], "k": NaN}'), "k: found NaN"),
        (json.loads('{"events": [{"item": "a", "time": NaN}]}'), "events.0.time: found NaN; allowed: epoch"),
        ({"events": [{"item": "a", "time": 1_767_268_800}]}, "events.0.time: found a time before 1990; epoch seconds"),
        ({"events": [{"item": "a", "time": 10**15}]}, "events.0.time: found a time more than a day ahead"),
        ({"events": [{"item": "a", "time": "2026-01-01T12:00:00"}]}, "events.0.time: found a time without a zone"),
        ({"events": [{"item": "a", "time": "noon"}]}, "events.0.time: found not an ISO 8601 time"),
        ({"events": [{"item": "a", "time": NOON}, {"item": "b", "time": NOON - 1}]}, "events: found times that fall"),
        ({"events": [{"item": "a", "time": NOON}, {"item": "b"}]}, "events: found times for some events only"),
        ({"events": [{"time": NOON}]}, "events.0.item: missing; allowed: an item id"),
        ({"events": [{"item": "a", "tiem": 1}]}, "events.0.tiem: unknown key; allowed: item, time, type; did you mean"),
        ({"itmes": ["a"]}, "itmes: unknown key; allowed: items, events, item, customer, session, category"),
        (
            {"items": [], "category": "shoos"},
            "category: 'shoos' (str) is not known; allowed: one of 3, nearest: 'shoes'",
        ),
        ({"items": [], "customer": 5}, "customer: found 5 (int); allowed: a string"),
        ({"customer": ""}, "customer: found a text of 0 characters; allowed: 1 to 1024"),
        ({"items": [], "surface": "x" * 65}, "surface: found a text of 65 characters; allowed: 1 to 64"),
        ({"items": [], "explain": 1}, "explain: found 1 (int); allowed: true or false"),
        ({"session": "s", "precomputed": True}, "precomputed: found no customer; allowed: with customer"),
        ({"items": [], "filter": ["brand"]}, "filter: found a list of 1; allowed: an object {attribute: value or list"),
        ({"items": [], "filter": {"brand": 7}}, "filter.brand: found 7 (int); allowed: an object {attribute: value"),
        ({"items": [], "filter": {"brand": []}}, "filter.brand: found an empty list; allowed: one value or more"),
        ({"items": [], "filter": {"brand": ["Fen"] * 4}}, "filter.brand: found 4 entries; allowed: at most 3"),
        (
            {"items": [], "filter": {"brand": "Orm"}},
            "filter.brand: 'Orm' (str) is not known; allowed: one of 2, nearest",
        ),
        ({"items": [], "filter": {"size": "M"}}, "filter: the attribute 'size' (str) is not known; allowed: one of 2"),
        ({"items": [], "filter": dict.fromkeys("abcdefghijklmnopq", "x")}, "filter: found 17 attributes; allowed: at"),
        ({"items": ["\ud800"]}, "items.0: found '\\ud800' (str), half of a surrogate pair; allowed: text that UTF-8"),
        ({"\ud800": 1}, "'\\ud800': unknown key"),
        ({"items": [], "k": 10**5000}, "k: found a number beyond 10^18; allowed: 1 to 50"),
        ({"events": [{"item": "a", "time": 10**5000}]}, "events.0.time: found a time more than a day ahead"),
        ({"events": [{"item": "a", "time": "0001-01-01T00:00:00+23:59"}]}, "events.0.time: found a time before 1990"),
        ({"items": [], "category": "x" * 10_000}, "category: found a text of 10,000 characters; allowed: 1 to 1024"),
        ({"x" * 10_000: 1}, "unknown key; allowed: items"),
    ],
)
def test_a_bad_request_is_told_what_where_and_what_is_allowed(value: Any, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(value)
    assert "instance 2" in str(caught.value)
    assert says in str(caught.value)


def test_a_category_is_refused_where_items_have_none() -> None:
    with pytest.raises(RequestError, match="this shop's items have no category"):
        parse_instance({"items": [], "category": "shoes"}, 0, LIMITS, None)


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


texts = st.text(st.characters(exclude_categories=()), max_size=5)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
event = st.dictionaries(st.sampled_from(["item", "time", "type"]) | texts, anything | st.integers(10**12, 10**13))
instances = st.fixed_dictionaries(
    {},
    optional={
        "items": st.lists(texts, max_size=5) | anything,
        "events": st.lists(event, max_size=5) | anything,
        "item": texts | anything,
        "customer": texts | anything,
        "filter": st.dictionaries(st.sampled_from(["brand", "x"]), st.just("Fen") | anything, max_size=2) | anything,
        "candidates": st.lists(texts, max_size=4) | anything,
        "k": st.integers(-1, 60) | anything,
        "surface": texts | anything,
        "explain": st.booleans() | anything,
    },
)


@settings(max_examples=150, deadline=None)
@given(anything | instances)
@example({"items": nested(10_000)})
@example({"items": [], "filter": {"brand": nested(10_000)}})
@example({"events": [{f"key {number}": number for number in range(10_000)}]})
@example({f"key {number}": number for number in range(10_000)})
@example({"candidates": [None] * 100_000, "items": []})
@example({10**5000: 1})
@example({"items": {"a": {10**5000: 1}}})
def test_whatever_is_sent_is_a_request_or_refused_in_few_words(value: Any) -> None:
    try:
        request = parse(value)
    except RequestError as refused:
        told = str(refused)
    else:
        told = request.customer or ""
        request.model_dump_json()
    assert len(told.encode()) < 1100
