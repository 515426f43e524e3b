"""The kill switch in a cluster: an annotation that every transition keeps, and that restarts no pod."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from endcap.cluster import Cluster
from endcap.deploy import CanaryTarget, Deployment, PopularitySwitch, Target
from endcap.deploy.kill_switch import COMMAND_TAKES, is_forgotten, show_switch, throw_in_cluster
from endcap.deploy.knative import plan_knative
from endcap.deploy.manifests import render_side_service
from endcap.deploy.side_services import get_side_load, get_side_target
from endcap.deploy.standard import plan_standard
from endcap.deploy.transitions import Transition, is_pending, read_annotations
from endcap.deploy.variants import OFF, POPULARITY_ONLY, read_variants
from endcap.errors import ClusterError
from tests.deploy.fake_kserve import NAMESPACE, Knative, Standard, recommender, state, target
from tests.refusals import refused
from tests.rollout.fake_api import FakeApi

SPEC = recommender()
MODES = pytest.mark.parametrize("fake", [Standard, Knative])
Fake = Standard | Knative


def plan(fake: Fake, desired: Deployment) -> Transition:
    if isinstance(fake, Knative):
        return plan_knative(SPEC, desired, fake.service, NAMESPACE, room=True)
    return plan_standard(SPEC, desired, fake.service, NAMESPACE, canaries=True, deployments=fake.deployments())


def take(fake: Fake, desired: Deployment, *, ready: bool = True) -> None:
    """Take transitions until nothing is pending."""
    for _ in range(20):
        step = plan(fake, desired)
        if is_pending(step, fake.service):
            fake.apply(step)
        elif step.done or not ready:
            return
        if ready:
            fake.start()
        fake.settle()
    raise AssertionError("never done")


def throw(fake: Fake, word: str) -> None:
    assert fake.service is not None
    fake.service["metadata"]["annotations"][POPULARITY_ONLY] = word


def is_thrown(fake: Fake) -> bool:
    assert fake.service is not None
    variants = read_variants(fake.service)
    assert variants is not None
    return variants.popularity_only


def switched(desired: Deployment) -> Deployment:
    switch = PopularitySwitch(package="s3://endcap/popularity", by="ann", since=datetime.now(UTC))
    return desired.model_copy(update={"switch": switch})


@MODES
def test_the_switch_comes_and_goes_in_one_transition_each_and_no_pod_restarts(fake: type[Fake]) -> None:
    cluster, trial = fake(), state("1", "2", 0.1)
    take(cluster, state("1"))
    take(cluster, trial)
    assert cluster.service is not None
    spec = cluster.service["spec"]
    back = trial.model_copy(update={"changed": datetime.now(UTC) + timedelta(seconds=1)})
    for desired, thrown in ((switched(trial), True), (back, False)):
        step = plan(cluster, desired)
        assert is_pending(step, cluster.service)
        cluster.apply(step)
        cluster.settle()
        assert is_thrown(cluster) == thrown
        assert cluster.service["spec"] == spec
        assert not is_pending(plan(cluster, desired), cluster.service)


@MODES
def test_the_switch_comes_while_another_transition_waits_for_pods(fake: type[Fake]) -> None:
    cluster, half = fake(), state("1", "2", 0.1)
    take(cluster, state("1"))
    take(cluster, half, ready=False)
    cluster.apply(plan(cluster, switched(half)))
    cluster.settle()
    assert is_thrown(cluster)


@MODES
def test_a_state_takes_back_only_a_switch_that_is_older_than_it(fake: type[Fake]) -> None:
    cluster, desired = fake(), state("1")
    take(cluster, desired)
    second = timedelta(seconds=1)
    for word, stays in (
        ((desired.changed - second).isoformat(), False),
        ((desired.changed + second).isoformat(), True),
        ("true", True),
    ):
        throw(cluster, word)
        cluster.apply(plan(cluster, desired))
        assert is_thrown(cluster) == stays
    # Whatever else changes, it stays until somebody takes it back.
    take(cluster, desired.model_copy(update={"canary": CanaryTarget(**target("2").model_dump(), share=0.1)}))
    assert is_thrown(cluster)


def test_the_state_takes_over_a_switch_that_no_command_is_about_to_write() -> None:
    desired, now = state("1"), datetime.now(UTC)
    service: dict[str, Any] = {"metadata": {"annotations": {}}}

    def says(word: str, later: timedelta = timedelta()) -> bool:
        service["metadata"]["annotations"][POPULARITY_ONLY] = word
        return is_forgotten(desired, service, now + later)

    assert [says(OFF), says(""), says("true"), says("yes")] == [False, False, True, True]
    moment = (desired.changed + timedelta(seconds=1)).isoformat()
    assert (says(moment), says(moment, 2 * COMMAND_TAKES)) == (False, True)
    assert not is_forgotten(switched(desired), service, now + 2 * COMMAND_TAKES)


def test_one_patch_throws_it_and_changes_nothing_that_is_not_ours() -> None:
    api, cluster = FakeApi(), Standard()
    take(cluster, state("1"))
    assert cluster.service is not None
    client = api.connect()
    assert not throw_in_cluster("shoes", client, NAMESPACE, datetime.now(UTC))
    api.add("inferenceservices", cluster.service)
    before = api.get("inferenceservices", "shoes")["spec"]
    assert throw_in_cluster("shoes", client, NAMESPACE, datetime.now(UTC))
    assert api.variants is not None
    assert api.variants.popularity_only
    assert show_switch(state("1"), client, NAMESPACE)
    assert not api.variants.popularity_only
    assert api.get("inferenceservices", "shoes")["spec"] == before
    api.edit("inferenceservices", "shoes", lambda thing: thing["metadata"]["labels"].clear())
    with refused(ClusterError, "cluster.refused", status=422):
        throw_in_cluster("shoes", cast(Cluster, client), NAMESPACE, datetime.now(UTC))
    assert read_annotations(api.get("inferenceservices", "shoes"))[POPULARITY_ONLY] == OFF


def test_popularity_gets_pods_for_everyone_in_place_of_those_for_its_share() -> None:
    many = recommender(replicas={"min": 4, "max": 9})

    def pods(desired: Deployment, mode: Any = "Standard") -> int:
        wanted = get_side_target(desired, "baseline")
        assert wanted is not None
        load = get_side_load(desired, "baseline")
        service = render_side_service(many, NAMESPACE, mode, "baseline", wanted, wanted.share, None, load)
        return int(service["spec"]["predictor"]["minReplicas"])

    popularity = Target(version="popularity", package="s3://endcap/popularity")
    baseline = state("1").model_copy(update={"baseline": CanaryTarget(**popularity.model_dump(), share=0.05)})
    assert get_side_target(state("1"), "baseline") is None
    assert [pods(baseline), pods(switched(baseline)), pods(switched(state("1")))] == [1, 4, 4]
    # There another number would be another revision; the autoscaler follows the requests.
    assert pods(switched(baseline), "Knative") == 1
