"""A model behind preprocessing: what it is fitted on, validated by, asked and saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from endcap.errors import UserError
from endcap.features.sessions import Sessions
from endcap.models import NO_ITEM, Fitting, Validation, load, make
from endcap.models.preprocessed import Preprocessed, unwrap
from endcap.preprocessing import Preprocessing, Training
from endcap.spec.model import BlendSpec, ModelSpec, SequentialRulesSpec, VSKNNSpec
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.spec.recommender import Exclude
from tests.models.shapes import SMALL_GRU, checkerboard
from tests.preprocessing.stand_ins import step

EXCLUDE: tuple[Exclude, Exclude] = ("none", "seen")
STEPS = [PreprocessorSpec.model_validate(step("DropGlances", ms=1000))]
# Four events: the second follows at once, so that the first is a glance.
ASKED = Sessions.of([[0, 1, 2, 3], [4, 5], []], [[0, 500, 5000, 5100], [0, 9000], []])


def board(sessions: int = 240, seed: int = 7) -> Sessions:
    """The checkerboard, with two events at each moment: the first of them is a glance."""
    made = checkerboard(sessions, seed)
    return replace(made, times=made.times // 2000 * 2000)


def transformed(sessions: Sessions) -> Sessions:
    steps = Preprocessing.of(STEPS)
    steps.fit(Training(checkerboard(), 12))
    return steps.transform(sessions)


@pytest.mark.parametrize("spec", [SequentialRulesSpec(), VSKNNSpec()], ids=lambda one: one.name)
def test_it_is_the_model_of_transformed_sessions(spec: ModelSpec) -> None:
    model, plain = make(spec, STEPS), make(spec)
    model.fit(board(), 12, Fitting())
    plain.fit(transformed(board()), 12, Fitting())
    expected = plain.score(transformed(ASKED))
    np.testing.assert_array_equal(model.score(ASKED), expected)
    some = [np.array([1, 7, 11], np.int32)] * 3
    np.testing.assert_allclose(np.stack(model.score_items(ASKED, some)), expected[:, [1, 7, 11]])
    assert (model.recommend(ASKED, 3).items[2] == NO_ITEM).all()


def test_a_prefix_is_transformed_as_a_session_of_its_own() -> None:
    model = make(SequentialRulesSpec(), STEPS)
    model.fit(board(), 12, Fitting())
    # After event 0 alone the model sees it; once event 1 has come, it is a glance.
    seen = [[0], [1], [1, 2], [4]]
    np.testing.assert_array_equal(model.score_prefixes(ASKED), unwrap(model).score(Sessions.of(seen)))


def test_validation_asks_transformed_histories_and_excludes_the_items_of_the_whole_ones() -> None:
    asked, wanted, _ = board(60, seed=9).prefixes()
    grades = []
    for exclude in EXCLUDE:
        model = make(SMALL_GRU.model_copy(update={"max_epochs": 2}), STEPS)
        watched = Validation(asked, wanted, exclude)
        report = model.fit(board(), 12, Fitting(validation=watched))
        grades.append(max(row["validation"] for row in report.history))
        # The best epoch's model is as good from outside as it was from inside.
        assert watched.measure(model) == pytest.approx(grades[-1])
    assert grades[0] != pytest.approx(grades[1])


def test_members_are_shown_behind_the_same_steps() -> None:
    members = {"rules": {"name": "sequential-rules"}, "vsknn": {"name": "vsknn"}}
    blend = BlendSpec.model_validate({"name": "blend", "members": members})
    model = make(blend, STEPS)
    model.fit(board(), 12, Fitting())
    alone = make(SequentialRulesSpec(), STEPS)
    alone.fit(board(), 12, Fitting())
    np.testing.assert_array_equal(model.members()["rules"].score(ASKED), alone.score(ASKED))


def test_saved_and_loaded_by_listed_classes_alone(tmp_path: Path) -> None:
    spec = BlendSpec.model_validate(
        {"name": "blend", "members": {"a": {"name": "sequential-rules"}, "b": {"name": "popularity"}}}
    )
    model = make(spec, STEPS)
    model.fit(board(), 12, Fitting())
    model.save(tmp_path)
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} == {".json", ".safetensors"}
    again = load(tmp_path, [STEPS[0].path])
    assert isinstance(again, Preprocessed)
    assert again.n_items == 12
    np.testing.assert_array_equal(again.score(ASKED), model.score(ASKED))
    for classes in (None, [], ["acme.other:Step"]):
        with pytest.raises(UserError) as error:
            load(tmp_path, classes)
        assert error.value.code == "preprocessing.class-unlisted"
