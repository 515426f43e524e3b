from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from endcap.errors import RequestError
from endcap.features.sessions import Sessions
from endcap.features.vocabulary import Vocabulary
from endcap.ranking import Answer, Ranker, RankRequest
from endcap.spec.serving import ServingSpec
from tests.ranking.fixed import FixedScores
from tests.refusals import refused

IDS = ["a", "b", "c", "d", "e"]
NONE = -np.inf


TABLE = [
    [1, 2, 2, NONE, NONE],  # after a: b and c tie
    [NONE, NONE, 3, NONE, 9],
    [5, 4, 3, 2, 1],
    [NONE, NONE, NONE, NONE, NONE],
    [NONE, 1, NONE, NONE, NONE],
]
ITEMS = pa.table({"item": IDS, "category": ["x", "y", "x", "y", None]})


def ranker(**settings: Any) -> Ranker:
    return Ranker(FixedScores(TABLE), Vocabulary(IDS), ITEMS, **settings)


def ask(settings: dict[str, Any] | None = None, **request: Any) -> Answer:
    return ranker(**settings or {}).rank([RankRequest(**request)])[0]


def test_scored_items_come_first_ties_by_popularity_then_the_most_popular_fill_up() -> None:
    answer = ask(items=["a"], k=5)
    assert answer.ids == ["b", "c", "a", "d", "e"]
    assert answer.scores == [2, 2, 1, None, None]
    assert answer.to_json()["items"][2:4] == [
        {"item": "a", "score": 1.0},
        {"item": "d", "score": None, "fallback": True},
    ]


def test_a_fresh_shopper_and_one_with_only_unknown_items_get_the_most_popular() -> None:
    assert ask(items=[], k=3).ids == ["a", "b", "c"]
    answer = ask(items=["?", "??"], k=3)
    assert (answer.ids, answer.unknown) == (["a", "b", "c"], 2)


def test_unknown_items_are_skipped_and_counted() -> None:
    answer = ask(items=["b", "new"], k=2)
    assert (answer.ids, answer.unknown) == (["e", "c"], 1)


def test_ids_of_any_letters_are_written_as_they_are() -> None:
    odd = ['"', '","', "\\", 'a","b\\', "'", "{}],: \u2028é"]
    for request in ({"candidates": [*odd, "b"], "k": 9}, {"k": 9}):
        model = Ranker(FixedScores(TABLE), Vocabulary(odd[:5]), pa.table({"item": odd[:5]}))
        answer = model.rank([RankRequest(items=[odd[0]], **request)])[0]
        assert [item["item"] for item in answer.to_json()["items"]] == answer.ids
        assert set(answer.ids) >= set(odd[:5])


@pytest.mark.parametrize(
    ("exclude", "expected"), [("none", ["a", "b", "c", "d", "e"]), ("last", list("abde")), ("seen", list("bde"))]
)
def test_the_recommenders_exclusion_holds_for_fallbacks_too(exclude: str, expected: list[str]) -> None:
    assert ask({"exclude": exclude}, items=["a", "c"], k=5).ids == expected
    assert ask({"exclude": "last"}, items=["d"], k=5).ids == ["a", "b", "c", "e"]


def test_a_requests_exclusions_are_never_listed() -> None:
    assert ask(items=["c"], k=5, exclude=["a", "e", "?"]).ids == ["b", "c", "d"]


def test_related_items_leave_the_item_itself_out() -> None:
    assert ask(item="c", k=5).ids == ["a", "b", "d", "e"]


def test_category_and_candidates_restrict_and_intersect() -> None:
    assert ask(items=["a"], category="x", k=5).ids == ["c", "a"]
    assert ask(items=["a"], candidates=["e", "d", "c"], k=2).ids == ["c", "d"]
    assert ask(items=["a"], candidates=["e", "d", "c"], category="x", k=5).ids == ["c"]


def test_unknown_candidates_come_last_in_their_order() -> None:
    answer = ask(items=["a"], candidates=["z", "c", "y", "z", "w"], exclude=["w"], k=5)
    assert answer.ids == ["c", "z", "y"]
    assert answer.scores == [2, None, None]
    assert answer.unknown == 3
    assert ask(items=["a"], candidates=["z", "c"], category="x", k=5).ids == ["c"]


@pytest.mark.parametrize(
    ("exclude", "request_", "expected"),
    [
        ("none", {"item": "zzz", "candidates": ["zzz", "a"]}, ["a"]),
        ("seen", {"items": ["zzz", "a"], "candidates": ["zzz", "b"]}, ["b"]),
        ("last", {"items": ["zzz", "yyy"], "candidates": ["zzz", "yyy", "b"]}, ["b", "zzz"]),
        ("none", {"items": ["zzz"], "candidates": ["zzz", "b"]}, ["b", "zzz"]),
    ],
)
def test_unknown_candidates_are_excluded_as_known_ones_are(
    exclude: str, request_: dict[str, Any], expected: list[str]
) -> None:
    assert ask({"exclude": exclude}, **request_).ids == expected


def test_k_is_the_recommenders_unless_asked_for() -> None:
    assert len(ask({"serving": ServingSpec(k=2)}, items=["a"]).ids) == 2


def test_a_batch_gives_each_request_the_answer_it_gets_alone() -> None:
    requests = [
        RankRequest(items=["a"], k=5),
        RankRequest(items=[], k=1),
        RankRequest(item="c", exclude=["d"]),
        RankRequest(items=["b", "?"], category="y", k=2),
    ]
    together = ranker().rank(requests)
    assert together == [ranker().rank([request])[0] for request in requests]
    assert ranker().rank([]) == []


def test_types_that_training_leaves_out_are_skipped() -> None:
    events = [{"item": "b", "type": "view"}, {"item": "a", "type": "wish"}]
    request = RankRequest.model_validate({"events": events, "k": 1})
    (answer,) = ranker(event_types=["view"]).rank([request])
    assert answer.ids == ["e"]


def test_features_are_those_of_the_known_items_as_in_evaluation() -> None:
    wanted = ranker(evaluate=lambda sessions: {"place": np.arange(len(sessions.items), dtype=np.float32)})
    wanted.rank([RankRequest(items=["a", "?", "b"]), RankRequest(items=["?", "c"])], now=7)
    (seen,) = wanted.model.seen  # type: ignore[attr-defined]
    assert seen.items.tolist() == [0, 1, 2]
    assert seen.features["place"].tolist() == [0, 1, 2]
    assert seen.offsets.tolist() == [0, 2, 3]
    assert seen.times.tolist() == [7, 7, 7]


def test_each_request_may_have_a_moment_of_its_own() -> None:
    seen: list[list[int]] = []

    def evaluate(sessions: Sessions) -> dict[str, Any]:
        seen.append(sessions.times.tolist())
        return {"age": sessions.times.astype(np.float32)}

    ranker(evaluate=evaluate).rank([RankRequest(items=["a", "?", "b"]), RankRequest(item="c")], now=[7, 9])
    assert seen == [[7, 7, 9]]


def test_the_types_of_known_items_are_there_for_features() -> None:
    wanted = ranker(evaluate=lambda sessions: {"kind": sessions.types.told_by(["view", "cart"])})
    events = [
        {"item": "a", "type": "cart"},
        {"item": "?", "type": "view"},
        {"item": "b"},
        {"item": "c", "type": "wish"},
    ]
    wanted.rank([RankRequest.model_validate({"events": events}), RankRequest(items=["c"])])
    (seen,) = wanted.model.seen  # type: ignore[attr-defined]
    assert seen.features["kind"].tolist() == [2, 0, 0, 0]


def test_parse_uses_the_recommenders_limits_and_the_items_categories() -> None:
    assert ranker().parse({"items": ["a"], "category": "y"}).category == "y"
    with refused(RequestError, "request.out-of-range", instance=3, at="k", found="9", least=1, most=8):
        ranker(serving=ServingSpec(k=8, max_k=8)).parse({"items": [], "k": 9}, 3)
