"""Classes outside Endcap as models: only what a recommender lists is imported, and what is wrong with it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from endcap.errors import IntegrityError, NotFoundError, SpecError, UserError
from endcap.features.sessions import Sessions
from endcap.models import Fitting, load, make
from endcap.models.custom import own_code
from endcap.spec import Recommender
from endcap.spec.model import BlendSpec, CustomSpec, ModelSpec
from endcap.spec.recommender import Recommender as RecommenderSpec
from tests.features.logs import recommender

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "markov"
TRAIN = [[0, 1, 2], [0, 1], [2, 0]]
CLASSES = """
from endcap.models import Model
from endcap.spec.base import Strict
from markov import Markov

class NoModel:
    class Parameters(Strict):
        pass

class Half(Model):
    class Parameters(Strict):
        pass

class WithoutParameters(Markov):
    Parameters = None

def function():
    pass
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder on the path, beside the example's."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.syspath_prepend(str(folder))
    return folder


def custom(path: str = "markov:Markov", **parameters: Any) -> CustomSpec:
    return CustomSpec.model_validate({"class": path, "parameters": parameters})


def saved(folder: Path) -> Path:
    """A fitted Markov model's files."""
    model = make(custom(smoothing=0.2))
    model.fit(Sessions.of(TRAIN), 3, Fitting())
    folder.mkdir()
    model.save(folder)
    return folder


def test_parameters_reach_the_class_and_its_files(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    written = json.loads((folder / "model.json").read_text())
    assert (written["class"], written["parameters"]) == ("markov:Markov", {"smoothing": 0.2})
    model: Any = load(folder, ["markov:Markov"])
    # After 0 came 1, twice; each of the three items has two or three of seven events.
    np.testing.assert_allclose(
        model.score(Sessions.of([[0]])), [[0.2 * 3 / 7, 0.8 + 0.2 * 2 / 7, 0.2 * 2 / 7]], rtol=1e-6
    )


def test_what_is_wrong_with_parameters_is_told_at_its_keys() -> None:
    with pytest.raises(SpecError) as told:
        make(custom(smoothing=3, smothing=0.1))
    problems = {(one.file, one.key): (one.allowed, one.hint) for one in told.value.problems}
    assert problems["markov:Markov", "parameters.smoothing"][0] == "a number, more than 0.0 and less than 1.0"
    assert problems["markov:Markov", "parameters.smothing"] == ("smoothing", "Did you mean 'smoothing'?")


@pytest.mark.parametrize("classes", [None, [], ["acme.other:Model"]])
def test_a_class_that_is_not_listed_is_not_imported(
    tmp_path: Path, classes: list[str] | None, importable: Path
) -> None:
    (importable / "evil.py").write_text("raise SystemExit('imported')")
    folder = saved(tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"class": "evil:Model"}))
    with pytest.raises(UserError, match=r"class evil:Model.* does not list .*classes: \[.*evil:Model\]"):
        load(folder, classes)


def test_members_of_a_blend_are_imported_by_its_list_alone(tmp_path: Path, importable: Path) -> None:
    members = {"own": custom(smoothing=0.1), "rules": {"name": "sequential-rules"}}
    blend = make(BlendSpec.model_validate({"name": "blend", "members": members}))
    blend.fit(Sessions.of(TRAIN), 3, Fitting())
    folder = tmp_path / "blend"
    folder.mkdir()
    blend.save(folder)
    again = load(folder, ["markov:Markov"])
    np.testing.assert_array_equal(again.score(Sessions.of(TRAIN)), blend.score(Sessions.of(TRAIN)))
    (importable / "evil.py").write_text("raise SystemExit('imported')")
    description = (folder / "model.json").read_text().replace("markov:Markov", "evil:Model")
    (folder / "model.json").write_text(description)
    with pytest.raises(UserError, match="class evil:Model, which its recommender does not list"):
        load(folder, ["markov:Markov"])


def test_a_damaged_description_is_no_class(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    (folder / "model.json").write_text("{")
    with pytest.raises(IntegrityError, match="train the model again"):
        load(folder, ["markov:Markov"])


def test_a_class_that_is_not_installed_says_how_it_comes_here(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"class": "acme.markov:Markov"}))
    with pytest.raises(NotFoundError, match=r"no module 'acme' here\. Install .* endcap image --code FOLDER"):
        load(folder, ["acme.markov:Markov"])


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("shop:NoModel", "is no model: it must be a subclass of endcap.models.Model"),
        ("shop:Half", "is no whole model: it lacks __init__, fit, load, save, score"),
        ("shop:WithoutParameters", "has no class Parameters of its own"),
        ("shop:Markov", "is defined elsewhere: name it markov:Markov"),
        ("shop:function", "has no class 'function'; its classes: NoModel, Half, WithoutParameters"),
        ("shop:Markow", "has no class 'Markow'"),
        ("broken:Model", "importing broken failed: ZeroDivisionError"),
        ("needs:Model", "needs imports 'not_there', which is not installed here"),
        ("shop.markov:Model", "there is no module 'shop.markov' here"),
    ],
)
def test_a_class_that_cannot_be_a_model_is_refused(importable: Path, path: str, said: str) -> None:
    (importable / "shop.py").write_text(CLASSES)
    (importable / "broken.py").write_text("1 / 0")
    (importable / "needs.py").write_text("import not_there")
    with pytest.raises(UserError, match=said):
        make(custom(path))


def of(model: dict[str, Any], **keys: Any) -> Recommender:
    return recommender(model=model, **keys)


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        ({"model": {"name": "custom", "class": "acme:A"}}, "class"),
        ({"baselines": [{"name": "custom", "class": "acme:A"}]}, r"0\.class"),
        (
            {
                "model": {
                    "name": "blend",
                    "members": {"a": {"name": "vsknn"}, "b": {"name": "custom", "class": "acme:A"}},
                }
            },
            r"members\.b\.class",
        ),
    ],
)
def test_a_spec_names_listed_classes_only(keys: dict[str, Any], at: str) -> None:
    with pytest.raises(ValidationError, match=rf"{at} found 'acme:A'; allowed: none: the list `classes` is empty"):
        recommender(**keys)
    listed = recommender(**keys, classes=["acme:A"])
    again = RecommenderSpec.model_validate(listed.model_dump(mode="json", exclude_none=True))
    assert again == listed


def test_the_code_of_a_class_is_of_what_is_made_with_it(importable: Path) -> None:
    package = importable / "acme_models"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "markov.py").write_text("class Markov: pass")
    specs: list[ModelSpec] = [custom(), custom("acme_models.markov:Markov"), custom()]
    assert own_code(*specs) == ["acme_models", "markov"]
