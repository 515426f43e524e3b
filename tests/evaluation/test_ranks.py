from __future__ import annotations

import numpy as np
import pytest

from endcap.evaluation import ranks
from endcap.evaluation.ranks import RankedBlock, rank_predictions
from endcap.evaluation.scoring import EvaluatedModel, VocabularyTranslation
from endcap.features.sessions import Sessions
from endcap.spec.recommender import Exclude
from tests.evaluation.conftest import AfterLast, every, random_sessions

NONE = -np.inf
TABLE = [[3, 2, 2, NONE], [9, 9, 9, 9], [NONE, 1, NONE, NONE], [NONE, NONE, NONE, NONE]]


def whole(competitor: EvaluatedModel, test: Sessions, k: int) -> RankedBlock:
    blocks = list(rank_predictions(competitor, every(test), k))
    names = ("owner", "ends", "places", "targets", "tops", "listed", "ranks", "weights")
    return RankedBlock(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names))


def test_each_prefix_is_ranked_and_ties_go_to_the_smaller_index() -> None:
    block = whole(EvaluatedModel(AfterLast(TABLE)), Sessions.of([[0, 2, 1], [3], [3, 0], [1, 3]]), 4)
    assert block.owner.tolist() == [0, 0, 2, 3]
    assert block.ends.tolist() == [1, 2, 1, 1]
    assert block.targets.tolist() == [2, 1, 0, 3]
    assert block.tops.tolist() == [[0, 1, 2, -1], [1, -1, -1, -1], [-1] * 4, [0, 1, 2, 3]]
    assert block.ranks.tolist() == [3, 1, 0, 4]


@pytest.mark.parametrize(("exclude", "expected"), [("none", [2, 3]), ("last", [1, 2]), ("seen", [1, 0])])
def test_what_is_excluded_is_not_listed_and_as_a_target_a_miss(exclude: Exclude, expected: list[int]) -> None:
    table = [[9, 8, 7], [9, 8, 7], [9, 8, 7]]
    # The prefixes are [0] before 1, then [0, 1] before 0 and 2.
    block = whole(EvaluatedModel(AfterLast(table), exclude), Sessions.of([[0, 1], [0, 1, 2]]), 3)
    assert [int(block.ranks[0]), int(block.ranks[2])] == [expected[0], {"none": 3, "last": 2, "seen": 1}[exclude]]
    repeat = whole(EvaluatedModel(AfterLast(table), exclude), Sessions.of([[0, 1, 0]]), 3)
    assert repeat.ranks.tolist() == [expected[0], {"none": 1, "last": 1, "seen": 0}[exclude]]


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).integers(0, 5, (30, 30))
    test = random_sessions(1, 50, 30)
    once = whole(EvaluatedModel(AfterLast(table)), test, 7)
    monkeypatch.setattr(ranks, "SCORE_BYTES", 30 * 4 * 3)
    monkeypatch.setattr(ranks, "PREFIX_EVENTS", 40)
    pieces = whole(EvaluatedModel(AfterLast(table)), test, 7)
    for name in ("owner", "ends", "targets", "tops"):
        assert getattr(pieces, name).tolist() == getattr(once, name).tolist()
    assert len(once.targets) == int((test.lengths - 1).sum())


def test_a_model_with_another_vocabulary_is_asked_in_its_own() -> None:
    """Its items are z, c, a; the test's are a, b, c: b is unknown to it, and z to the test."""
    translation = VocabularyTranslation.between(["a", "b", "c"], ["z", "c", "a"])
    assert translation is not None
    table = [[NONE, NONE, NONE], [3, 2, 1], [1, 3, 2]]
    # c, a before b; then b alone, which leaves nothing; then a, b, where only a counts.
    test = Sessions.of([[2, 0, 1], [1, 0], [0, 1, 2]])
    block = whole(EvaluatedModel(AfterLast(table), translation=translation), test, 3)
    assert block.listed.tolist() == [[-1, 2, 0], [2, 0, -1], [-1, -1, -1], [2, 0, -1], [2, 0, -1]]
    assert block.tops.tolist() == [[0, 1, 2], [1, 2, 0], [-1, -1, -1], [1, 2, 0], [1, 2, 0]]
    assert block.ranks.tolist() == [3, 0, 0, 0, 1]
    assert VocabularyTranslation.between(["a"], ["a"]) is None


def test_features_that_the_test_lacks_are_made_of_what_is_asked() -> None:
    class Keeps(AfterLast):
        def score(self, sessions: Sessions) -> np.ndarray:
            kept.append(sessions.features["place"].tolist())
            return super().score(sessions)

    kept: list[list[float]] = []
    competitor = EvaluatedModel(Keeps(TABLE), evaluate=lambda asked: {"place": asked.items * np.float32(2)})
    whole(competitor, Sessions.of([[0, 1], [2, 3, 1]]), 2)
    assert kept == [[0, 4, 4, 6]]
