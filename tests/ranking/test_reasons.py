"""Each answer with fallbacks says why there are any, by a closed list of names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from endcap.fallback_reasons import REASONS
from endcap.features.vocabulary import Vocabulary
from endcap.online import RecentEvent
from endcap.ranking import PrecomputedList, Ranker, ShopperContext
from endcap_serving.openapi import build_document
from tests.ranking.fixed import FixedScores

IDS = ["a", "b", "c", "d"]
NONE = -np.inf
TABLE = [[1, 2, 3, 4], [NONE, NONE, 3, NONE], [1, 2, 3, 4], [NONE, NONE, NONE, NONE]]
AWAY = ShopperContext(store_unavailable=True)

CASES: dict[str, list[tuple[dict[str, Any], ShopperContext]]] = {
    "no-history": [
        ({"items": []}, ShopperContext()),
        ({"items": [], "customer": "ann"}, AWAY),
        ({"events": [{"item": "a", "type": "wish"}]}, ShopperContext()),
        ({"customer": "ann"}, ShopperContext(is_known=True)),
        ({"customer": "ann"}, ShopperContext([RecentEvent("a", 1, "wish")], is_known=True)),
    ],
    "unknown-customer": [
        ({"customer": "ann"}, ShopperContext()),
        ({"customer": "ann", "session": "s"}, ShopperContext()),
    ],
    "unknown-session": [({"session": "s"}, ShopperContext())],
    "unknown-items": [
        ({"items": ["?"]}, ShopperContext()),
        ({"item": "?"}, ShopperContext()),
        ({"customer": "ann"}, ShopperContext([RecentEvent("?", 1)], is_known=True)),
    ],
    "online-store-away": [({"customer": "ann"}, AWAY), ({"session": "s", "candidates": ["a", "?"]}, AWAY)],
    "few-scores": [
        ({"items": ["b"]}, ShopperContext()),
        ({"items": ["d"]}, ShopperContext()),
        ({"items": ["b"], "candidates": ["a", "c", "?"]}, ShopperContext()),
    ],
    "unknown-candidates": [
        ({"items": ["a"], "candidates": ["b", "?"]}, ShopperContext()),
        ({"items": [], "candidates": ["?"]}, ShopperContext()),
    ],
    "list-filled": [
        (
            {"customer": "ann", "precomputed": True, "k": 2},
            ShopperContext(stored_list=PrecomputedList(["c", "a"], [1.0, None]), is_known=True),
        )
    ],
}


@pytest.mark.parametrize(
    ("reason", "request_", "known"), [(reason, *case) for reason, cases in CASES.items() for case in cases]
)
def test_an_answer_with_fallbacks_says_why(reason: str, request_: dict[str, Any], known: ShopperContext) -> None:
    ranker = Ranker(FixedScores(TABLE), Vocabulary(IDS), pa.table({"item": IDS}), event_types=["view"])
    (answer,) = ranker.rank([ranker.parse({"k": 4, **request_})], contexts=[known])
    written = answer.to_json()
    assert written["fallback"] == {"reason": reason, "items": sum("fallback" in item for item in written["items"])}


@pytest.mark.parametrize(
    ("request_", "known"),
    [
        ({"items": ["a"]}, ShopperContext()),
        ({"items": ["b"], "k": 1}, ShopperContext()),
        ({"customer": "ann"}, ShopperContext([RecentEvent("a", 1)], is_known=True)),
        # Nothing may be listed: there is no fallback either.
        ({"items": [], "exclude": IDS}, ShopperContext()),
    ],
)
def test_an_answer_without_fallbacks_says_nothing(request_: dict[str, Any], known: ShopperContext) -> None:
    ranker = Ranker(FixedScores(TABLE), Vocabulary(IDS), pa.table({"item": IDS}))
    (answer,) = ranker.rank([ranker.parse({"k": 4, **request_})], contexts=[known])
    assert (answer.reason, "fallback" in answer.to_json()) == (None, False)


def test_the_names_are_those_of_the_list() -> None:
    assert {*CASES, "no-predictor"} == set(REASONS)
    reasons = build_document()["components"]["schemas"]["Ranking"]["properties"]["fallback"]["properties"]["reason"]
    assert all(f"{reason}: " in reasons["description"] for reason in REASONS)
