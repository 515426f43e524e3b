"""Simple models against answers worked out by hand."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from endcap.errors import IntegrityError
from endcap.features.sessions import Sessions
from endcap.models import load, sequential_rules
from endcap.spec.model import PopularitySpec, RecentPopularitySpec, SequentialRulesSpec, VSKNNSpec
from tests.models.shapes import fitted
from tests.refusals import refused

DAY = 86_400_000
PUBLISHED = SequentialRulesSpec(steps=2, last_events=1, norm="none")
INF = np.inf


def test_popularity_counts_events() -> None:
    model = fitted(PopularitySpec(), Sessions.of([[0, 1, 1], [1, 2]]), 4)
    assert model.score(Sessions.of([[2], []])).tolist() == [[1, 3, 1, 0]] * 2


def test_recent_popularity_counts_the_last_days() -> None:
    train = Sessions.of([[0, 0, 1], [1, 2]], [[0, DAY, 2 * DAY + 1], [3 * DAY, 4 * DAY]])
    model = fitted(RecentPopularitySpec(window=timedelta(days=2)), train, 4)
    assert model.score(Sessions.of([[2]])).tolist() == [[0, 2, 1, 0]]


def test_sequential_rules_weigh_by_gap() -> None:
    train = Sessions.of([[0, 1, 2, 0], [0, 2], [2, 2]])
    scores = fitted(PUBLISHED, train, 3).score(Sessions.of([[1, 0], [0, 2], [1]]))
    np.testing.assert_allclose(scores, [[-INF, 1, 1.5], [1, -INF, 1], [0.5, -INF, 1]])


@pytest.mark.parametrize("together", [2_000_000, 7])
def test_sequential_rules_of_the_last_events_are_added_up(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(sequential_rules, "_RUN_RULES", together)
    rng = np.random.default_rng(3)
    lists = [rng.integers(0, 12, size=rng.integers(1, 8)).tolist() for _ in range(60)]
    spec = SequentialRulesSpec(steps=2, last_events=3, decay=0.5, norm="sqrt")
    model = fitted(spec, Sessions.of(lists), 13)
    asked = [[1], [1, 2, 3], [4, 5, 6, 7], [8, 9, 8], [5, 5, 5, 5], [12, 3], []]
    expected = [_slow_rules(lists, session, spec, 13) for session in asked]
    np.testing.assert_allclose(model.score(Sessions.of(asked)), expected, rtol=1e-5)
    some = model.score_items(Sessions.of(asked), [np.arange(13, dtype=np.int32)] * len(asked))
    np.testing.assert_array_equal(some, model.score(Sessions.of(asked)))


def _slow_rules(lists: list[list[int]], asked: list[int], spec: SequentialRulesSpec, n_items: int) -> list[float]:
    """The definition, a loop a sentence."""
    asked = asked[-spec.last_events :]
    scores = [0.0] * n_items
    for place, item in enumerate(asked):
        if item in asked[place + 1 :]:
            continue
        for session in lists:
            for here, before in enumerate(session):
                for gap, follower in enumerate(session[here + 1 : here + 1 + spec.steps], start=1):
                    if before == item:
                        events = sum(held.count(item) + held.count(follower) for held in lists)
                        scores[follower] += spec.decay ** (len(asked) - 1 - place) / gap / np.sqrt(events)
    return [score or -INF for score in scores]


def test_rules_of_a_release_without_these_settings_are_of_the_last_item(tmp_path: Path) -> None:
    train = Sessions.of([[0, 1, 2, 0], [0, 2], [2, 2]])
    old = fitted(PUBLISHED, train, 3)
    old.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    description["parameters"] = {"name": "sequential-rules", "steps": 2}
    (tmp_path / "model.json").write_text(json.dumps(description))
    asked = Sessions.of([[1, 0], [0, 2], [1]])
    np.testing.assert_array_equal(load(tmp_path).score(asked), old.score(asked))


def test_vsknn_is_the_weighted_vote_of_neighbours() -> None:
    train = Sessions.of([[0, 1, 3], [1, 2], [4, 5]], [[0, 1, 2], [3, 4], [5, 6]])
    model = fitted(VSKNNSpec(), train, 6)
    # Of [0, 1], item 0 weighs 1/2 and item 1 weighs 1. Session A holds both: 1.5, session B holds 1: 1. Both share the
    # last item, so nothing decays. Items held once have idf ln 3, item 1 has ln 1.5.
    once, twice = 1 + 5 * np.log(3) / 12, 1 + 5 * np.log(1.5) / 12
    expected = [1.5 * once, 2.5 * twice, once, 1.5 * once, -INF, -INF]
    np.testing.assert_allclose(model.score(Sessions.of([[0, 1]]))[0], expected, rtol=1e-6)
    # Of [1, 0] only A holds 0; for B the latest shared item stands one event before the end: 0.9 of 1/2.
    np.testing.assert_allclose(model.score(Sessions.of([[1, 0]]))[0, 2], 0.5 * 0.9 * once, rtol=1e-6)


def test_vsknn_agrees_with_its_definition_told_slowly() -> None:
    rng = np.random.default_rng(5)
    lists = [rng.integers(0, 15, size=rng.integers(1, 7)).tolist() for _ in range(80)]
    times = [sorted(rng.integers(0, 40, size=len(items)).tolist()) for items in lists]
    spec = VSKNNSpec(sample=6, neighbours=5, last_events=4)
    model = fitted(spec, Sessions.of(lists, times), 15)
    asked = [rng.integers(0, 15, size=rng.integers(1, 9)).tolist() for _ in range(60)]
    expected = [_slow_vsknn(lists, times, session, spec, 15) for session in asked]
    np.testing.assert_allclose(model.score(Sessions.of(asked)), expected, rtol=1e-5)


def _slow_vsknn(
    lists: list[list[int]], times: list[list[int]], asked: list[int], spec: VSKNNSpec, n_items: int
) -> list[float]:
    """The definition, a loop a sentence."""
    recent = sorted(range(len(lists)), key=lambda session: (times[session][-1], session), reverse=True)
    asked = asked[-spec.last_events :]
    place = {item: number for number, item in enumerate(asked, start=1)}
    sampled = {s for item in place for s in [s for s in recent if item in lists[s]][: spec.sample]}
    similarity = {s: sum(place[item] for item in place if item in lists[s]) for s in sampled}
    voters = sorted(sampled, key=lambda s: (-similarity[s], recent.index(s)))[: spec.neighbours]
    scores = [-INF] * n_items
    for item in range(n_items):
        votes = 0.0
        for s in voters:
            if item in lists[s]:
                steps_back = len(asked) - max(place[shared] for shared in place if shared in lists[s])
                votes += similarity[s] / len(asked) * max(0.0, 1 - 0.1 * steps_back)
        if votes > 0:
            holders = sum(item in items for items in lists)
            scores[item] = votes * (1 + spec.idf_weight * np.log(len(lists) / holders) / 12)
    return scores


def test_a_damaged_or_foreign_folder_is_told_apart(tmp_path: Path) -> None:
    with refused(IntegrityError, "models.damaged", path=str(tmp_path / "model.json")):
        load(tmp_path)
    fitted(PopularitySpec(), Sessions.of([[0]]), 1).save(tmp_path)
    (tmp_path / "tensors.safetensors").write_bytes(b"cut short")
    with refused(IntegrityError, "models.damaged", path=str(tmp_path / "tensors.safetensors")):
        load(tmp_path)
    (tmp_path / "model.json").write_text('{"name": "oracle", "parameters": {}, "n_items": 1}')
    with refused(IntegrityError, "models.unknown", path=str(tmp_path), found="oracle") as caught:
        load(tmp_path)
    assert "popularity" in caught.value.fields["allowed"]
