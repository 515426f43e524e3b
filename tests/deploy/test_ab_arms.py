"""An A/B test in the desired state: begun, changed and ended by calls that may be repeated. Others leave it alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from endcap.deploy import (
    CanaryTarget,
    Deployment,
    ShadowTarget,
    begin_ab,
    change_layout,
    end_ab,
    forget_state,
    give_share,
    promote_arm,
    read_state,
    set_shadow,
    set_share,
    switch_back,
    switch_to_popularity,
    take_back,
    withdraw,
)
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.pins import pin_state, unpin_state
from endcap.deploy.state import make_salt, write_state
from endcap.errors import NotFoundError, UserError
from endcap.experiments.layout import Layout
from endcap.experiments.splits import TOTAL_WEIGHT
from endcap.store import Store
from tests.deploy.test_arms import TERMS, target, twice
from tests.refusals import refused

SALT = make_salt("shoes", "ab-1")
EQUAL = Layout.begin({"stable": 400_000, "challenger-1": 300_000, "challenger-2": 300_000})
LATER = EQUAL.change({"stable": 100_000, "challenger-1": 200_000, "challenger-2": 700_000})
ALONE = LATER.change({"stable": 250_000, "challenger-2": 750_000})


def make_state(**parts: object) -> Deployment:
    whole = {"recommender": "shoes", "stable": target("1"), "salt": "ab", "changed": datetime.now(UTC)} | parts
    return Deployment.model_validate(whole)


@pytest.fixture
def tested(store: Store) -> Store:
    """Version 1 is the stable one, and versions 2 and 3 are the challengers."""
    write_state(make_state(terms=GatewaySettings(popular=("socks",))), store)
    begin_ab("shoes", [target("2"), target("3")], EQUAL, SALT, store)
    return store


def test_a_test_is_begun_changed_and_ended_by_calls_that_may_be_repeated(store: Store) -> None:
    share = CanaryTarget(version="0", package="packages/shoes/0", share=0.02)
    shadow = ShadowTarget(version="3", package="packages/shoes/3", share=0.5)
    write_state(make_state(previous=share, shadow=shadow), store)
    begun = twice(lambda: begin_ab("shoes", [target("2"), target("3")], EQUAL, SALT, store))
    assert (begun.previous, begun.shadow, begun.salt, begun.stable_share) == (None, None, SALT, 0.4)
    assert {arm: (beside.version, beside.share) for arm, beside in begun.arms.items()} == {
        "challenger-1": ("2", 0.3),
        "challenger-2": ("3", 0.3),
    }
    assert read_state("shoes", store) == begun, "the document keeps the layout"
    twice(lambda: change_layout("shoes", LATER, SALT, store))
    alone = twice(lambda: change_layout("shoes", ALONE, SALT, store))
    # A challenger without shoppers keeps its place, and nothing serves it.
    assert [answering.version for answering in alone.answering] == ["1", "3"]
    assert alone.ab is not None
    assert [one.version for one in alone.ab.challengers] == ["2", "3"]
    ended = twice(lambda: end_ab("shoes", SALT, store, target("3"), TERMS))
    assert (ended.stable, ended.ab, ended.arms, ended.terms, ended.salt) == (target("3"), None, {}, TERMS, SALT)


def test_without_a_winner_the_stable_version_goes_on_alone(tested: Store) -> None:
    before = read_state("shoes", tested)
    ended = twice(lambda: end_ab("shoes", SALT, tested))
    assert (ended.stable, ended.ab, ended.terms) == (target("1"), None, before.terms)


def test_another_test_than_the_running_one_is_left_alone(tested: Store) -> None:
    other = make_salt("shoes", "ab-2")
    two = [target("2"), target("3")]
    for change in (
        lambda: begin_ab("shoes", two, EQUAL, other, tested),
        lambda: begin_ab("shoes", [*two, target("4")], EQUAL, SALT, tested),
        lambda: begin_ab("shoes", two, LATER, SALT, tested),
        lambda: change_layout("shoes", LATER, other, tested),
        lambda: end_ab("shoes", other, tested),
        lambda: end_ab("shoes", SALT, tested, target("4")),
    ):
        _leaves_alone(tested, change, "deploy.ab-differs")
    third = Layout.begin({"stable": 500_000, "challenger-3": 500_000})
    _leaves_alone(tested, lambda: change_layout("shoes", third, SALT, tested), "deploy.ab-challengers")


def test_who_cannot_be_a_challenger_is_refused(store: Store) -> None:
    with refused(NotFoundError, "deploy.not-deployed"):
        begin_ab("shoes", [target("2"), target("3")], EQUAL, SALT, store)
    write_state(make_state(), store)
    for versions, code in (
        (["2", "1"], "deploy.already-stable"),
        (["2", "2"], "deploy.ab-challengers"),
        ([], "deploy.ab-challengers"),
        (["2"], "deploy.ab-challengers"),
        ([str(number) for number in range(2, 10)], "deploy.ab-challengers"),
    ):
        challengers = [target(version) for version in versions]
        _leaves_alone(store, lambda named=challengers: begin_ab("shoes", named, EQUAL, SALT, store), code)
    _leaves_alone(store, lambda: change_layout("shoes", EQUAL, SALT, store), "deploy.no-ab")
    _leaves_alone(store, lambda: end_ab("shoes", SALT, store, target("2")), "deploy.no-ab")
    give_share("shoes", target("4"), 0.1, "cd", store)
    begin = lambda: begin_ab("shoes", [target("2"), target("3")], EQUAL, SALT, store)  # noqa: E731
    _leaves_alone(store, begin, "deploy.canary-serves")


def test_nothing_else_changes_who_meets_which_version(tested: Store) -> None:
    for change in (
        lambda: give_share("shoes", target("4"), 0.1, "cd", tested),
        lambda: give_share("shoes", target("2"), 0.1, SALT, tested),
        lambda: set_share("shoes", 0.5, tested),
        lambda: promote_arm("shoes", "2", 0.0, TERMS, tested),
        lambda: take_back("shoes", "1", tested, previous=target("0"), is_chosen=True),
        lambda: write_state(make_state(), tested),
        lambda: forget_state("shoes", tested),
        lambda: write_state(make_state(stable=target("4")), tested),
    ):
        _leaves_alone(tested, change, "deploy.ab-runs")
    _leaves_alone(tested, lambda: set_shadow("shoes", target("3"), None, tested), "deploy.shadow-answers")
    before = read_state("shoes", tested)
    assert withdraw("shoes", "2", tested) is None
    assert take_back("shoes", "2", tested) == before, "a challenger is dropped by the test alone"


def test_shadow_switch_and_pin_work_during_a_test(tested: Store) -> None:
    assert set_shadow("shoes", target("9"), 0.3, tested).ab is not None
    switch_to_popularity("shoes", tested, by="Ann")
    assert switch_back("shoes", tested).ab == read_state("shoes", tested).ab
    pin_state("shoes", tested, by="Ann")
    _leaves_alone(tested, lambda: change_layout("shoes", LATER, SALT, tested), "deploy.pinned")
    _leaves_alone(tested, lambda: end_ab("shoes", SALT, tested), "deploy.pinned")
    unpin_state("shoes", tested)
    assert change_layout("shoes", LATER, SALT, tested).stable_share == 0.1


def test_a_state_with_a_test_beside_a_canary_is_no_state() -> None:
    ab = {"challengers": [target("2")], "layout": Layout.begin({"stable": TOTAL_WEIGHT}).to_json()}
    canary = {"version": "4", "package": "packages/shoes/4", "share": 0.1}
    for parts in (
        {"ab": ab, "canary": canary},
        {"ab": ab, "previous": canary},
        {"ab": ab, "stable": target("2")},
        {"ab": {**ab, "challengers": []}},
        {"ab": {**ab, "layout": []}},
        {"ab": {**ab, "layout": [{"arm": "challenger-2", "weight": TOTAL_WEIGHT}]}},
    ):
        with pytest.raises(ValueError, match=r"ab|A/B"):
            make_state(**parts)


def _leaves_alone(store: Store, change: Callable[[], object], code: str) -> None:
    before = store.read_document("deployments/shoes")
    with refused(UserError, code):
        change()
    assert store.read_document("deployments/shoes") == before
