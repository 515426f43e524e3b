"""Classes outside Endcap as models: only what a recommender lists is imported, and what is wrong with it is told."""

from __future__ import annotations

import json
import py_compile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endcap.errors import IntegrityError, NotFoundError, UserError
from endcap.features.sessions import Sessions
from endcap.models import Fitting, load, make
from endcap.models.custom import find_own_modules
from endcap.spec import Recommender
from endcap.spec.model import BlendSpec, CustomSpec, ModelSpec
from endcap.spec.recommender import Recommender as RecommenderSpec
from tests.features.logs import recommender
from tests.refusals import misspelt, mistaken, refused

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "markov"
TRAIN = [[0, 1, 2], [0, 1], [2, 0]]
CLASSES = """
from endcap.models import Model
from endcap.models.vsknn import VSKNN
from endcap.spec.base import Strict
from endcap.spec.model import VSKNNSpec
from markov import Markov

class NoModel:
    class Parameters(Strict):
        pass

class Half(Model):
    class Parameters(Strict):
        pass

class Unsaved(Model):
    class Parameters(Strict):
        pass

    def __init__(self, parameters): ...
    def fit(self, train, n_items, fitting): ...
    def score(self, sessions): ...
    def save(self, folder): ...

class WithoutParameters(Markov):
    Parameters = None

class Neighbours(VSKNN):
    class Parameters(VSKNNSpec):
        weight: float = 1.0

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


def test_a_class_that_derives_from_one_of_endcaps_models_is_saved_as_its_own(tmp_path: Path, importable: Path) -> None:
    (importable / "derived.py").write_text(CLASSES)
    path = "derived:Neighbours"
    model = make(custom(path, sample=7, weight=2.0))
    model.fit(Sessions.of(TRAIN), 3, Fitting())
    model.save(tmp_path)
    loaded: Any = load(tmp_path, [path])
    assert (type(loaded).__qualname__, loaded.parameters.sample, loaded.parameters.weight) == ("Neighbours", 7, 2.0)
    np.testing.assert_array_equal(loaded.score(Sessions.of(TRAIN)), model.score(Sessions.of(TRAIN)))


def test_what_is_wrong_with_parameters_is_told_at_its_keys() -> None:
    wrong = ("parameters.smoothing", "not-allowed"), ("parameters.smothing", "unknown-key")
    with misspelt(*wrong) as told:
        make(custom(smoothing=3, smothing=0.1))
    number, misnamed = told.value.problems
    assert {number.file, misnamed.file} == {"markov:Markov"}
    assert number.allowed == "a number, more than 0.0 and less than 1.0"
    assert (misnamed.allowed, misnamed.hint) == ("smoothing", "Did you mean 'smoothing'?")


@pytest.mark.parametrize("classes", [None, [], ["acme.other:Model"]])
def test_a_class_that_is_not_listed_is_not_imported(
    tmp_path: Path, classes: list[str] | None, importable: Path
) -> None:
    (importable / "evil.py").write_text("raise SystemExit('imported')")
    folder = saved(tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"class": "evil:Model"}))
    with refused(UserError, "models.class-unlisted", found="evil:Model", allowed=classes or []):
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
    for file in (folder / "model.json", folder / "own" / "model.json"):
        file.write_text(file.read_text().replace("markov:Markov", "evil:Model"))
    with refused(UserError, "models.class-unlisted", found="evil:Model", allowed=["markov:Markov"]):
        load(folder, ["markov:Markov"])


def test_a_damaged_description_is_no_class(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    (folder / "model.json").write_text("{")
    with refused(IntegrityError, "models.damaged", path=str(folder / "model.json")):
        load(folder, ["markov:Markov"])


def test_a_class_that_is_not_installed_says_how_it_comes_here(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"class": "acme.markov:Markov"}))
    with refused(NotFoundError, "spec.class-not-installed", path="acme.markov:Markov", module="acme"):
        load(folder, ["acme.markov:Markov"])


@pytest.mark.parametrize(
    ("path", "code", "fields"),
    [
        ("shop:NoModel", "spec.class-of-another-kind", {}),
        ("shop:Half", "spec.class-incomplete", {"missing": ["__init__", "fit", "score"]}),
        ("shop:Unsaved", "spec.class-incomplete", {"missing": ["set_state"]}),
        ("shop:WithoutParameters", "spec.class-without-parameters", {}),
        ("shop:Markov", "spec.class-elsewhere", {"defined": "markov:Markov"}),
        (
            "shop:function",
            "spec.class-unknown",
            {"allowed": ["NoModel", "Half", "Unsaved", "WithoutParameters", "Neighbours"]},
        ),
        ("shop:Markow", "spec.class-unknown", {"found": "Markow"}),
        ("broken:Model", "spec.class-not-importable", {"module": "broken", "cause": "ZeroDivisionError"}),
        ("needs:Model", "spec.class-not-importable", {"module": "not_there", "cause": "ModuleNotFoundError"}),
        ("shop.markov:Model", "spec.class-not-installed", {"module": "shop.markov"}),
    ],
)
def test_a_class_that_cannot_be_a_model_is_refused(
    importable: Path, path: str, code: str, fields: dict[str, Any]
) -> None:
    (importable / "shop.py").write_text(CLASSES)
    (importable / "broken.py").write_text("1 / 0")
    (importable / "needs.py").write_text("import not_there")
    with refused(UserError, code, path=path, **fields):
        make(custom(path))


def make_recommender(model: dict[str, Any], **keys: Any) -> Recommender:
    return recommender(model=model, **keys)


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        ({"model": {"name": "custom", "class": "acme:A"}}, ("model", "class")),
        ({"baselines": [{"name": "custom", "class": "acme:A"}]}, ("baselines", 0, "class")),
        (
            {
                "model": {
                    "name": "blend",
                    "members": {"a": {"name": "vsknn"}, "b": {"name": "custom", "class": "acme:A"}},
                }
            },
            ("model", "members", "b", "class"),
        ),
    ],
)
def test_a_spec_names_listed_classes_only(keys: dict[str, Any], at: tuple[str | int, ...]) -> None:
    with mistaken((at, "unknown-name")):
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
    assert find_own_modules(*specs) == ["acme_models.markov", "markov"]


def test_a_class_without_source_is_refused_since_its_changes_could_not_be_seen(importable: Path) -> None:
    file = importable / "acme_compiled.py"
    file.write_text("class Markov: pass")
    py_compile.compile(str(file), cfile=str(file.with_suffix(".pyc")))
    file.unlink()
    with pytest.raises(UserError) as refused:
        find_own_modules(custom("acme_compiled:Markov"))
    assert refused.value.code == "models.class-without-source"
