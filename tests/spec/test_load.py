"""Layers, paths, and the way from files to specs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import Problem, SpecError
from endcap.spec import Recommender, Shop
from endcap.spec.load import Loaded, dump_specs, load
from endcap.spec.model import VSKNNSpec
from endcap.spec.neural import GRU4RecSpec

SPECS = Path(__file__).parents[2] / "pipelines" / "specs"

SHOP = """\
apiVersion: endcap/v2
kind: Shop
name: toys
events:
  sources:
    - path: data/events.csv
  columns: {session: sid, item: sku}
"""
RECOMMENDER = """\
apiVersion: endcap/v2
kind: Recommender
name: home
shop: toys
model: {name: vsknn, neighbours: 50}
"""


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A folder with one shop, toys, and one recommender, home."""
    write(tmp_path / "shops" / "toys.yaml", SHOP)
    write(tmp_path / "home.yaml", RECOMMENDER)
    return tmp_path


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def load_shop(file: Path) -> Shop:
    """The shop of a file, by way of a recommender in whose own file nothing is wrong."""
    return load(write(file.parent / "of-shop.yaml", RECOMMENDER.replace("shop: toys", f"shop: {file}"))).shop


def restore(documents: dict[str, dict[str, Any]]) -> Loaded:
    """The specs that `dump_specs` made documents of, as a pipeline's step reads them."""
    recommender = Recommender.model_validate(documents["recommender"])
    return Loaded(recommender, Shop.model_validate(documents["shop"]), [])


def problems(call: object, *args: object, **options: object) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        call(*args, **options)  # type: ignore[operator]
    return caught.value.problems


def test_a_name_finds_the_shop_beside_the_recommender(specs: Path) -> None:
    loaded = load(specs / "home.yaml")
    assert loaded.shop.name == "toys"
    assert loaded.recommender.model == VSKNNSpec(neighbours=50)
    assert loaded.files == [specs / "shops" / "toys.yaml", specs / "home.yaml"]


def test_a_shop_may_be_given_as_a_path_from_the_file_that_names_it(specs: Path) -> None:
    write(specs / "elsewhere" / "other.yaml", SHOP.replace("toys", "other"))
    write(specs / "home.yaml", RECOMMENDER.replace("shop: toys", "shop: elsewhere/other.yaml"))
    assert load(specs / "home.yaml").shop.name == "other"


def test_a_base_in_another_folder_brings_its_shop_along(specs: Path) -> None:
    write(specs / "team" / "mine.yaml", "extends: ../home.yaml\nname: mine\n")
    loaded = load(specs / "team" / "mine.yaml")
    assert (loaded.recommender.name, loaded.shop.name) == ("mine", "toys")


def test_layers_win_in_their_order(specs: Path) -> None:
    write(specs / "base.yaml", RECOMMENDER + "seed: 1\nexclude: seen\nrefit: false\napproval: person\n")
    write(specs / "home.yaml", "extends: base.yaml\nseed: 2\nexclude: last\nrefit: true\n")
    write(specs / "home" / "overlays" / "prod.yaml", "seed: 3\nexclude: none\n")
    found = load(specs / "home.yaml", env="prod", sets=["seed=4"])
    spec = found.recommender
    assert (spec.seed, spec.exclude, spec.refit, spec.approval) == (4, "none", True, "person")
    assert [file.name for file in found.files] == ["toys.yaml", "base.yaml", "home.yaml", "prod.yaml"]


def test_maps_merge_lists_are_replaced_and_null_removes(specs: Path) -> None:
    write(specs / "base.yaml", RECOMMENDER + "baselines: [{name: popularity}, {name: vsknn}]\nseed: 7\n")
    over = "extends: base.yaml\nmodel: {last_events: 3}\nbaselines: [{name: sequential-rules}]\nseed: null\ngate: []\n"
    write(specs / "home.yaml", over)
    spec = load(specs / "home.yaml").recommender
    assert spec.model == VSKNNSpec(neighbours=50, last_events=3)
    assert [baseline.name for baseline in spec.baselines] == ["sequential-rules"]
    assert spec.seed == Recommender.model_fields["seed"].default


def test_an_overlay_of_the_shop_alone_is_enough(specs: Path) -> None:
    write(specs / "shops" / "toys" / "overlays" / "dev.yaml", "window: 2d\n")
    assert load(specs / "home.yaml", env="dev").shop.window == timedelta(days=2)
    assert load(specs / "home.yaml").shop.window is None


def test_an_environment_that_no_spec_has_names_those_there_are(specs: Path) -> None:
    write(specs / "home" / "overlays" / "prod.yaml", "seed: 3\n")
    write(specs / "shops" / "toys" / "overlays" / "dev.yaml", "window: 2d\n")
    (problem,) = problems(load, specs / "home.yaml", env="prd")
    assert (problem.file, problem.code, problem.allowed) == ("--env prd", "unknown-name", "dev, prod")
    assert "'prod'" in problem.hint


def test_extends_in_a_circle_is_told(specs: Path) -> None:
    write(specs / "home.yaml", RECOMMENDER + "extends: other.yaml\n")
    write(specs / "other.yaml", "extends: home.yaml\n")
    (problem,) = problems(load, specs / "home.yaml")
    assert (problem.key, problem.code) == ("extends", "circle")
    assert "home.yaml -> other.yaml -> home.yaml" in problem.found


def test_extends_of_a_missing_file_names_those_there_are(specs: Path) -> None:
    write(specs / "home.yaml", RECOMMENDER + "extends: bse.yaml\n")
    (problem,) = problems(load, specs / "home.yaml")
    assert problem.code == "not-found"
    assert "bse.yaml" in problem.found
    assert "home.yaml" in problem.allowed


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("gate.0.min=0.5", 0.5),
        ("gate[0].min=1e-3", 0.001),
        ("gate.conditions[0].min=0.2", 0.2),
        ("gate=[{metric: hr@5, min: 2}]", 2.0),
    ],
)
@pytest.mark.parametrize("gate", ["[{metric: hr@10, min: 0.1}]", "{conditions: [{metric: hr@10, min: 0.1}]}"])
def test_set_reaches_into_lists_and_replaces_whole_values(specs: Path, gate: str, setting: str, value: float) -> None:
    write(specs / "home.yaml", RECOMMENDER + f"gate: {gate}\n")
    assert load(specs / "home.yaml", sets=[setting]).recommender.gate.conditions[0].min == value


CONDITION = "{metric: hr@10, min: 0.1}"


@pytest.mark.parametrize(
    ("gate", "over", "sets", "sessions", "least"),
    [
        (f"[{CONDITION}]", "{evidence: {min_sessions: 7}}", [], 7, 0.1),
        (f"{{evidence: {{min_sessions: 7}}, conditions: [{CONDITION}]}}", "[{metric: hr@5, min: 2}]", [], 7, 2.0),
        (f"[{CONDITION}]", "[{metric: hr@5, min: 2}]", ["gate.evidence.min_sessions=7"], 7, 2.0),
        (f"[{CONDITION}]", "{evidence: {max_half_width: 0.5}}", ["gate[0].min=3"], 100, 3.0),
    ],
)
def test_an_overlay_changes_the_evidence_or_the_conditions_of_a_gate_in_either_form(
    specs: Path, gate: str, over: str, sets: list[str], sessions: int, least: float
) -> None:
    write(specs / "home.yaml", RECOMMENDER + f"gate: {gate}\n")
    write(specs / "home" / "overlays" / "prod.yaml", f"gate: {over}\n")
    made = load(specs / "home.yaml", env="prod", sets=sets).recommender.gate
    assert (made.evidence.min_sessions, [one.min for one in made.conditions]) == (sessions, [least])


def test_set_changes_model_shop_and_the_shops_keys(specs: Path) -> None:
    write(specs / "shops" / "books.yaml", SHOP.replace("toys", "books"))
    sets = ["shop=books", "shop.window=30d", "shop.filters.min_item_events=5", "model={name: gru4rec, width: 8}"]
    loaded = load(specs / "home.yaml", sets=sets)
    assert loaded.shop.name == "books"
    assert loaded.shop.window == timedelta(days=30)
    assert loaded.shop.filters.min_item_events == 5
    assert loaded.recommender.model == GRU4RecSpec(width=8)


@pytest.mark.parametrize(
    ("setting", "key", "code", "word"),
    [
        ("seed", "", "malformed", "key.path=value"),
        ("gate.3.min=1", "gate[3].min", "unknown-key", "0 to 0"),
        ("name.first=1", "name.first", "unknown-key", "one value"),
        ("baselines.0.name=vsknn", "baselines[0].name", "unknown-key", "baselines=[...]"),
        ("seed=[1", "", "malformed", ""),
        ("shop.windw=3d", "windw", "unknown-key", "window"),
    ],
)
def test_a_wrong_set_is_named_with_what_was_typed(specs: Path, setting: str, key: str, code: str, word: str) -> None:
    write(specs / "home.yaml", RECOMMENDER + "gate: [{metric: hr@10, min: 0.1}]\n")
    (problem,) = problems(load, specs / "home.yaml", sets=[setting])
    assert (problem.file, problem.key, problem.code) == (f"--set {setting}", key, code)
    assert word in problem.allowed


def test_source_paths_start_from_the_file_that_names_them(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(specs / "common" / "base.yaml", "items: {sources: [{path: ../tables/items.csv}]}\n")
    write(specs / "shops" / "toys.yaml", SHOP + "extends: ../common/base.yaml\n")
    monkeypatch.chdir(specs / "common")
    shop = load(
        specs / "home.yaml",
        sets=["shop.customers.sources=[{path: mine.csv}]", "shop.rules.blacklist.sources=[{path: black.csv}]"],
    ).shop
    assert shop.events.sources[0].path == str(specs / "shops" / "data" / "events.csv")
    assert shop.items is not None
    assert shop.items.sources[0].path == str(specs / "tables" / "items.csv")
    assert shop.customers is not None
    assert shop.customers.sources[0].path == str(specs / "common" / "mine.csv")
    assert shop.rules.blacklist is not None
    assert shop.rules.blacklist.sources[0].path == str(specs / "common" / "black.csv")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/day=*/x.csv", "s3://bucket/day=*/x.csv"),
        ("${LOGS}/x.csv", "/logs/x.csv"),
        ("${NOWHERE:-/d}/x.csv", "/d/x.csv"),
        ("${LOGS:-/d}/x.csv", "/logs/x.csv"),
        ("~/x.csv", "/home/me/x.csv"),
        ("s3://${BUCKET:-b}/x", "s3://b/x"),
    ],
)
def test_paths_are_expanded(specs: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str) -> None:
    monkeypatch.setenv("LOGS", "/logs")
    monkeypatch.setenv("HOME", "/home/me")
    file = write(specs / "shops" / "toys.yaml", SHOP.replace("data/events.csv", path))
    assert load_shop(file).events.sources[0].path == expected


def test_an_unset_variable_is_reported_with_the_rest(specs: Path) -> None:
    text = SHOP.replace("data/events.csv", "${ENDCAP_NOT_SET}/x.csv") + "windw: 3d\n"
    first, second = problems(load_shop, write(specs / "shops" / "toys.yaml", text))
    assert (first.key, first.code, first.file[-2:]) == ("events.sources[0].path", "unset-variable", ":6")
    assert "ENDCAP_NOT_SET" in first.found
    assert (second.key, second.code) == ("windw", "unknown-key")


def test_documents_bring_the_specs_back_exactly(specs: Path) -> None:
    odd = ["split={by: time, test: 1.5h, validation: 0.25}", "shop.window=1234567.000001s", "shop.sessions.gap=0.5s"]
    loaded = load(specs / "home.yaml", sets=odd)
    documents = dump_specs(loaded)
    again = restore(documents)
    assert (again.recommender, again.shop) == (loaded.recommender, loaded.shop)
    assert again.shop.window == timedelta(seconds=1234567, microseconds=1)
    assert dump_specs(again) == documents
    assert Shop.model_validate_json(loaded.shop.model_dump_json()) == loaded.shop


def test_documents_survive_a_pipeline_that_makes_every_number_a_double(specs: Path) -> None:
    loaded = load(specs / "home.yaml", sets=["split={by: time, test: 0, validation: 0.25}", "model.idf_weight=1"])
    again = restore(json.loads(json.dumps(dump_specs(loaded)), parse_int=float))
    assert (again.recommender, again.shop) == (loaded.recommender, loaded.shop)
    assert isinstance(again.recommender.seed, int)
    assert isinstance(again.recommender.evaluation.cutoffs[0], int)
    assert isinstance(again.recommender.split.test, float)


@pytest.mark.parametrize(
    "file", sorted({*SPECS.glob("*.yaml")} - {SPECS / "environments.yaml"}), ids=lambda file: file.stem
)
def test_checked_in_specs_load_and_say_how_to_run_them(file: Path) -> None:
    loaded = load(file)
    assert loaded.recommender.name == file.stem
    for one in [file, SPECS / "shops" / f"{loaded.recommender.shop}.yaml"]:
        head = one.read_text()
        assert head.startswith("# yaml-language-server: $schema=")
        schema = head.partition("\n")[0].partition("=")[2]
        assert (one.parent / schema).is_file()
        assert "# Run it: endcap " in head


def test_the_example_overlay_loads() -> None:
    spec = load(SPECS / "demo.yaml", env="prod").recommender
    assert spec.approval == "person"
    assert isinstance(spec.model, GRU4RecSpec)
    assert spec.model.batch_size == 512


def test_a_feature_of_types_names_those_that_the_shop_keeps(specs: Path) -> None:
    shop = SHOP.replace("sku}", "sku, type: act}\n  types: [view, cart]")
    loaded = load_shop(write(specs / "shops" / "t.yaml", shop + "features: {events: [{name: act, kind: type}]}\n"))
    assert loaded.features.events[0].types == ["view", "cart"]
    assert Shop.model_validate_json(loaded.model_dump_json()) == loaded
