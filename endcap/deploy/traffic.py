"""How a cluster really splits the traffic: read back, never taken from what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endcap.cluster import Cluster, ForbiddenError, KindAbsentError
from endcap.cluster.kinds import HTTP_ROUTE, KNATIVE_ROUTE
from endcap.deploy.object_names import name_own_route
from endcap.deploy.transitions import WEIGHTS, Transition, read_annotations, read_predictor_version, round_percent
from endcap.deploy.variants import CANARY, STABLE, name_predictor_service, read_share

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Traffic:
    """What one object of the cluster says about the traffic."""

    source: str
    shares: dict[str, float]
    """Percent by version; of a backend that is no version's, by its name."""
    missing: str = ""
    """Why no gateway follows it as it stands; empty where one does."""

    def __str__(self) -> str:
        return f"{self.source}: {describe_shares(self.shares)}" + (
            f", not in force: {self.missing}" if self.missing else ""
        )


def describe_shares(shares: Mapping[str, float]) -> str:
    """Describe percentages by version to a person."""
    ordered = sorted(shares.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{share:.4g} % version {version}" for version, share in ordered) or "nothing"


def read_knative_traffic(cluster: Cluster, service: Json) -> Traffic:
    """Read the Knative Route or, without the right to read it, KServe's report about it."""
    metadata, annotations = service["metadata"], read_annotations(dict(service))
    # KServe has not seen a new one yet.
    predictor = ((service.get("status") or {}).get("components") or {}).get("predictor") or {}
    newest, targets = predictor.get("latestCreatedRevision"), predictor.get("traffic") or []
    source = f"InferenceService {metadata['name']}"
    try:
        route = cluster.find(KNATIVE_ROUTE, name_predictor_service(metadata["name"], None), metadata["namespace"])
        if route is not None:
            targets = (route.get("status") or {}).get("traffic") or []
            source = f"Knative Route {route['metadata']['name']}"
    except (ForbiddenError, KindAbsentError):
        pass
    template = read_predictor_version(service["spec"]["predictor"])
    shares: dict[str, float] = {}
    for target in targets:
        if target.get("percent"):
            version = template if target.get("revisionName") == newest else annotations[STABLE]
            shares[version] = shares.get(version, 0) + target["percent"]
    return Traffic(source, shares)


def read_standard_traffic(cluster: Cluster, service: Json, has_own_route: bool) -> list[Traffic]:
    """Read our own HTTPRoute, if the spec wants one, and KServe's; none without the right to read them."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    versions = {}
    for predictor in [
        service["spec"]["predictor"],
        *(entry["predictor"] for entry in service["spec"].get("canary") or []),
    ]:
        versions[name_predictor_service(name, predictor.get("name"))] = read_predictor_version(predictor)
    reports = []
    for route_name in [name_own_route(name)] * has_own_route + [name]:
        try:
            route = cluster.find(HTTP_ROUTE, route_name, namespace)
        except (ForbiddenError, KindAbsentError):
            continue
        source = f"HTTPRoute {route_name}"
        if route is not None:
            reports.append(Traffic(source, _sum_weights(route, versions), find_route_problem(route)))
        elif route_name != name:
            reports.append(Traffic(source, {}, "there is none"))
    return reports


def compute_expected_shares(transition: Transition, whole_percent: bool) -> dict[str, float]:
    """Compute the percentages by version that a transition asks for. whole_percent: as KServe rounds."""
    annotations = read_annotations(transition.service)
    share = read_share(annotations) if annotations.get(CANARY) else 0.0
    canary = round_percent(share) if whole_percent else 100 * round(share * WEIGHTS) / WEIGHTS
    shares = {annotations[STABLE]: 100 - canary} | ({annotations[CANARY]: canary} if canary else {})
    return {version: part for version, part in shares.items() if part}


def _sum_weights(route: Json, versions: Mapping[str, str]) -> dict[str, float]:
    """Sum up the weights of the last rule: KServe's earlier rules are for single paths."""
    rules = route["spec"].get("rules") or [{}]
    backends = rules[-1].get("backendRefs") or []
    total = sum(backend.get("weight", 1) for backend in backends) or 1
    shares: dict[str, float] = {}
    for backend in backends:
        version = versions.get(backend["name"], f"of {backend['name']}")
        part = 100 * backend.get("weight", 1) / total
        if part:
            shares[version] = shares.get(version, 0) + part
    return shares


def find_route_problem(route: Json) -> str:
    """Find why a gateway that an HTTPRoute names does not follow it yet; empty if all gateways follow it.

    The route itself only says what was asked for. In its status, the controllers of its gateways report what they made
    of it, and which generation of it they have seen.
    """
    namespace, generation = route["metadata"]["namespace"], route["metadata"].get("generation", 0)
    reports = (route.get("status") or {}).get("parents") or []
    for parent in route["spec"].get("parentRefs") or []:
        where = f"Gateway {parent.get('namespace', namespace)}/{parent['name']}"
        about = [report["conditions"] for report in reports if _is_same_parent(report["parentRef"], parent, namespace)]
        refusals = [_find_refusal(conditions, generation) for conditions in about]
        if not refusals:
            return f"{where} says nothing of it: there is no such Gateway, or no controller looks after it"
        if all(refusals):
            return f"{where}: {refusals[0]}"
    return "" if route["spec"].get("parentRefs") else "it names no gateway"


def _is_same_parent(first: Json, second: Json, namespace: str) -> bool:
    """Whether two references lead to the same parent. namespace: the route's."""
    left, right = ({"namespace": namespace, **reference} for reference in (first, second))
    return all(left.get(key) == right.get(key) for key in ("namespace", "name", "sectionName", "port"))


def _find_refusal(conditions: list[Json], generation: int) -> str:
    """Find what keeps a controller from following this generation of a route; empty if nothing does."""
    by_type = {condition["type"]: condition for condition in conditions}
    for kind in ("Accepted", "ResolvedRefs"):
        condition = by_type.get(kind)
        if condition is None or condition.get("observedGeneration", 0) < generation:
            return "its controller has not seen the last change yet"
        if condition["status"] != "True":
            return f"{kind} is {condition['status']} ({condition.get('reason', '')}: {condition.get('message', '')})"
    return ""
