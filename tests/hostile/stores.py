"""A store with every kind of document, spoilt at random: an attack that other suites may run at any length."""

from __future__ import annotations

import os
import random
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from endcap.cli.version_figures import Figures
from endcap.deploy.state import describe, find_state, list_deployed
from endcap.description.describe import describe as describe_data
from endcap.errors import EndcapError
from endcap.evaluation.model_names import read_model
from endcap.registry.recipe import read_recipe_facts
from endcap.report.publish import publish_report
from endcap.runs import list_runs, read_run
from endcap.runs.read import read_specs
from endcap.runs.run import format_runs
from endcap.store import Store, open_store
from endcap.training.search.record import ModelTrials
from endcap.training.search.shared_trials import inherit_trials
from endcap.training.train import describe as describe_training
from tests.hostile.mutations import spoil_bytes, spoil_json

STORE = Path(__file__).parents[1] / "compat" / "release-0.1.0.tar.xz"
KINDS = ("snapshots", "datasets", "trained", "refitted", "verdicts", "packages", "recommendations")
TOLD_FROM = {"snapshots": ("snapshots", "datasets"), "descriptions": ("datasets",)}
SEARCH = {"number": 1, "parameters": {"last": 5}, "state": "complete", "value": 0.5, "history": [], "seconds": 1.0}


def write_store(folder: Path) -> Path:
    """The store of a release, with a search's document beside."""
    with tarfile.open(STORE) as archive:
        archive.extractall(folder, filter="data")
    store = folder / ".endcap" / "store"
    open_store(str(store)).write_document("searches/next/k", {"members": {"": [SEARCH]}})
    return store


def attack(whole: Path, work: Path, count: int, seed: int, *, thorough: bool = False) -> Counter[str]:
    """Spoil a document or a manifest in copies of a store, and read what is told from it; how often each code was met,
    "" where nothing was. thorough: after each try all is read that is read out of a store, and reports are written.

    Raises AssertionError, with the number of the try, where anything but an EndcapError comes out.
    """
    codes: Counter[str] = Counter()
    for number in range(count):
        codes[attack_one(whole, work, number, seed, thorough=thorough)] += 1
    return codes


def attack_one(whole: Path, work: Path, number: int, seed: int, *, thorough: bool = False) -> str:
    """One try of `attack`: the code of the first error."""
    random_ = random.Random(f"{seed}/{number}")
    folder = work / str(number)
    shutil.copytree(whole, folder, copy_function=os.link)
    kinds = sorted({file.relative_to(folder).parts[0] for file in _documents(folder)})
    kind = random_.choice(kinds)
    file = random_.choice([one for one in _documents(folder) if one.relative_to(folder).parts[0] == kind])
    content = file.read_bytes()
    file.unlink()  # it was the whole store's own
    file.write_bytes(content)
    (spoil_bytes if random_.random() < 0.15 else spoil_json)(file, random_)
    first = ""
    store = open_store(str(folder))
    try:
        for reader in readers(store, kind, whole=thorough):
            try:
                reader()
            except EndcapError as error:
                first = first or error.code
    except Exception as error:
        raise AssertionError(f"seed {seed}, try {number}: {file.relative_to(folder)}: {error!r}") from error
    finally:
        shutil.rmtree(folder)
    return first


def _documents(folder: Path) -> list[Path]:
    """The JSON files that Endcap reads back; `tests.hostile.packages` has those of packages."""
    every = sorted(folder.rglob("*.json"))
    own = [one for one in every if one.relative_to(folder).parts[0] != "packages" or one.name == "manifest.json"]
    return [one for one in own if "model" not in one.parts]


def readers(store: Store, spoilt: str = "", *, whole: bool = True) -> Iterator[Callable[[], object]]:
    """What reads back each document, and each artifact with what it is told from. whole: not only what is told from the
    kind that was spoilt."""
    if whole or spoilt == "deployments":
        for name in list_deployed(store):
            yield lambda name=name: describe(find_state(name, store))
    if whole or spoilt in ("runs", "specs"):
        yield lambda: format_runs(list_runs(store))
        for path in store.list_documents("runs"):
            yield lambda path=path: _read_run(store, path.removeprefix("runs/"))
    yield lambda: inherit_trials(store, "next", "k", {"": ModelTrials()})
    told = KINDS if whole else TOLD_FROM.get(spoilt, (spoilt,) if spoilt in KINDS else ())
    for kind in told:
        for place in sorted(Path(store.root.removeprefix("file://"), kind).iterdir()):
            yield lambda place=place, kind=kind: store.list(f"{kind}/{place.name}")
            for artifact in sorted(place.iterdir()):
                address = f"{store.root}/{kind}/{place.name}/{artifact.name}"
                yield lambda kind=kind, address=address: _read_artifact(store, kind, address, written=whole)


def _read_run(store: Store, name: str) -> None:
    run = read_run(store, name)
    str(run)
    run.to_json()
    read_specs(store, run)


def _read_artifact(store: Store, kind: str, address: str, *, written: bool) -> None:
    facts = store.manifest(address)["facts"]
    store.fetch(address, verify=True)
    match kind:
        case "trained":
            describe_training(facts)
            read_model(address, store)
        case "verdicts":
            Figures.of(address, store)
            if written:
                publish_report("next", address, store)
        case "packages":
            read_recipe_facts(address, store)
        case "datasets":
            describe_data(facts["snapshot"], address, store)
