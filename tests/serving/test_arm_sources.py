"""What a cluster's arms counted: a real Envoy and predictors' own counters, by their pages and by a real Prometheus."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from endcap.cluster import Cluster, connect
from endcap.cluster.kinds import INFERENCE_SERVICE, POD, ObjectKind
from endcap.experiments.operational_counts import ArmCounts
from endcap.experiments.operations import ArmSources, OperationsReader, PageReader, PrometheusReader
from endcap.store import Store
from endcap_serving.gateway.arm_sources import ClusterArms, make_request_watcher
from endcap_serving.gateway.routes import SHOPPER_HEADER, VARIANT_HEADER, GatewaySettings
from endcap_serving.local.predictors import find_free_port
from tests.experiments.rollouts import make_policy, make_state
from tests.serving import prometheus_server
from tests.serving.api_server import ApiServer, inference_service
from tests.serving.conftest import running
from tests.serving.name_server import NameServer
from tests.serving.pod import Gateway, wait_for
from tests.serving.prometheus_server import Prometheus

PORT = find_free_port()
HOSTS = {"1": "127.0.9.1", "2": "127.0.9.2"}
STEP = timedelta(seconds=2)


class Place:
    """A gateway, an API server, and predictors that may be started again."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.api = ApiServer()
        self.api.put(inference_service("shoes", 0.5, port=PORT))
        names = stack.enter_context(NameServer())
        stack.callback(names.shutdown)
        names.addresses = {f"shoes-v{version}-predictor.shop.svc": [host] for version, host in HOSTS.items()}
        self.kubeconfig = self.api.kubeconfig(folder / "kubeconfig")
        self._pods: dict[str, ExitStack] = {}
        for version in HOSTS:
            self.start_predictor(version)
        self.gateway = Gateway(folder, self.kubeconfig, "shop", stack, names.port).start()
        wait_for(lambda: len(self.gateway.shares("shoes")) == 2, "the canary has a share")
        self.sent = {arm: Counter[int]() for arm in ("stable", "canary")}

    def start_predictor(self, version: str) -> None:
        own = self._pods[version] = self._stack.enter_context(ExitStack())
        words = [sys.executable, "-m", "tests.serving.counting_predictor", HOSTS[version], str(PORT), "shoes", version]
        own.enter_context(running(words, self.folder / f"predictor-{version}.log"))

    def end_predictor(self, version: str) -> None:
        self._pods[version].close()

    def restart_predictor(self, version: str) -> None:
        self.end_predictor(version)
        self.start_predictor(version)
        self.wait_for_both()

    def wait_for_both(self) -> None:
        def answers() -> bool:
            replies = [self.gateway.ask("shoes", f"s{number}") for number in range(10)]
            variants = {(reply.status_code, reply.headers[VARIANT_HEADER]) for reply in replies}
            return variants == {(200, "stable"), (200, "canary")}

        wait_for(answers, "both versions answer", 90)

    def send(self, requests: int, answer: int = 200) -> None:
        """Send requests of many shoppers. Only the canary answers with another status."""
        for number in range(requests):
            headers = {SHOPPER_HEADER: f"s{number}", "x-answer": "200"}
            reply = self.gateway.client.post("/v1/models/shoes:predict", json={}, headers=headers)
            if answer != 200 and reply.headers[VARIANT_HEADER] == "canary":
                headers["x-answer"] = str(answer)
                self.sent["canary"][reply.status_code] += 1
                reply = self.gateway.client.post("/v1/models/shoes:predict", json={}, headers=headers)
            self.sent[reply.headers[VARIANT_HEADER]][reply.status_code] += 1

    def has_list(self) -> bool:
        """Whether Envoy has the list behind the predictors."""
        targets = [route.get("route", {}) for route in self.gateway.routes()]
        clusters = next(target["weighted_clusters"] for target in targets if "weighted_clusters" in target)["clusters"]
        return any(cluster["name"].endswith("+fallback") for cluster in clusters)

    def connect(self) -> Cluster:
        return connect(kubeconfig=str(self.kubeconfig))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path_factory.mktemp("place"), stack)


class Counts:
    """Adds up what a reader finds."""

    def __init__(self, reader: OperationsReader, arms: Mapping[str, ArmSources]) -> None:
        self._reader, self.arms = reader, dict(arms)
        self.sums = {arm: Counter[str]() for arm in arms}
        self.problems: Mapping[str, str] = {}

    def read(self) -> None:
        reading = self._reader.read(self.arms, datetime.now(UTC))
        self.problems = reading.problems
        for window in reading.windows:
            for arm, counts in window.arms.items():
                self.add(arm, counts)

    def add(self, arm: str, counts: ArmCounts) -> None:
        assert min(counts.requests, counts.errors, counts.rankings) >= 0
        self.sums[arm].update(requests=counts.requests, errors=counts.errors, rankings=counts.rankings)

    def wait_until(self, arm: str, **sums: int) -> None:
        def are_there() -> bool:
            self.read()
            return not self.problems and all(self.sums[arm][name] == value for name, value in sums.items())

        wait_for(are_there, f"{arm}: {sums}", 90)


class Shop:
    """The place, with a Prometheus that scrapes it, and what was counted since the begin."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.prometheus = place, Prometheus(folder)
        self.prometheus.put("gateway-a", f"127.0.0.1:{place.gateway.metrics_port}", "/stats/prometheus")
        for version, host in HOSTS.items():
            self.prometheus.put(f"shoes-v{version}-a", f"{host}:{PORT}")
        self.prometheus.start()
        arms = ClusterArms(place.connect(), "shop", "shoes", "shop", asks_pods=False).list_sources()
        self.counts = Counts(PrometheusReader(self.prometheus.address, STEP, timeout=10), arms)
        place.send(20)  # so that each counter is there

    def wait_until_all_is_counted(self) -> None:
        """Wait until each arm has series, and what was sent before is in a window that is over."""
        self.prometheus.wait_until_scraped()
        time.sleep(2 * STEP.total_seconds())
        wait_for(lambda: self.counts.read() is None and not self.counts.problems, "each arm has series", 90)

    def check_counts_of(self, requests: int, answer: int = 200) -> None:
        """Send requests. Exactly these must be counted."""
        self.wait_until_all_is_counted()
        begun = {arm: Counter(sums) for arm, sums in self.counts.sums.items()}
        self.place.sent = {arm: Counter() for arm in begun}
        self.place.send(requests, answer)
        for arm, sent in self.place.sent.items():
            expected = {"requests": sent.total(), "errors": sent[500], "rankings": sent[200]}
            assert sent.total() > requests / 4
            self.counts.wait_until(arm, **{name: begun[arm][name] + count for name, count in expected.items()})


@pytest.fixture
def shop(place: Place, tmp_path: Path) -> Iterator[Shop]:
    if prometheus_server.PROGRAM is None:
        pytest.skip("no `prometheus` on the PATH: install Debian's package prometheus")
    shop = Shop(place, tmp_path)
    yield shop
    shop.prometheus.stop()


@pytest.mark.slow
def test_prometheus_tells_what_the_arms_of_a_cluster_answered(shop: Shop) -> None:
    assert {arm: sources.version for arm, sources in shop.counts.arms.items()} == {"stable": "1", "canary": "2"}
    shop.check_counts_of(80, answer=500)
    assert shop.place.sent["canary"][500] > 20
    # A container that is started again in its pod counts from nothing, and all that it shows then is new.
    shop.place.restart_predictor("2")
    shop.check_counts_of(40)
    # A pod that takes another's place.
    shop.prometheus.drop("shoes-v2-a")
    shop.prometheus.wait_until_scraped()
    shop.place.restart_predictor("2")
    shop.prometheus.put("shoes-v2-b", f"{HOSTS['2']}:{PORT}")
    shop.check_counts_of(40)


@pytest.mark.slow
def test_requests_that_no_predictor_answered_are_errors_of_the_gateway(shop: Shop) -> None:
    shop.wait_until_all_is_counted()
    begun = Counter(shop.counts.sums["canary"])
    shop.place.sent = {arm: Counter() for arm in shop.place.sent}
    shop.place.end_predictor("2")
    try:
        shop.place.send(30)
        sent = shop.place.sent["canary"]
        assert sent[503] == sent.total() > 5

        def are_counted() -> bool:
            shop.counts.read()
            return shop.counts.sums["canary"]["errors"] == begun["errors"] + sent.total()

        wait_for(are_counted, "each error is counted", 90)
        wait_for(lambda: shop.counts.read() is None and len(shop.counts.problems) == 1, "the pod is missed", 90)
        assert list(shop.counts.problems) == ["prometheus: canary"]
    finally:
        shop.place.start_predictor("2")
        shop.place.wait_for_both()


@pytest.mark.slow
def test_a_prometheus_that_was_away_is_named_and_nothing_is_lost(shop: Shop, store: Store) -> None:
    shop.wait_until_all_is_counted()
    begun = Counter(shop.counts.sums["stable"])
    watcher = make_request_watcher(
        store, "shoes", shop.place.connect(), "shop", prometheus=shop.prometheus.address, step=STEP
    )
    policy = make_policy()
    state = make_state(policy, recommender="shoes", version="2")
    assert not watcher.poll(state, policy)
    shop.prometheus.stop()
    shop.place.sent = {arm: Counter() for arm in shop.place.sent}
    shop.place.send(30)

    def is_missed() -> bool:
        watcher.poll(state, policy)
        return bool(watcher.measure(state, policy, datetime.now(UTC))[1])

    wait_for(is_missed, "Prometheus is missed", 90)
    assert list(watcher.measure(state, policy, datetime.now(UTC))[1]) == ["prometheus"]
    # The decision holds by it: `source-unreadable`.
    shop.counts.read()
    assert list(shop.counts.problems) == ["prometheus"]
    shop.prometheus.start()
    shop.counts.wait_until("stable", requests=begun["requests"] + shop.place.sent["stable"].total())
    wait_for(lambda: not is_missed(), "Prometheus is back", 90)


def make_pod(name: str, address: str, version: str = "", *, ready: bool = True) -> dict[str, Any]:
    status = {"podIP": address, "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"metadata": {"name": name, "annotations": {"endcap.dev/version": version}}, "status": status}


class PodCluster:
    """A cluster's answers: the InferenceServices, and pods by namespace and label selector."""

    def __init__(self, service: dict[str, Any], predictors: list[Any], gateways: list[Any]) -> None:
        self._service, self._predictors, self._gateways = service, predictors, gateways

    def list_objects(self, kind: ObjectKind, namespace: str, labels: str) -> list[dict[str, Any]]:
        if kind is INFERENCE_SERVICE:
            return [self._service]
        assert kind is POD
        return {"shop": self._predictors, "edge": self._gateways}[namespace]


def test_without_prometheus_the_ready_pods_of_each_version_are_asked() -> None:
    predictors = [make_pod("a", "10.0.0.1", "1"), make_pod("b", "10.0.0.2", "2"), make_pod("c", "fd00::3", "2")]
    predictors.append(make_pod("d", "10.0.0.4", "2", ready=False))
    gateways = [make_pod("e", "10.0.1.1"), make_pod("f", "10.0.1.2")]
    cluster = cast(Cluster, PodCluster(inference_service("shoes", 0.5, port=80), predictors, gateways))
    arms = ClusterArms(cluster, "shop", "shoes", "edge", asks_pods=True).list_sources()
    assert arms["stable"].predictors == ("http://10.0.0.1:8080",)
    assert arms["canary"].predictors == ("http://10.0.0.2:8080", "http://[fd00::3]:8080")
    assert arms["canary"].gateways == ("http://10.0.1.1:9902", "http://10.0.1.2:9902")
    assert arms["canary"].cluster == "shoes/shoes-v2-predictor_shop_svc_80"
    # Without a gateway's page, errors are those that predictors count themselves.
    cluster = cast(Cluster, PodCluster(inference_service("shoes", 0.5, port=80), predictors, []))
    assert ClusterArms(cluster, "shop", "shoes", "edge", asks_pods=True).list_sources()["canary"].cluster is None


@pytest.mark.parametrize("terms", [GatewaySettings(popular=("p1",)), GatewaySettings()], ids=["list", "no-list"])
@pytest.mark.slow
def test_the_pages_of_pods_tell_the_same(place: Place, terms: GatewaySettings) -> None:
    place.api.put(inference_service("shoes", 0.5, port=PORT, terms=terms))
    wait_for(lambda: place.has_list() == terms.offers_list, "the gateway follows")
    place.wait_for_both()
    sources = ClusterArms(place.connect(), "shop", "shoes", "shop", asks_pods=False).list_sources()
    gateways = (f"http://127.0.0.1:{place.gateway.metrics_port}",)
    arms = {
        arm: ArmSources(entry.version, (f"http://{HOSTS[str(entry.version)]}:{PORT}",), gateways, cluster=entry.cluster)
        for arm, entry in sources.items()
    }
    counts = Counts(PageReader(), arms)
    counts.read()
    place.sent = {arm: Counter() for arm in place.sent}
    place.send(60, answer=500)
    for arm, sent in place.sent.items():
        counts.wait_until(arm, requests=sent.total(), errors=sent[500], rankings=sent[200])
    assert place.sent["canary"][500] > 10
