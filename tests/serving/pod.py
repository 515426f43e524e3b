"""The process of a gateway's pod, run on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx

from endcap_serving.gateway.routes import SHOPPER_HEADER, TOTAL_WEIGHT, Json
from endcap_serving.local.predictors import find_free_port
from tests.serving.conftest import running

ASKED = {"instances": [{"items": []}]}


class Gateway:
    """An Envoy and its xDS service, as in a pod; `Gateway.process` is the one that the container runs."""

    def __init__(
        self, folder: Path, kubeconfig: Path, namespace: str, stack: ExitStack, dns_port: int | None = None
    ) -> None:
        self.folder, self._kubeconfig, self._namespace, self._stack = folder, kubeconfig, namespace, stack
        self.options: list[str] = []
        self._dns = {} if dns_port is None else {"dns_port": dns_port}
        self.xds_port, self.port, self.metrics_port = (find_free_port() for _ in range(3))
        # A socket's path is short.
        self.socket = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="endcap-"))) / "admin.sock"
        self.client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10))
        at_socket = httpx.HTTPTransport(uds=str(self.socket))
        self.admin = stack.enter_context(httpx.Client(transport=at_socket, base_url="http://admin", timeout=10))

    def begin(self, **options: float | str) -> subprocess.Popen[bytes]:
        """Start it, and wait for nothing."""
        words = ["--namespace", self._namespace, "--state", str(self.folder / "state.json"), *self.options]
        words += ["--host", "127.0.0.1", "--port", str(self.port), "--xds-port", str(self.xds_port)]
        words += ["--admin", str(self.socket), "--metrics-port", str(self.metrics_port)]
        for name, value in {"drain_wait": 0, "drain_limit": 5, **self._dns, **options}.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        module = "tests.serving.envoy_on_loopback" if self._dns else "endcap_serving.gateway.envoy"
        command = ["env", f"KUBECONFIG={self._kubeconfig}", sys.executable, "-m", module, *words]
        self.process = self._stack.enter_context(running(command, self.folder / "gateway.log"))
        return self.process

    def start(self, **options: float | str) -> Gateway:
        self.begin(**options)
        self.wait_until_ready()
        return self

    def signal_xds(self, number: signal.Signals) -> int:
        """Send a signal to the xDS service that runs now; its process id."""
        wait_for(lambda: self.xds() is not None, "the xDS service runs", 60)
        found = self.xds()
        assert found is not None
        os.kill(found, number)
        return found

    def xds_is_well(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.xds_port}/healthz", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    def xds(self) -> int | None:
        """The process id of the xDS service; None while there is none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            words = Path(f"/proc/{child}/cmdline")
            if words.exists() and b"endcap_serving.gateway.xds" in words.read_bytes():
                return int(child)
        return None

    def wait_until_ready(self) -> None:
        wait_for(self.ready, "the gateway is ready", 60)

    def ready(self) -> bool:
        try:
            return self.client.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, recommender: str, shopper: str = "") -> httpx.Response:
        headers = {SHOPPER_HEADER: shopper} if shopper else {}
        return self.client.post(f"/v1/models/{recommender}:predict", json=ASKED, headers=headers)

    def shares(self, recommender: str) -> dict[str, float]:
        """What Envoy itself says it routes by: each host's share of the shoppers who can be told apart."""
        for route in self.routes():
            to = route.get("route", {})
            if route["name"] != recommender or not to:
                continue
            if weighted := to.get("weighted_clusters"):
                return {_host(one["name"]): one["weight"] / TOTAL_WEIGHT for one in weighted["clusters"]}
            return {_host(to["cluster"]): 1.0}
        return {}

    def copies(self, recommender: str) -> dict[str, float]:
        """What Envoy itself says it copies: the share of the requests by the host that gets them."""
        for route in self.routes():
            for mirror in (
                route.get("route", {}).get("request_mirror_policies", ()) if route["name"] == recommender else ()
            ):
                share = mirror["runtime_fraction"]["default_value"]["numerator"] / TOTAL_WEIGHT
                return {_host(mirror["cluster"]): share}
        return {}

    def addresses(self, recommender: str) -> int:
        """Of its predictors, how many Envoy knows."""
        return self._gauge(f"^cluster.{recommender}/.*membership_total$")

    def passed_over(self, recommender: str) -> int:
        """Of its predictors, how many Envoy asks no more for a while."""
        return self._gauge(f"^cluster.{recommender}/.*ejections_active$")

    def _gauge(self, name: str) -> int:
        stats = self.admin.get("/stats", params={"format": "json", "filter": name}).json()["stats"]
        return sum(stat.get("value", 0) for stat in stats)

    def routes(self) -> list[Json]:
        """The routes that Envoy has, none before it was told any."""
        dump = self.admin.get("/config_dump?resource=dynamic_route_configs").json().get("configs", [])
        return list(dump[0]["route_config"]["virtual_hosts"][0]["routes"]) if dump else []


class Shoppers:
    """Ask without a pause for the length of a block, as shoppers and a kubelet do: by a connection that is kept, and by
    new ones. `answers`: path, status and seconds of each."""

    def __init__(self, gate: Gateway, recommender: str) -> None:
        self.answers: list[tuple[str, int, float]] = []
        self._address, self._path = str(gate.client.base_url), f"/v1/models/{recommender}:predict"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(kept,)) for kept in (True, False)]

    def _ask(self, kept: bool) -> None:
        headers = {} if kept else {"connection": "close"}
        with httpx.Client(base_url=self._address, timeout=10) as client:
            while not self._stop.is_set():
                for answer in (
                    client.get("/ready", headers=headers),
                    client.post(self._path, json=ASKED, headers=headers),
                ):
                    self.answers.append((answer.url.path, answer.status_code, answer.elapsed.total_seconds()))

    def __enter__(self) -> Shoppers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _host(cluster: str) -> str:
    """The host in a cluster's name: recommender/host:port."""
    return cluster.split("/")[1].rpartition(":")[0]


def wait_for(met: Callable[[], bool], what: str, patience: float = 90.0) -> float:
    """Poll until it is met; the seconds that it took."""
    start = time.monotonic()
    while not met():
        assert time.monotonic() - start < patience, what
        time.sleep(0.01)
    return time.monotonic() - start
