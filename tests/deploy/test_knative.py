"""Knative mode: whoever is wanted next, from wherever things are, nobody else is ever served on the way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.deploy import Deployment
from endcap.deploy.knative import plan_knative
from endcap.deploy.transitions import is_pending
from endcap.deploy.variants import read_variants
from tests.deploy.fake_kserve import NAMESPACE, Knative, recommender, state

SHOES = recommender()
DESIRED = st.builds(
    state,
    st.sampled_from("123"),
    st.sampled_from([None, "4", "5"]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)


def expected_shares(desired: Deployment) -> dict[str, int]:
    share = round(100 * desired.canary.share) if desired.canary else 0
    parts = {desired.stable.version: 100 - share} | ({desired.canary.version: share} if desired.canary else {})
    return {version: part for version, part in parts.items() if part}


def run_to_end(cluster: Knative, desired: Deployment, room: bool = True) -> str:
    """Take every step; returns the last note."""
    allowed = set(cluster.served()) | {desired.stable.version} | set(expected_shares(desired))
    for _ in range(40):
        step = plan_knative(SHOES, desired, cluster.service, NAMESPACE, room=room)
        if step.done and not is_pending(step, cluster.service):
            return step.note
        if is_pending(step, cluster.service):
            cluster.apply(step)
        else:
            cluster.start()
        for _ in range(3):
            cluster.settle()
            assert set(cluster.served()) <= allowed
    raise AssertionError("never done")


def test_a_canary_grows_and_is_promoted_without_a_new_revision() -> None:
    cluster = Knative()
    for desired in [state("1"), state("1", "2", 0.1), state("1", "2", 0.5), state("1", "2", 1.0), state("2")]:
        run_to_end(cluster, desired)
        assert cluster.served() == expected_shares(desired)
    assert cluster.revisions == ["1", "2"]


def test_a_new_version_has_no_traffic_before_it_is_ready() -> None:
    cluster = Knative()
    run_to_end(cluster, state("1"))
    run_to_end(cluster, state("1", "2", 0.5))
    # Now the newest ready revision is version 2's: a share given at once would go to it.
    step = plan_knative(SHOES, state("1", "3", 0.5), cluster.service, NAMESPACE, room=True)
    assert step.service["spec"]["predictor"]["canaryTrafficPercent"] == 0
    cluster.apply(step)
    cluster.settle()
    assert cluster.served() == {"1": 100}


def test_a_withdrawn_canary_loses_its_traffic_at_once_and_then_its_pods() -> None:
    cluster = Knative()
    run_to_end(cluster, state("1"))
    run_to_end(cluster, state("1", "2", 0.5))
    cluster.apply(plan_knative(SHOES, state("1"), cluster.service, NAMESPACE, room=True))
    cluster.settle()
    assert cluster.served() == {"1": 100}
    run_to_end(cluster, state("1"))
    assert cluster.revisions == ["1", "2", "1"]
    assert cluster.traffic == {2: 100}


def test_where_nothing_more_fits_the_previous_revision_is_pinned() -> None:
    cluster = Knative()
    run_to_end(cluster, state("1"))
    run_to_end(cluster, state("1", "2", 0.5))
    note = run_to_end(cluster, state("1"), room=False)
    assert cluster.served() == {"1": 100}
    assert cluster.revisions == ["1", "2"]
    assert "version 2 has no traffic, but its pods stay" in note
    run_to_end(cluster, state("1", "2", 0.1))
    assert cluster.served() == {"1": 90, "2": 10}


def test_a_stable_revision_that_kserve_lost_comes_in_anew() -> None:
    cluster = Knative()
    for version in "123":
        run_to_end(cluster, state(version))
    run_to_end(cluster, state("3", "4", 0.1))
    cluster._rolled = 0  # as KServe does when it takes the moment before a revision is made for a rollback
    cluster.settle()
    assert cluster.served() == {"1": 90, "4": 10}
    for _ in range(2):
        # Version 1 answers until version 3 can: it is on the way out, not on the way in.
        run_to_end(cluster, state("3", "4", 0.1))
    assert cluster.served() == {"3": 90, "4": 10}


@settings(max_examples=60, deadline=None)
@given(st.lists(DESIRED, min_size=1, max_size=6), st.booleans())
def test_every_state_is_reached_from_every_other(states: list[Deployment], room: bool) -> None:
    cluster = Knative()
    for desired in states:
        run_to_end(cluster, desired, room)
        assert cluster.served() == expected_shares(desired)
        assert cluster.service is not None
        variants = read_variants(cluster.service)
        assert variants is not None
        assert variants.share == (desired.canary.share if desired.canary else 0)
        reached = [one.version for one in (variants.stable, variants.canary) if one is not None and one.ready]
        assert set(expected_shares(desired)) <= set(reached)
