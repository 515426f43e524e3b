"""What a cluster says of its traffic. An HTTPRoute is in force only where its gateway's controller says so."""

from __future__ import annotations

from typing import Any

import pytest

from endcap.deploy.knative import plan_knative
from endcap.deploy.traffic import Traffic, find_route_problem, read_knative_traffic
from tests.deploy.fake_kserve import recommender, state

Json = dict[str, Any]
EDGE = {"name": "edge", "namespace": "infra"}


def route(*reports: Json) -> Json:
    metadata = {"name": "endcap-shoes", "namespace": "shop", "generation": 3}
    return {"metadata": metadata, "spec": {"parentRefs": [EDGE]}, "status": {"parents": list(reports)}}


def report(parent: Json = EDGE, generation: int = 3, **conditions: str) -> Json:
    entries = [
        {"type": kind, "status": str(not reason), "reason": reason, "message": "why", "observedGeneration": generation}
        for kind, reason in ({"Accepted": "", "ResolvedRefs": ""} | conditions).items()
    ]
    return {"parentRef": parent, "controllerName": "gateway.example/controller", "conditions": entries}


@pytest.mark.parametrize(
    ("reports", "says"),
    [
        ([report()], ""),
        ([report(Accepted="NotAllowedByListeners"), report()], ""),
        ([], "Gateway infra/edge says nothing of it"),
        ([report({**EDGE, "namespace": "other"})], "Gateway infra/edge says nothing of it"),
        ([report(generation=2)], "Gateway infra/edge: its controller has not seen the last change yet"),
        ([report(Accepted="NotAllowedByListeners")], "Accepted is False (NotAllowedByListeners: why)"),
        ([report(ResolvedRefs="BackendNotFound")], "ResolvedRefs is False (BackendNotFound: why)"),
    ],
)
def test_what_keeps_a_route_from_being_in_force(reports: list[Json], says: str) -> None:
    problem = find_route_problem(route(*reports))
    assert (says in problem) if says else (problem == "")


def test_it_is_said_beside_the_shares() -> None:
    assert str(Traffic("HTTPRoute endcap-shoes", {"1": 100}, "why")).endswith("100 % version 1, not in force: why")


class EmptyCluster:
    def find(self, *_: Any) -> None:
        return None


def test_an_inference_service_that_kserve_has_not_seen_yet_has_no_traffic() -> None:
    service = plan_knative(recommender(mode="Knative"), state("1"), None, "shop", room=True).service
    cluster: Any = EmptyCluster()
    assert "status" not in service
    assert read_knative_traffic(cluster, service).shares == {}
