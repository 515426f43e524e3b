from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import RequestError
from endcap.ranking.request import parse_instance
from endcap.spec.serving import ServingSpec
from tests.refusals import refused

LIMITS = ServingSpec(k=5, max_k=50, max_events=4, max_candidates=3)
ATTRIBUTES = {"category": ["shoes", "shirts", "hats"], "brand": ["Fen", "Orn"]}
NOON = 1_767_268_800_000
BEFORE_1990 = {"found": "a time before 1990; epoch seconds are not taken"}
AHEAD = {"found": "a time more than a day ahead"}


def parse(value: Any) -> Any:
    return parse_instance(value, 2, LIMITS, ATTRIBUTES)


def test_a_session_is_items_or_events_or_one_item() -> None:
    assert parse({"items": ["a", "b"]}).items == ["a", "b"]
    assert parse({"items": []}).items == []
    assert parse({"item": "a"}).item == "a"
    timed = parse({"events": [{"item": "a", "time": NOON}, {"item": "b", "time": "2026-01-01T13:00:01+01:00"}]})
    assert [(event.item, event.time) for event in timed.events] == [("a", NOON), ("b", NOON + 1000)]


@pytest.mark.parametrize("named", [{"customer": "c"}, {"session": "s"}, {"customer": "c", "session": "s"}])
def test_a_request_without_events_leaves_them_to_the_online_store(named: dict[str, str]) -> None:
    assert parse(named).needs_stored_events
    for brought in ({"items": []}, {"events": []}, {"item": "a"}):
        assert not parse({**named, **brought}).needs_stored_events


def test_odd_characters_in_ids_are_kept() -> None:
    odd = ['a"b', "ü\u2028", "日本 ', ;"]
    assert parse({"items": odd}).items == odd


def test_a_filter_takes_a_value_or_several() -> None:
    assert parse({"items": [], "filter": {"brand": "Fen", "category": ["hats", "shoes"]}}).filters == {
        "brand": ["Fen"],
        "category": ["hats", "shoes"],
    }


@pytest.mark.parametrize(
    ("value", "code", "at", "fields"),
    [
        ("a", "wrong-type", "request", {"found": "'a' (str)"}),
        ({}, "not-one-session", "request", {"found": []}),
        ({"items": ["a"], "item": "b"}, "not-one-session", "request", {"found": ["items", "item"]}),
        ({"items": "a"}, "wrong-type", "items", {"found": "'a' (str)"}),
        ({"items": ["a", 7]}, "wrong-type", "items.1", {"found": "7 (int)"}),
        ({"items": [""]}, "wrong-length", "items.0", {"found": 0}),
        ({"items": ["a"] * 5}, "too-many", "items", {"found": 5, "limit": 4}),
        ({"items": [], "candidates": ["a"] * 4}, "too-many", "candidates", {"found": 4, "limit": 3}),
        ({"items": [], "candidates": []}, "empty-list", "candidates", {}),
        ({"items": [], "k": 0}, "out-of-range", "k", {"found": "0", "least": 1, "most": 50}),
        ({"items": [], "k": 1_000_000}, "out-of-range", "k", {"found": "1000000", "most": 50}),
        ({"items": [], "k": 2.0}, "wrong-type", "k", {"found": "2.0 (float)", "allowed": "a whole number"}),
        ({"items": [], "k": True}, "wrong-type", "k", {"found": "True (bool)"}),
        (json.loads('{"items": [], "k": NaN}'), "wrong-type", "k", {"found": "NaN"}),
        (json.loads('{"events": [{"item": "a", "time": NaN}]}'), "wrong-type", "events.0.time", {"found": "NaN"}),
        ({"events": [{"item": "a", "time": 1_767_268_800}]}, "wrong-time", "events.0.time", BEFORE_1990),
        ({"events": [{"item": "a", "time": 10**15}]}, "wrong-time", "events.0.time", AHEAD),
        ({"events": [{"item": "a", "time": "2026-01-01T12:00:00"}]}, "wrong-time", "events.0.time", {}),
        ({"events": [{"item": "a", "time": "noon"}]}, "wrong-time", "events.0.time", {"found": "not an ISO 8601 time"}),
        ({"events": [{"item": "a", "time": NOON}, {"item": "b", "time": NOON - 1}]}, "wrong-time", "events", {}),
        ({"events": [{"item": "a", "time": NOON}, {"item": "b"}]}, "wrong-time", "events", {}),
        ({"events": [{"time": NOON}]}, "missing-key", "events.0.item", {}),
        ({"events": [{"item": "a", "tiem": 1}]}, "unknown-key", "events.0.tiem", {"near": "time"}),
        ({"itmes": ["a"]}, "unknown-key", "itmes", {"near": "items"}),
        ({"items": [], "category": "shoos"}, "unknown-value", "category", {"found": "'shoos'", "count": 3}),
        ({"items": [], "customer": 5}, "wrong-type", "customer", {"found": "5 (int)", "allowed": "a string"}),
        ({"customer": ""}, "wrong-length", "customer", {"found": 0, "allowed": "1 to 1024"}),
        ({"items": [], "surface": "x" * 65}, "wrong-length", "surface", {"found": 65, "allowed": "1 to 64"}),
        ({"items": [], "explain": 1}, "wrong-type", "explain", {"found": "1 (int)", "allowed": "true or false"}),
        ({"session": "s", "precomputed": True}, "customer-missing", "precomputed", {}),
        ({"items": [], "filter": ["brand"]}, "wrong-type", "filter", {"found": "a list of 1"}),
        ({"items": [], "filter": {"brand": 7}}, "wrong-type", "filter.brand", {"found": "7 (int)"}),
        ({"items": [], "filter": {"brand": []}}, "empty-list", "filter.brand", {}),
        ({"items": [], "filter": {"brand": ["Fen"] * 4}}, "too-many", "filter.brand", {"found": 4, "limit": 3}),
        ({"items": [], "filter": {"brand": "Orm"}}, "unknown-value", "filter.brand", {"found": "'Orm'", "count": 2}),
        ({"items": [], "filter": {"size": "M"}}, "unknown-attribute", "filter", {"found": "'size'", "count": 2}),
        ({"items": [], "filter": dict.fromkeys("abcdefghijklmnopq", "x")}, "too-many", "filter", {"found": 17}),
        ({"items": ["\ud800"]}, "not-utf8", "items.0", {}),
        ({"\ud800": 1}, "unknown-key", "'\\ud800'", {}),
        ({"items": [], "k": 10**5000}, "out-of-range", "k", {"found": "a number beyond 10^18"}),
        ({"events": [{"item": "a", "time": 10**5000}]}, "wrong-time", "events.0.time", AHEAD),
        ({"events": [{"item": "a", "time": "0001-01-01T00:00:00+23:59"}]}, "wrong-time", "events.0.time", {}),
        ({"items": [], "category": "x" * 10_000}, "wrong-length", "category", {"found": 10_000}),
        ({"x" * 10_000: 1}, "unknown-key", f"'{'x' * 60}'…", {}),
    ],
)
def test_a_bad_request_is_told_what_where_and_what_is_allowed(
    value: Any, code: str, at: str, fields: dict[str, Any]
) -> None:
    with refused(RequestError, f"request.{code}", instance=2, at=at, **fields) as caught:
        parse(value)
    assert len(str(caught.value)) < 500


def test_a_message_names_place_value_what_is_allowed_and_the_way_out() -> None:
    with pytest.raises(RequestError) as caught:
        parse({"items": ["a", 7]})
    found, allowed = "instance 2: items.1: found 7 (int)", "allowed: an item id as a string"
    assert str(caught.value) == f'{found}; {allowed}; a number is written in quotes, such as "1234"'
    with pytest.raises(RequestError, match=r"tiem: unknown key; allowed: item, time, type; did you mean time\?"):
        parse({"events": [{"item": "a", "tiem": 1}]})


def test_a_category_is_refused_where_items_have_none() -> None:
    with refused(RequestError, "request.unknown-attribute", at="category", found="category", near=[]):
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


def is_request_or_refused(value: Any) -> None:
    """A value is a request, or refused in few words."""
    try:
        request = parse(value)
    except RequestError as refused:
        told = str(refused)
    else:
        told = request.customer or ""
        request.model_dump_json()
    assert len(told.encode()) < 1100


@settings(max_examples=150, deadline=None)
@given(anything | instances)
def test_whatever_is_sent_is_a_request_or_refused_in_few_words(value: Any) -> None:
    is_request_or_refused(value)


# Not examples of Hypothesis: it prints each, and the printer is no match for their depth.
HUGE = {
    "deep list": {"items": nested(10_000)},
    "deep filter": {"items": [], "filter": {"brand": nested(10_000)}},
    "event of many keys": {"events": [{f"key {number}": number for number in range(10_000)}]},
    "many keys": {f"key {number}": number for number in range(10_000)},
    "many nulls": {"candidates": [None] * 100_000, "items": []},
    "number as key": {10**5000: 1},
    "number below": {"items": {"a": {10**5000: 1}}},
}


@pytest.mark.parametrize("name", HUGE)
def test_what_is_huge_is_refused_in_few_words(name: str) -> None:
    is_request_or_refused(HUGE[name])
