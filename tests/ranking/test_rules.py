"""The shop's rules, what a customer has, and a batch's list, on answers."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pytest

from endcap.errors import RequestError
from endcap.features.vocabulary import Vocabulary
from endcap.online import RecentEvent
from endcap.ranking import Answer, PrecomputedList, Ranker, RankRequest, ShopperContext
from endcap.ranking.request import DiscreetRequest
from endcap.rules import Catalogue
from endcap.spec.rules import Rules
from tests.ranking.fixed import FixedScores
from tests.refusals import refused

IDS = ["a", "b", "c", "d", "e", "f", "g", "h"]
PACKAGE = pa.table({"item": IDS, "brand": ["Fen"] * 4 + ["Orn"] * 4})
TOLD = pa.table(
    {
        "item": [*IDS, "new", "sold out"],
        "brand": ["Fen"] * 4 + ["Orn"] * 4 + ["Fen", "Fen"],
        "stock": [1.0] * 7 + [0.0, 5.0, 0.0],
    }
)
RULES = Rules.model_validate(
    {
        "blacklist": {"sources": [{"path": "/blacklist.csv"}]},
        "stock": {},
        "attributes": [{"name": "fen-only", "attribute": "brand", "only": ["Fen"], "surfaces": ["fen"]}],
    }
)
CATALOGUE = Catalogue(RULES, TOLD, frozenset({"b"}))
BARE = Ranker(FixedScores([[8, 7, 6, 5, 4, 3, 2, 1]] * 8), Vocabulary(IDS), PACKAGE)
RULED = BARE.with_catalogue(CATALOGUE)


def ask(known: ShopperContext | None = None, **instance: Any) -> Answer:
    """What a shopper who looked at `a` is answered."""
    request = RULED.parse({"items": ["a"], **instance})
    return RULED.rank([request], contexts=[known or ShopperContext()])[0]


def test_what_rules_forbid_is_never_listed_asked_for_or_not() -> None:
    assert ask().ids == ["a", "c", "d", "e", "f", "g"]
    assert ask(candidates=["h", "g", "b"]).ids == ["g"]
    assert ask(surface="fen").ids == ["a", "c", "d"]
    assert ask(surface="another").ids == ask().ids


def test_what_a_customer_has_is_never_listed() -> None:
    assert ask(ShopperContext(owned={"a", "d", "?"})).ids == ["c", "e", "f", "g"]
    assert ask(ShopperContext(owned={"g"}), candidates=["g", "e", "f"]).ids == ["e", "f"]


def test_candidates_that_the_model_does_not_know_are_under_the_rules_and_filters_too() -> None:
    candidates = ["new", "sold out", "unheard of", "g"]
    assert ask(candidates=candidates).ids == ["g", "new", "unheard of"]
    assert ask(candidates=candidates, filter={"brand": "Fen"}).ids == ["new"]
    assert ask(candidates=candidates, surface="fen").ids == ["new"]
    assert ask(ShopperContext(owned=["new"]), candidates=candidates).ids == ["g", "unheard of"]


def test_filters_hold_together_and_take_any_of_their_values() -> None:
    assert ask(filter={"brand": ["Orn"]}).ids == ["e", "f", "g"]
    assert ask(filter={"brand": ["Orn", "Fen"]}).ids == ask().ids
    assert ask(filter={"brand": "Orn"}, candidates=["a", "f", "g"], exclude=["f"]).ids == ["g"]


def test_an_attribute_or_value_that_no_item_has_is_refused_with_those_that_are_near() -> None:
    with refused(RequestError, "request.unknown-value", at="filter.brand", found="'Orm'") as caught:
        RULED.parse({"items": [], "filter": {"brand": ["Fen", "Orm"]}})
    assert caught.value.fields["near"][0] == "Orn"
    with refused(RequestError, "request.unknown-attribute", at="filter", found="'brnad'", count=1, near=["brand"]):
        RULED.parse({"items": [], "filter": {"brnad": "Fen"}})


def test_on_request_the_answer_tells_what_was_removed_and_by_which_rule() -> None:
    told = ask(
        ShopperContext(owned=["g"]), candidates=["g", "h", "b", "sold out", "c", "e"], surface="fen", explain=True
    )
    assert told.ids == ["c"]
    assert told.removed == [
        {"item": "g", "rule": "fen-only"},
        {"item": "h", "rule": "stock"},
        {"item": "b", "rule": "blacklist"},
        {"item": "sold out", "rule": "stock"},
        {"item": "e", "rule": "fen-only"},
    ]
    assert ask(ShopperContext(owned=["g"]), candidates=["g"], explain=True).removed == [{"item": "g", "rule": "owned"}]
    assert ask(candidates=["c"], explain=True).removed == []
    assert ask(candidates=["b"]).removed is None


def test_of_the_whole_catalogue_it_tells_how_many_each_rule_removed() -> None:
    owned = ShopperContext(owned=["g", "h", "?"])
    whole = [{"rule": "blacklist", "items": 1}, {"rule": "stock", "items": 1}, {"rule": "owned", "items": 1}]
    assert ask(owned, explain=True).removed == whole
    assert ask(owned, explain=True, filter={"brand": "Orn"}).removed == whole[1:]


def test_to_who_may_not_know_an_explanation_is_the_same_whatever_the_customer_owns() -> None:
    for asked in ({}, {"candidates": ["g", "a", "h", "b", "c"]}, {"filter": {"brand": "Orn"}}):
        request = DiscreetRequest.from_request(RULED.parse({"items": ["a"], "explain": True, **asked}))
        told = [
            RULED.rank([request], contexts=[ShopperContext(owned=owned)])[0].removed
            for owned in ([], ["g"], ["a", "h", "c"])
        ]
        assert told == [told[0]] * 3
        assert told[0] is not None


def test_new_rules_make_a_new_ranker_and_leave_the_old_one() -> None:
    assert BARE.rank([RankRequest(items=["a"])])[0].ids == IDS
    later = RULED.with_catalogue(Catalogue(RULES, TOLD, frozenset({"a"})))
    assert later.rank([RankRequest(items=["a"])])[0].ids == ["b", "c", "d", "e", "f", "g"]
    assert ask().ids[0] == "a"
    assert later.model is RULED.model


def test_recent_events_of_the_online_store_are_the_session_of_a_request_that_brings_none() -> None:
    table = [[0.0] * 8 for _ in IDS]
    table[2][4] = 9
    ranker = Ranker(FixedScores(table), Vocabulary(IDS), PACKAGE, event_types=["view"])
    events = [RecentEvent("c", 5, "view"), RecentEvent("d", 6, "wish")]
    for request, first in (({"customer": "x"}, "e"), ({"session": "x"}, "e"), ({"customer": "x", "items": []}, "a")):
        (answer,) = ranker.rank([ranker.parse(request)], contexts=[ShopperContext(events)])
        assert answer.ids[0] == first
    (stranger,) = ranker.rank([ranker.parse({"customer": "x"})], now=7)
    assert stranger.scores == [None] * 8


def test_a_batchs_list_is_taken_where_enough_of_it_may_be_shown() -> None:
    listed = ShopperContext(
        stored_list=PrecomputedList(["h", "g", "b", "f", "a"], [0.9, 0.8, 0.7, 0.6, 0.5]), owned=["f"]
    )
    answer = ask(listed, customer="x", precomputed=True, k=2)
    assert (answer.ids, answer.precomputed) == (["g", "a"], True)
    assert answer.scores == pytest.approx([0.8, 0.5])
    assert answer.to_json()["precomputed"] is True
    for other in ({"k": 3}, {"k": 2, "candidates": ["a", "c"]}, {"k": 2, "precomputed": False}):
        ranked = ask(listed, **{"customer": "x", "precomputed": True, **other})
        assert (ranked.ids[0], ranked.precomputed) == ("a", False)
    assert ask(ShopperContext(), customer="x", precomputed=True, k=1).ids == ["a"]
    filled = ShopperContext(stored_list=PrecomputedList(["g", "b", "c"], [0.8, None, None]))
    assert ask(filled, customer="x", precomputed=True, k=2).to_json()["items"] == [
        {"item": "g", "score": pytest.approx(0.8)},
        {"item": "c", "score": None, "fallback": True},
    ]


def test_an_answer_is_json_with_what_the_server_adds() -> None:
    odd = ['q"', "ü\u2028", ",", "日本"]
    ranker = Ranker(FixedScores([[0.1, 1e-20, -3e20, 2.0]] * 4), Vocabulary(odd), pa.table({"item": odd}))
    request = RankRequest(items=odd[:1], candidates=[*odd, '"},{"', "\\"], explain=True, k=9)
    (answer,) = ranker.rank([request])
    read = orjson.loads(answer.to_bytes({"request_id": "ö"}))
    assert read == {**answer.to_json(), "request_id": "ö"}
    assert [one["item"] for one in read["items"]] == answer.ids == ["日本", 'q"', "ü\u2028", ",", '"},{"', "\\"]
    assert [one["score"] for one in read["items"]] == [2.0, 0.1, 1e-20, -3e20, None, None]
    assert [one.get("fallback", False) for one in read["items"]] == [False] * 4 + [True] * 2
    assert (read["unknown"], read["removed"], "precomputed" in read) == (2, [], False)
    assert Answer(answer.ids, answer.scores, 2, [], reason="unknown-candidates").to_json() == answer.to_json()
    assert Answer([], []).to_json() == {"items": [], "unknown": 0}
