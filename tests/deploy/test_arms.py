"""The arms of a rollout in the desired state, and who meets which version before and after a change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

import pytest

from endcap.deploy import (
    Deployment,
    ShadowTarget,
    Target,
    deploy,
    describe,
    give_share,
    promote_arm,
    read_state,
    set_shadow,
    set_share,
    take_back,
)
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.state import make_salt, write_state
from endcap.errors import NotFoundError, UserError
from endcap.experiments.splits import TrafficSplit, hash_salt, weigh_share
from endcap.registry import Registry, get_default_uri
from endcap.spec import Recommender
from endcap.store import Store, open_store
from tests.refusals import refused

SALT = make_salt("shoes", "2")
TERMS = GatewaySettings(popular=("boots",))
SHOPPERS = [f"shopper-{number}" for number in range(5000)]
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


@pytest.fixture
def stable(store: Store) -> Store:
    """Version 1 serves everyone."""
    write_state(Deployment(recommender="shoes", stable=target("1"), salt="ab", changed=datetime.now(UTC)), store)
    return store


@pytest.fixture
def promoted(stable: Store) -> Store:
    """Version 2 was a canary at 0.5 and was promoted; version 1 keeps 0.02."""
    give_share("shoes", target("2"), 0.5, SALT, stable)
    promote_arm("shoes", "2", 0.02, TERMS, stable)
    return stable


def target(version: str) -> Target:
    return Target(version=version, package=f"packages/shoes/{version}")


def shares(state: Deployment) -> dict[str, float]:
    """The share of each version."""
    beside = [arm for arm in (state.canary, state.previous) if arm is not None]
    return {state.stable.version: state.stable_share} | {arm.version: arm.share for arm in beside}


def met(state: Deployment) -> dict[str, str]:
    """The version that each shopper meets by Envoy's hash."""
    weights = {
        name: weigh_share(arm.share)
        for name, arm in (("canary", state.canary), ("previous", state.previous))
        if arm is not None
    }
    split = TrafficSplit(hash_salt(state.salt), **weights)
    arms = {"stable": state.stable, "canary": state.canary, "previous": state.previous}
    return {shopper: cast(Target, arms[split.choose(shopper, state.salt)]).version for shopper in SHOPPERS}


def twice(change: Callable[[], Deployment]) -> Deployment:
    """A caller that was killed and calls again finds everything done, and even the time stays."""
    first = change()
    assert change() == first
    return first


def test_a_canary_gets_a_share_and_another_one_keeps_its_shoppers(stable: Store) -> None:
    first = twice(lambda: give_share("shoes", target("2"), 0.05, SALT, stable))
    assert (shares(first), first.salt) == ({"1": 0.95, "2": 0.05}, SALT)
    more = twice(lambda: give_share("shoes", target("2"), 0.25, SALT, stable))
    before, after = met(first), met(more)
    assert {shopper for shopper in SHOPPERS if before[shopper] == "2" != after[shopper]} == set()
    assert sum(version == "2" for version in after.values()) == pytest.approx(0.25 * len(SHOPPERS), rel=0.1)


def test_at_a_promotion_nobody_but_those_who_get_the_new_version_moves(stable: Store) -> None:
    canary = give_share("shoes", target("2"), 0.5, SALT, stable)
    promoted = twice(lambda: promote_arm("shoes", "2", 0.02, TERMS, stable))
    assert (shares(promoted), promoted.salt, promoted.terms) == ({"2": 0.98, "1": 0.02}, SALT, TERMS)
    before, after = met(canary), met(promoted)
    moved = {shopper: (before[shopper], after[shopper]) for shopper in SHOPPERS if before[shopper] != after[shopper]}
    assert set(moved.values()) == {("1", "2")}, "nobody goes back to the version before"
    kept = [shopper for shopper in SHOPPERS if after[shopper] == "1"]
    assert len(kept) == pytest.approx(0.02 * len(SHOPPERS), rel=0.3)
    # The guard ends: the previous version's own shoppers get the new one, and no others move.
    ended = twice(lambda: promote_arm("shoes", "2", 0.0, TERMS, stable))
    assert (ended.previous, ended.salt) == (None, SALT)
    assert set(met(ended).values()) == {"2"}
    assert promote_arm("shoes", "2", 0.02, TERMS, stable) == ended, "what has left does not come back"


def test_a_promotion_without_a_share_leaves_no_version_before(stable: Store) -> None:
    give_share("shoes", target("2"), 0.5, SALT, stable)
    assert shares(promote_arm("shoes", "2", 0.0, TERMS, stable)) == {"2": 1.0}


def test_versions_keep_the_time_since_when_they_serve_and_one_line_says_what_they_have(stable: Store) -> None:
    first = read_state("shoes", stable)
    canary = give_share("shoes", target("2"), 0.5, SALT, stable)
    promoted = promote_arm("shoes", "2", 0.02, TERMS, stable)
    assert promoted.since == canary.since == {"1": first.changed, "2": canary.changed}
    assert [one.version for one in promoted.targets] == ["2", "1"]
    assert describe(promoted) == "version 2 serves 0.98 of the shoppers, the previous version 1 0.02"
    both = give_share("shoes", target("3"), 0.1, "cd", stable)
    assert describe(both, "1") == "version 2 serves 0.88 of the shoppers, 3 0.1, the previous version 1 0.02"


def test_a_canary_that_is_taken_back_leaves_its_shoppers_to_stable(stable: Store) -> None:
    canary = give_share("shoes", target("2"), 0.5, SALT, stable)
    back = twice(lambda: take_back("shoes", "2", stable))
    assert shares(back) == {"1": 1.0}
    before, after = met(canary), met(back)
    assert {(before[shopper], after[shopper]) for shopper in SHOPPERS} == {("1", "1"), ("2", "1")}
    # The next rollout has begun when the killed caller calls again.
    following = give_share("shoes", target("3"), 0.1, "cd", stable)
    assert take_back("shoes", "2", stable) == following


def test_a_promoted_version_gives_everyone_back_to_the_version_before(promoted: Store) -> None:
    back = twice(lambda: take_back("shoes", "2", promoted, terms=GatewaySettings()))
    assert (shares(back), back.salt, back.terms) == ({"1": 1.0}, SALT, GatewaySettings())
    assert back.stable == target("1")


def test_a_promoted_version_gives_everyone_to_a_named_version_when_none_is_kept(promoted: Store) -> None:
    promote_arm("shoes", "2", 0.0, TERMS, promoted)
    with refused(UserError, "deploy.no-previous", recommender="shoes", version="2"):
        take_back("shoes", "2", promoted)
    assert shares(twice(lambda: take_back("shoes", "2", promoted, previous=target("1")))) == {"1": 1.0}


def test_the_canary_of_another_rollout_stays_when_the_champion_is_taken_back(promoted: Store) -> None:
    give_share("shoes", target("3"), 0.1, "cd", promoted)
    assert shares(take_back("shoes", "2", promoted)) == {"1": 0.9, "3": 0.1}


def test_the_same_recipe_on_newer_data_takes_the_canarys_place_and_its_shoppers(stable: Store) -> None:
    before = met(give_share("shoes", target("2"), 0.25, SALT, stable))
    newer = twice(lambda: give_share("shoes", target("3"), 0.25, SALT, stable, replaces="2"))
    after = met(newer)
    assert {(before[shopper], after[shopper]) for shopper in SHOPPERS} == {("1", "1"), ("2", "3")}


def test_a_version_has_one_place(promoted: Store) -> None:
    set_shadow("shoes", target("3"), 0.5, promoted)
    with refused(UserError, "deploy.shadow-answers", version="1"):
        set_shadow("shoes", target("1"), 0.5, promoted)
    state = give_share("shoes", target("3"), 0.1, "cd", promoted)
    assert (state.shadow, shares(state)) == (None, {"2": pytest.approx(0.88), "3": 0.1, "1": 0.02})
    take_back("shoes", "3", promoted)
    assert shares(give_share("shoes", target("1"), 0.1, "ef", promoted)) == {"2": 0.9, "1": 0.1}


def test_a_shadow_that_is_taken_back_gets_no_copies(stable: Store) -> None:
    set_shadow("shoes", target("2"), 0.5, stable)
    assert twice(lambda: take_back("shoes", "2", stable)).shadow is None
    set_shadow("shoes", target("3"), 0.5, stable)
    assert take_back("shoes", "2", stable).shadow == ShadowTarget(version="3", package="packages/shoes/3", share=0.5)


def test_a_state_with_another_version_in_the_place_is_refused_and_stays(promoted: Store) -> None:
    with refused(UserError, "deploy.already-stable", recommender="shoes", version="2"):
        give_share("shoes", target("2"), 0.1, SALT, promoted)
    with refused(UserError, "deploy.no-canary", recommender="shoes", stable="2"):
        promote_arm("shoes", "3", 0.02, TERMS, promoted)
    with refused(UserError, "deploy.previous-differs", recommender="shoes", version="0", previous="1"):
        take_back("shoes", "2", promoted, previous=target("0"))
    state = give_share("shoes", target("3"), 0.1, "cd", promoted)
    with refused(UserError, "deploy.canary-differs", recommender="shoes", version="4", canary="3"):
        give_share("shoes", target("4"), 0.1, "ef", promoted)
    with refused(UserError, "deploy.canary-differs", recommender="shoes", version="4", canary="3"):
        promote_arm("shoes", "4", 0.02, TERMS, promoted)
    with refused(UserError, "deploy.salt-differs", recommender="shoes", version="3", canary="3"):
        give_share("shoes", target("3"), 0.2, "ef", promoted)
    assert read_state("shoes", promoted) == state


def test_arms_never_have_more_than_all_shoppers(promoted: Store) -> None:
    for share in (-0.1, 0.99, float("nan")):
        with refused(UserError, "deploy.share-out-of-range", of="canary", found=str(share)):
            give_share("shoes", target("3"), share, "cd", promoted)
    assert shares(give_share("shoes", target("3"), 0.98, "cd", promoted)) == {"2": 0.0, "3": 0.98, "1": 0.02}
    with refused(UserError, "deploy.share-out-of-range", of="canary", found="1.0"):
        set_share("shoes", 1.0, promoted)
    with refused(UserError, "deploy.share-out-of-range", of="previous", found="0.1"):
        promote_arm("shoes", "2", 0.1, TERMS, promoted)
    with pytest.raises(ValueError, match="more than all"):
        Deployment.model_validate(
            read_state("shoes", promoted).model_dump() | {"canary": {**dict(target("3")), "share": 1.0}}
        )


def test_nothing_is_changed_where_nothing_is_deployed(store: Store) -> None:
    for change in (
        lambda: give_share("shoes", target("2"), 0.1, SALT, store),
        lambda: promote_arm("shoes", "2", 0.02, TERMS, store),
        lambda: take_back("shoes", "2", store),
    ):
        with refused(NotFoundError, "deploy.not-deployed", recommender="shoes"):
            change()


def test_a_champion_deployed_again_keeps_the_previous_version_and_its_shoppers(store: Store) -> None:
    registry = Registry(get_default_uri(open_store(store.root)))
    for version in "123":
        registry.add_version("shoes", f"packages/shoes/{version}", "approved", "a test", {})
    canary = deploy(SHOES, "2", store, registry.uri)
    assert canary is not None
    assert canary.canary is not None
    take_back("shoes", "2", store)
    give_share("shoes", canary.canary, 0.5, "cd", store)
    registry.promote("shoes", "2")
    promoted = promote_arm("shoes", "2", 0.02, canary.terms, store)
    again = deploy(SHOES, "2", store, registry.uri)
    assert again is not None
    assert again == promoted
    challenged = deploy(SHOES, "3", store, registry.uri)
    assert challenged is not None
    assert shares(challenged) == {"2": pytest.approx(0.78), "3": 0.2, "1": 0.02}
    # Another champion: the version before it is no longer the one that was kept.
    registry.promote("shoes", "3")
    assert shares(deploy(SHOES, "3", store, registry.uri)) == {"3": 1.0}  # type: ignore[arg-type]


def test_a_document_that_an_earlier_release_wrote_has_no_previous_version(stable: Store) -> None:
    document = read_state("shoes", stable).model_dump(mode="json")
    del document["previous"]
    stable.write_document("deployments/shoes", document)
    assert read_state("shoes", stable).previous is None
