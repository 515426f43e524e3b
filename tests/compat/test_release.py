"""What a user of release 0.1.0 has on disk goes on to work: see README.md beside this file.

The store lies elsewhere than it was made, as after a move or a mount: its addresses are those of its making.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import endcap
from endcap.batch.recommend import ListRequest, recommend
from endcap.cli.registry import command as registry_command
from endcap.cli.spec import command as spec_command
from endcap.cli.verdict_lines import print_comparison
from endcap.deploy import deploy, set_share
from endcap.deploy.state import read_state
from endcap.evaluation import judge
from endcap.evaluation.estimates import CHALLENGER, CHAMPION
from endcap.events import ingest
from endcap.features import build
from endcap.online import open_online
from endcap.registry import open_registry, register
from endcap.registry.online_features import get_shop_name
from endcap.registry.package import load_package
from endcap.report import render
from endcap.report.publish import gather_facts
from endcap.rules import fetch_catalogue
from endcap.runs import list_runs
from endcap.spec.load import Loaded, load
from endcap.store import Store, check_artifact, open_store
from endcap.training import fit_champion, refit, train
from tests.refusals import misspelt

EXAMPLE = Path(__file__).with_name("release-0.1.0.tar.xz")
MADE_AT = "file:///tmp/shop/.endcap/store"


def unpack(folder: Path) -> None:
    with tarfile.open(EXAMPLE) as archive:
        archive.extractall(folder, filter="data")


def migrate(folder: Path) -> str:
    """The specs under this release's names, by the command; what is stored stays as it was."""
    files = [str(file) for file in sorted(folder.rglob("*.yaml"))]
    result = CliRunner().invoke(spec_command, ["migrate", *files])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's folder, to be read."""
    folder = tmp_path_factory.mktemp("shop")
    unpack(folder)
    migrate(folder)
    return folder


@pytest.fixture
def folder(unpacked: Path, tmp_path: Path) -> Path:
    """The shop's folder, to be changed."""
    return Path(shutil.copytree(unpacked, tmp_path / "shop"))


def store_of(folder: Path) -> Store:
    return open_store(str(folder / ".endcap" / "store"))


def versions(folder: Path, name: str) -> list[tuple[str, list[str], str]]:
    registered = open_registry(None, store_of(folder)).list_versions(name)
    return [(version.version, version.aliases, version.state) for version in registered]


def test_specs_of_then_are_refused_with_the_new_names_until_they_are_migrated(tmp_path: Path) -> None:
    unpack(tmp_path)
    with misspelt(
        ("apiVersion", "older-version"), ("model.batch", "renamed-key"), ("apiVersion", "older-version")
    ) as no:
        load(tmp_path / "next.yaml")
    assert "model.batch_size" in str(no.value)
    assert f"endcap spec migrate {tmp_path / 'next.yaml'}" in str(no.value)
    assert "next.yaml:10: model.batch: batch -> batch_size" in migrate(tmp_path)
    assert load(tmp_path / "next.yaml").recommender.model.name == "gru4rec"


def test_specs_are_read(unpacked: Path) -> None:
    loaded = load(unpacked / "next.yaml", env="prod")
    assert (loaded.recommender.model.name, loaded.recommender.serving.canary.share) == ("gru4rec", 0.3)
    assert [rule.name for rule in loaded.shop.rules.attributes] == ["travel-page"]
    assert load(unpacked / "again.yaml").recommender.approval == "person"


def test_versions_are_listed_with_their_aliases_and_packages_answer(unpacked: Path) -> None:
    store = store_of(unpacked)
    assert versions(unpacked, "next") == [("1", ["champion"], "approved"), ("2", ["challenger"], "approved")]
    assert versions(unpacked, "again") == [("1", ["champion"], "approved")]
    for name in ("next", "again"):
        registry = open_registry(None, store)
        for version in registry.list_versions(name):
            registered = registry.client.get_model_version(name, version.version).source
            assert registered.startswith(MADE_AT)
            assert version.package == store.resolve(registered)
            place = store.fetch(version.package, verify=True)
            check_artifact(place)  # as a predictor does with a copy that something else made
            package = load_package(place)
            package.check()
            assert package.recommender.name == name
            assert get_shop_name(package) == "corner"
            written = package.example["answer"]["items"]
            answer = package.ranker.rank([package.ranker.parse(package.example["request"])])[0]
            assert answer.ids == [item["item"] for item in written]
    listed = CliRunner().invoke(registry_command, ["list", "next", "--store", store.root])
    assert listed.exit_code == 0, listed.output
    assert "next version 2 [challenger]" in listed.output


def test_a_project_ranks_by_a_version_of_then(unpacked: Path) -> None:
    project = endcap.open(unpacked / "next.yaml", store=unpacked / ".endcap" / "store")
    assert len(project.rank(version="2", items=["p000232"], k=3).ids) == 3


def test_verdicts_and_their_reports_are_read(unpacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(unpacked)
    passed = {}
    for name in ("next", "again"):
        for address in store.list(f"verdicts/{name}"):
            facts = store.manifest(address)["facts"]
            passed[address] = facts["passed"]
            print_comparison(facts)
            assert f"{facts['predictions']} predictions" in capsys.readouterr().out
            page = render(gather_facts(name, address, store))
            assert all(condition["text"].partition(" is ")[2] in page for condition in facts["conditions"])
    assert list(passed.values()) == [True, True, False, True]


def test_runs_are_read(unpacked: Path) -> None:
    store = store_of(unpacked)
    runs = sorted((unpacked / ".endcap" / "store" / "runs").glob("*.json"))
    assert len(runs) == 5
    listed = list_runs(store)
    assert [run.name for run in sorted(listed, key=lambda run: run.name)] == [file.stem for file in runs]
    assert {(run.recommender, run.state, run.started is None) for run in listed} == {
        ("next", "succeeded", False),
        ("again", "succeeded", False),
    }
    for file in runs:
        run = store.read_document(f"runs/{file.stem}")
        assert run is not None
        assert (run["run"], run["state"]) == (file.stem, "succeeded")
        for name, step in run["steps"].items():
            assert store.read_document(f"runs/{file.stem}/{name}") == step
            assert step["state"] == "done"


def test_the_deployment_goes_on_and_a_new_version_on_top(folder: Path) -> None:
    store, spec = store_of(folder), load(folder / "next.yaml").recommender
    state = read_state("next", store)
    assert (state.stable.version, state.canary and state.canary.version) == ("1", "2")
    assert (state.canary and state.canary.share, state.terms.k) == (0.2, 5)
    # The same again changes nothing, but that the list knows now what rules forbid among candidates.
    again = deploy(spec, "2", store)
    assert again is not None
    assert (again.terms.popular, again.terms.k) == (state.terms.popular, state.terms.k)
    assert again.model_copy(update={"terms": state.terms, "changed": state.changed}) == state
    assert deploy(spec, "2", store) == again
    assert set_share("next", 0.5, store).salt == state.salt
    open_registry(None, store).promote("next", "2")
    promoted = deploy(spec, "2", store)
    assert promoted is not None
    assert (promoted.stable.version, promoted.canary) == ("2", None)
    assert read_state("next", store) == promoted


def test_lists_are_read_and_made_anew_the_same(folder: Path) -> None:
    store, loaded = store_of(folder), load(folder / "next.yaml")
    before = {version_of(store, address): address for address in store.list("recommendations/next")}
    assert set(before) == {"1", "2"}
    made = recommend(
        loaded.recommender, loaded.shop, store, request=ListRequest(dataset=dataset_of(store, before["1"]))
    )
    assert {one.version: rows(store, one.address) for one in made} == {
        version: rows(store, address) for version, address in before.items()
    }


def test_the_rule_data_and_the_lists_in_the_online_store_are_read(folder: Path) -> None:
    online = open_online(f"sqlite://{folder}/.endcap/store/online.sqlite", shop="corner", timeout=5)
    catalogue = fetch_catalogue(online)
    assert catalogue is not None
    assert catalogue.items.num_rows > 0
    assert catalogue.blacklist == {"p000267", "p000238", "p000241"}
    assert online.published("lists/next/1") is not None


def test_the_next_version_is_judged_against_the_champion_of_then(folder: Path) -> None:
    """It saw the test of now: its recipe is judged, which its package of then does not tell, but its training."""
    sets = ["model.max_epochs=1", "gate.evidence.min_sessions=1", "gate.evidence.max_half_width=10"]
    store, loaded = store_of(folder), load(folder / "next.yaml", sets=sets)
    open_registry(None, store).promote("next", "2")
    verdict, version = trained(loaded, store)
    facts = store.manifest(verdict)["facts"]
    assert facts["champion"]["package"].startswith(store.root)
    assert facts["champion"]["judged"] == "recipe"
    assert store.manifest(facts["champion"]["recipe"])["facts"]["found"]["epochs"] > 0
    assert {CHALLENGER, CHAMPION} <= facts["metrics"].keys()
    assert versions(folder, "next")[-1] == (version, ["challenger"], "approved")
    state = deploy(loaded.recommender, version, store)
    assert state is not None
    assert (state.stable.version, state.canary and state.canary.version) == ("2", version)


def trained(loaded: Loaded, store: Store) -> tuple[str, str]:
    """The verdict and the version of one more training."""
    spec = loaded.recommender
    dataset = build(loaded.shop, ingest(loaded.shop, store), store)
    model = train(spec, dataset, store)
    fit_champion(spec, dataset, store)
    verdict = judge(spec, dataset, model, store, shop=loaded.shop)
    return verdict, register(spec, refit(spec, dataset, model, verdict, store), verdict, store)


def version_of(store: Store, lists: str) -> str:
    return str(store.manifest(lists)["facts"]["version"])


def dataset_of(store: Store, lists: str) -> str:
    return str(store.manifest(lists)["facts"]["dataset"])


def rows(store: Store, lists: str) -> list[dict[str, object]]:
    """The lists, without when they were made."""
    return pq.read_table(store.fetch(lists, verify=True) / "part-00000.parquet").drop_columns("made").to_pylist()
