"""What nobody needs any more goes; what is needed stays whole, beside runs that go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import endcap
from endcap.cli.main import main
from endcap.errors import NotFoundError, UserError
from endcap.events.snapshot_days import open_snapshot
from endcap.lineage import trace_artifact
from endcap.registry import open_registry
from endcap.registry.factory import get_default_uri
from endcap.reproduction import reproduce
from endcap.retention import KINDS, RetentionPolicy, apply_retention, plan_retention
from endcap.runs import Start, begin_run, end_run
from endcap.store import Store, get_content_key, open_store
from tests.cli.printed_errors import parse_error
from tests.lineage.test_lineage import HOME, SHOP, write_day
from tests.refusals import refused

ONE = RetentionPolicy(versions=1)


def run_steps(folder: Path, store: Path, *, register: bool = False) -> None:
    project = endcap.open(folder / "home.yaml", store=str(store))
    steps = [project.ingest, project.features, project.train, project.evaluate, project.refit]
    for step in [*steps, *([project.register] if register else [])]:
        step()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three logs: in the second a day differs, the third has one more day."""
    folders = [tmp_path_factory.mktemp(f"log{number}") for number in (1, 2, 3)]
    for number, folder in enumerate(folders):
        (folder / "toys.yaml").write_text(SHOP)
        (folder / "home.yaml").write_text(HOME)
        for day in range(1, 5 + (number == 2)):
            write_day(folder, day, 4 if number and day == 4 else 3)
    return folders


@pytest.fixture(scope="module")
def made(logs: list[Path], tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Path:
    """A store with a version of each log: the first is the champion, the third the challenger."""
    store = tmp_path_factory.mktemp("made") / "store"
    shutil.copy(empty_registry, get_default_uri(open_store(str(store))).removeprefix("sqlite:///"))
    for folder in logs:
        run_steps(folder, store, register=True)
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    """A copy of it that nobody has used for a month."""
    shutil.copytree(made, tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    age(list_manifests(store))
    return store


def list_manifests(store: Store) -> list[Path]:
    return sorted(Path(store.root.removeprefix("file://")).glob("*/*/*/manifest.json"))


def age(manifests: Iterable[Path]) -> None:
    month_ago = time.time() - 30 * 86_400
    for manifest in manifests:
        os.utime(manifest, (month_ago, month_ago))


def list_names(store: Store) -> set[str]:
    return {get_content_key(str(manifest.parent)) for manifest in list_manifests(store)}


def list_lost(store: Store, address: str) -> list[str]:
    """All that an artifact was made of and the store lacks, the units of its snapshot included."""
    traced = trace_artifact(address, store)
    for artifact in traced:
        if not artifact.is_gone:
            store.fetch(artifact.address, verify=True)
        if artifact.kind == "snapshots" and not artifact.is_gone:
            assert open_snapshot(store, artifact.address, verify=True).files
    return [artifact.address for artifact in traced if artifact.is_gone]


def list_packages(store: Store) -> dict[str, str]:
    return {version.version: version.package for version in open_registry(None, store).list_versions("home")}


def test_versions_that_are_needed_stay_whole_and_the_rest_goes(store: Store) -> None:
    packages, before = list_packages(store), list_names(store)
    planned = plan_retention(store, policy=ONE)
    assert list_names(store) == before
    reasons = {address: need.code for address, (_, need) in planned.kept.items()}
    assert (reasons[packages["1"]], reasons[packages["3"]]) == ("champion", "challenger")
    removal = apply_retention(store, policy=ONE)
    assert [a.address for a in removal.removed] == [a.address for a in planned.removed]
    kinds = [artifact.kind for artifact in removal.removed]
    assert kinds == sorted(kinds, key=KINDS.index)
    assert {"packages", "refitted", "verdicts", "trained", "datasets", "coded", "snapshots", "parsed"} <= set(kinds)
    assert list_names(store) == before - {artifact.name for artifact in removal.removed}
    assert list_lost(store, packages["1"]) == list_lost(store, packages["3"]) == []
    assert store.find(*packages["2"].removeprefix(f"{store.root}/").rsplit("/", 1)) is None
    assert plan_retention(store, policy=ONE).removed == []
    # What stays is enough to make a version again.
    registry = open_registry(None, store)
    assert reproduce(registry.get_version("home", "3"), store).equal
    with refused(NotFoundError, "reproduction.gone"):
        reproduce(registry.get_version("home", "2"), store)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_was_used_or_is_registered_keeps_all_that_it_refers_to(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    packages, registry = list_packages(store), open_registry(None, store)
    if champion := chance.choice(["", "2", "3"]):
        registry.promote("home", champion, returns=True)
    policy = RetentionPolicy(versions=chance.choice([1, 2]))
    young = chance.sample(list_manifests(store), chance.randrange(4))
    for manifest in young:
        os.utime(manifest)
    running = chance.random() < 0.3
    if running:
        start = Start(pipeline="training", recommender="home", at=(datetime.now(UTC) - timedelta(days=9)).isoformat())
        begin_run(store, "home-long", start)
    used = chance.choice([manifest for manifest in list_manifests(store) if manifest not in young])
    os.utime(used, (time.time() - 8.5 * 86_400,) * 2)
    needed = {version.package for version in registry.list_versions("home") if version.aliases}
    needed |= {packages[number] for number in sorted(packages)[-policy.versions :]}
    needed |= {f"file://{manifest.parent}" for manifest in [*young, *([used] if running else [])]}
    apply_retention(store, policy=policy)
    assert [list_lost(store, address) for address in needed] == [[]] * len(needed)
    assert plan_retention(store, policy=policy).removed == []


@pytest.mark.parametrize("at", [0, 4])
def test_a_run_beside_a_removal_loses_nothing(store: Store, logs: list[Path], at: int) -> None:
    path = Path(store.root.removeprefix("file://"))
    lines: list[str] = []

    def run_after(line: str) -> None:
        lines.append(line)
        if len(lines) == at + 1:
            run_steps(logs[1], path)

    removal = apply_retention(store, policy=ONE, progress=run_after)
    assert removal.spared
    young = [m for m in list_manifests(store) if time.time() - m.stat().st_mtime < 86_400]
    assert {"snapshots", "datasets", "packages"} <= {get_content_key(str(m.parent)).split("/")[0] for m in young}
    assert [list_lost(store, f"file://{manifest.parent}") for manifest in young] == [[]] * len(young)


def test_a_run_that_goes_on_keeps_what_it_may_use_until_it_counts_as_lost(store: Store) -> None:
    now = datetime.now(UTC)
    begin_run(store, "home-long", Start(recommender="home", at=(now - timedelta(days=10)).isoformat()))
    begin_run(store, "home-lost", Start(recommender="home", at=(now - timedelta(days=40)).isoformat()))
    limits = plan_retention(store, policy=ONE, now=now).limits
    assert (limits.running, limits.lost) == (("home-long",), ("home-lost",))
    assert limits.used_since == now - timedelta(days=11)
    end_run(store, "home-long", "succeeded", [])
    assert plan_retention(store, policy=ONE, now=now).limits.used_since == now - timedelta(days=7)


def test_nothing_goes_if_the_registry_cannot_say_what_is_needed(
    store: Store, tmp_path: Path, empty_registry: Path
) -> None:
    before = list_names(store)
    other = shutil.copy(empty_registry, tmp_path / "other.db")
    with refused(UserError, "retention.other-registry"):
        apply_retention(store, f"sqlite:///{other}", ONE)
    Path(get_default_uri(store).removeprefix("sqlite:///")).unlink()
    with refused(UserError, "retention.no-registry", store=store.root):
        apply_retention(store, policy=ONE)
    for policy in ({"versions": 0}, {"unused": timedelta(days=1)}):
        with refused(UserError, "retention.too-little-kept"):
            RetentionPolicy(**policy)  # type: ignore[arg-type]
    assert list_names(store) == before


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    try:
        main(["retention", *arguments, "--json"])
    except SystemExit:
        return parse_error(capsys.readouterr().out)
    return json.loads(capsys.readouterr().out)


def test_the_command_removes_what_its_plan_shows(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--store", store.root, "--versions", "1"]
    planned = [artifact["address"] for artifact in call(capsys, "plan", *where)["removed"]]
    main(["retention", "plan", "--explain", *where])
    assert all(f"{get_content_key(address)}  goes" in capsys.readouterr().out for address in planned[:1])
    assert call(capsys, "apply", *where) == {"removed": planned, "spared": []}
    main(["retention", "apply", *where])
    assert capsys.readouterr().out.strip() == "removed 0"
