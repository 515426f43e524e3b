"""No pod starts anew because the store was moved: an InferenceService goes on to say where it reads a version from."""

from __future__ import annotations

import pytest

from endcap.deploy import Deployment, ShadowTarget
from endcap.deploy import knative as knative_mode
from endcap.deploy import standard as standard_mode
from endcap.deploy.addresses import keep_served_addresses
from endcap.deploy.manifests import render_side_service
from tests.deploy.fake_kserve import NAMESPACE, Knative, Standard, recommender, state, target

OLD, NEW = "s3://endcap/packages", "s3://restored/stores/one/packages"


def move_packages(desired: Deployment) -> Deployment:
    """The same state in a store that was moved."""
    return Deployment.model_validate_json(desired.model_dump_json().replace(OLD, NEW))


def settled(mode: str, desired: Deployment) -> Knative | Standard:
    """A cluster that serves a state, in Standard mode up to its first step."""
    cluster = Knative() if mode == "Knative" else Standard()
    for _ in range(12 if mode == "Knative" else 1):
        cluster.apply(plan_transition(mode, desired, cluster))
        if isinstance(cluster, Knative):
            cluster.start()
            cluster.settle()
    return cluster


def plan_transition(mode: str, desired: Deployment, cluster: Knative | Standard):  # type: ignore[no-untyped-def]
    if mode == "Knative":
        return knative_mode.plan_knative(recommender(), desired, cluster.service, NAMESPACE, room=True)
    return standard_mode.plan_standard(recommender(), desired, cluster.service, NAMESPACE, canaries=True)


@pytest.mark.parametrize("mode", ["Knative", "Standard"])
def test_what_is_served_from_the_old_place_goes_on_to_be_while_the_same_files_lie_there(mode: str) -> None:
    before = state("1")
    cluster = settled(mode, before)
    assert cluster.service is not None
    result, notes = keep_served_addresses(
        move_packages(before), [cluster.service, None], lambda address: address.startswith(OLD)
    )
    assert result == before
    assert len(notes) == 1
    predictor = plan_transition(mode, result, cluster).service["spec"]["predictor"]
    assert predictor == cluster.service["spec"]["predictor"]
    without_files, no_notes = keep_served_addresses(move_packages(before), [cluster.service], lambda address: False)
    assert (without_files, no_notes) == (move_packages(before), [])
    model = plan_transition(mode, without_files, cluster).service["spec"]["predictor"]["model"]
    assert model["storageUri"] == f"{NEW}/shoes/1"


def test_a_new_version_and_another_package_are_read_from_the_store() -> None:
    cluster = settled("Standard", state("1"))
    desired = move_packages(state("1", "2", 0.2))
    result, _ = keep_served_addresses(desired, [cluster.service], lambda address: True)
    assert (result.stable.package, result.canary) == (f"{OLD}/shoes/1", desired.canary)
    other = desired.model_copy(update={"stable": target("1").model_copy(update={"package": f"{NEW}/shoes/other"})})
    assert keep_served_addresses(other, [cluster.service], lambda address: True) == (other, [])


def test_a_shadow_is_no_exception() -> None:
    shadow = ShadowTarget(**target("3").model_dump(), share=0.5)
    service = render_side_service(recommender(), NAMESPACE, "Standard", "shadow", shadow, 0.5, None)
    desired = state("1").model_copy(update={"shadow": shadow})
    result, _ = keep_served_addresses(move_packages(desired), [None, service], lambda address: True)
    assert result.shadow == shadow
