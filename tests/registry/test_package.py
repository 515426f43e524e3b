from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from endcap.errors import IntegrityError, UserError
from endcap.features.sessions import Sessions
from endcap.features.vocabulary import Vocabulary
from endcap.models import Fitting, make
from endcap.registry.package import load_package, write_package
from endcap.rules import Catalogue
from endcap.spec import Recommender
from endcap.spec.event_features import EventFeature
from endcap.spec.model import SequentialRulesSpec
from endcap.spec.rules import Rules
from tests.refusals import refused

IDS = ["ü", 'b"', "c\n", "d"]
ITEMS = pa.table({"item": IDS, "category": ["x", "x", "y", None], "price": [1.0, 2.5, None, 4.0]})


@pytest.fixture
def package(tmp_path: Path, recommender: Recommender) -> Path:
    spec = recommender.model_copy(update={"model": SequentialRulesSpec(), "exclude": "last"})
    model = make(spec.model)
    model.fit(Sessions.of([[0, 1, 2], [0, 1], [2, 0]]), 4, Fitting())
    write_package(
        tmp_path,
        model=model,
        vocabulary=Vocabulary(IDS),
        items=ITEMS,
        recommender=spec,
        shop_features=[EventFeature(name="weekday", kind="weekday")],
        event_types=["view"],
        session_gap=1_800_000,
        fitted_until=5,
        lineage={"dataset": "file:///d"},
    )
    return tmp_path


def test_a_package_ranks_as_the_model_that_it_was_made_of(package: Path) -> None:
    loaded = load_package(package)
    assert loaded.vocabulary.ids == IDS
    assert loaded.items.equals(ITEMS)
    assert loaded.recommender.exclude == "last"
    assert loaded.info == {"name": "demo", "items": 4, "fitted_until": 5, "dataset": "file:///d"}
    assert {"python", "torch", "numpy", "endcap"} == set(loaded.environment)
    answer = loaded.ranker.rank([loaded.ranker.parse({"items": ["ü"], "k": 3})])[0]
    expected = loaded.model.score(Sessions.of([[0]]))[0]
    assert (answer.ids[0], answer.scores[0]) == ('b"', pytest.approx(expected[1]))
    assert "ü" not in answer.ids
    assert loaded.ranker.attributes["category"] == {"x", "y"}


def test_the_example_is_answered_as_at_writing(package: Path) -> None:
    loaded = load_package(package)
    assert len(loaded.example["answer"]["items"]) == 3
    loaded.check()
    loaded.example["answer"]["items"][0]["score"] += 1
    with refused(IntegrityError, "registry.example-differs", expected=loaded.example["answer"]):
        loaded.check()


def test_it_holds_data_only(package: Path) -> None:
    suffixes = {file.suffix for file in package.rglob("*") if file.is_file()}
    assert suffixes == {".json", ".parquet", ".safetensors"}


@pytest.mark.parametrize(
    "name", ["spec.json", "vocabulary.json", "items.parquet", "features.json", "example.json", "info.json"]
)
def test_a_package_with_a_part_missing_or_damaged_is_refused(package: Path, name: str) -> None:
    (package / name).write_bytes(b"[")
    with refused(IntegrityError, "registry.package-damaged", path=str(package)):
        load_package(package)
    (package / name).unlink()
    with refused(IntegrityError, "registry.package-damaged", path=str(package)):
        load_package(package)


@pytest.mark.parametrize(("number", "code"), [(0, "store.older-format"), (3, "store.newer-format")])
def test_a_package_of_another_format_is_refused_as_such(package: Path, number: int, code: str) -> None:
    info = json.loads((package / "info.json").read_text())
    assert info["format"] == 2
    (package / "info.json").write_text(json.dumps({**info, "format": number}))
    # What another format has instead is not even looked at.
    (package / "spec.json").write_text("{}")
    with refused(UserError, code, kind="package", found=number, known=2, where=str(package)):
        load_package(package)


def test_a_package_from_before_formats_had_numbers_is_of_the_first(package: Path) -> None:
    info = json.loads((package / "info.json").read_text())
    (package / "info.json").write_text(json.dumps({name: value for name, value in info.items() if name != "format"}))
    load_package(package).check()


def test_a_package_says_how_its_customers_visits_end_and_an_older_one_does_not(package: Path) -> None:
    assert (load_package(package).event_types, load_package(package).session_gap) == (["view"], 1_800_000)
    features = json.loads((package / "features.json").read_text())
    del features["session_gap_ms"]
    (package / "features.json").write_text(json.dumps(features))
    assert load_package(package).session_gap is None


def test_parts_of_different_sizes_are_refused(package: Path) -> None:
    (package / "vocabulary.json").write_text(json.dumps({"items": IDS[:3]}))
    items = {"model": 4, "table": 4, "vocabulary": 3}
    with refused(IntegrityError, "registry.package-damaged", path=str(package), items=items):
        load_package(package)


def test_items_must_stand_in_the_vocabularys_order(tmp_path: Path, recommender: Recommender) -> None:
    model = make(recommender.model)
    model.fit(Sessions.of([[0, 1, 2, 3]]), 4, Fitting())
    shuffled = ITEMS.take(np.array([1, 0, 2, 3]))
    with pytest.raises(ValueError, match="order of the vocabulary"):
        write_package(
            tmp_path, model=model, vocabulary=Vocabulary(IDS), items=shuffled, recommender=recommender, lineage={}
        )


def test_the_shops_rules_lie_in_the_package_and_hold(tmp_path: Path, recommender: Recommender) -> None:
    model = make(recommender.model)
    model.fit(Sessions.of([[0, 1, 2, 3]]), 4, Fitting())
    rules = Rules.model_validate({"attributes": [{"name": "no-y", "attribute": "category", "never": ["y"]}]})
    told = Catalogue(rules, blacklist=frozenset({"d", "new"}), read_time=7)
    packed = {"model": model, "vocabulary": Vocabulary(IDS), "items": ITEMS, "recommender": recommender}
    write_package(tmp_path, **packed, house_rules=told, lineage={})
    loaded = load_package(tmp_path)
    loaded.check()
    assert loaded.ranker.rulebook.catalogue == told
    (answer,) = loaded.ranker.rank([loaded.ranker.parse({"items": [], "explain": True})])
    assert set(answer.ids) == {"ü", 'b"'}
    (tmp_path / "rules.json").write_text('{"made": 7, "rules": {"stok": {}}, "blacklist": []}')
    with refused(IntegrityError, "registry.package-damaged", path=str(tmp_path)):
        load_package(tmp_path)
