"""The story of a store that is moved, and moved again: all that a user does with it goes on.

It was made by release 0.1.0 elsewhere, so that it has been moved once before this begins.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from endcap.cli.registry import command as registry_command
from endcap.cli.runs import command as runs_command
from endcap.cli.status import command as status_command
from endcap.client import Client
from endcap.deploy import deploy, read_state, set_share
from endcap.errors import IntegrityError
from endcap.registry import Registry, get_default_uri, open_registry, register
from endcap.registry.version_records import DIGEST_TAG
from endcap.report import find_report, publish_report
from endcap.runs import list_runs
from endcap.spec import Recommender
from endcap.spec.load import load
from endcap.store import Store, get_content_key, open_store
from endcap_serving.local.serve import serving
from tests.compat.test_release import MADE_AT, dataset_of, migrate, unpack
from tests.refusals import refused
from tests.store.mounts import read_only

SPEC = {
    "apiVersion": "endcap/v2",
    "kind": "Recommender",
    "name": "demo",
    "shop": "demo",
    "model": {"name": "popularity"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shop's folder at its first place after its making."""
    unpack(tmp_path / "first")
    migrate(tmp_path / "first")
    return tmp_path / "first"


def store_in(folder: Path) -> Store:
    return open_store(str(folder / ".endcap" / "store"))


def invoke(command: object, store: Store, *words: str) -> object:
    """What a command says as JSON."""
    result = CliRunner().invoke(command, [*words, "--store", store.root, "--json"])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def addresses(value: object) -> set[str]:
    """All addresses of artifacts in a document."""
    if isinstance(value, dict | list):
        return set().union(*map(addresses, value.values() if isinstance(value, dict) else value))
    return {value} if isinstance(value, str) and value.startswith("file://") else set()


@pytest.mark.slow
def test_a_moved_store_goes_on(folder: Path, tmp_path: Path) -> None:
    first = store_in(folder)
    spec: Recommender = load(folder / "next.yaml").recommender
    known = open_registry(None, first).list_versions("next")
    # What the list must not show came after release 0.1.0: its state gets that with the next deployment.
    deploy(spec, "2", first)
    state = set_share("next", 0.5, first)
    assert addresses(first.read_document("deployments/next")) == {one.package for one in known}
    # What a release before wrote after it was moved: both addresses, and no list of places.
    old, packages = MADE_AT, [get_content_key(one.package) for one in known]
    (folder / ".endcap" / "store" / "places.json").unlink()
    folder.rename(tmp_path / "second")
    second = store_in(tmp_path / "second")

    assert read_state("next", second).changed == state.changed
    assert deploy(spec, "2", second) == read_state("next", second)
    assert read_state("next", second).changed == state.changed, "nothing is deployed anew"
    shown = [invoke(registry_command, second, "list", "next"), invoke(status_command, second)]
    shown += [invoke(runs_command, second, "show", run.name) for run in list_runs(second)]
    known_now = addresses(shown)
    assert {f"{second.root}/{package}" for package in packages} <= known_now
    assert {address for address in known_now if not address.startswith(second.root)} == set()
    for root in (old, second.root):
        assert [second.resolve(f"{root}/{one}") for one in packages] == [f"{second.root}/{one}" for one in packages]

    # The same package is the same version; what a run leaves in MLflow lies beside the registry.
    registry = open_registry(None, second)
    verdict = registry.get_version("next", "2").tags["verdict"]
    assert register(spec, f"{old}/{packages[1]}", verdict, second) == "2"
    assert len(registry.list_versions("next")) == len(known)
    assert DIGEST_TAG in registry.get_version("next", "2").tags
    dataset = dataset_of(second, second.list("recommendations/next")[0])
    lines: list[str] = []
    publish_report("next", verdict, second, progress=lines.append)
    assert lines == [], "MLflow takes the report"
    run = second.manifest(verdict)["facts"]["mlflow_run"]
    place = tmp_path / "second" / ".endcap" / "store" / "mlflow-artifacts" / run / "artifacts" / "report.html"
    assert place.is_file()
    assert not folder.exists()
    assert not Path(old.removeprefix("file://")).exists()

    # Once more; then it is served, and read where it cannot be written.
    (tmp_path / "second").rename(tmp_path / "third")
    third = store_in(tmp_path / "third")
    found = find_report("next", verdict, third)
    assert found is not None
    assert found.startswith(third.root)
    registry = open_registry(None, third)
    assert [file.path for file in registry.client.list_artifacts(run)] == ["report.html"]
    assert registry.get_version("next", "2").package.startswith(third.root)
    assert third.fetch(dataset, verify=True).is_dir()
    with serving(third, "next", port=0, listener=lambda event: None) as address, Client(address, "next") as client:
        answers = {client.rank(shopper=f"shopper-{number}", items=[], k=3).model_version for number in range(20)}
    assert answers == {"1", "2"}
    mount = tmp_path / "mounted"
    mount.mkdir()
    with read_only(tmp_path / "third", mount):
        seen = store_in(mount)
        listed = invoke(registry_command, seen, "list", "next")
        assert {address for address in addresses(listed) if not address.startswith(seen.root)} == set()


def test_versions_of_two_copies_in_one_registry(store: Store, empty_registry: Path, tmp_path: Path) -> None:
    """A registry that is no store's own: what is the same version is decided by checksums."""
    uri = f"sqlite:///{shutil.copy(empty_registry, tmp_path / 'shared.db')}"
    copy, spec = tmp_path / "copy", Recommender.model_validate(SPEC)

    def add(store: Store, key: str, content: str) -> str:
        if store.find("packages/demo", key) is None:
            with store.publish("packages/demo", key) as draft:
                (draft.path / "model").write_text(content)
        with store.publish("verdicts/demo", "v") as draft:
            draft.facts |= {"passed": True, "conditions": [], "dataset": "", "outcome": "passed"}
        return register(spec, f"packages/demo/{key}", draft.address, store, uri)

    def packages(store: Store) -> list[str]:
        return [one.package for one in Registry(uri, store).list_versions("demo")]

    assert add(store, "k1", "one") == "1"
    shutil.copytree(store.root.removeprefix("file://"), copy)
    copied = open_store(str(copy))
    assert [add(copied, "k1", ""), add(store, "k2", "theirs"), add(copied, "k2", "ours!!")] == ["1", "2", "3"]
    assert [add(store, "k2", ""), add(copied, "k2", ""), add(store, "k1", "")] == ["2", "3", "1"]
    theirs, ours = (f"{one.root}/packages/demo/k2" for one in (store, copied))
    assert packages(copied) == [f"{copied.root}/packages/demo/k1", theirs, ours]
    with refused(IntegrityError, "store.another-artifact", address=theirs, here=ours):
        copied.fetch(packages(copied)[1])
    shutil.rmtree(store.root.removeprefix("file://"))
    assert packages(open_store(str(copy))) == [f"{copied.root}/packages/demo/k1", theirs, ours]
    assert get_default_uri(copied) != uri
