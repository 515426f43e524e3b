from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from endcap.errors import IntegrityError
from endcap.features.vocabulary import Vocabulary
from endcap.rules import Catalogue, Rulebook
from endcap.spec.rules import Rules
from tests.refusals import refused

IDS = ["tent", "stove", "knife", "lamp", "rope"]
PACKAGE = pa.table(
    {
        "item": IDS,
        "title": ["A tent", None, None, None, None],
        "category": ["camp", "camp", "blade", "light", None],
        "brand": ["Fen", "Orn", "Orn", None, "Fen"],
        "stock": [5.0, 5.0, 5.0, 5.0, 0.0],
    }
)
# The lamp is not told of; the torch and the axe are new; the tent is a shelter now.
TOLD = pa.table(
    {
        "item": ["axe", "knife", "rope", "stove", "tent", "torch"],
        "category": ["blade", "blade", None, "camp", "shelter", "light"],
        "stock": [3.0, None, 1.0, 0.0, 7.0, 0.0],
    }
)
RULES = Rules.model_validate(
    {
        "blacklist": {"sources": [{"path": "/somewhere/blacklist.csv"}]},
        "stock": {},
        "attributes": [
            {"name": "no-blades-at-home", "attribute": "category", "never": ["blade"], "surfaces": ["home"]},
            {"name": "camping-page", "attribute": "category", "only": ["camp", "shelter"], "surfaces": ["camping"]},
        ],
    }
)


def book(**changes: object) -> Rulebook:
    told = Catalogue(RULES, TOLD, frozenset({"rope", "gone"}), read_time=1)
    return Rulebook(Vocabulary(IDS), PACKAGE, replace(told, **changes))  # type: ignore[arg-type]


def test_each_rule_takes_its_items_away_and_is_named():
    rules = book()
    assert rules.allowed_mask().tolist() == [True, False, True, True, False]
    assert rules.allowed_mask("home").tolist() == [True, False, False, True, False]
    assert rules.allowed_mask("camping").tolist() == [True, False, False, False, False]
    assert {item: rules.find_rule(item) for item in IDS} == {
        "tent": None,
        "stove": "stock",
        "knife": None,  # its stock is not said
        "lamp": None,  # the catalogue does not hold it: it stays
        "rope": "blacklist",
    }
    assert rules.find_rule("knife", "home") == "no-blades-at-home"
    assert rules.find_rule("lamp", "camping") == "camping-page"
    assert rules.count_removed("home") == {"blacklist": 1, "stock": 1, "no-blades-at-home": 1}
    assert rules.count_removed("home", np.array([0, 2])) == {"no-blades-at-home": 1}


def test_items_outside_the_vocabulary_are_judged_by_the_catalogue():
    rules = book()
    assert [rules.find_rule(item) for item in ("axe", "torch", "gone", "never-heard-of")] == [
        None,
        "stock",
        "blacklist",
        None,
    ]
    assert rules.find_rule("axe", "home") == "no-blades-at-home"
    assert rules.find_rule("never-heard-of", "camping") == "camping-page"
    assert rules.find_rule("never-heard-of", "home") is None
    assert rules.has_value("axe", "category", ["blade", "light"])
    assert not rules.has_value("never-heard-of", "category", ["blade"])


def test_items_are_found_by_the_values_that_they_have_now():
    rules = book()
    assert rules.find_items("category", ["camp"]).tolist() == [1]
    assert rules.find_items("category", ["shelter", "blade", "light"]).tolist() == [0, 2, 3]
    assert rules.find_items("category", ["no such"]).tolist() == []
    assert rules.find_items("brand", ["Orn", "Orn"]).tolist() == [1, 2]  # only the package knows brands
    assert {name: set(values) for name, values in rules.attributes.items()} == {
        "category": {"camp", "blade", "light", "shelter"},
        "brand": {"Fen", "Orn"},
    }
    for name in ("stock", "title", "colour"):
        with pytest.raises(KeyError):
            rules.find_items(name, ["x"])


def test_rules_alone_know_what_the_package_knows():
    rules = Rulebook(Vocabulary(IDS), PACKAGE, RULES)
    assert rules.allowed_mask().tolist() == [True, True, True, True, False]
    assert rules.allowed_mask("home").tolist() == [True, True, False, True, False]
    assert Rulebook(Vocabulary(IDS), PACKAGE, Rules()).allowed_mask().all()


def test_surfaces_that_no_rule_names_share_one_mask_that_nobody_can_write_to():
    rules = book()
    assert rules.allowed_mask("a") is rules.allowed_mask("b") is rules.allowed_mask(None)
    with pytest.raises(ValueError, match="read-only"):
        rules.allowed_mask()[0] = False


def test_a_catalogue_comes_back_from_its_bytes_and_is_known_by_its_content():
    told = Catalogue(RULES, TOLD, frozenset({"rope", "gone"}), read_time=1)
    back = Catalogue.from_bytes(told.to_bytes())
    assert (back, back.version) == (told, told.version)
    assert replace(told, read_time=2).version == told.version
    others = [
        replace(told, blacklist=frozenset({"rope"})),
        replace(told, rules=Rules()),
        replace(told, items=TOLD.slice(1)),
    ]
    assert len({told.version, *(other.version for other in others)}) == 4


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b"", lambda b: b[:200] + b"x" * 60 + b[260:]])
def test_a_damaged_catalogue_is_refused(damage):
    with refused(IntegrityError, "rules.catalogue-damaged"):
        Catalogue.from_bytes(damage(Catalogue(RULES, TOLD).to_bytes()))
