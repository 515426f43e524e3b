"""The traffic that a cluster really sends where: read back, never taken from what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endcap.cluster import Cluster, ForbiddenError, KindAbsentError
from endcap.cluster.kinds import HTTP_ROUTE, KNATIVE_ROUTE
from endcap.deploy.steps import WEIGHTS, Step, percent, said_of, version_of
from endcap.deploy.variants import CANARY, STABLE, predictor_service, share_of

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Traffic:
    """What one object of the cluster says."""

    source: str
    shares: dict[str, float]
    """Percent by version; of a backend that is no version's, by its name."""

    def __str__(self) -> str:
        return f"{self.source}: {in_words(self.shares)}"


def in_words(shares: Mapping[str, float]) -> str:
    """Percent by version, to be read."""
    ordered = sorted(shares.items(), key=lambda one: -one[1])
    return ", ".join(f"{share:.4g} % version {version}" for version, share in ordered) or "nothing"


def knative_traffic_of(cluster: Cluster, service: Json) -> Traffic:
    """Of the Knative Route, or, without the right to read it, of KServe's report on it."""
    metadata, said = service["metadata"], said_of(dict(service))
    predictor = (service["status"].get("components") or {}).get("predictor") or {}
    newest, targets = predictor.get("latestCreatedRevision"), predictor.get("traffic") or []
    source = f"InferenceService {metadata['name']}"
    try:
        route = cluster.find(KNATIVE_ROUTE, predictor_service(metadata["name"], None), metadata["namespace"])
        if route is not None:
            targets = (route.get("status") or {}).get("traffic") or []
            source = f"Knative Route {route['metadata']['name']}"
    except (ForbiddenError, KindAbsentError):
        pass
    template = version_of(service["spec"]["predictor"])
    shares: dict[str, float] = {}
    for target in targets:
        if target.get("percent"):
            version = template if target.get("revisionName") == newest else said[STABLE]
            shares[version] = shares.get(version, 0) + target["percent"]
    return Traffic(source, shares)


def standard_traffic_of(cluster: Cluster, service: Json, own: bool) -> list[Traffic]:
    """Of our own HTTPRoute, where there is one, and of the one that KServe makes; without the right to read: none."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    versions = {}
    for predictor in [service["spec"]["predictor"], *(one["predictor"] for one in service["spec"].get("canary") or [])]:
        versions[predictor_service(name, predictor.get("name"))] = version_of(predictor)
    found = []
    for route_name in [f"endcap-{name}"] * own + [name]:
        try:
            route = cluster.find(HTTP_ROUTE, route_name, namespace)
        except (ForbiddenError, KindAbsentError):
            continue
        if route is not None:
            found.append(Traffic(f"HTTPRoute {route_name}", _weighted(route, versions)))
    return found


def wanted(step: Step, whole_percent: bool) -> dict[str, float]:
    """Percent by version that a step's InferenceService asks for. whole_percent: as KServe rounds."""
    said = said_of(step.service)
    share = share_of(said) if said.get(CANARY) else 0.0
    canary = percent(share) if whole_percent else 100 * round(share * WEIGHTS) / WEIGHTS
    shares = {said[STABLE]: 100 - canary} | ({said[CANARY]: canary} if canary else {})
    return {version: part for version, part in shares.items() if part}


def _weighted(route: Json, versions: Mapping[str, str]) -> dict[str, float]:
    """Of the last rule: KServe's earlier ones are for single paths."""
    rules = route["spec"].get("rules") or [{}]
    backends = rules[-1].get("backendRefs") or []
    total = sum(one.get("weight", 1) for one in backends) or 1
    shares: dict[str, float] = {}
    for one in backends:
        version = versions.get(one["name"], f"of {one['name']}")
        part = 100 * one.get("weight", 1) / total
        if part:
            shares[version] = shares.get(version, 0) + part
    return shares
