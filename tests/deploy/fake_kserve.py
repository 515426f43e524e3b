"""A recommender, its desired states, and fakes of KServe that behave as the deployer sees it."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from endcap.deploy import CanaryTarget, Deployment, Target
from endcap.deploy.transitions import Transition, read_annotation
from endcap.deploy.variants import VERSION
from endcap.spec import Recommender

Json = dict[str, Any]
NAMESPACE = "shop"


def recommender(**kubernetes: Any) -> Recommender:
    return Recommender.model_validate(
        {
            "apiVersion": "endcap/v2",
            "kind": "Recommender",
            "name": "shoes",
            "shop": "demo",
            "model": {"name": "popularity"},
            "serving": {"kubernetes": kubernetes},
        }
    )


def target(version: str) -> Target:
    return Target(version=version, package=f"s3://endcap/packages/shoes/{version}")


def state(stable: str, canary: str | None = None, share: float = 0.1) -> Deployment:
    beside = CanaryTarget(**target(canary).model_dump(), share=share) if canary else None
    return Deployment(recommender="shoes", stable=target(stable), canary=beside, salt="ab12", changed=datetime.now(UTC))


class Knative:
    """KServe and Knative in Knative mode: revisions, which one is served, and what KServe reports.

    Follows `createKnativeService` and `PropagateStatus` of KServe 0.20. Each `settle` is one round of the controllers.
    """

    def __init__(self) -> None:
        self.service: Json | None = None
        self.revisions: list[str] = []
        """The version of each."""
        self.ready = 0
        """Of the revisions, how many are."""
        self.traffic: dict[int, int] = {}
        self._rolled = self._before = -1
        self._template = ""

    def apply(self, step: Transition) -> None:
        status = (self.service or {}).get("status", {})
        self.service = copy.deepcopy(step.service) | {"status": status}
        predictor = self.service["spec"]["predictor"]
        template = str({key: value for key, value in predictor.items() if key != "canaryTrafficPercent"})
        if template != self._template:
            self._template = template
            self.revisions.append(read_annotation(predictor, VERSION))

    def start(self) -> None:
        """The newest revision becomes ready."""
        self.ready = len(self.revisions)

    def settle(self) -> None:
        assert self.service is not None
        percent = self.service["spec"]["predictor"].get("canaryTrafficPercent")
        latest, newest = self.ready - 1, len(self.revisions) - 1
        split: list[Json] = []
        if latest >= 0:
            share = percent if percent is not None and self._rolled >= 0 else 100
            split.append({"revisionName": f"r{latest}", "latestRevision": True, "percent": share, "tag": "latest"})
            if share < 100:
                previous_entry = {"revisionName": f"r{self._rolled}", "latestRevision": False, "percent": 100 - share}
                split.append({**previous_entry, "tag": "prev"})
        self.traffic = {}
        for one in split:
            number = int(one["revisionName"][1:])
            self.traffic[number] = self.traffic.get(number, 0) + one["percent"]
        if split and self._rolled != latest and split[0]["percent"] == 100:
            self._before, self._rolled = self._rolled, latest
        elif split and self._rolled == latest == newest and split[0]["percent"] < 100 == self.traffic[latest]:
            self._rolled = self._before if self._before >= 0 else self._rolled
        predictor = {
            "latestCreatedRevision": f"r{newest}",
            "latestReadyRevision": f"r{latest}" if latest >= 0 else "",
            "latestRolledoutRevision": f"r{self._rolled}" if self._rolled >= 0 else "",
            "traffic": split,
        }
        self.service["status"] = {"deploymentMode": "Knative", "components": {"predictor": predictor}}

    def served(self) -> dict[str, int]:
        """Percent by version."""
        by_version: dict[str, int] = {}
        for number, percent in self.traffic.items():
            if percent:
                version = self.revisions[number]
                by_version[version] = by_version.get(version, 0) + percent
        return by_version


class Standard:
    """KServe in Standard mode: the predictors it names, which of them are ready, and where our own route leads."""

    def __init__(self) -> None:
        self.service: Json | None = None
        self.route: dict[str, int] = {}
        self.ready: set[str] = set()
        """Names of predictors with a pod."""
        self.pods: dict[str, list[list[str]]] = {}
        """By a predictor's name: the arguments of pods that answer, of those from before a change too."""

    def apply(self, step: Transition) -> None:
        if step.route_first:
            self.route = step.weights
            assert set(self.route) <= self.services(), "the route leads to what is there before the change"
        status = (self.service or {}).get("status", {})
        self.service = copy.deepcopy(step.service) | {"status": status}
        self.route = step.weights
        assert set(self.route) <= self.services(), "the route leads to what is there after the change"
        for one in self.predictors():
            # A pod of the new template is there at once, those before it go when all of the new ones answer.
            self.pods.setdefault(one["name"], []).append(one["model"].get("args", []))

    def predictors(self) -> list[Json]:
        spec = (self.service or {"spec": {}})["spec"]
        return [spec["predictor"], *(one["predictor"] for one in spec.get("canary") or [])] if spec else []

    def names(self) -> list[str]:
        return [one["name"] for one in self.predictors()]

    def services(self) -> set[str]:
        return {f"shoes-{name}-predictor" for name in self.names()}

    def start(self) -> None:
        """Every pod that is asked for becomes ready."""
        self.ready = set(self.names())
        self.pods = {one["name"]: [one["model"].get("args", [])] for one in self.predictors()}

    def deployments(self) -> dict[str, Json]:
        """As KServe makes them, each rolled out once its newest pods are the only ones."""
        deployments = {}
        for one in self.predictors():
            done = len(self.pods.get(one["name"], ())) == 1 and one["name"] in self.ready
            template = {"metadata": {"annotations": one["annotations"]}}
            deployment = {"metadata": {"generation": 1}, "spec": {"template": template}}
            count = int(done)
            deployment["status"] = {
                "observedGeneration": 1,
                "updatedReplicas": count,
                "replicas": 1,
                "availableReplicas": 1,
            }
            deployments[f"shoes-{one['name']}-predictor"] = deployment
        return deployments

    def settle(self) -> None:
        assert self.service is not None
        self.ready &= set(self.names())
        stable, *canaries = self.names()
        self.service["status"] = {
            "deploymentMode": "Standard",
            "conditions": [{"type": "PredictorReady", "status": str(stable in self.ready)}],
            "canaryStatuses": [{"name": name, "ready": name in self.ready} for name in canaries],
        }
