"""A file with `for_each`: a recommender for each value."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.errors import SpecError
from endcap.spec.load import list_paths, load, load_documents
from endcap.spec.spec_files import find_spec
from tests.spec.test_load import RECOMMENDER, specs, write

__all__ = ["specs"]

LIST = (
    RECOMMENDER
    + """\
for_each:
  values: [shoes, hats]
  set:
    shop.events.sources[0].where: {category: "${each}"}
    model.neighbours: 70
"""
)
MAP = (
    RECOMMENDER
    + """\
for_each:
  values:
    shoes: {set: {model.neighbours: 10, name: boots}}
    hats: {if: "${WITH_HATS:-false}"}
    coats: {if: false}
    caps: {}
"""
)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_each_value_is_a_recommender_with_a_shop_of_its_own(specs: Path) -> None:
    file = write(specs / "home.yaml", LIST)
    assert names(list_paths(file)) == ["home.yaml#shoes", "home.yaml#hats"]
    loaded = [load(path) for path in list_paths(file)]
    assert [each.recommender.name for each in loaded] == ["home-shoes", "home-hats"]
    assert [each.shop.name for each in loaded] == ["toys-shoes", "toys-hats"]
    assert [each.shop.events.sources[0].where["category"].among for each in loaded] == [["shoes"], ["hats"]]
    assert all(each.recommender.for_each is None for each in loaded)
    # --set wins over what the file sets.
    again = load(f"{file}#shoes", sets=["model.neighbours=5", "shop.name=kicks"])
    assert (again.recommender.model.neighbours, again.shop.name) == (5, "kicks")


def test_values_have_settings_of_their_own_and_conditions(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(specs / "home.yaml", MAP)
    assert names(list_paths(file)) == ["home.yaml#shoes", "home.yaml#caps"]
    shoes, caps = map(load, list_paths(file))
    assert (shoes.recommender.name, shoes.recommender.model.neighbours) == ("boots", 10)
    # Without a key of the shop, they share the shop and its data.
    assert (caps.recommender.name, caps.shop.name) == ("home-caps", "toys")
    monkeypatch.setenv("WITH_HATS", "true")
    assert names(list_paths(file)) == ["home.yaml#shoes", "home.yaml#hats", "home.yaml#caps"]
    write(specs / "home" / "overlays" / "prod.yaml", "for_each: {values: {shoes: null, belts: {}}}")
    assert names(list_paths(file, env="prod")) == ["home.yaml#hats", "home.yaml#caps", "home.yaml#belts"]
    assert load(f"{file}#belts", env="prod").recommender.name == "home-belts"


def test_a_file_without_values_is_its_only_recommender(specs: Path) -> None:
    assert list_paths(specs / "home.yaml") == [specs / "home.yaml"]
    assert list_paths(f"{specs}/home.yaml#shoes") == [Path(f"{specs}/home.yaml#shoes")]


def test_a_name_takes_a_value_and_a_mark_in_a_files_name_is_none(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(specs / "pipelines" / "specs" / "home.yaml", LIST)
    write(specs / "home#1.yaml", RECOMMENDER)
    monkeypatch.chdir(specs)
    assert find_spec("home#hats") == Path("pipelines/specs/home.yaml#hats")
    assert load(find_spec("home#1.yaml")).recommender.name == "home"


@pytest.mark.parametrize(
    ("text", "value", "key", "code"),
    [
        (LIST, "", "for_each", "unknown-name"),
        (LIST, "boots", "for_each", "unknown-name"),
        (MAP, "coats", "for_each", "unknown-name"),
        (RECOMMENDER, "shoes", "for_each", "unknown-name"),
        (RECOMMENDER + "for_each: {values: [a, a]}\n", "a", "for_each.values[1]", "duplicate"),
        (RECOMMENDER + "for_each: {values: []}\n", "a", "for_each.values", "missing"),
        (RECOMMENDER + "for_each: {values: [No Name]}\n", "a", "for_each.values", "not-allowed"),
        (RECOMMENDER + "for_each: {values: {a: {if: perhaps}}}\n", "a", "for_each.values.a.if", "not-allowed"),
        (RECOMMENDER + "for_each: {values: [a], set: {model.widht: 1}}\n", "a", "model.widht", "unknown-key"),
        (RECOMMENDER + "for_each: {values: [a], set: {seed.x: 1}}\nseed: 1\n", "a", "seed.x", "unknown-key"),
    ],
)
def test_a_wrong_choice_or_setting_is_a_problem_with_its_line(
    specs: Path, text: str, value: str, key: str, code: str
) -> None:
    file = write(specs / "home.yaml", text)
    with pytest.raises(SpecError) as error:
        load(f"{file}#{value}" if value else file)
    assert [(problem.key, problem.code) for problem in error.value.problems] == [(key, code)]
    assert "home.yaml:" in error.value.problems[0].file


def test_documents_are_of_a_single_value() -> None:
    recommender = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "home", "shop": "toys"}
    recommender |= {"model": {"name": "popularity"}, "for_each": {"values": ["a"]}}
    shop = {"apiVersion": "endcap/v2", "kind": "Shop", "name": "toys"}
    shop |= {"events": {"sources": [{"path": "a.csv"}], "columns": {"session": "s", "item": "i"}}}
    with pytest.raises(SpecError) as error:
        load_documents(recommender, shop)
    assert [problem.key for problem in error.value.problems] == ["for_each"]
