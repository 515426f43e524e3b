"""A version is rebuilt bit for bit, and whatever makes another model is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from endcap.cli.main import main
from endcap.errors import NotFoundError
from endcap.events.snapshot_days import find_units
from endcap.machine import describe_machine
from endcap.project import Project
from endcap.registry import Version
from endcap.reproduction import reproduce
from endcap.runs.code import COMMIT
from endcap.spec.model import ModelSpec
from endcap.store import Store, get_content_key, open_store
from tests.models.shapes import SMALL_GRU, SPECS
from tests.models.test_custom import EXAMPLE
from tests.preprocessing.stand_ins import ROOM
from tests.reproduction.versions import load_specs, make_version, open_shop, write_log
from tests.store.servers import S3Place, moto

GRU = {**SMALL_GRU.model_dump(mode="json"), "max_epochs": 3}


class Made(NamedTuple):
    """A shop's folder with its store, and a registered version of a network."""

    folder: Path
    store: Store
    version: Version


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("reproduction")
    store = open_shop(folder, empty_registry)
    with pytest.MonkeyPatch.context() as patch:
        # Of the checkout it would change when somebody writes to a file of it.
        patch.setenv(COMMIT, "1f0c2d9")
        yield Made(folder, store, make_version(store, load_specs(folder, "home", model=GRU), register=True))


def list_parts(version: Version, store: Store) -> dict[str, bool | None]:
    return {part.subject: part.equal for part in reproduce(version, store).compared}


EQUAL = {"data": True, "judged model": True, "package": True, "metrics": True}


@pytest.mark.parametrize(
    ("spec", "refit"),
    [(spec, True) for spec in SPECS] + [(spec, False) for spec in SPECS if spec.name in ("ease", "gru4rec", "blend")],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_each_model_is_rebuilt_bit_for_bit(spec: ModelSpec, refit: bool, made: Made) -> None:
    model = spec.model_dump(mode="json", exclude_none=True)
    if "max_epochs" in model:
        model["max_epochs"] = 3
    loaded = load_specs(made.folder, f"{spec.name}-{refit}".lower(), model=model, refit=refit)
    before = make_version(made.store, loaded)
    assert list_parts(before, made.store) == EQUAL


def test_a_class_of_ones_own_behind_preprocessing_is_rebuilt(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    step = f"{ROOM}:LastOfRegulars"
    keys = {"preprocessing": [{"class": step}], "classes": ["markov:Markov", step]}
    loaded = load_specs(made.folder, "own", model={"name": "custom", "class": "markov:Markov"}, **keys)
    assert list_parts(make_version(made.store, loaded), made.store) == EQUAL


@pytest.mark.slow
def test_a_version_in_a_bucket_is_rebuilt_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: Path
) -> None:
    write_log(tmp_path)
    registry = f"sqlite:///{shutil.copy(empty_registry, tmp_path / 'mlflow.db')}"
    with moto() as server:
        place = S3Place(server, tmp_path, monkeypatch)
        loaded = load_specs(tmp_path, "home", model={"name": "popularity"})
        version = make_version(place.elsewhere(), loaded, registry=registry)
        before = place.names()
        assert list_parts(version, place.elsewhere()) == EQUAL
        assert place.names() == before


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the document that the command prints."""
    capsys.readouterr()
    code = 0
    try:
        main(["reproduce", *arguments, "--json"])
    except SystemExit as end:
        code = int(str(end.code))
    return code, json.loads(capsys.readouterr().out)


def test_the_command_rebuilds_the_champion_beside_the_store(
    made: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = sorted((made.folder / "store").rglob("*"))
    code, told = call(capsys, "home", "--store", made.store.root, "--keep", str(tmp_path / "kept"))
    assert (code, told["equal"], told["circumstances"], told["notes"]) == (0, True, [], [])
    assert sorted((made.folder / "store").rglob("*")) == before
    kept = open_store(told["kept"])
    assert [len(kept.list(kind)) for kind in ("datasets/toys", "trained/home", "refitted/home")] == [1, 1, 1]
    code, told = call(capsys, "home", "--store", made.store.root, "--keep", str(tmp_path / "kept"))
    assert (code, told["error"]["code"]) == (2, "reproduction.folder-in-use")


def publish_variant(made: Made, key: str, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Version:
    """A version whose package claims something else of how it was made. change: takes its spec and its info."""
    with made.store.publish("packages/home", key) as draft:
        shutil.copytree(made.store.fetch(made.version.package), draft.path, dirs_exist_ok=True)
        (draft.path / "manifest.json").unlink()
        documents = [json.loads((draft.path / name).read_text()) for name in ("spec.json", "info.json")]
        change(*documents)
        for name, document in zip(("spec.json", "info.json"), documents, strict=True):
            (draft.path / name).write_text(json.dumps(document))
        draft.facts |= made.store.manifest(made.version.package)["facts"]
    return replace(made.version, package=draft.address)


def test_another_seed_is_told_as_another_model(made: Made) -> None:
    version = publish_variant(made, "seed", lambda spec, info: spec.update(seed=7))
    result = reproduce(version, made.store)
    parts = {part.subject: part for part in result.compared}
    assert not result.equal
    assert {subject: part.equal for subject, part in parts.items()} | {"metrics": None} == {
        "data": True,
        "judged model": False,
        "package": False,
        "metrics": None,
    }
    assert parts["package"].text.startswith("tensors.safetensors: ")
    # The keys of the steps cover the seed too.
    assert {circumstance.name for circumstance in result.circumstances} == {"key.train", "key.refit"}


def test_another_number_of_epochs_is_told_as_another_model(made: Made) -> None:
    def change(spec: dict[str, Any], info: dict[str, Any]) -> None:
        info["recipe"]["found"]["epochs"] += 1

    parts = list_parts(publish_variant(made, "epochs", change), made.store)
    assert (parts["data"], parts["judged model"], parts["package"]) == (True, False, False)


def test_other_rows_are_told_as_other_data(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.folder / "in", tmp_path / "in")
    day = tmp_path / "in" / "2024-03-01.csv"
    day.write_text(day.read_text().replace(",a,", ",z,"))
    loaded = load_specs(tmp_path, "home", model=GRU)
    changed = Project(made.store, recommender=loaded.recommender, shop=loaded.shop).ingest()
    version = publish_variant(made, "data", lambda spec, info: info.update(snapshot=changed.address))
    parts = list_parts(version, made.store)
    assert (parts["data"], parts["judged model"], parts["package"]) == (False, False, False)


def test_other_exclusions_are_told_as_other_metrics(made: Made) -> None:
    version = publish_variant(made, "exclude", lambda spec, info: spec.update(exclude="seen"))
    assert list_parts(version, made.store)["metrics"] is False


def test_what_differs_of_the_machine_is_named_and_threads_are_followed(made: Made, tmp_path: Path) -> None:
    """The original says that another processor fitted it, with three threads."""
    store = copy_store(made, tmp_path)
    here = describe_machine()
    for kind in ("trained/home", "refitted/home"):
        (address,) = store.list(kind)
        manifest = json.loads((store.fetch(address) / "manifest.json").read_text())
        machine = manifest["facts"]["machine"]
        machine["features"] = [*machine["features"], "avx1024"]
        machine["threads"] = dict.fromkeys(machine["threads"], 3)
        (store.fetch(address) / "manifest.json").write_text(json.dumps(manifest))
    result = reproduce(made.version, store)
    told = {circumstance.name: (circumstance.original, circumstance.here) for circumstance in result.circumstances}
    assert told["features"] == (["avx1024"], [])
    assert told.keys() == {"features"}
    assert describe_machine()["threads"] == here["threads"]


def copy_store(made: Made, folder: Path) -> Store:
    shutil.copytree(made.folder / "store", folder / "store")
    return open_store(str(folder / "store"))


def remove(store: Store, kind: str) -> None:
    for address in store.list(kind):
        shutil.rmtree(store.fetch(address))


def test_what_the_run_made_may_be_gone(made: Made, tmp_path: Path) -> None:
    store = copy_store(made, tmp_path)
    for kind in ("datasets/toys", "trained/home", "refitted/home", "verdicts/home"):
        remove(store, kind)
    version = replace(made.version, tags={**made.version.tags, "dataset_content": "0"})
    assert list_parts(version, store) == {"data": False, "judged model": None, "package": True, "metrics": None}


@pytest.mark.parametrize("kind", ["snapshots/toys", "units", "packages/home"])
def test_what_it_is_rebuilt_from_is_named_if_it_is_gone(kind: str, made: Made, tmp_path: Path) -> None:
    store = copy_store(made, tmp_path)
    (snapshot, *_) = store.list("snapshots/toys")
    named = {"snapshots/toys": {snapshot}, "packages/home": {made.version.package}}
    if kind == "units":
        unit = sorted(find_units(store.manifest(snapshot)["facts"]))[0]
        shutil.rmtree(store.fetch(unit))
        gone = {unit}
    else:
        gone = named[kind]
        remove(store, kind)
    with pytest.raises(NotFoundError) as refused:
        reproduce(made.version, store)
    assert refused.value.code == "reproduction.gone"
    assert {get_content_key(address) for address in refused.value.fields["gone"]} == set(map(get_content_key, gone))


def test_without_a_record_of_the_run_only_the_fits_are_repeated(made: Made, tmp_path: Path) -> None:
    store = copy_store(made, tmp_path)
    version = replace(made.version, tags={})
    assert list_parts(version, store) == {**EQUAL, "data": None}
    remove(store, "datasets/toys")
    with pytest.raises(NotFoundError) as refused:
        reproduce(version, store)
    assert refused.value.code == "reproduction.no-spec"


def test_a_search_is_not_repeated(made: Made) -> None:
    """What a search left is in the package; the spec's own values are others."""
    version = publish_variant(made, "search", lambda spec, info: spec.update(search={"trials": 5}))
    spec_width = publish_variant(made, "width", lambda spec, info: spec["model"].update(width=8))
    assert list_parts(version, made.store) == list_parts(spec_width, made.store) == EQUAL
