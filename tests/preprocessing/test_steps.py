"""Steps as one: what they are given, what is refused, what is written; and the specs that name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from endcap.errors import DataError, IntegrityError, SpecError, UserError
from endcap.features.sessions import Sessions, Types
from endcap.models.custom import find_own_modules
from endcap.preprocessing import Preprocessing, Training
from endcap.spec.load import load
from endcap.spec.preprocessing import PreprocessorSpec
from tests.features.logs import recommender
from tests.preprocessing.stand_ins import ROOM, step

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "cleaning"


def made(*steps: dict[str, Any]) -> Preprocessing:
    return Preprocessing.of([PreprocessorSpec.model_validate(one) for one in steps])


def training(words: list[list[int]], times: list[list[int]] | None = None) -> Training:
    return Training(Sessions.of(words, times), 9)


def items(sessions: Sessions) -> list[list[int]]:
    return [part.tolist() for part in np.split(sessions.items, sessions.offsets[1:-1])]


def test_steps_are_fitted_and_applied_in_their_order() -> None:
    sessions = Sessions.of([[0, 1, 2], [3, 4]], [[0, 100, 5000], [0, 90_000]])
    typed = replace(sessions, types=Types(("view", "cart"), np.array([1, 2, 1, 1, 2], np.int16)))
    first = made(step("DropType"), step("DropGlances"))
    # The cart event is gone before the pause after the first view is looked at.
    assert items(first.fit(Training(typed, 9))) == [[0, 2], [3]]
    assert items(made(step("DropGlances"), step("DropType")).fit(Training(typed, 9))) == [[2], [3]]


def test_steps_are_given_what_the_training_part_had(tmp_path: Path) -> None:
    log = Sessions.of([[0, 1], [2]])
    typed = replace(
        log, types=Types(("view", "cart"), np.array([1, 2, 1], np.int16)), features={"a": np.zeros(3, "f4")}
    )
    steps = made(step("DropType"))
    steps.fit(Training(typed, 9))
    (tmp_path / "of").mkdir()
    steps.save(tmp_path / "of")
    again = Preprocessing.load(tmp_path / "of", [f"{ROOM}:DropType"])
    # A request tells its types by other numbers, and names types and features that the training part lacks.
    asked = replace(log, types=Types.of(["cart", "bot", None]), features={"a": np.ones(3, "f4"), "b": np.ones(3, "f4")})
    for one in (steps, again):
        transformed = one.transform(asked)
        assert items(transformed) == [[1], [2]]
        assert transformed.types is not None
        assert (transformed.types.names, transformed.types.codes.tolist()) == (("view", "cart"), [0, 0])
        assert transformed.features.keys() == {"a"}
        with pytest.raises(UserError) as error:
            one.transform(log)
        assert (error.value.code, error.value.fields["features"]) == ("preprocessing.features-missing", ["a"])


def test_a_step_sees_the_customers_that_it_knows_alone() -> None:
    log = replace(Sessions.of([[0, 1], [2, 3], [4, 5]]), customers=np.array([7, 7, 8], np.int32))
    steps = made(step("LastOfRegulars"))
    steps.fit(Training(log, 9))
    assert steps.known_customers.tolist() == [7]
    transformed = steps.transform(log)
    assert items(transformed) == [[1], [3], [4, 5]]
    assert transformed.customers.tolist() == [7, 7, 8]


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("fewer", "preprocessing.contract"),
        ("outside", "preprocessing.contract"),
        ("dtype", "preprocessing.contract"),
        ("times", "preprocessing.contract"),
        ("feature", "preprocessing.contract"),
        ("list", "preprocessing.contract"),
        ("all", "preprocessing.nothing-left"),
    ],
)
def test_a_step_that_breaks_the_contract_is_named(how: str, code: str) -> None:
    with pytest.raises(UserError) as error:
        made(step("Broken", how=how)).fit(training([[0, 1], [2]]))
    assert (error.value.code, error.value.fields["path"]) == (code, f"{ROOM}:Broken")
    assert isinstance(error.value, DataError) == (how == "all")


def test_what_is_loaded_is_listed_whole_and_no_pickle(tmp_path: Path) -> None:
    steps = made(step("DropGlances", ms=7), step("LastOfRegulars"))
    steps.fit(training([[0, 1], [2]]))
    steps.save(tmp_path)
    known = [f"{ROOM}:DropGlances", f"{ROOM}:LastOfRegulars"]
    assert [one.parameters for one in Preprocessing.load(tmp_path, known).steps] == [
        one.parameters for one in steps.steps
    ]
    with pytest.raises(UserError) as error:
        Preprocessing.load(tmp_path, known[:1])
    assert (error.value.code, error.value.fields) == (
        "preprocessing.class-unlisted",
        {"path": known[1], "listed": known[:1]},
    )
    (tmp_path / "steps.json").write_text("{")
    with pytest.raises(IntegrityError) as damaged:
        Preprocessing.load(tmp_path, known)
    assert damaged.value.code == "preprocessing.damaged"
    pickled = made(step("Broken", how="pickle"))
    (tmp_path / "pickled").mkdir()
    with pytest.raises(UserError) as refused:
        pickled.save(tmp_path / "pickled")
    assert (refused.value.code, refused.value.fields["files"]) == ("preprocessing.state-format", ["state.pkl"])


def test_a_spec_names_listed_classes_only() -> None:
    steps = [step("DropType"), step("DropGlances")]
    with pytest.raises(ValidationError, match=rf"1\.class found '{ROOM}:DropGlances'; allowed: {ROOM}"):
        recommender(preprocessing=steps, classes=[f"{ROOM}:DropType"])
    listed = recommender(preprocessing=steps, classes=[one["class"] for one in steps])
    assert type(listed).model_validate(listed.model_dump(mode="json", exclude_none=True)) == listed
    assert find_own_modules(listed.model, *listed.preprocessing) == [ROOM]


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ('preprocessing=[{class: "cleaning:DropComon"}]', "preprocessing[0].class"),
        ('preprocessing=[{class: "cleaning:DropCommon", parameters: {share: 2}}]', "preprocessing[0].parameters.share"),
        ('preprocessing=[{class: "cleaning:DropCommon", parameters: {shar: 0.2}}]', "preprocessing[0].parameters.shar"),
        ('preprocessing=[{class: "cleaning:DropCommon", parametres: {}}]', "preprocessing[0].parametres"),
    ],
)
def test_a_mistake_is_reported_at_its_key(monkeypatch: pytest.MonkeyPatch, setting: str, key: str) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    with pytest.raises(SpecError) as error:
        load(EXAMPLE / "cleaning.yaml", sets=["classes=[cleaning:DropCommon, cleaning:DropComon]", setting])
    assert [one.key for one in error.value.problems] == [key]


def test_a_class_that_is_not_installed_is_named_unchecked(tmp_path: Path) -> None:
    sets = ["classes=[not_here:Step]", 'preprocessing=[{class: "not_here:Step"}]']
    assert load(EXAMPLE / "cleaning.yaml", sets=sets).absent == ("not_here:Step",)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("tests.training.stand_ins:Sleeper", "spec.class-of-another-kind"),
        ("endcap.preprocessing.base:Preprocessor", "spec.class-incomplete"),
        ("endcap.preprocessing:Preprocessor", "spec.class-incomplete"),
    ],
)
def test_a_class_that_is_no_whole_preprocessor_is_refused(path: str, code: str) -> None:
    with pytest.raises(UserError) as error:
        made({"class": path})
    assert error.value.code == code
