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

    def ask_clusters(self, announcer: DiscoveryResponder, lost: bool = False) -> None:
        answer = announcer.clusters(self.clusters_version)
        if answer and not lost:
            self.clusters = {one["name"] for one in answer["resources"]}
            self.predictors = {name for name in self.clusters if not name.endswith("+fallback")}
            self.clusters_version = answer["version_info"]

    def ask_routes(self, announcer: DiscoveryResponder, lost: bool = False) -> None:
        answer = announcer.routes(self.routes_version)
        if answer and not lost:
            self.routed = named(answer["resources"])
            self.routes_version = answer["version_info"]


def named(resources: Any) -> set[str]:
    """The clusters that routes name."""
    found = set()
    for route in resources[0]["virtual_hosts"][0]["routes"]:
        to = route.get("route", {})
        found |= {to["cluster"]} if "cluster" in to else set()
        found |= {one["name"] for one in to.get("weighted_clusters", {}).get("clusters", [])}
        found |= {one["cluster"] for one in to.get("request_mirror_policies", [])}
    return found


class Place:
    """An Envoy and a service, either of which may start afresh."""

    def __init__(self) -> None:
        self.now = 0.0
        self.envoy = FakeEnvoy()
        self.announcer = DiscoveryResponder(clock=self.clock, intake=INTAKE, access=lambda: EVERYONE)
        self.kept: list[Upstream] = []

    def clock(self) -> float:
        return self.now

    def step(self, random: Random) -> str:
        """Something that happens; its name."""
        what = random.choice(["state", "state", "settle", "settle", "clusters", "routes", "time", "envoy", "service"])
        if what == "state":
            self.announcer.splits = random.choice(STATES)
            self.kept = self.announcer.in_use
        elif what == "settle" and self.announcer.splits is not None:
            settle(self.envoy, self.announcer)
        elif what == "clusters":
            self.envoy.ask_clusters(self.announcer, lost=random.random() < 0.3)
        # An Envoy that starts asks for routes when it has clusters.
        elif what == "routes" and self.envoy.clusters_version:
            self.envoy.ask_routes(self.announcer, lost=random.random() < 0.3)
        elif what == "time":
            self.now += random.choice([1.0, LINGER])
        elif what == "envoy":
            self.envoy = FakeEnvoy()
        elif what == "service":
            before = self.announcer.splits
            self.announcer = DiscoveryResponder(self.kept, clock=self.clock, intake=INTAKE, access=lambda: EVERYONE)
            self.announcer.splits = random.choice([before, *STATES]) if before is not None else None
            self.kept = self.announcer.in_use
        return what


@pytest.mark.parametrize("seed", range(8))
def test_no_route_ever_names_a_cluster_that_envoy_lacks(seed: int) -> None:
    random = Random(seed)
    for _ in range(40):
        place, steps = Place(), []
        for _ in range(40):
            steps.append(place.step(random))
            # The list server's own cluster is there from the start.
            assert place.envoy.routed <= {*place.envoy.clusters, "fallback"}, steps
        if (splits := place.announcer.splits) is not None:
            settle(place.envoy, place.announcer)
            wanted = {name for split in splits.values() for name in names(split)}
            assert place.envoy.routed - {"fallback"} == {*wanted, "intake"}


def names(split: Split) -> set[str]:
    """The clusters that its routes name."""
    listed = "+fallback" if split.terms.popular else ""
    return {one.name if one.kind == "shadow" else one.name + listed for one in split.upstreams}


def settle(envoy: FakeEnvoy, announcer: DiscoveryResponder) -> None:
    for _ in range(2):
        envoy.ask_clusters(announcer)
    envoy.ask_routes(announcer)


def test_a_cluster_goes_a_minute_after_its_last_route() -> None:
    now = 0.0
    envoy, announcer = FakeEnvoy(), DiscoveryResponder(clock=lambda: now)
    announcer.splits = STATES[1]
    for _ in range(2):
        envoy.ask_clusters(announcer)
        envoy.ask_routes(announcer)
    assert (envoy.predictors, envoy.routed) == ({"a", "b"}, {"a", "b"})
    announcer.splits = STATES[0]
    now = LINGER + 1
    envoy.ask_clusters(announcer)
    assert envoy.predictors == {"a", "b"}
    envoy.ask_routes(announcer)
    envoy.ask_clusters(announcer)
    envoy.ask_routes(announcer)
    assert (envoy.predictors, envoy.routed) == ({"a", "b"}, {"a"})
    now = 2 * LINGER + 2
    envoy.ask_clusters(announcer)
    assert envoy.predictors == {"a"}


def test_what_envoy_holds_is_not_told_again() -> None:
    announcer = DiscoveryResponder()
    assert announcer.clusters("") is None
    assert announcer.routes("") is None
    announcer.splits = STATES[1]
    clusters = announcer.clusters("")
    assert clusters is not None
    assert announcer.routes("") is None, "clusters come first"
    assert announcer.clusters(clusters["version_info"]) is None
    routes = announcer.routes("")
    assert routes is not None
    assert announcer.routes(routes["version_info"]) is None


def test_what_envoy_does_not_take_is_noticed() -> None:
    announcer = DiscoveryResponder()
    announcer.splits = STATES[0]
    clusters = announcer.clusters("")
    assert clusters is not None
    assert announcer.refused == ""
    announcer.clusters("")
    assert announcer.refused == clusters["version_info"]
