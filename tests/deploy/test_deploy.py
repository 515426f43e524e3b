from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.deploy import (
    Deployment,
    Target,
    begin_ab,
    deploy,
    describe,
    find_state,
    forget_state,
    make_dry_run_store,
    read_state,
    set_shadow,
    set_shadow_share,
    set_share,
    withdraw,
)
from endcap.deploy.gateway_settings import LONGEST, POPULAR, GatewaySettings, make_settings
from endcap.errors import EndcapError, IntegrityError, NotFoundError, UserError
from endcap.experiments.layout import Layout
from endcap.features.vocabulary import Vocabulary
from endcap.registry import Registry, get_default_uri
from endcap.registry.package import ITEMS, RULES, VOCABULARY
from endcap.rules import Catalogue
from endcap.spec import Recommender
from endcap.spec.rules import Rules
from endcap.store import Store, open_store
from tests.refusals import refused

SHOES = Recommender.model_validate(
    {
        "apiVersion": "endcap/v2",
        "kind": "Recommender",
        "name": "shoes",
        "shop": "demo",
        "model": {"name": "popularity"},
        # Packages are addresses only here: nothing is read out of them.
        "serving": {"canary": {"share": 0.2}, "fallback": "refuse"},
    }
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """shoes: 1 champion, 2 and 3 approved, 4 pending, 5 rejected."""
    registry = Registry(get_default_uri(open_store(str(tmp_path_factory.mktemp("registry")))))
    for version in range(1, 6):
        state = "pending" if version >= 4 else "approved"
        registry.add_version("shoes", f"packages/shoes/{version}", state, "a test", {})
    registry.reject("shoes", "5", by="ann", why="too slow")
    return registry


def test_a_version_keeps_the_time_of_its_first_deployment_while_it_is_served(store: Store, registry: Registry) -> None:
    first = deploy(SHOES, "1", store, registry.uri)
    assert first is not None
    assert first.since == {"1": first.changed}
    both = deploy(SHOES, "2", store, registry.uri)
    assert both is not None
    assert both.since == {"1": first.changed, "2": both.changed}
    raised = set_share("shoes", 0.5, store)
    assert (raised.since, raised.changed > both.changed) == (both.since, True)
    assert deploy(SHOES, "1", store, registry.uri, end_canary=True).since == first.since  # type: ignore[union-attr]
    again = deploy(SHOES, "2", store, registry.uri)
    assert again is not None
    assert again.since["2"] == again.changed > both.changed


def test_a_deployment_during_an_ab_test_keeps_it_or_is_refused(store: Store, registry: Registry) -> None:
    deploy(SHOES, "1", store, registry.uri)
    layout = Layout.begin({"stable": 400_000, "challenger-1": 600_000})
    begun = begin_ab("shoes", [Target(version="2", package="packages/shoes/2")], layout, "ab12", store)
    # The retry of a run that registered one of its versions.
    for version in ("1", "2"):
        assert deploy(SHOES, version, store, registry.uri) == begun
    assert deploy(SHOES, "1", store, registry.uri, end_canary=True) == begun
    with refused(UserError, "deploy.ab-runs", challengers=["2"]):
        deploy(SHOES, "3", store, registry.uri)
    assert find_state("shoes", store) == begun


def served_shares(state: Deployment | None) -> tuple[str, str | None, float]:
    assert state is not None
    canary = state.canary
    return state.stable.version, canary.version if canary else None, canary.share if canary else 0.0


def test_the_champion_serves_everyone_and_a_challenger_the_specs_share(registry: Registry, store: Store) -> None:
    assert served_shares(deploy(SHOES, "1", store, registry.uri)) == ("1", None, 0.0)
    assert served_shares(deploy(SHOES, "2", store, registry.uri)) == ("1", "2", 0.2)
    state = read_state("shoes", store)
    packages = [f"{store.root}/packages/shoes/{number}" for number in (1, 2)]
    assert [state.stable.package, state.canary and state.canary.package] == packages
    assert describe(state) == "version 1 serves 0.8 of the shoppers, 2 0.2"


def test_deploying_again_changes_nothing_and_keeps_the_share_of_a_rollout(registry: Registry, store: Store) -> None:
    first = deploy(SHOES, "2", store, registry.uri)
    assert deploy(SHOES, "2", store, registry.uri) == first
    raised = set_share("shoes", 0.5, store)
    assert deploy(SHOES, "2", store, registry.uri) == raised
    assert first is not None
    assert raised.salt == first.salt


def test_each_rollout_has_a_salt_of_its_own(registry: Registry, store: Store) -> None:
    salts = [deploy(SHOES, version, store, registry.uri).salt for version in ("2", "3", "2")]  # type: ignore[union-attr]
    assert salts[0] == salts[2] != salts[1]


def test_a_pending_version_changes_nothing(registry: Registry, store: Store) -> None:
    assert deploy(SHOES, "4", store, registry.uri) is None
    assert describe(None, "4") == "nothing is deployed; version 4 waits for a person's approval"
    before = deploy(SHOES, "2", store, registry.uri)
    after = deploy(SHOES, "4", store, registry.uri)
    assert after == before == read_state("shoes", store)
    assert describe(after, "2") == "version 1 serves 0.8 of the shoppers, 2 0.2"
    assert (
        describe(after, "4") == "version 1 serves 0.8 of the shoppers, 2 0.2; version 4 waits for a person's approval"
    )


def test_the_champion_deployed_again_ends_a_rollout_only_when_asked(registry: Registry, store: Store) -> None:
    rollout = deploy(SHOES, "2", store, registry.uri)
    assert deploy(SHOES, "1", store, registry.uri) == rollout == read_state("shoes", store)
    assert served_shares(deploy(SHOES, "1", store, registry.uri, end_canary=True)) == ("1", None, 0.0)


def test_a_withdrawn_canary_serves_no_more_and_no_other_is_touched(registry: Registry, store: Store) -> None:
    assert withdraw("shoes", "2", store) is None
    rollout = deploy(SHOES, "2", store, registry.uri)
    assert withdraw("shoes", "3", store) is None
    assert read_state("shoes", store) == rollout
    assert served_shares(withdraw("shoes", "2", store)) == served_shares(read_state("shoes", store)) == ("1", None, 0.0)


@pytest.mark.parametrize(
    ("version", "error", "code", "fields"),
    [
        ("5", UserError, "deploy.version-rejected", {"version": "5", "by": "ann", "why": "too slow"}),
        ("9", NotFoundError, "registry.version-not-found", {"found": "9", "allowed": ["1", "2", "3", "4", "5"]}),
    ],
)
def test_a_rejected_or_unknown_version_is_refused(
    registry: Registry, store: Store, version: str, error: type[EndcapError], code: str, fields: dict[str, Any]
) -> None:
    with refused(error, code, **fields):
        deploy(SHOES, version, store, registry.uri)
    assert find_state("shoes", store) is None


def test_a_share_needs_a_canary_and_lies_between_none_and_all(registry: Registry, store: Store) -> None:
    with refused(NotFoundError, "deploy.not-deployed", recommender="shoes"):
        set_share("shoes", 0.5, store)
    deploy(SHOES, "1", store, registry.uri)
    with refused(UserError, "deploy.no-canary", recommender="shoes", stable="1"):
        set_share("shoes", 0.5, store)
    deploy(SHOES, "2", store, registry.uri)
    for share in (-0.1, 1.1, float("nan")):
        with refused(UserError, "deploy.share-out-of-range", of="canary", found=str(share)):
            set_share("shoes", share, store)


@pytest.mark.parametrize("text", ["{", "[]", '{"recommender": "shoes"}'])
def test_a_damaged_document_is_said_to_be_one_and_replaced(registry: Registry, store: Store, text: str) -> None:
    file = Path(store.root.removeprefix("file://")) / "deployments" / "shoes.json"
    file.parent.mkdir()
    file.write_text(text)
    with refused(IntegrityError, "deploy.state-damaged", document="deployments/shoes", store=store.root):
        read_state("shoes", store)
    with refused(IntegrityError, "deploy.state-damaged", document="deployments/shoes", store=store.root):
        set_shadow("shoes", None, None, store)
    assert served_shares(deploy(SHOES, "1", store, registry.uri)) == ("1", None, 0.0)
    file.write_text(text)
    forget_state("shoes", store)
    assert find_state("shoes", store) is None


def test_a_document_of_a_newer_release_is_kept(registry: Registry, store: Store) -> None:
    file = Path(store.root.removeprefix("file://")) / "deployments" / "shoes.json"
    file.parent.mkdir()
    file.write_text('{"format": 99, "recommender": "shoes"}')
    for act in (lambda: deploy(SHOES, "1", store, registry.uri), lambda: forget_state("shoes", store)):
        with refused(UserError, "store.newer-format", kind="deployments", found=99):
            act()
    assert file.read_text() == '{"format": 99, "recommender": "shoes"}'


def test_a_state_is_tried_without_being_made(registry: Registry, store: Store) -> None:
    before = deploy(SHOES, "1", store, registry.uri)
    trial = make_dry_run_store(store)
    assert served_shares(deploy(SHOES, "2", trial, registry.uri)) == ("1", "2", 0.2)
    assert served_shares(set_share("shoes", 0.5, trial)) == ("1", "2", 0.5)
    assert set_shadow("shoes", Target(version="3", package="packages/shoes/3"), None, trial).shadow is not None
    forget_state("shoes", trial)
    assert find_state("shoes", trial) is None
    assert read_state("shoes", store) == before


def test_a_forgotten_state_is_none_until_something_is_deployed(registry: Registry, store: Store) -> None:
    with refused(NotFoundError, "deploy.not-deployed", recommender="shoes"):
        forget_state("shoes", store)
    deploy(SHOES, "1", store, registry.uri)
    forget_state("shoes", store)
    assert find_state("shoes", store) is None
    assert served_shares(deploy(SHOES, "1", store, registry.uri)) == ("1", None, 0.0)


def test_the_state_has_the_time_and_the_list_that_the_gateway_goes_by(registry: Registry, store: Store) -> None:
    ids = [f"p{number}" for number in range(2 * POPULAR)]
    with store.publish("packages/hats", "1") as draft:
        Vocabulary(ids).save(draft.path / VOCABULARY)
        package = draft.address
    registry.add_version("hats", package, "approved", "a test", {})
    listed = {**SHOES.model_dump(mode="json"), "name": "hats", "serving": {"k": 12, "timeout": "800ms"}}
    deploy(Recommender.model_validate(listed), "1", store, registry.uri)
    assert read_state("hats", store).terms == GatewaySettings(0.8, 12, tuple(ids[:POPULAR]))
    blacklisted = Catalogue(Rules(), blacklist=frozenset({"p0", "p2"}), read_time=0)
    with store.publish("packages/hats", "2") as draft:
        Vocabulary(ids).save(draft.path / VOCABULARY)
        pq.write_table(pa.table({"item": ids}), draft.path / ITEMS)
        (draft.path / RULES).write_text(json.dumps(blacklisted.to_json()))
    popular = make_settings(Recommender.model_validate(listed), draft.address, store).popular
    assert (popular[:3], len(popular)) == (("p1", "p3", "p4"), POPULAR)
    listed["serving"] = {"fallback": "refuse", "timeout": "5m"}
    deploy(Recommender.model_validate(listed), "1", store, registry.uri)
    assert read_state("hats", store).terms == GatewaySettings(LONGEST, 20, ())


def test_a_shadow_comes_and_goes_beside_those_that_answer(registry: Registry, store: Store) -> None:
    deploy(SHOES, "2", store, registry.uri)
    shadow = Target(version="3", package="packages/shoes/3")
    state = set_shadow("shoes", shadow, 0.25, store)
    assert describe(state).endswith("; 0.25 of the requests are copied to version 3")
    assert set_share("shoes", 0.6, store).shadow == state.shadow
    assert deploy(SHOES, "2", store, registry.uri).shadow == state.shadow  # type: ignore[union-attr]
    # It begins to answer shoppers, so it is no shadow any more.
    assert deploy(SHOES, "3", store, registry.uri).shadow is None  # type: ignore[union-attr]
    with refused(UserError, "deploy.shadow-answers", recommender="shoes", version="3"):
        set_shadow("shoes", shadow, 0.25, store)
    with refused(UserError, "deploy.share-out-of-range", of="shadow", found="0.0"):
        set_shadow("shoes", Target(version="2", package="packages/shoes/2"), 0.0, store)
    assert set_shadow("shoes", None, 0.0, store).shadow is None


def test_a_change_of_what_is_gone_is_refused_and_brings_nothing_back(registry: Registry, store: Store) -> None:
    deploy(SHOES, "2", store, registry.uri)
    set_shadow("shoes", Target(version="4", package="packages/shoes/4"), None, store)
    # What somebody else does meanwhile: another canary, no shadow any more.
    deploy(SHOES, "3", store, registry.uri)
    state = set_shadow("shoes", None, None, store)
    with refused(UserError, "deploy.canary-differs", recommender="shoes", version="2", canary="3"):
        set_share("shoes", 0.7, store, version="2")
    with refused(UserError, "deploy.no-shadow", recommender="shoes"):
        set_shadow_share("shoes", 0.7, store)
    assert withdraw("shoes", "2", store) is None
    assert read_state("shoes", store) == state
    assert served_shares(set_share("shoes", 0.7, store, version="3")) == ("1", "3", 0.7)


def test_a_shadow_keeps_its_share_where_nobody_says_another(registry: Registry, store: Store) -> None:
    deploy(SHOES, "1", store, registry.uri)
    third, fourth = (Target(version=version, package=f"packages/shoes/{version}") for version in "34")

    def share(state: Deployment) -> float | None:
        return state.shadow and state.shadow.share

    assert share(set_shadow("shoes", third, None, store)) == 0.1
    assert share(set_shadow_share("shoes", 0.5, store)) == 0.5
    assert share(set_shadow("shoes", third, None, store)) == 0.5
    assert share(set_shadow("shoes", fourth, None, store)) == 0.1


def test_a_deployment_goes_by_the_registry_as_it_is_when_the_state_is_written(registry: Registry, store: Store) -> None:
    boots = SHOES.model_copy(update={"name": "boots"})
    for version in "12":
        registry.add_version("boots", f"packages/boots/{version}", "approved", "a test", {})
    deploying = threading.Thread(target=deploy, args=(boots, "1", store, registry.uri))
    with store.hold("decisions/boots"):
        deploying.start()
        deploying.join(0.5)
        assert find_state("boots", store) is None
        registry.promote("boots", "2")  # it holds nothing: this registry knows no store
    deploying.join()
    assert served_shares(read_state("boots", store)) == ("2", "1", 0.2)


def test_states_follow_each_other_in_time_whatever_the_clocks_say(registry: Registry, store: Store) -> None:
    first = deploy(SHOES, "2", store, registry.uri)
    assert first is not None
    ahead = first.model_copy(update={"changed": first.changed + timedelta(hours=1)})
    store.write_document("deployments/shoes", ahead.model_dump(mode="json"))
    assert set_share("shoes", 0.5, store).changed > ahead.changed
