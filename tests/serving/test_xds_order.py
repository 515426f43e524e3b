"""The order in which Envoy is told of clusters and routes, against an Envoy that asks in any order."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.policy import EVERYTHING
from endcap_serving.gateway.discovery import LINGER, DiscoveryResponder, Splits
from endcap_serving.gateway.routes import GatewaySettings, Split, Upstream

A, B, C = (Upstream(name, 80, f"{name}.shop.svc") for name in "abc")
SHADOW = Upstream("shadow", 80, "shadow.shop.svc", kind="shadow")
INTAKE = Upstream("intake", 80, "intake.shop.svc", kind="intake")
EVERYONE = Access(EVERYTHING)
LISTED = GatewaySettings(popular=("p1", "p2"))
STATES: list[Splits] = [
    {"shoes": Split(A)},
    {"shoes": Split(A, B, 0.1, "5a17")},
    {"shoes": Split(A, B, 0.3, "5a17")},
    {"shoes": Split(B)},
    {"shoes": Split(B, terms=LISTED)},
    {"shoes": Split(B, A, 0.2, "07e5", SHADOW, 0.5, LISTED)},
    {"shoes": Split(B, C, 1.0, "07e5"), "hats": Split(A)},
    {"shoes": Split(None)},
    {"shoes": Split(None, terms=LISTED)},
    {},
]


class FakeEnvoy:
    """Takes what it is answered, unless the answer is lost; a route to a cluster that it lacks is a failure."""

    def __init__(self) -> None:
        self.clusters: set[str] = set()
        self.predictors: set[str] = set()
        self.routed: set[str] = set()
        self.clusters_version = self.routes_version = ""

    def ask_clusters(self, responder: DiscoveryResponder, lost: bool = False) -> None:
        answer = responder.answer_clusters(self.clusters_version)
        if answer and not lost:
            self.clusters = {one["name"] for one in answer["resources"]}
            self.predictors = {name for name in self.clusters if not name.endswith("+fallback")}
            self.clusters_version = answer["version_info"]

    def ask_routes(self, responder: DiscoveryResponder, lost: bool = False) -> None:
        answer = responder.answer_routes(self.routes_version)
        if answer and not lost:
            self.routed = list_routed_clusters(answer["resources"])
            self.routes_version = answer["version_info"]


def list_routed_clusters(resources: Any) -> set[str]:
    """The clusters that routes name."""
    found = set()
    for route in resources[0]["virtual_hosts"][0]["routes"]:
        to = route.get("route", {})
        found |= {to["cluster"]} if "cluster" in to else set()
        found |= {one["name"] for one in to.get("weighted_clusters", {}).get("clusters", [])}
        found |= {one["cluster"] for one in to.get("request_mirror_policies", [])}
    return found


class GatewaySimulation:
    """An Envoy and a service, either of which may start afresh."""

    def __init__(self) -> None:
        self.now = 0.0
        self.envoy = FakeEnvoy()
        self.responder = DiscoveryResponder(clock=self.clock, intake=INTAKE, access=lambda: EVERYONE)
        self.kept: list[Upstream] = []

    def clock(self) -> float:
        return self.now

    def step(self, random: Random) -> str:
        """Something that happens; its name."""
        what = random.choice(["state", "state", "settle", "settle", "clusters", "routes", "time", "envoy", "service"])
        if what == "state":
            self.responder.splits = random.choice(STATES)
            self.kept = self.responder.in_use
        elif what == "settle" and self.responder.splits is not None:
            settle(self.envoy, self.responder)
        elif what == "clusters":
            self.envoy.ask_clusters(self.responder, lost=random.random() < 0.3)
        # An Envoy that starts asks for routes when it has clusters.
        elif what == "routes" and self.envoy.clusters_version:
            self.envoy.ask_routes(self.responder, lost=random.random() < 0.3)
        elif what == "time":
            self.now += random.choice([1.0, LINGER])
        elif what == "envoy":
            self.envoy = FakeEnvoy()
        elif what == "service":
            before = self.responder.splits
            self.responder = DiscoveryResponder(self.kept, clock=self.clock, intake=INTAKE, access=lambda: EVERYONE)
            self.responder.splits = random.choice([before, *STATES]) if before is not None else None
            self.kept = self.responder.in_use
        return what


@pytest.mark.parametrize("seed", range(8))
def test_no_route_ever_names_a_cluster_that_envoy_lacks(seed: int) -> None:
    random = Random(seed)
    for _ in range(40):
        place, steps = GatewaySimulation(), []
        for _ in range(40):
            steps.append(place.step(random))
            # The list server's own cluster is there from the start.
            assert place.envoy.routed <= {*place.envoy.clusters, "fallback"}, steps
        if (splits := place.responder.splits) is not None:
            settle(place.envoy, place.responder)
            wanted = {name for split in splits.values() for name in list_split_clusters(split)}
            assert place.envoy.routed - {"fallback"} == {*wanted, "intake"}


def list_split_clusters(split: Split) -> set[str]:
    """The clusters that its routes name."""
    listed = "+fallback" if split.terms.popular else ""
    return {one.name if one.kind == "shadow" else one.name + listed for one in split.upstreams}


def settle(envoy: FakeEnvoy, responder: DiscoveryResponder) -> None:
    for _ in range(2):
        envoy.ask_clusters(responder)
    envoy.ask_routes(responder)


def test_a_cluster_goes_a_minute_after_its_last_route() -> None:
    now = 0.0
    envoy, responder = FakeEnvoy(), DiscoveryResponder(clock=lambda: now)
    responder.splits = STATES[1]
    for _ in range(2):
        envoy.ask_clusters(responder)
        envoy.ask_routes(responder)
    assert (envoy.predictors, envoy.routed) == ({"a", "b"}, {"a", "b"})
    responder.splits = STATES[0]
    now = LINGER + 1
    envoy.ask_clusters(responder)
    assert envoy.predictors == {"a", "b"}
    envoy.ask_routes(responder)
    envoy.ask_clusters(responder)
    envoy.ask_routes(responder)
    assert (envoy.predictors, envoy.routed) == ({"a", "b"}, {"a"})
    now = 2 * LINGER + 2
    envoy.ask_clusters(responder)
    assert envoy.predictors == {"a"}


def test_envoy_gets_no_version_twice() -> None:
    responder = DiscoveryResponder()
    assert responder.answer_clusters("") is None
    assert responder.answer_routes("") is None
    responder.splits = STATES[1]
    clusters = responder.answer_clusters("")
    assert clusters is not None
    assert responder.answer_routes("") is None, "clusters come first"
    assert responder.answer_clusters(clusters["version_info"]) is None
    routes = responder.answer_routes("")
    assert routes is not None
    assert responder.answer_routes(routes["version_info"]) is None


def test_a_refused_version_is_noticed() -> None:
    responder = DiscoveryResponder()
    responder.splits = STATES[0]
    clusters = responder.answer_clusters("")
    assert clusters is not None
    assert responder.refused_version == ""
    responder.answer_clusters("")
    assert responder.refused_version == clusters["version_info"]
