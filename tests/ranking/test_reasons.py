"""Each answer with fallbacks says why there are any, by a closed list of names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from endcap.features.vocabulary import Vocabulary
from endcap.online import RecentEvent
from endcap.ranking import Known, Precomputed, Ranker
from endcap.reasons import REASONS
from endcap_serving.openapi import document
from tests.ranking.fixed import FixedScores

IDS = ["a", "b", "c", "d"]
NONE = -np.inf
TABLE = [[1, 2, 3, 4], [NONE, NONE, 3, NONE], [1, 2, 3, 4], [NONE, NONE, NONE, NONE]]
AWAY = Known(away=True)

CASES: dict[str, list[tuple[dict[str, Any], Known]]] = {
    "no-history": [
        ({"items": []}, Known()),
        ({"items": [], "customer": "ann"}, AWAY),
        ({"events": [{"item": "a", "type": "wish"}]}, Known()),
        ({"customer": "ann"}, Known(seen=True)),
        ({"customer": "ann"}, Known([RecentEvent("a", 1, "wish")], seen=True)),
    ],
    "unknown-customer": [({"customer": "ann"}, Known()), ({"customer": "ann", "session": "s"}, Known())],
    "unknown-session": [({"session": "s"}, Known())],
    "unknown-items": [
        ({"items": ["?"]}, Known()),
        ({"item": "?"}, Known()),
        ({"customer": "ann"}, Known([RecentEvent("?", 1)], seen=True)),
    ],
    "online-store-away": [({"customer": "ann"}, AWAY), ({"session": "s", "candidates": ["a", "?"]}, AWAY)],
    "few-scores": [
        ({"items": ["b"]}, Known()),
        ({"items": ["d"]}, Known()),
        ({"items": ["b"], "candidates": ["a", "c", "?"]}, Known()),
    ],
    "unknown-candidates": [
        ({"items": ["a"], "candidates": ["b", "?"]}, Known()),
        ({"items": [], "candidates": ["?"]}, Known()),
    ],
    "list-filled": [
        (
            {"customer": "ann", "precomputed": True, "k": 2},
            Known(listed=Precomputed(["c", "a"], [1.0, None]), seen=True),
        )
    ],
}


@pytest.mark.parametrize(
    ("reason", "request_", "known"), [(reason, *case) for reason, cases in CASES.items() for case in cases]
)
def test_an_answer_with_fallbacks_says_why(reason: str, request_: dict[str, Any], known: Known) -> None:
    ranker = Ranker(FixedScores(TABLE), Vocabulary(IDS), pa.table({"item": IDS}), event_types=["view"])
    (answer,) = ranker.rank([ranker.parse({"k": 4, **request_})], known=[known])
    written = answer.to_json()
    assert written["fallback"] == {"reason": reason, "items": sum("fallback" in item for item in written["items"])}


@pytest.mark.parametrize(
    ("request_", "known"),
    [
        ({"items": ["a"]}, Known()),
        ({"items": ["b"], "k": 1}, Known()),
        ({"customer": "ann"}, Known([RecentEvent("a", 1)], seen=True)),
        # Nothing may be listed: there is no fallback either.
        ({"items": [], "exclude": IDS}, Known()),
    ],
)
def test_an_answer_without_fallbacks_says_nothing(request_: dict[str, Any], known: Known) -> None:
    ranker = Ranker(FixedScores(TABLE), Vocabulary(IDS), pa.table({"item": IDS}))
    (answer,) = ranker.rank([ranker.parse({"k": 4, **request_})], known=[known])
    assert (answer.reason, "fallback" in answer.to_json()) == (None, False)


def test_the_names_are_those_of_the_list() -> None:
    assert {*CASES, "no-predictor"} == set(REASONS)
    reasons = document()["components"]["schemas"]["Ranking"]["properties"]["fallback"]["properties"]["reason"]
    assert all(f"{reason}: " in reasons["description"] for reason in REASONS)
