"""Challengers of an A/B test in a cluster: InferenceServices of their own, and a layout that restarts no pod."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from endcap.cluster.kinds import INFERENCE_SERVICE
from endcap.deploy import AbSplit, Deployment
from endcap.deploy.addresses import keep_served_addresses
from endcap.deploy.knative import plan_knative
from endcap.deploy.reconcile import reconcile
from endcap.deploy.standard import plan_standard
from endcap.deploy.transitions import is_pending
from endcap.deploy.variants import LAYOUT, read_variants
from endcap.experiments.layout import Layout
from endcap.experiments.splits import Arm
from endcap_serving.gateway.arm_sources import find_arms
from endcap_serving.gateway.split import Split
from endcap_serving.gateway.splits import read_splits
from tests.deploy.fake_kserve import NAMESPACE, Knative, Standard, recommender, state, target
from tests.deploy.test_kill_switch import Fake, plan, take
from tests.rollout.fake_api import FakeApi

BEGIN: dict[Arm, int] = {"stable": 400_000, "challenger-1": 300_000, "challenger-2": 300_000}
LATER: dict[Arm, int] = {"stable": 100_000, "challenger-1": 600_000, "challenger-2": 300_000}


def with_challengers(layout: Layout, *challengers: str) -> Deployment:
    """Version 1 against challengers."""
    split = AbSplit(challengers=tuple(map(target, challengers)), layout=layout)
    return state("1").model_copy(update={"ab": split, "changed": datetime.now(UTC)})


@pytest.mark.parametrize("fake", [Standard, Knative])
def test_another_layout_is_one_transition_and_starts_no_pod(fake: type[Fake]) -> None:
    cluster, first = fake(), Layout.begin(BEGIN)
    take(cluster, state("1"))
    assert cluster.service is not None
    spec = cluster.service["spec"]
    for layout in (first, first.change(LATER), None):
        desired = with_challengers(layout, "2", "3") if layout else state("1")
        step = plan(cluster, desired)
        assert is_pending(step, cluster.service)
        cluster.apply(step)
        cluster.settle()
        variants = read_variants(cluster.service)
        assert variants is not None
        assert (variants.layout, cluster.service["spec"]) == (layout, spec)
        assert not is_pending(plan(cluster, desired), cluster.service)
    # A layout that somebody spoilt: everyone meets the stable version.
    for spoilt in ("[", "[3]", '[{"arm": "canary", "weight": 1000000}]', "{}"):
        cluster.service["metadata"]["annotations"][LAYOUT] = spoilt
        variants = read_variants(cluster.service)
        assert variants is not None
        assert variants.layout is None


def test_challengers_come_share_the_shoppers_and_go() -> None:
    api, spec = FakeApi(), recommender(mode="Standard", replicas={"min": 4, "max": 9})
    client, layout = api.connect(), Layout.begin(BEGIN)

    def follow(desired: Deployment) -> list[str]:
        for _ in range(2):
            report = reconcile(spec, lambda: desired, client, NAMESPACE, wait=False)
        return report.notes

    def read() -> Split:
        return read_splits(client.list_objects(INFERENCE_SERVICE, NAMESPACE), {})["shoes"]

    def pods() -> dict[str, int]:
        services = client.list_objects(INFERENCE_SERVICE, NAMESPACE)
        return {one["metadata"]["name"]: one["spec"]["predictor"]["minReplicas"] for one in services}

    follow(state("1"))
    desired = with_challengers(layout, "2", "3")
    assert follow(desired) == [
        "0.3 of the shoppers meet the challenger 2",
        "0.3 of the shoppers meet the challenger 3",
    ]
    assert read().weights == layout.split(read().weights.salt_id, 0)
    assert pods() == {"shoes": 4, "shoes--challenger-1": 2, "shoes--challenger-2": 2}
    arms = find_arms(client.list_objects(INFERENCE_SERVICE, NAMESPACE), "shoes")
    assert {arm: place.variant.version for arm, place in arms.items()} == {
        "stable": "1",
        "challenger-1": "2",
        "challenger-2": "3",
    }
    moved = layout.change(LATER)
    follow(with_challengers(moved, "2", "3"))
    assert read().weights.challengers == (600_000, 300_000)
    assert pods()["shoes--challenger-1"] == 3
    # A challenger that has lost its shoppers keeps its number, and needs no pods.
    dropped = moved.change({"stable": 400_000, "challenger-2": 600_000})
    follow(with_challengers(dropped, "2", "3"))
    assert pods().keys() == {"shoes", "shoes--challenger-2"}
    assert read().weights == dropped.split(read().weights.salt_id, 0)
    follow(state("1"))
    assert pods() == {"shoes": 4}
    assert read().layout is None


def test_a_challenger_stays_at_the_address_that_its_pods_have() -> None:
    api, spec = FakeApi(), recommender(mode="Standard")
    desired = with_challengers(Layout.begin(BEGIN), "2", "3")
    for wanted in (state("1"), desired):
        reconcile(spec, lambda wanted=wanted: wanted, api.connect(), NAMESPACE, wait=False)  # type: ignore[misc]
    assert desired.ab is not None
    old = desired.ab.challengers[1]
    new = old.model_copy(update={"package": old.package.replace("s3://endcap/", "s3://restored/")})
    moved = desired.model_copy(
        update={"ab": desired.ab.model_copy(update={"challengers": (desired.ab.challengers[0], new)})}
    )
    side = api.get("inferenceservices", "shoes--challenger-2")
    kept, notes = keep_served_addresses(moved, [side, None], lambda address: address == old.package)
    assert (kept, len(notes)) == (desired, 1)
    assert keep_served_addresses(moved, [side], lambda address: False) == (moved, [])


def test_both_modes_refuse_no_layout() -> None:
    desired = with_challengers(Layout.begin(BEGIN), "2", "3")
    plans = (
        plan_standard(recommender(), desired, None, NAMESPACE, canaries=False),
        plan_knative(recommender(), desired, None, NAMESPACE, room=True),
    )
    for first in plans:
        variants = read_variants(first.service)
        assert variants is not None
        assert desired.ab is not None
        assert variants.layout == desired.ab.layout


def test_each_arm_keeps_its_shoppers_until_the_winner_serves_everyone() -> None:
    api, spec = FakeApi(), recommender(mode="Standard")
    client, layout = api.connect(), Layout.begin(BEGIN)

    def follow(desired: Deployment) -> dict[str, float]:
        """Take a transition; then each version's share, by the gateway's routes."""
        reconcile(spec, lambda: desired, client, NAMESPACE, wait=False)
        split = read_splits(client.list_objects(INFERENCE_SERVICE, NAMESPACE), {})["shoes"]
        shares: dict[str, float] = {}
        for segment in split.segments:
            name = segment.upstream.host.split("-predictor")[0]
            shares[name] = shares.get(name, 0) + segment.weight / 1_000_000
        return shares

    running = {"shoes-v1": 0.4, "shoes--challenger-1": 0.3, "shoes--challenger-2": 0.3}
    won = state("3").model_copy(update={"changed": datetime.now(UTC)})
    follow(state("1"))
    follow(with_challengers(layout, "2", "3"))
    assert follow(with_challengers(layout, "2", "3")) == running
    # Version 3 starts beside version 1; then it serves in its place, and also those whom it had as a challenger.
    assert follow(won) == running
    assert follow(won) == {"shoes-v3": 0.7, "shoes--challenger-1": 0.3}
    assert follow(won) == {"shoes-v3": 1.0}
    assert {one["metadata"]["name"] for one in client.list_objects(INFERENCE_SERVICE, NAMESPACE)} == {"shoes"}
    # Without a winner there is nothing to wait for.
    follow(with_challengers(layout, "4", "5"))
    assert follow(state("3")) == {"shoes-v3": 1.0}
