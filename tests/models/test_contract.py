"""What every model keeps, whichever it is."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from endcap.features.sessions import Sessions
from endcap.models import NO_ITEM, Fitting, Model, load, make
from endcap.spec.model import ModelSpec
from tests.models.shapes import N_ITEMS, SPECS, checkerboard, fitted

NAMES = [spec.name for spec in SPECS]
ASKED = [[0], [1, 3], [2, 2, 4], [], [5, 7, 9, 11, 5, 7, 9], [0, 1]]


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {spec.name: fitted(spec, checkerboard()) for spec in SPECS}


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, models: dict[str, Model]) -> Model:
    return models[request.param]


@pytest.fixture(params=SPECS, ids=NAMES)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return request.param


def test_every_model_of_the_spec_is_tested() -> None:
    union, *_ = get_args(ModelSpec)
    assert [one.model_fields["name"].default for one in get_args(union)] == NAMES


def test_scores_have_a_row_a_session_and_a_column_an_item(model: Model) -> None:
    scores = model.score(Sessions.of(ASKED))
    assert scores.shape == (len(ASKED), N_ITEMS)
    assert scores.dtype == np.float32
    assert not np.isnan(scores).any()
    assert model.score(Sessions.of([])).shape == (0, N_ITEMS)


@pytest.mark.parametrize("name", ["sequential-rules", "vsknn", "gru4rec"])
def test_session_models_recommend_the_colour_of_the_session(models: dict[str, Model], name: str) -> None:
    ranking = models[name].recommend(Sessions.of([[0, 2], [1, 5, 3], [10], [7]]), 5)
    assert (ranking.items % 2 == [[0], [1], [0], [1]]).all()


def test_session_models_have_no_opinion_on_an_empty_session(models: dict[str, Model]) -> None:
    empty = Sessions.of([[]])
    for name in ("sequential-rules", "vsknn", "gru4rec"):
        assert (models[name].score(empty) == -np.inf).all()
        assert (models[name].recommend(empty, 3).items == NO_ITEM).all()
    for name in ("popularity", "recent-popularity"):
        assert models[name].recommend(empty, 3).items.min() >= 0


def test_rankings_fall_in_score_and_break_ties_to_the_smaller_index(model: Model) -> None:
    scores = model.score(Sessions.of(ASKED))
    ranking = model.recommend(Sessions.of(ASKED), 7)
    for row in range(len(ASKED)):
        expected = sorted(np.flatnonzero(np.isfinite(scores[row])), key=lambda item: (-scores[row][item], item))[:7]
        assert [item for item in ranking.items[row] if item != NO_ITEM] == expected


def test_items_never_seen_apart_are_ties() -> None:
    # Items 1, 2, 3 are alike in everything: each once, after item 0, in sessions of the same time.
    train = Sessions.of([[0, 3], [0, 1], [0, 2]], [[0, 1000]] * 3)
    for spec in SPECS[:4]:
        assert fitted(spec, train, 4).recommend(Sessions.of([[0]]), 3, exclude="last").items.tolist() == [[1, 2, 3]]


def test_exclude_leaves_out_no_item_the_last_or_all_seen(model: Model) -> None:
    session = Sessions.of([[4, 2, 0]])
    every = set(model.recommend(session, N_ITEMS).items[0].tolist())
    assert {0, 2, 4} <= every
    assert set(model.recommend(session, N_ITEMS, exclude="last").items[0].tolist()) - {NO_ITEM} == every - {0, NO_ITEM}
    unseen = set(model.recommend(session, N_ITEMS, exclude="seen").items[0].tolist()) - {NO_ITEM}
    assert unseen == every - {0, 2, 4, NO_ITEM}


def test_candidates_and_forbidden_items_bound_the_ranking(model: Model) -> None:
    session = Sessions.of([[0, 2]])
    candidates = np.array([8, 4, 6], dtype=np.int32)
    assert set(model.recommend(session, 10, candidates=candidates).items[0].tolist()) - {NO_ITEM} == {4, 6, 8}
    forbidden = np.zeros((1, N_ITEMS), dtype=np.bool_)
    forbidden[0, 6] = True
    ranked = model.recommend(session, 10, candidates=candidates, forbidden=forbidden).items[0]
    assert set(ranked.tolist()) - {NO_ITEM} == {4, 8}


def test_more_items_than_there_are_is_padded(model: Model) -> None:
    ranking = model.recommend(Sessions.of([[0, 2]]), N_ITEMS + 5)
    assert ranking.items.shape == (1, N_ITEMS + 5)
    assert (ranking.items[0, N_ITEMS:] == NO_ITEM).all()
    assert (ranking.scores[ranking.items == NO_ITEM] == -np.inf).all()


def test_a_batch_and_single_requests_agree(model: Model) -> None:
    sessions = checkerboard(60, seed=11)
    together = model.score(sessions)
    alone = np.concatenate([model.score(sessions.take(np.array([row]))) for row in range(len(sessions))])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_saved_and_loaded_it_scores_the_same_without_pickle(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = load(tmp_path)
    assert type(again) is type(model)
    assert again.n_items == N_ITEMS
    np.testing.assert_array_equal(again.score(Sessions.of(ASKED)), model.score(Sessions.of(ASKED)))


def test_two_fits_with_one_seed_are_equal(spec: ModelSpec) -> None:
    train, asked = checkerboard(60), Sessions.of(ASKED)
    np.testing.assert_array_equal(fitted(spec, train).score(asked), fitted(spec, train).score(asked))


@pytest.mark.parametrize(
    ("train", "n_items"),
    [
        pytest.param([[0, 1, 0]], 2, id="one session"),
        pytest.param([[0, 0], [0]], 1, id="one item"),
        pytest.param([[0], [1], [1]], 3, id="sessions of one event"),
        pytest.param([[], [0, 1], []], 2, id="empty sessions among them"),
        pytest.param([], 2, id="nothing"),
    ],
)
def test_small_training_data_is_no_trouble(spec: ModelSpec, train: list[list[int]], n_items: int) -> None:
    model = fitted(spec, Sessions.of(train), n_items)
    ranking = model.recommend(Sessions.of([[0], []]), 3)
    assert ranking.items.shape == (2, 3)
    assert not np.isnan(ranking.scores).any()


def test_who_the_customer_is_may_be_unknown(model: Model) -> None:
    known = Sessions.of(ASKED)
    customers = np.arange(len(ASKED), dtype=np.int32)
    strangers = Sessions(known.items, known.times, known.offsets, customers + 1_000_000)
    np.testing.assert_array_equal(model.score(known), model.score(strangers))


def test_scores_are_the_caller_s_to_change(model: Model) -> None:
    asked = Sessions.of([[0, 2]])
    before = model.score(asked).copy()
    model.score(asked)[:] = 0
    np.testing.assert_array_equal(model.score(asked), before)


def test_training_data_stays_as_it_was(spec: ModelSpec) -> None:
    train = checkerboard(30)
    items, times = train.items.copy(), train.times.copy()
    make(spec).fit(train, N_ITEMS, Fitting())
    np.testing.assert_array_equal(train.items, items)
    np.testing.assert_array_equal(train.times, times)
