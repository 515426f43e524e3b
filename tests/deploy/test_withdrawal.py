"""A stable version that was taken back: nobody meets it from then on, and its shoppers always meet something."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from endcap.cluster.kinds import INFERENCE_SERVICE
from endcap.deploy import CanaryTarget, Deployment, give_share, take_back
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.manifests import render_side_service
from endcap.deploy.reconcile import reconcile
from endcap.deploy.state import write_state
from endcap.deploy.transitions import is_pending
from endcap.deploy.variants import SideRole, find_tagged_traffic
from endcap.store import Store
from endcap_serving.gateway.split import Split
from endcap_serving.gateway.splits import read_splits
from tests.deploy.fake_kserve import NAMESPACE, Knative, Standard, recommender, state, target
from tests.deploy.test_kill_switch import Fake, plan, take
from tests.rollout.fake_api import FakeApi

Json = dict[str, Any]
MODES = pytest.mark.parametrize("fake", [Standard, Knative])
LISTED = GatewaySettings(popular=("p1",))


def arm(version: str, share: float = 0.02) -> CanaryTarget:
    return CanaryTarget(**target(version).model_dump(), share=share)


def rolled_back(terms: GatewaySettings = LISTED) -> Deployment:
    """Version 2 was promoted and taken back, so version 1 serves again."""
    return state("1").model_copy(update={"withdrawn": "2", "terms": terms, "changed": datetime.now(UTC)})


def make_side(fake: Fake, role: SideRole, version: str, share: float, *, ready: bool = True) -> Json:
    """An arm's InferenceService as KServe keeps it."""
    mode = "Knative" if isinstance(fake, Knative) else "Standard"
    service = render_side_service(recommender(), NAMESPACE, mode, role, target(version), share)
    traffic = [{"tag": "latest", "percent": 100}] if ready else []
    conditions = [{"type": "PredictorReady", "status": str(ready)}]
    components = {"predictor": {"traffic": traffic}}
    return {**service, "status": {"deploymentMode": mode, "conditions": conditions, "components": components}}


def split_of(fake: Fake, *sides: Json) -> Split:
    assert fake.service is not None
    return read_splits([fake.service, *sides], {})["shoes"]


def find_answering(fake: Fake, split: Split) -> set[str]:
    """The versions that shoppers of a split meet."""
    if split.popularity_only:
        return {"popularity"}
    return {_find_version(fake, segment.upstream.host) for segment in split.segments}


def _find_version(fake: Fake, host: str) -> str:
    assert fake.service is not None
    if "--" in host:
        return host.split("--")[1].split("-predictor")[0]
    if isinstance(fake, Standard):
        return host.removeprefix("shoes-v").split("-")[0]
    tag = host.split("-")[0]
    return fake.revisions[int(find_tagged_traffic(fake.service)[tag]["revisionName"][1:])]


@MODES
@pytest.mark.parametrize(
    ("ready", "first"),
    [((True, True), "previous"), ((False, True), "popularity"), ((), "popularity")],
    ids=["previous", "baseline", "list"],
)
def test_nobody_meets_it_while_the_version_before_starts_anew(
    fake: type[Fake], ready: tuple[bool, ...], first: str
) -> None:
    cluster, back = fake(), rolled_back()
    arms: tuple[tuple[SideRole, str], ...] = (("previous", "1"), ("baseline", "popularity"))
    sides = [
        make_side(cluster, role, version, 0.02, ready=is_ready)
        for (role, version), is_ready in zip(arms, ready, strict=False)
    ]
    for desired in (state("1"), state("1", "2", 0.5), state("2")):
        take(cluster, desired)
    assert find_answering(cluster, split_of(cluster)) == {"2"}

    seen: list[set[str]] = []
    for _ in range(20):
        step = plan(cluster, back)
        if is_pending(step, cluster.service):
            cluster.apply(step)
        elif step.done:
            break
        else:
            cluster.start()
        cluster.settle()
        answering = find_answering(cluster, split_of(cluster, *sides))
        seen += [answering] if seen[-1:] != [answering] else []
    # First what is there at once. Then the recommender's own InferenceService serves the version before.
    assert seen == [{first}, {"1"}]


@MODES
def test_it_goes_on_where_nothing_else_can_answer(fake: type[Fake]) -> None:
    cluster, back = fake(), rolled_back(GatewaySettings())
    take(cluster, state("2"))
    cluster.apply(plan(cluster, back))
    cluster.settle()
    assert find_answering(cluster, split_of(cluster)) == {"2"}
    take(cluster, back)
    assert find_answering(cluster, split_of(cluster)) == {"1"}


def test_the_previous_versions_pods_bear_everyone_and_go_once_they_are_not_needed() -> None:
    api, spec = FakeApi(), recommender(mode="Standard", replicas={"min": 4, "max": 9})
    client = api.connect()

    def follow(desired: Deployment, times: int = 1) -> None:
        for _ in range(times):
            reconcile(spec, lambda: desired, client, NAMESPACE, wait=False)

    def pods() -> int | None:
        side = api.objects.get(("inferenceservices", "shoes--previous"))
        return side and side["spec"]["predictor"]["minReplicas"]

    def find_split() -> Split:
        services = client.list_objects(INFERENCE_SERVICE, NAMESPACE)
        return read_splits(services, {})["shoes"]

    follow(state("1"), 2)
    follow(state("1", "2", 0.5), 3)
    follow(state("2").model_copy(update={"previous": arm("1"), "changed": datetime.now(UTC)}), 4)
    before = find_split()
    assert (pods(), before.weights.previous) == (1, 20_000)
    back = rolled_back(GatewaySettings())
    follow(back)
    away = find_split()
    assert (pods(), away.stable, away.weights.canary, away.weights.previous) == (4, before.previous, 0, 0)
    # All of its pods start beside, since it is to bear everyone.
    entry = api.get("inferenceservices", "shoes")["spec"]["canary"][0]["predictor"]
    assert (entry["name"], entry["minReplicas"]) == ("v1", 4)
    follow(back)
    after = find_split()
    assert after.stable is not None
    assert (pods(), after.stable.host) == (4, f"shoes-v1-predictor.{NAMESPACE}.svc")
    follow(back)
    assert (pods(), find_split()) == (None, after)


def test_the_state_says_which_version_was_taken_back_until_it_is_to_answer_again(store: Store) -> None:
    write_state(state("2").model_copy(update={"previous": arm("1")}), store)
    assert take_back("shoes", "2", store).withdrawn == "2"
    assert give_share("shoes", target("3"), 0.1, "ab12", store).withdrawn == "2"
    assert take_back("shoes", "3", store).withdrawn == "2", "a canary's shoppers have the stable version at once"
    assert give_share("shoes", target("2"), 0.1, "cd", store).withdrawn is None
