"""A recommender's shadow in a cluster: an InferenceService of its own, whose troubles are told and fail nothing."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import ObjectKind
from endcap.deploy import ShadowTarget
from endcap.deploy.manifests import render_inference_service, render_shadow_service
from endcap.deploy.object_names import LONGEST_NAME, check_recommender_name, name_shadow
from endcap.deploy.ownership import delete_objects, describe_object, find_objects
from endcap.deploy.predictor_manifests import render_predictor
from endcap.deploy.shadow import Shadows
from endcap.deploy.variants import MASK, SHADOW_SHARE, Mode, read_shadow, read_variants
from endcap.devices import make_gpu_variables
from endcap.errors import ClusterError, UserError
from endcap.spec import Recommender
from endcap.spec.pod import Gpu
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
    service = render_shadow_service(spec, NAMESPACE, mode, target("3"), 0.25)
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
        render_shadow_service(recommender(), NAMESPACE, "Standard", target("3"), share) for share in (0.1, 0.5)
    )
    assert one["spec"] == other["spec"]
    assert {*MASK, SHADOW_SHARE} <= set(one["spec"]["predictor"]["annotations"])
    assert one["metadata"]["annotations"][SHADOW_SHARE] == "0.1"


def test_the_gateway_reads_whose_it_is_its_share_and_where_it_is() -> None:
    standard = render_shadow_service(recommender(), NAMESPACE, "Standard", target("3"), 0.25)
    assert read_variants(standard) is None
    shadow_read = read_shadow(standard)
    assert shadow_read is not None
    assert (shadow_read.recommender, shadow_read.share, shadow_read.variant.version, shadow_read.variant.ready) == (
        "shoes",
        0.25,
        "3",
        False,
    )
    assert shadow_read.variant.address.host == f"{NAME}-predictor.{NAMESPACE}.svc"
    standard["status"] = {"conditions": [{"type": "PredictorReady", "status": "True"}]}
    assert read_shadow(standard).variant.ready  # type: ignore[union-attr]
    knative = render_shadow_service(recommender(), NAMESPACE, "Knative", target("3"), 0.25)
    assert not read_shadow(knative).variant.ready  # type: ignore[union-attr]
    knative["status"] = {"components": {"predictor": {"traffic": [{"tag": "latest", "percent": 100}]}}}
    tagged = read_shadow(knative).variant  # type: ignore[union-attr]
    assert (tagged.ready, tagged.address.authority) == (True, f"latest-{NAME}-predictor.{NAMESPACE}.svc")
    assert read_shadow(render_inference_service(recommender(), NAMESPACE, "Standard", {}, {})) is None


def test_its_name_fits_and_is_no_other_recommenders() -> None:
    names = ["a" * length for length in range(1, LONGEST_NAME + 1)] + ["a" * 39 + "b", "shoes", "shoes-shadow"]
    shadows = [name_shadow(name, NAMESPACE) for name in names]
    assert len(set(shadows)) == len(names)
    assert max(map(len, shadows)) == LONGEST_NAME
    assert name_shadow("shoes", NAMESPACE) == NAME
    long = "n" * 32
    assert max(len(f"{name_shadow(name, long)}-predictor-{long}") for name in names) == 63
    assert len({name_shadow(name, long) for name in names}) == len(names)
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


def shadows(objects: Objects, spec: Recommender | None = None) -> Shadows:
    cluster = cast(Cluster, objects)
    return Shadows(spec or recommender(), cluster, NAMESPACE, "Standard", objects.apply, lambda line: None)


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
    assert shadows(objects).end(serves) == ""
    assert set(objects.there) == {"shoes"}
    assert shadows(objects).end(serves) == ""


def test_who_may_not_delete_it_ends_the_copies() -> None:
    objects = Objects()
    serves = owner(objects)
    shadows(objects).follow(shadow(), serves)
    objects.may_delete = False
    note = shadows(objects).end(serves)
    assert note.startswith("no requests are copied any more, but the pod of shoes--shadow stays (runner may not delete")
    shadow_read = read_shadow(objects.there[NAME])
    assert shadow_read is not None
    assert (shadow_read.share, shadow_read.variant.version) == (0.0, "3")


def test_what_goes_wrong_is_said_and_what_is_not_ours_stays() -> None:
    objects = Objects()
    serves = owner(objects)
    objects.refuses = ClusterError("the quota is reached", code="cluster.quota-reached")
    assert shadows(objects).follow(shadow(), serves) == "version 3 is no shadow yet: the quota is reached"
    objects.refuses = None
    socks = render_shadow_service(recommender(), NAMESPACE, "Standard", target("3"), 0.5)
    socks["metadata"]["annotations"]["endcap.dev/shadow-of"] = "socks"
    objects.apply(socks)
    assert "is not the shadow of shoes" in shadows(objects).follow(shadow(), serves)
    assert "could not be ended" in shadows(objects).end(serves)
    with refused(ClusterError, "deploy.foreign-shadow", name=NAME, recommender="shoes"):
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
