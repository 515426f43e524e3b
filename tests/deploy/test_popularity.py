"""The package of popularity, the baseline in the desired state, and the switch through all that changes beside it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from endcap.deploy import (
    Deployment,
    Target,
    deploy,
    describe,
    give_share,
    promote_arm,
    read_state,
    switch_back,
    switch_to_popularity,
    take_back,
    withdraw,
)
from endcap.deploy.gateway_settings import GatewaySettings, make_settings
from endcap.deploy.popularity import make_baseline
from endcap.errors import NotFoundError, UserError
from endcap.features.vocabulary import Vocabulary
from endcap.models import make
from endcap.models.base import Fitting
from endcap.registry import Registry, get_default_uri
from endcap.registry.package import load_package, write_package
from endcap.registry.popularity_package import pack_popularity
from endcap.rules import Catalogue
from endcap.spec import Recommender
from endcap.spec.rules import Rules
from endcap.store import Store
from tests.refusals import refused
from tests.serving.conftest import sessions

IDS = [f"p{number}" for number in range(300)]
SPEC = Recommender.model_validate(
    {
        "apiVersion": "endcap/v2",
        "kind": "Recommender",
        "name": "shoes",
        "shop": "demo",
        "model": {"name": "sequential-rules"},
        "exclude": "seen",
        "serving": {"baseline": {"share": 0.05}, "k": 3},
    }
)
PLAIN = SPEC.model_copy(update={"serving": SPEC.serving.model_copy(update={"baseline": type(SPEC.serving.baseline)()})})


@pytest.fixture
def registry(store: Store) -> Registry:
    """Versions 1 and 2 of real packages: 1 may not show p0, 2 may not show p1. Version 1 is the champion."""
    registry = Registry(get_default_uri(store))
    for version, hidden in (("1", "p0"), ("2", "p1")):
        model = make(SPEC.model)
        model.fit(sessions(300, seed=1), len(IDS), Fitting(seed=1))
        with store.publish("packages/shoes", version) as draft:
            write_package(
                draft.path,
                model=model,
                vocabulary=Vocabulary(IDS),
                items=pa.table({"item": IDS, "category": [f"c{number % 3}" for number in range(len(IDS))]}),
                recommender=SPEC,
                house_rules=Catalogue(Rules(), blacklist=frozenset({hidden}), read_time=0),
                lineage={"dataset": f"{store.root}/datasets/demo/1"},
            )
        registry.add_version("shoes", draft.address, "approved", "a test", {})
    return registry


def popularity_of(state: Deployment | None) -> str:
    assert state is not None
    assert state.baseline is not None
    return state.baseline.package


def test_a_popularity_package_has_the_champions_items_rules_and_settings(registry: Registry, store: Store) -> None:
    package = registry.get_version("shoes", "1").package
    address = pack_popularity(package, store)
    served = load_package(store.fetch(address, verify=True))
    served.check()
    requests = [{"items": []}, {"items": ["p2"]}, {"items": [], "category": "c1"}]
    answers = [
        [item["item"] for item in served.ranker.rank([served.ranker.parse(request)])[0].to_json()["items"]]
        for request in requests
    ]
    assert answers == [["p1", "p2", "p3"], ["p1", "p3", "p4"], ["p1", "p4", "p7"]]
    assert make_settings(SPEC, package, store).popular[:3] == ("p1", "p2", "p3"), "the gateway's list ranks alike"
    assert served.info["dataset"] == f"{store.root}/datasets/demo/1", "the predictor finds the shop by it"
    files = {file: file.stat().st_mtime_ns for file in store.fetch(address).rglob("*")}
    assert pack_popularity(package, store) == address
    assert {file: file.stat().st_mtime_ns for file in store.fetch(address).rglob("*")} == files, "nothing is made again"
    assert pack_popularity(registry.get_version("shoes", "2").package, store) != address


def test_the_baseline_follows_the_champion_and_its_spec(registry: Registry, store: Store) -> None:
    first = deploy(SPEC, "1", store, registry.uri)
    assert first is not None
    assert first.baseline is not None
    assert (first.baseline.version, first.baseline.share, first.since["popularity"]) == (
        "popularity",
        0.05,
        first.changed,
    )
    assert popularity_of(first) == pack_popularity(first.stable.package, store)
    challenger = registry.get_version("shoes", "2")
    target = Target(version="2", package=challenger.package)
    # A rollout leaves it alone; a promotion brings the new champion's, and the way back the old one's.
    assert popularity_of(give_share("shoes", target, 0.1, "ab", store)) == popularity_of(first)
    own = make_baseline(SPEC, target.package, store)
    promoted = promote_arm("shoes", "2", 0.02, GatewaySettings(), store, baseline=own)
    assert popularity_of(promoted) == pack_popularity(target.package, store)
    assert promoted.since["popularity"] == first.changed, "it has its shoppers since then"
    back = take_back("shoes", "2", store, terms=first.terms, baseline=first.baseline)
    assert (popularity_of(back), back.stable) == (popularity_of(first), first.stable)
    assert popularity_of(deploy(SPEC, "2", store, registry.uri)) == popularity_of(first), "a challenger changes nothing"
    assert popularity_of(withdraw("shoes", "2", store)) == popularity_of(first)
    assert deploy(PLAIN, "1", store, registry.uri).baseline is None  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_switch_stays_through_deployments_and_rollouts_and_is_taken_back_alone(
    registry: Registry, store: Store
) -> None:
    with refused(NotFoundError, "deploy.not-deployed"):
        switch_to_popularity("shoes", store, by="ann")
    before = deploy(PLAIN, "1", store, registry.uri)
    assert before is not None
    thrown = switch_to_popularity("shoes", store, by="ann", why="nonsense").state
    assert thrown.switch is not None
    assert (thrown.switch.by, thrown.switch.why, thrown.switch.terms) == ("ann", "nonsense", None)
    assert thrown.popularity == Target(version="popularity", package=pack_popularity(before.stable.package, store))
    assert describe(thrown).startswith("popularity serves everyone")
    target = Target(version="2", package=registry.get_version("shoes", "2").package)
    steps = (
        lambda: give_share("shoes", target, 0.1, "ab", store),
        lambda: promote_arm("shoes", "2", 0.0, GatewaySettings(), store),
        lambda: take_back("shoes", "2", store, previous=before.stable, terms=before.terms),
        lambda: deploy(PLAIN, "1", store, registry.uri),
    )
    for step in steps:
        state = step()
        assert state is not None
        assert state.switch == thrown.switch
    back = switch_back("shoes", store)
    assert switch_back("shoes", store) == back
    assert (back.switch, back.stable, back.terms, back.popularity) == (None, before.stable, before.terms, None)


def test_the_switch_needs_no_registry_and_gives_a_list_where_the_spec_wants_none(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    refusing = PLAIN.model_copy(update={"serving": PLAIN.serving.model_copy(update={"fallback": "refuse"})})
    deploy(refusing, "1", store, registry.uri)
    (Path(store.root.removeprefix("file://")) / "mlflow.db").rename(tmp_path / "away.db")
    state = switch_to_popularity("shoes", store, by="ann").state
    assert (state.terms.offers_list, state.gateway_terms.popular[:2]) == (False, ("p1", "p2"))
    assert not switch_back("shoes", store).gateway_terms.offers_list


def test_without_list_and_package_the_switch_is_refused(store: Store, registry: Registry) -> None:
    refusing = PLAIN.model_copy(update={"serving": PLAIN.serving.model_copy(update={"fallback": "refuse"})})
    state = deploy(refusing, "1", store, registry.uri)
    assert state is not None
    for file in store.fetch(state.stable.package).glob("*.json"):
        file.chmod(0o644)
        file.write_text("{}")
    with refused(UserError, "deploy.no-popularity", recommender="shoes", version="1"):
        switch_to_popularity("shoes", store, by="ann")
    assert read_state("shoes", store) == state


def test_documents_of_format_3_are_read_and_written_on(registry: Registry, store: Store) -> None:
    state = deploy(PLAIN, "1", store, registry.uri)
    assert state is not None
    document = state.model_dump(mode="json", exclude={"baseline", "switch"})
    file = Path(store.root.removeprefix("file://")) / "deployments" / "shoes.json"
    store.write_document("deployments/shoes", document)
    text = file.read_text()
    assert '"format": 4' in text
    file.write_text(text.replace('"format": 4', '"format": 3'))
    assert read_state("shoes", store) == state
    assert popularity_of(deploy(SPEC, "1", store, registry.uri))
    assert '"format": 4' in file.read_text()
