from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from endcap.cli.registry import list_versions
from endcap.errors import NotFoundError, UserError
from endcap.features import build
from endcap.progress import Notice
from endcap.registry import Registry, describe_version, find_registry, get_default_uri, open_registry, register
from endcap.spec import Recommender
from endcap.store import Store, open_store
from endcap.training import refit, train
from tests.features.logs import sessions, shop, snapshot
from tests.refusals import refused
from tests.registry.conftest import judged, publish

LOG = " ".join(["abcab", "xyzxy"] * 10)


def add(store: Store, recommender: Recommender, key: str) -> str:
    package = publish(store, "packages/demo", key)
    return register(recommender, package, judged(store), store, run="run-1")


def by_person(recommender: Recommender) -> Recommender:
    return recommender.model_copy(update={"approval": "person"})


def test_the_first_version_becomes_champion_the_next_challenger(shop_store: Store, recommender: Recommender) -> None:
    registry = Registry(get_default_uri(shop_store))
    assert registry.list_versions("demo") == []
    assert registry.find_champion("demo") is None
    assert [add(shop_store, recommender, key) for key in ("one", "two", "three")] == ["1", "2", "3"]
    assert [version.aliases for version in registry.list_versions("demo")] == [["champion"], [], ["challenger"]]
    champion = registry.find_champion("demo")
    assert champion is not None
    assert champion.package == shop_store.find("packages/demo", "one")
    assert (champion.state, champion.by) == ("approved", "gate")
    assert "mrr@20 0.3 is at least 0.2" in champion.why
    expected = {"dataset": "file:///d", "snapshot": "file:///s", "run": "run-1", "verdict": judged(shop_store)}
    assert expected.items() <= dict(champion.tags).items()
    assert len(champion.tags["spec"]) == 20
    assert describe_version("demo", "1", shop_store) == "demo version 1, approved by gate, champion"


def test_all_recommenders_are_listed_a_line_a_version(shop_store: Store, recommender: Recommender) -> None:
    assert CliRunner().invoke(list_versions, ["--store", shop_store.root, "--json"]).output == "[]\n"
    registry = Registry(get_default_uri(shop_store))
    for name in ("toys", "shoes", "toys"):
        registry.add_version(name, f"packages/{name}/{len(registry.list_versions(name))}", "approved", "a test", {})
    assert registry.list_names() == ["shoes", "toys"]
    listed = json.loads(CliRunner().invoke(list_versions, ["--store", shop_store.root, "--json"]).output)
    versions = [(one["recommender"], [version["version"] for version in one["versions"]]) for one in listed]
    assert versions == [("shoes", ["1"]), ("toys", ["1", "2"])]


def test_a_version_is_listed_with_its_figures_beside_the_tries_that_came_to_nothing(
    shop_store: Store, recommender: Recommender
) -> None:
    add(shop_store, recommender, "one")
    judged(shop_store, "v2", passed=False)
    judged(shop_store, "v3", lacking=["two more days"])
    listed = json.loads(CliRunner().invoke(list_versions, ["demo", "--store", shop_store.root, "--json"]).output)
    (version,) = listed["versions"]
    assert (version["version"], version["metrics"]) == ("1", {"mrr@20": 0.3})
    assert [one["outcome"] for one in listed["tries"]] == ["failed", "undecided"]
    shown = CliRunner().invoke(list_versions, ["demo", "--store", shop_store.root]).stdout
    assert max(map(len, shown.splitlines()[:4])) <= 80
    assert "two more days" in shown


def test_a_missing_registry_is_not_created_by_looking_for_it(store: Store, shop_store: Store, tmp_path: Path) -> None:
    found = find_registry(None, shop_store)
    assert found is not None
    assert found.uri == get_default_uri(shop_store)
    empty = open_store(str(tmp_path / "empty"))
    assert find_registry(None, empty) is None
    assert list((tmp_path / "empty").iterdir()) == []


def test_the_image_is_in_the_lineage(
    shop_store: Store, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = f"registry.example.com/endcap@sha256:{'5' * 64}"
    monkeypatch.setenv("ENDCAP_IMAGE", image)
    monkeypatch.setenv("ENDCAP_COMMIT", "c0ffee")
    add(shop_store, recommender, "one")
    (version,) = Registry(get_default_uri(shop_store)).list_versions("demo")
    assert (version.tags["image"], version.tags["commit"]) == (image, "c0ffee")
    assert "train_image" not in version.tags
    listed = CliRunner().invoke(list_versions, ["demo", "--store", shop_store.root])
    assert f"image           {image}\n" in listed.output


def test_the_images_that_trained_and_refitted_are_in_the_lineage_of_a_later_registration(
    shop_store: Store, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = {"by": "time", "test": 0.1, "validation": 0.2}
    recommender = Recommender.model_validate({**recommender.model_dump(mode="json"), "split": split})
    dataset = build(shop(), snapshot(shop_store, sessions(LOG)), shop_store)
    monkeypatch.setenv("ENDCAP_IMAGE", "registry.example.com/gpu:7")
    trained = train(recommender, dataset, shop_store)
    verdict = judged(shop_store)
    refitting, registering = (f"registry.example.com/endcap@sha256:{digit * 64}" for digit in "56")
    monkeypatch.setenv("ENDCAP_IMAGE", refitting)
    package = refit(recommender, dataset, trained, verdict, shop_store)
    monkeypatch.setenv("ENDCAP_IMAGE", registering)
    assert refit(recommender, dataset, train(recommender, dataset, shop_store), verdict, shop_store) == package
    said: list[str] = []
    register(recommender, package, verdict, shop_store, progress=said.append)
    (version,) = Registry(get_default_uri(shop_store)).list_versions("demo")
    images = {name: version.tags[name] for name in ("train_image", "refit_image", "image")}
    assert images == {
        "train_image": "registry.example.com/gpu:7",
        "refit_image": refitting,
        "image": registering,
    }
    (warning,) = said
    assert "registry.example.com/gpu:7 by a tag" in warning
    assert "sha256" not in warning


def test_the_same_package_is_the_same_version_and_later_decisions_stand(
    shop_store: Store, recommender: Recommender
) -> None:
    registry = Registry(get_default_uri(shop_store))
    for key in ("one", "two", "three"):
        add(shop_store, recommender, key)
    registry.promote("demo", "3")
    assert add(shop_store, recommender, "two") == "2"
    assert [version.aliases for version in registry.list_versions("demo")] == [[], [], ["champion"]]


def test_a_failed_gate_registers_nothing_and_says_why(shop_store: Store, recommender: Recommender) -> None:
    package = publish(shop_store, "packages/demo", "one")
    failed = ["mrr@20 0.3 is at least 0.2"]
    with refused(UserError, "registry.gate-failed", package=package, conditions=failed):
        register(recommender, package, judged(shop_store, passed=False), shop_store)
    assert Registry(get_default_uri(shop_store)).list_versions("demo") == []


def test_an_undecided_package_is_not_registered_and_the_error_says_what_is_missing(
    shop_store: Store, recommender: Recommender
) -> None:
    package = publish(shop_store, "packages/demo", "one")
    verdict = judged(shop_store, lacking=["the test has 3 sessions"])
    with refused(UserError, "registry.gate-undecided", package=package, lacking=["the test has 3 sessions"]):
        register(recommender, package, verdict, shop_store)
    assert Registry(get_default_uri(shop_store)).list_versions("demo") == []


def test_a_person_approves_or_rejects_a_pending_version(shop_store: Store, recommender: Recommender) -> None:
    registry = Registry(get_default_uri(shop_store))
    for key in ("one", "two", "three"):
        add(shop_store, by_person(recommender), key)
    assert [(one.state, one.aliases) for one in registry.list_versions("demo")] == [("pending", [])] * 3
    assert "endcap registry approve demo 1" in describe_version("demo", "1", shop_store)
    with refused(UserError, "registry.not-approved", recommender="demo", version="1", found="pending"):
        registry.promote("demo", "1")
    approved = registry.approve("demo", "1", by="ada", why="looks right")
    assert (approved.aliases, approved.by, approved.why) == (["champion"], "ada", "looks right")
    assert approved.when.startswith("20")
    assert registry.approve("demo", "2", by="ada", why="better").aliases == ["challenger"]
    rejected = registry.reject("demo", "2", by="bob", why="too slow")
    assert (rejected.state, rejected.aliases, rejected.by) == ("rejected", [], "bob")
    with refused(UserError, "registry.is-champion", recommender="demo", version="1"):
        registry.reject("demo", "1", by="bob", why="no")
    with refused(NotFoundError, "registry.version-not-found", found="9", allowed=["1", "2", "3"]):
        registry.approve("demo", "9", by="ada", why="")


def test_promoting_a_challenger_leaves_no_challenger(shop_store: Store, recommender: Recommender) -> None:
    registry = Registry(get_default_uri(shop_store))
    for key in ("one", "two"):
        add(shop_store, recommender, key)
    assert registry.promote("demo", "2").aliases == ["champion"]
    assert registry.find_challenger("demo") is None


KILLED = """
import os, signal, sys
from endcap.registry import register
from endcap.registry.versions import Registry
from endcap.spec import Recommender
from endcap.store import open_store
spec, store, package, verdict, moment = sys.argv[1:]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(Registry, moment, die)
register(Recommender.model_validate_json(spec), package, verdict, open_store(store))
"""


@pytest.mark.parametrize("moment", ["_ensure_name", "_settle"])
@pytest.mark.slow
def test_a_kill_before_or_after_the_acknowledgement_is_made_good(
    shop_store: Store, recommender: Recommender, moment: str
) -> None:
    package, verdict = publish(shop_store, "packages/demo", "one"), judged(shop_store)
    words = [recommender.model_dump_json(), shop_store.root, package, verdict, moment]
    ended = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert register(recommender, package, verdict, shop_store) == "1"
    (version,) = Registry(get_default_uri(shop_store)).list_versions("demo")
    assert version.aliases == ["champion"]


FIRST_USE = """
import sys
from endcap.registry import register
from endcap.spec import Recommender
from endcap.store import open_store
spec, store, package, verdict = sys.argv[1:]
print(register(Recommender.model_validate_json(spec), package, verdict, open_store(store)))
"""


@pytest.mark.slow
def test_two_first_uses_at_once_do_not_disturb_each_other(store: Store, recommender: Recommender) -> None:
    # What a process left that was killed while it made the tables.
    Path(store.root.removeprefix("file://"), ".mlflow.db.draft").write_bytes(b"half a data base")
    verdict = judged(store)
    packages = [publish(store, "packages/demo", key) for key in ("one", "two")]
    spec = recommender.model_dump_json()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE, spec, store.root, package, verdict],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for package in packages
    ]
    ended = [process.communicate() for process in running]
    assert sorted(out.strip() for out, _ in ended) == ["1", "2"]
    told = [line for _, err in ended for line in err.splitlines()]
    assert [line for line in told if not line.startswith(Notice.MARK)] == []
    aliases = [version.aliases for version in Registry(get_default_uri(store)).list_versions("demo")]
    assert aliases == [["champion"], ["challenger"]]


def test_a_server_that_cannot_hold_a_folders_addresses_is_refused_unasked(store: Store) -> None:
    with refused(UserError, "registry.server-for-folder", registry="http://127.0.0.1:9", store=store.root):
        open_registry("http://127.0.0.1:9", store)


@pytest.mark.parametrize(("name", "letter"), [("what?", "?"), ("100%25", "%")])
def test_a_store_whose_path_no_registrys_address_can_hold_is_refused(tmp_path: Path, name: str, letter: str) -> None:
    with refused(UserError, "registry.folder-name", store=str(tmp_path / name), found=letter):
        get_default_uri(open_store(str(tmp_path / name)))


def test_a_name_that_no_recommender_can_have_is_refused(shop_store: Store) -> None:
    with refused(UserError, "registry.refuses", registry=get_default_uri(shop_store)):
        Registry(get_default_uri(shop_store)).list_versions("it's")
