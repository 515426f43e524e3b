"""What a cluster serves beside a recommender's own InferenceService: its troubles are told and fail nothing."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import ObjectKind
from endcap.deploy import CanaryTarget, ShadowTarget
from endcap.deploy.manifests import render_inference_service, render_side_service
from endcap.deploy.object_names import LONGEST_NAME, check_recommender_name, name_side_service
from endcap.deploy.ownership import delete_objects, describe_object, find_objects
from endcap.deploy.predictor_manifests import render_predictor
from endcap.deploy.side_services import SideService
from endcap.deploy.variants import (
    CANARY,
    MASK,
    SALT,
    SHARE,
    STABLE,
    Mode,
    SideRole,
    name_share_mark,
    read_side_variant,
    read_variants,
)
from endcap.devices import make_gpu_variables
from endcap.errors import ClusterError, UserError
from endcap.spec.pod import Gpu
from endcap_serving.gateway.arm_sources import find_arms
from endcap_serving.gateway.routes import Split
from endcap_serving.gateway.splits import read_splits
from endcap_serving.predictor.options import parse_arguments
from tests.deploy.fake_kserve import NAMESPACE, recommender, target
from tests.refusals import refused

Json = dict[str, Any]
POD = {"gpu": {"count": 1}, "nodeSelector": {"gpu": "a100"}, "spot": True, "replicas": {"min": 3, "max": 9}}
NAME = "shoes--shadow"


def shadow(share: float = 0.25, version: str = "3") -> ShadowTarget:
    return ShadowTarget(**target(version).model_dump(), share=share)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_it_runs_as_the_stable_version_does_in_one_pod_and_under_the_recommenders_name(mode: Mode) -> None:
    spec = recommender(**POD)
    service = render_side_service(spec, NAMESPACE, mode, "shadow", target("3"), 0.25)
    predictor, stable = service["spec"]["predictor"], render_predictor(spec, mode, target("3"), named=False)
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)
    for key in ("serviceAccountName", "securityContext", "nodeSelector", "tolerations"):
        assert predictor[key] == stable[key]
    for key in ("modelFormat", "runtime", "storageUri", "resources"):
        assert predictor["model"][key] == stable["model"][key]
    environment = {one["name"]: one["value"] for one in predictor["model"]["env"]}
    assert environment == {"ENDCAP_VERSION": "3", "ENDCAP_VARIANT": "shadow", **make_gpu_variables(Gpu())}
    for probe in ("startupProbe", "readinessProbe"):
        assert predictor["model"][probe]["httpGet"]["path"] == "/v2/models/shoes/ready"
    # As KServe joins them, behind the runtime's own.
    words = ["--model-name", NAME, "--version", "3", *predictor["model"]["args"]]
    assert parse_arguments(words).model_name == "shoes"


def test_another_share_starts_no_pod() -> None:
    one, other = (
        render_side_service(recommender(), NAMESPACE, "Standard", "shadow", target("3"), share) for share in (0.1, 0.5)
    )
    assert one["spec"] == other["spec"]
    assert {*MASK, name_share_mark("shadow")} <= set(one["spec"]["predictor"]["annotations"])
    assert one["metadata"]["annotations"][name_share_mark("shadow")] == "0.1"


def test_the_gateway_reads_whose_it_is_its_share_and_where_it_is() -> None:
    standard = render_side_service(recommender(), NAMESPACE, "Standard", "shadow", target("3"), 0.25)
    assert read_variants(standard) is None
    shadow_read = read_side_variant(standard)
    assert shadow_read is not None
    assert (shadow_read.recommender, shadow_read.share, shadow_read.variant.version, shadow_read.variant.ready) == (
        "shoes",
        0.25,
        "3",
        False,
    )
    assert shadow_read.variant.address.host == f"{NAME}-predictor.{NAMESPACE}.svc"
    standard["status"] = {"conditions": [{"type": "PredictorReady", "status": "True"}]}
    assert read_side_variant(standard).variant.ready  # type: ignore[union-attr]
    knative = render_side_service(recommender(), NAMESPACE, "Knative", "shadow", target("3"), 0.25)
    assert not read_side_variant(knative).variant.ready  # type: ignore[union-attr]
    knative["status"] = {"components": {"predictor": {"traffic": [{"tag": "latest", "percent": 100}]}}}
    tagged = read_side_variant(knative).variant  # type: ignore[union-attr]
    assert (tagged.ready, tagged.address.authority) == (True, f"latest-{NAME}-predictor.{NAMESPACE}.svc")
    assert read_side_variant(render_inference_service(recommender(), NAMESPACE, "Standard", {}, {})) is None


def test_its_name_fits_and_is_no_other_recommenders() -> None:
    def name_in(namespace: str, name: str) -> str:
        return name_side_service(name, namespace, "shadow")

    names = ["a" * length for length in range(1, LONGEST_NAME + 1)] + ["a" * 39 + "b", "shoes", "shoes-shadow"]
    shadows = [name_in(NAMESPACE, name) for name in names]
    assert len(set(shadows)) == len(names)
    assert max(map(len, shadows)) == LONGEST_NAME
    assert name_in(NAMESPACE, "shoes") == NAME
    long = "n" * 32
    assert max(len(f"{name_in(long, name)}-predictor-{long}") for name in names) == 63
    assert len({name_in(long, name) for name in names}) == len(names)
    for name in shadows:
        with refused(UserError, "deploy.name-unfit", found=name, suffix="--shadow"):
            check_recommender_name(name)


class Objects:
    """InferenceServices in memory, and who may delete them."""

    def __init__(self) -> None:
        self.there: dict[str, Json] = {}
        self.refuses: ClusterError | None = None
        self.may_delete = True

    def find(self, kind: ObjectKind, name: str, namespace: str) -> Json | None:
        return copy.deepcopy(self.there.get(name))

    def list_objects(self, *_: object, **__: object) -> list[Json]:
        return []

    def schema(self, _: str) -> Json:
        return {}

    def apply(self, thing: Json) -> Json:
        if self.refuses is not None:
            raise self.refuses
        metadata = {**thing["metadata"], "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
        before = self.there.get(metadata["name"], {})
        self.there[metadata["name"]] = {**before, **thing, "metadata": metadata}
        return copy.deepcopy(self.there[metadata["name"]])

    def delete(self, kind: ObjectKind, name: str, namespace: str, uid: str) -> bool:
        if not self.may_delete:
            raise ForbiddenError("runner may not delete inferenceservices")
        return self.there.pop(name, None) is not None


def shadows(objects: Objects, role: SideRole = "shadow") -> SideService:
    cluster = cast(Cluster, objects)
    return SideService(role, recommender(), cluster, NAMESPACE, "Standard", objects.apply, lambda line: None)


def owner(objects: Objects) -> Json:
    return objects.apply(render_inference_service(recommender(), NAMESPACE, "Standard", {}, {}))


def test_it_comes_changes_and_goes() -> None:
    objects = Objects()
    serves = owner(objects)
    assert shadows(objects).follow(shadow(), serves) == "0.25 of the requests are copied to version 3 once it is ready"
    (owned,) = objects.there[NAME]["metadata"]["ownerReferences"]
    assert (owned["kind"], owned["name"], owned["uid"]) == ("InferenceService", "shoes", "u")
    objects.there[NAME]["status"] = {"conditions": [{"type": "PredictorReady", "status": "True"}]}
    assert shadows(objects).follow(shadow(0.5), serves) == "0.5 of the requests are copied to version 3"
    # The version before it answers on until its pod is ready.
    assert shadows(objects).follow(shadow(0.5, "4"), serves).endswith("version 4 once it is ready")
    assert shadows(objects).end(None, serves) == ""
    assert set(objects.there) == {"shoes"}
    assert shadows(objects).end(None, serves) == ""


def test_who_may_not_delete_it_ends_the_copies() -> None:
    objects = Objects()
    serves = owner(objects)
    shadows(objects).follow(shadow(), serves)
    objects.may_delete = False
    note = shadows(objects).end(None, serves)
    assert note.startswith("no requests are copied any more, but the pod of shoes--shadow stays (runner may not delete")
    shadow_read = read_side_variant(objects.there[NAME])
    assert shadow_read is not None
    assert (shadow_read.share, shadow_read.variant.version) == (0.0, "3")


def test_what_goes_wrong_is_said_and_what_is_not_ours_stays() -> None:
    objects = Objects()
    serves = owner(objects)
    objects.refuses = ClusterError("the quota is reached", code="cluster.quota-reached")
    assert shadows(objects).follow(shadow(), serves) == "version 3 is no shadow yet: the quota is reached"
    objects.refuses = None
    socks = render_side_service(recommender(), NAMESPACE, "Standard", "shadow", target("3"), 0.5)
    socks["metadata"]["annotations"]["endcap.dev/shadow-of"] = "socks"
    objects.apply(socks)
    assert "is not the shadow of shoes" in shadows(objects).follow(shadow(), serves)
    assert "could not be ended" in shadows(objects).end(None, serves)
    with refused(ClusterError, "deploy.foreign-side", role="shadow", name=NAME, recommender="shoes"):
        delete_objects("shoes", cast(Cluster, objects), NAMESPACE)
    assert set(objects.there) == {"shoes", NAME}


def test_undeploying_takes_it_too() -> None:
    objects = Objects()
    shadows(objects).follow(shadow(), owner(objects))
    descriptions = ["InferenceService shoes--shadow", "InferenceService shoes"]
    assert [describe_object(*one) for one in find_objects("shoes", cast(Cluster, objects), NAMESPACE)] == descriptions
    assert set(objects.there) == {"shoes", NAME}
    assert delete_objects("shoes", cast(Cluster, objects), NAMESPACE) == descriptions
    assert not objects.there


def arm(version: str = "1", share: float = 0.02) -> CanaryTarget:
    return CanaryTarget(**target(version).model_dump(), share=share)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
@pytest.mark.parametrize("role", ["previous", "baseline"])
def test_an_arm_runs_as_a_canary_does_and_scales(role: SideRole, mode: Mode) -> None:
    spec = recommender(**POD, canary={"cpu": "500m", "nodeSelector": {"gpu": "l4"}})
    service = render_side_service(spec, NAMESPACE, mode, role, arm(), 0.5)
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 9)
    assert predictor["model"]["resources"]["requests"]["cpu"] == "500m"
    environment = {entry["name"]: entry["value"] for entry in predictor["model"]["env"]}
    assert (environment["ENDCAP_VERSION"], environment["ENDCAP_VARIANT"]) == ("1", role)
    # The chart's NetworkPolicy and PodMonitor select pods by labels that KServe takes from here.
    stable = render_inference_service(spec, NAMESPACE, mode, render_predictor(spec, mode, target("2")), {})
    assert stable["metadata"]["labels"].items() <= service["metadata"]["labels"].items()
    without = recommender(**POD)
    gpu = render_side_service(without, NAMESPACE, mode, role, arm(), 0.5)["spec"]["predictor"]["model"]["resources"]
    assert gpu["limits"]["nvidia.com/gpu"] == "1"
    few, many = (render_side_service(spec, NAMESPACE, "Standard", role, arm(), share) for share in (0.1, 0.9))
    assert few["spec"]["predictor"]["annotations"] == many["spec"]["predictor"]["annotations"]


def make_ready(objects: Objects, name: str) -> None:
    objects.there[name]["status"] = {
        "deploymentMode": "Standard",
        "conditions": [{"type": "PredictorReady", "status": "True"}],
    }


def test_shoppers_meet_an_arm_while_it_is_ready_and_the_stable_version_else() -> None:
    objects, name = Objects(), "shoes--previous"
    spec = recommender()
    serves = objects.apply(
        render_inference_service(
            spec,
            NAMESPACE,
            "Standard",
            render_predictor(spec, "Standard", target("2")),
            {STABLE: "2", SALT: "ab12"},
        )
    )
    make_ready(objects, "shoes")

    def split() -> Split:
        return read_splits(objects.there.values(), {})["shoes"]

    previous = shadows(objects, "previous")
    words = "0.02 of the shoppers meet the previous version 1"
    assert previous.follow(arm(), serves) == f"{words} once it is ready"
    assert (split().previous, split().weights.previous) == (None, 0)
    make_ready(objects, name)
    assert previous.follow(arm(), serves) == words
    upstream = split().previous
    assert upstream is not None
    assert (upstream.host, split().weights.previous) == (f"{name}-predictor.{NAMESPACE}.svc", 20_000)
    assert {entry: place.variant.version for entry, place in find_arms(objects.there.values(), "shoes").items()} == {
        "stable": "2",
        "previous": "1",
    }
    # The baseline is a further one.
    shadows(objects, "baseline").follow(arm("popularity", 0.05), serves)
    make_ready(objects, "shoes--baseline")
    assert (split().weights.previous, split().weights.baseline) == (20_000, 50_000)
    # Shares that do not fit together are never routed by.
    previous.follow(arm(share=1.0), serves)
    objects.there["shoes"]["metadata"]["annotations"] |= {CANARY: "3", SHARE: "0.5"}
    objects.there["shoes"]["spec"]["canary"] = [{"predictor": {"name": "v3"}}]
    objects.there["shoes"]["status"]["canaryStatuses"] = [{"name": "v3", "ready": True}]
    assert (split().share, split().previous) == (0.5, None)


def test_an_arm_of_another_version_ends_before_the_wanted_one_starts() -> None:
    objects, name = Objects(), "shoes--previous"
    serves = owner(objects)
    previous = shadows(objects, "previous")
    previous.follow(arm("1"), serves)
    assert previous.end(arm("1", 0.1), serves) == ""
    assert name in objects.there
    assert previous.end(arm("2"), serves) == ""
    assert name not in objects.there
    previous.follow(arm("2"), serves)
    # The end of one that is being deleted is waited for.
    objects.there[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert "is no previous yet" in previous.follow(arm("3"), serves)
    assert previous.end(None, serves) == ""
