"""What a cluster can is read from what it serves; what is lacking is said before anything is made."""

from __future__ import annotations

from typing import Any, cast

import pytest

from endcap.cluster import Cluster
from endcap.deploy.capabilities import find_capabilities
from endcap.deploy.manifests import make_mode_probe
from endcap.errors import ClusterError
from endcap.spec import Recommender
from tests.deploy.fake_kserve import NAMESPACE, recommender, target
from tests.refusals import refused

ROUTE = {"gateway": "infra/edge", "hostname": "shoes.example"}


class Served:
    """A cluster that serves these APIs, whose KServe writes this mode on what says none."""

    def __init__(self, *, kserve: dict[str, Any] | None, knative: bool = True, routes: bool = True, mode: str = ""):
        self._there = {"serving.kserve.io/v1beta1": _schema(kserve) if kserve is not None else {}}
        self._there["serving.knative.dev/v1"] = {"Route": {}} if knative else {}
        self._there["gateway.networking.k8s.io/v1"] = {"HTTPRoute": {}} if routes else {}
        self._mode = mode

    def schema(self, group_version: str) -> dict[str, Any]:
        return self._there[group_version]

    def apply(self, thing: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        assert dry_run
        assert "scaleMetric" not in thing["spec"]["predictor"], (
            "KServe refuses cpu in Knative mode, rps in Standard mode"
        )
        assert thing["metadata"]["annotations"] == {}
        annotations = {"serving.kserve.io/deploymentMode": self._mode} if self._mode else {}
        return {**thing, "metadata": {**thing["metadata"], "annotations": annotations}}


def _schema(properties: dict[str, Any]) -> dict[str, Any]:
    kind = {"group": "serving.kserve.io", "kind": "InferenceService", "version": "v1beta1"}
    return {"one": {"x-kubernetes-group-version-kind": [kind], "properties": properties}}


STATUS = {"status": {"properties": {"servingRuntimeName": {}}}}
NOW = {**STATUS, "spec": {"properties": {"predictor": {}, "canary": {}}}}
BEFORE = {**STATUS, "spec": {"properties": {"predictor": {}}}}
OLD = {"status": {"properties": {"url": {}}}, "spec": {"properties": {"predictor": {}}}}
MINIMAL = {"spec": {"x-kubernetes-preserve-unknown-fields": True}, "status": {}}


def read_capabilities(served: Served, spec: Recommender, live: dict[str, Any] | None = None) -> tuple[str, bool]:
    can = find_capabilities(cast(Cluster, served), spec, live, make_mode_probe(spec, NAMESPACE, target("1")))
    return can.mode, can.canaries


@pytest.mark.parametrize(
    ("served", "mode", "expected"),
    [
        (Served(kserve=NOW, mode="Standard"), "auto", ("Standard", True)),
        (Served(kserve=NOW), "auto", ("Knative", True)),
        (Served(kserve=BEFORE), "Standard", ("Standard", False)),
        (Served(kserve=MINIMAL, routes=False), "Standard", ("Standard", True)),
    ],
)
def test_mode_and_canaries_are_the_clusters(served: Served, mode: str, expected: tuple[str, bool, bool]) -> None:
    assert read_capabilities(served, recommender(mode=mode)) == expected


@pytest.mark.parametrize(
    ("served", "settings", "code"),
    [
        (Served(kserve=None), {}, "deploy.kserve-missing"),
        (Served(kserve=OLD), {}, "deploy.kserve-too-old"),
        (Served(kserve=NOW, knative=False), {"mode": "Knative"}, "deploy.knative-missing"),
        (Served(kserve=NOW, routes=False), {"mode": "Standard", "route": ROUTE}, "deploy.gateway-api-missing"),
    ],
)
def test_what_is_lacking_is_said(served: Served, settings: dict[str, Any], code: str) -> None:
    with refused(ClusterError, code):
        read_capabilities(served, recommender(**settings))


def test_a_mode_that_runs_stays() -> None:
    live = {"metadata": {}, "status": {"deploymentMode": "Standard"}}
    assert read_capabilities(Served(kserve=NOW), recommender(), live)[0] == "Standard"
    with refused(ClusterError, "deploy.mode-differs", found="Standard", wanted="Knative"):
        read_capabilities(Served(kserve=NOW), recommender(mode="Knative"), live)
