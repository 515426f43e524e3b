"""The contract's suite: what every model keeps, whichever it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import TypeAdapter

from endcap.features.sessions import Sessions
from endcap.models import NO_ITEM, Fitting, Model, load, make
from endcap.spec.custom import list_custom_models
from endcap.spec.model import ModelSpec

N_ITEMS = 12
ASKED = [[0], [1, 3], [2, 2, 4], [], [5, 7, 9, 11, 5, 7, 9], [0, 1]]
SEED = 3


def checkerboard(sessions: int = 240, seed: int = 7) -> Sessions:
    """Sessions of 3 to 6 of N_ITEMS items that are all even or all odd: what follows is of the same colour."""
    rng = np.random.default_rng(seed)
    items = [
        (rng.integers(0, N_ITEMS // 2, size=rng.integers(3, 7)) * 2 + number % 2).tolist() for number in range(sessions)
    ]
    times = [[1000 * (100 * number + step) for step in range(len(session))] for number, session in enumerate(items)]
    return Sessions.of(items, times)


def fitted(spec: ModelSpec, train: Sessions, n_items: int = N_ITEMS, *, seed: int = SEED) -> Model:
    """A model of this spec, fitted without validation."""
    model = make(spec)
    model.fit(train, n_items, Fitting(seed=seed))
    return model


class ModelContract:
    """Derive a class ``TestX`` that says which model: pytest then runs each of these tests on it.

    document: the model as under `model:` in a spec, with parameters for a small fit. session_model: it ranks by what
    the session holds; False for a model that ranks alike for everyone.
    """

    document: ClassVar[dict[str, Any]] = {}
    session_model: ClassVar[bool] = True

    @pytest.fixture(scope="class")
    def spec(self) -> ModelSpec:
        checked: ModelSpec = TypeAdapter(ModelSpec).validate_python(self.document)
        return checked

    @pytest.fixture(scope="class")
    def model(self, spec: ModelSpec) -> Model:
        """The model, fitted on the checkerboard."""
        return fitted(spec, checkerboard())

    @pytest.fixture(scope="class")
    def prepared(self, spec: ModelSpec, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
        """The same model, made ready to serve."""
        folder = tmp_path_factory.mktemp("prepared")
        model.save(folder)
        again = load(folder, [custom.path for custom in list_custom_models([spec])])
        again.prepare()
        return again

    def test_scores_have_a_row_a_session_and_a_column_an_item(self, model: Model) -> None:
        scores = model.score(Sessions.of(ASKED))
        assert scores.shape == (len(ASKED), N_ITEMS)
        assert scores.dtype == np.float32
        assert not np.isnan(scores).any()
        assert model.score(Sessions.of([])).shape == (0, N_ITEMS)

    def test_a_session_model_recommends_the_colour_of_the_session(self, model: Model) -> None:
        if not self.session_model:
            pytest.skip("it ranks alike for everyone")
        ranking = model.recommend(Sessions.of([[0, 2], [1, 5, 3], [10], [7]]), 5)
        assert (ranking.items % 2 == [[0], [1], [0], [1]]).all()

    def test_a_session_model_has_no_opinion_on_an_empty_session(self, model: Model) -> None:
        empty = Sessions.of([[]])
        if self.session_model:
            assert (model.score(empty) == -np.inf).all()
            assert (model.recommend(empty, 3).items == NO_ITEM).all()
        else:
            assert model.recommend(empty, 3).items.min() >= 0

    def test_rankings_fall_in_score_and_break_ties_to_the_smaller_index(self, model: Model) -> None:
        scores = model.score(Sessions.of(ASKED))
        ranking = model.recommend(Sessions.of(ASKED), 7)
        for row in range(len(ASKED)):
            finite = [(-score, item) for item, score in enumerate(scores[row].tolist()) if np.isfinite(score)]
            expected = [item for _, item in sorted(finite)][:7]
            assert [item for item in ranking.items[row] if item != NO_ITEM] == expected

    def test_exclude_leaves_out_no_item_the_last_or_all_seen(self, model: Model) -> None:
        session = Sessions.of([[4, 2, 0]])
        every = set(model.recommend(session, N_ITEMS).items[0].tolist())
        assert {0, 2, 4} <= every
        but_last = set(model.recommend(session, N_ITEMS, exclude="last").items[0].tolist()) - {NO_ITEM}
        assert but_last == every - {0, NO_ITEM}
        unseen = set(model.recommend(session, N_ITEMS, exclude="seen").items[0].tolist()) - {NO_ITEM}
        assert unseen == every - {0, 2, 4, NO_ITEM}

    def test_candidates_and_forbidden_items_bound_the_ranking(self, model: Model) -> None:
        session = Sessions.of([[0, 2]])
        candidates = np.array([8, 4, 6], dtype=np.int32)
        ranked = model.recommend(session, 10, candidates=candidates).items[0]
        assert set(ranked.tolist()) - {NO_ITEM} == {4, 6, 8}
        forbidden = np.zeros((1, N_ITEMS), dtype=np.bool_)
        forbidden[0, 6] = True
        ranked = model.recommend(session, 10, candidates=candidates, forbidden=forbidden).items[0]
        assert set(ranked.tolist()) - {NO_ITEM} == {4, 8}

    def test_more_items_than_there_are_is_padded(self, model: Model) -> None:
        ranking = model.recommend(Sessions.of([[0, 2]]), N_ITEMS + 5)
        assert ranking.items.shape == (1, N_ITEMS + 5)
        assert (ranking.items[0, N_ITEMS:] == NO_ITEM).all()
        assert (ranking.scores[ranking.items == NO_ITEM] == -np.inf).all()

    def test_a_batch_and_single_requests_agree(self, model: Model) -> None:
        sessions = checkerboard(60, seed=11)
        together = model.score(sessions)
        alone = np.concatenate([model.score(sessions.take(np.array([row]))) for row in range(len(sessions))])
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)

    def test_scores_of_some_items_are_those_of_all(self, model: Model, prepared: Model) -> None:
        rng = np.random.default_rng(4)
        every = Sessions.of([*ASKED, list(range(N_ITEMS)) * 6])
        # One by one, all at once, none, more than a moment's requests; and growing, as shoppers' sessions do.
        calls = [every.take(np.array([row])) for row in range(len(every))]
        calls += [every, every.take(np.array([], dtype=np.int64)), every.take(rng.integers(0, len(every), 80))]
        calls += [every.prefixes()[0].take(np.arange(begin, begin + 3)) for begin in range(0, 12, 3)]
        sizes = [0, 1, N_ITEMS, 3, 2 * N_ITEMS]
        for sessions in calls:
            expected = model.score(sessions)
            indices = [rng.integers(0, N_ITEMS, sizes[row % 5]).astype(np.int32) for row in range(len(sessions))]
            for variant in (model, prepared):
                scores = variant.score_items(sessions, indices)
                assert [values.dtype for values in scores] == [np.float32] * len(sessions)
                for row, values in enumerate(scores):
                    np.testing.assert_allclose(values, expected[row, indices[row]], rtol=1e-5, atol=1e-6)

    def test_a_model_that_is_made_ready_answers_as_before(self, model: Model, prepared: Model) -> None:
        sessions = checkerboard(40, seed=12)
        for size in (1, 8, 40):
            parts = [sessions.take(np.arange(begin, begin + size)) for begin in range(0, 40, size)]
            scores = np.concatenate([prepared.score(part) for part in parts])
            np.testing.assert_allclose(scores, model.score(sessions), rtol=1e-5, atol=1e-6)

    def test_what_was_made_ready_does_not_outlive_another_fit(self, spec: ModelSpec) -> None:
        queries, train = Sessions.of(ASKED), checkerboard(60, seed=5)
        model = fitted(spec, checkerboard(60))
        model.prepare()
        model.score(queries)
        model.fit(train, N_ITEMS, Fitting(seed=SEED))
        np.testing.assert_allclose(model.score(queries), fitted(spec, train).score(queries), rtol=1e-5, atol=1e-6)

    def test_prefixes_are_scored_as_sessions_of_their_own(self, model: Model) -> None:
        long = list(range(0, N_ITEMS, 2)) * 10
        sessions = Sessions.of([*ASKED, [], [3], long])
        at_once = model.score_prefixes(sessions)
        np.testing.assert_allclose(at_once, model.score(sessions.prefixes()[0]), rtol=1e-4, atol=1e-5)

    def test_saved_and_loaded_it_scores_the_same_without_pickle(
        self, spec: ModelSpec, model: Model, tmp_path: Path
    ) -> None:
        model.save(tmp_path)
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert {file.suffix for file in files} == {".json", ".safetensors"}
        again = load(tmp_path, [custom.path for custom in list_custom_models([spec])])
        assert type(again) is type(model)
        assert again.n_items == N_ITEMS
        np.testing.assert_array_equal(again.score(Sessions.of(ASKED)), model.score(Sessions.of(ASKED)))

    def test_two_fits_with_one_seed_are_equal(self, spec: ModelSpec) -> None:
        train, queries = checkerboard(60), Sessions.of(ASKED)
        np.testing.assert_array_equal(fitted(spec, train).score(queries), fitted(spec, train).score(queries))

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
    def test_small_training_data_is_no_trouble(self, spec: ModelSpec, train: list[list[int]], n_items: int) -> None:
        model = fitted(spec, Sessions.of(train), n_items)
        ranking = model.recommend(Sessions.of([[0], []]), 3)
        assert ranking.items.shape == (2, 3)
        assert not np.isnan(ranking.scores).any()

    def test_who_the_customer_is_may_be_unknown(self, model: Model) -> None:
        known = Sessions.of(ASKED)
        customers = np.arange(len(ASKED), dtype=np.int32)
        strangers = Sessions(known.items, known.times, known.offsets, customers + 1_000_000)
        np.testing.assert_array_equal(model.score(known), model.score(strangers))

    def test_it_knows_customers_of_its_training_alone(self, spec: ModelSpec, tmp_path: Path) -> None:
        train = replace(checkerboard(20), customers=np.arange(20, dtype=np.int32) // 2 * 3)
        model, queries = fitted(spec, train), Sessions.of(ASKED)
        known = model.known_customers
        assert (np.diff(known) > 0).all()
        assert set(known) <= set(train.customers)
        strangers = replace(queries, customers=np.full(len(ASKED), 1_000_000, dtype=np.int32))
        np.testing.assert_array_equal(model.score(queries), model.score(strangers))
        model.save(tmp_path)
        again = load(tmp_path, [custom.path for custom in list_custom_models([spec])])
        np.testing.assert_array_equal(again.known_customers, known)
        theirs = replace(queries, customers=train.customers[: len(ASKED)])
        np.testing.assert_array_equal(again.score(theirs), model.score(theirs))

    def test_scores_are_the_caller_s_to_change(self, model: Model) -> None:
        queries = Sessions.of([[0, 2]])
        before = model.score(queries).copy()
        model.score(queries)[:] = 0
        np.testing.assert_array_equal(model.score(queries), before)

    def test_training_data_stays_as_it_was(self, spec: ModelSpec) -> None:
        train = checkerboard(30)
        items, times = train.items.copy(), train.times.copy()
        make(spec).fit(train, N_ITEMS, Fitting())
        np.testing.assert_array_equal(train.items, items)
        np.testing.assert_array_equal(train.times, times)
