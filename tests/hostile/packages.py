"""Packages of every model of Endcap's own, spoilt at random: an attack that other suites may run at any length."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from endcap.errors import EndcapError
from endcap.features.sessions import Sessions
from endcap.features.vocabulary import Vocabulary
from endcap.models import Fitting, make
from endcap.ranking import Ranker
from endcap.registry.package import load_package, write_package
from endcap.rules import Catalogue
from endcap.spec import Recommender
from endcap.spec.rules import Rules
from tests.hostile.mutations import spoil

IDS = [f"item {number}" for number in range(12)]
ITEMS = pa.table({"item": IDS, "category": ["x", "y", None] * 4, "price": [1.0, 2.5, None, 4.0] * 3})
MODELS = {
    "popularity": {"name": "popularity"},
    "sequential-rules": {"name": "sequential-rules"},
    "vsknn": {"name": "vsknn"},
    "ease": {"name": "ease", "history": "customer"},
    "item-knn": {"name": "item-knn", "history": "customer"},
    "gru4rec": {"name": "gru4rec", "width": 4, "max_epochs": 1},
    "sasrec": {"name": "sasrec", "width": 4, "heads": 1, "blocks": 1, "last_events": 8, "max_epochs": 1},
    "neumf": {"name": "neumf", "width": 4, "layers": [4], "max_epochs": 1},
    "blend": {
        "name": "blend",
        "members": {"a": {"name": "popularity"}, "b": {"name": "sequential-rules"}},
    },
    "stacked": {
        "name": "stacked",
        "scores": {
            "a": {
                "recommender": "other",
                "recipe": {"package": "packages/a/1", "model": {"name": "vsknn"}, "seed": 1, "settings": {}},
            }
        },
    },
}


def write_packages(folder: Path) -> list[Path]:
    """A package of each model, fitted on a handful of sessions, with customers, rules and features."""
    return [_write(folder / name, spec) for name, spec in MODELS.items()]


def attack(packages: list[Path], work: Path, count: int, seed: int) -> Counter[str]:
    """Spoil copies of packages, load and ask each; how often each code was met, "" where the copy was as good.

    Raises AssertionError, with the number of the try, where anything but an EndcapError comes out.
    """
    codes: Counter[str] = Counter()
    for number in range(count):
        codes += attack_one(packages, work, number, seed)
    return codes


def attack_one(packages: list[Path], work: Path, number: int, seed: int) -> Counter[str]:
    """One try of `attack`."""
    random_ = random.Random(f"{seed}/{number}")
    package = random_.choice(packages)
    copied = work / f"{package.name}-{number}"
    shutil.copytree(package, copied)
    spoilt = spoil(copied, random_)
    try:
        return Counter([met(copied)])
    except Exception as error:
        raise AssertionError(f"seed {seed}, try {number}: {package.name}, {spoilt}: {error!r}") from error
    finally:
        shutil.rmtree(copied)


def met(package: Path) -> str:
    """The code of what a package is refused with when it is loaded, checked and asked; empty: it answers."""
    try:
        loaded = load_package(package)
        loaded.check()
        _ask(loaded.ranker)
    except EndcapError as error:
        return error.code
    return ""


def _ask(ranker: Ranker) -> None:
    """What shoppers ask goes well once a package has passed its own check."""
    ranker.prepare()
    requests = [{"items": [one], "explain": True, "k": 3} for one in IDS] + [{"items": [], "customer": "c1"}]
    for answer in ranker.rank([ranker.parse(request) for request in requests]):
        answer.to_json()


def _write(folder: Path, spec: dict[str, object]) -> Path:
    about = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "demo", "shop": "demo"}
    known = Recommender.model_validate({**about, "model": spec})
    model = make(known.model)
    sessions = Sessions.of([[first, (first + 1) % 12, (first + 5) % 12] for first in range(12)] * 3)
    sessions = Sessions(sessions.items, sessions.times, sessions.offsets, np.arange(36, dtype=np.int32) % 4)
    found = {"epochs": 1, "weights": {"a": 0.5, "b": 0.5}, "scales": {"a": {}, "b": {}}, "members": {"a": {}, "b": {}}}
    model.fit(sessions, len(IDS), Fitting(settings=found))
    customers = model.known_customers
    folder.mkdir(parents=True)
    write_package(
        folder,
        model=model,
        vocabulary=Vocabulary(IDS),
        items=ITEMS,
        recommender=known,
        event_types=["view"],
        session_gap=1_800_000,
        fitted_until=5,
        customers=pa.array([f"c{one}" for one in customers.tolist()]) if len(customers) else None,
        house_rules=Catalogue(
            Rules.model_validate({"attributes": [{"name": "r", "attribute": "category", "never": ["y"]}]})
        ),
        recipe={"model": {"name": "popularity"}, "found": {}},
        lineage={"dataset": "file:///d", "trained": "file:///t"},
    )
    return folder
