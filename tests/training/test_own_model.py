"""The example of a model of one's own, from its spec to a served package."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.errors import NotFoundError, UserError
from endcap.evaluation import judge
from endcap.events import ingest
from endcap.features import build
from endcap.registry.package import load_package
from endcap.spec.load import load
from endcap.store import Store
from endcap.training import refit, train
from tests.refusals import misspelt, refused

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "markov"
SMALL = [
    f"shop.{table}.sources=[{{simulated: {{events: 3000, days: 6, items: 100, customers: 400}}}}]"
    for table in ("events", "items")
]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The example under a name of its own: pytest has the example itself on the path."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_markov.py").write_text((EXAMPLE / "markov.py").read_text())
    text = (EXAMPLE / "markov.yaml").read_text().replace("markov:Markov", "my_markov:Markov")
    (tmp_path / "own.yaml").write_text(text.replace("../../..", str(ROOT)))
    return tmp_path / "own.yaml"


@pytest.fixture
def installed(spec: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The class can be imported, until this is undone and its module forgotten."""
    monkeypatch.syspath_prepend(str(spec.parent / "code"))
    yield monkeypatch
    sys.modules.pop("my_markov", None)


def test_the_example_is_trained_judged_and_packed(spec: Path, installed: pytest.MonkeyPatch, shop_store: Store) -> None:
    store = shop_store
    loaded = load(spec, sets=[*SMALL, "evaluation.bootstrap=100"])
    recommender = loaded.recommender
    dataset = build(loaded.shop, ingest(loaded.shop, store), store)
    trained = train(recommender, dataset, store)
    verdict = judge(recommender, dataset, trained, store)
    metrics = store.manifest(verdict)["facts"]["metrics"]
    assert metrics["challenger"]["mrr@20"] > 1.5 * metrics["popularity"]["mrr@20"]
    folder = store.fetch(refit(recommender, dataset, trained, verdict, store))
    assert {file.suffix for file in folder.rglob("*") if file.is_file()} == {".json", ".parquet", ".safetensors"}
    package = load_package(folder)
    package.check()
    (answer,) = package.ranker.rank([package.ranker.parse({"items": [package.vocabulary.ids[0]], "k": 5})])
    assert len(answer.ids) == 5
    # Where the class is not, and where the package's recommender does not list it.
    installed.undo()
    sys.modules.pop("my_markov", None)
    with refused(NotFoundError, "spec.class-not-installed", module="my_markov"):
        load_package(folder)
    description = json.loads((folder / "model" / "model.json").read_text())
    (folder / "model" / "model.json").write_text(json.dumps(description | {"class": "json:JSONDecoder"}))
    with refused(UserError, "models.class-unlisted", found="json:JSONDecoder"):
        load_package(folder)


def test_a_spec_is_checked_with_the_class_where_it_is_installed(spec: Path, request: pytest.FixtureRequest) -> None:
    wrong = ["model.parameters.smoothing=7"]
    assert load(spec, sets=wrong).absent == ("my_markov:Markov",)
    request.getfixturevalue("installed")
    with misspelt(("model.parameters.smoothing", "not-allowed")):
        load(spec, sets=wrong)
