"""Where the counts of guardrails come from: pages of predictors and of Envoy, or Prometheus's HTTP API.

A source that cannot be read is a problem with a name, and never a breach: its counts are missing, and what it counted
meanwhile is left out, since it belongs to no window.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx

from endcap.errors import UserError
from endcap.experiments.counters import (
    ENVOY_SAMPLE,
    PREDICTOR_SAMPLES,
    SERVED_SAMPLE,
    STARTED_SAMPLE,
    CounterDifferences,
    Series,
    find_versions,
    read_page,
    sum_cluster,
    sum_predictors,
)
from endcap.experiments.operational_counts import ArmCounts, OperationsWindow

TIMEOUT = 2.0
"""Seconds that a source may take."""
LARGEST_PAGE = 16 * 2**20
ENVOY_PAGE = "/stats/prometheus?filter=upstream_rq_"
_PROCESS = ("namespace", "pod", "instance")
"""Labels of Prometheus that tell processes apart; a label that a series lacks counts as empty."""
_MOST_STEPS = 1000
"""Steps that Prometheus is asked for at once; it allows 11,000."""


@dataclass(frozen=True)
class ArmSources:
    """Where one arm's counts are.

    Attributes
    ----------
    version
        The version that the arm serves; None if it is not compared.
    predictors
        For pages: the addresses of its predictors, such as ``http://127.0.0.1:8081``.
    gateways
        For pages: the addresses of all Envoys, ``http://host:port`` or ``unix:PATH`` of an admin socket.
    selector
        For Prometheus: what selects series among which its predictors' are, such as ``{namespace="shop"}``.
    model
        For Prometheus: the name by which its predictors serve. With it and `version`, only series of predictors count
        that served this version at the moment, whatever their pods were called.
    cluster
        The name by which Envoy counts its cluster. None: errors are those that predictors count themselves, and a
        request that no predictor answered is not seen.
    """

    version: str | None = None
    predictors: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    selector: str = ""
    model: str = ""
    cluster: str | None = None


@dataclass(frozen=True)
class OperationsReading:
    """What one reading found: windows in their order, and sources that could not be read, with the reason."""

    windows: tuple[OperationsWindow, ...]
    problems: Mapping[str, str] = field(default_factory=dict)


class OperationsReader(Protocol):
    """Reads what all arms counted since the reading before."""

    def read(self, arms: Mapping[str, ArmSources], now: datetime) -> OperationsReading:
        """Return the windows since the reading before. The first reading has none.

        Parameters
        ----------
        arms
            The arms and their sources of this moment.
        now
            The moment, UTC.
        """
        ...


class PageReader:
    """Reads the pages of predictors, and of Envoys, all at the same moment. One window lies between two readings.

    Parameters
    ----------
    timeout
        Seconds that a page may take.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._differences = CounterDifferences()
        self._last: datetime | None = None

    def read(self, arms: Mapping[str, ArmSources], now: datetime) -> OperationsReading:
        """Return the window since the reading before; see `OperationsReader`."""
        addresses = {address: "/metrics" for arm in arms.values() for address in arm.predictors}
        addresses |= {address: ENVOY_PAGE for arm in arms.values() if arm.cluster for address in arm.gateways}
        with ThreadPoolExecutor(max(1, len(addresses))) as pool:
            pages = dict(zip(addresses, pool.map(partial(_ask_page, self._timeout), *_unzip(addresses)), strict=True))
        problems = {address: page for address, page in pages.items() if isinstance(page, str)}
        problems |= _find_other_versions(arms, pages)
        rises: dict[str, dict[Series, float]] = {}
        for address, page in pages.items():
            if address in problems or isinstance(page, str):
                self._differences.forget(address)
            else:
                rises[address] = self._differences.take(address, page)
        begin, self._last = self._last, now
        if begin is None or begin >= now:
            return OperationsReading((), problems)
        counts = {name: self._count_arm(arm, rises) for name, arm in arms.items()}
        known = {name: count for name, count in counts.items() if count is not None}
        return OperationsReading((OperationsWindow(begin, now, known),), problems)

    def _count_arm(self, arm: ArmSources, rises: Mapping[str, Mapping[Series, float]]) -> ArmCounts | None:
        read = [rises[address] for address in arm.predictors if address in rises]
        return _combine(arm, read, _merge([rises[address] for address in arm.gateways if address in rises]))


class PrometheusReader:
    """Asks Prometheus for what the arms counted, step by step.

    Parameters
    ----------
    address
        Of Prometheus, such as ``http://prometheus.monitoring:9090``.
    step
        The length of a window: at least twice the interval in which Prometheus reads the pages, or windows of
        different arms do not mean the same seconds.
    timeout
        Seconds that an answer may take.
    envoy_selector
        What selects Envoy's series, such as ``{namespace="shop"}``. Empty: the names of the arms' clusters do.
    headers
        Sent with each question, such as an authorization.
    """

    def __init__(
        self,
        address: str,
        step: timedelta = timedelta(seconds=30),
        timeout: float = TIMEOUT,
        envoy_selector: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._address = address.rstrip("/")
        self._step = step
        self._timeout = timeout
        self._envoy_selector = envoy_selector
        self._headers = dict(headers or {})
        self._differences = CounterDifferences()
        self._processes: set[str] = set()
        self._problems: dict[str, str] = {}
        self._last: datetime | None = None

    def read(self, arms: Mapping[str, ArmSources], now: datetime) -> OperationsReading:
        """Return the whole steps since the reading before; see `OperationsReader`.

        If Prometheus is away, the next reading goes on where this one began, so that nothing is lost.
        """
        step = self._step.total_seconds()
        end = datetime.fromtimestamp(math.floor(now.timestamp() / step) * step, UTC)
        begin = end if self._last is None else self._last + self._step
        begin = max(begin, end - _MOST_STEPS * self._step)
        if begin > end:
            # The next step is not over. What was wrong at the last one still is, as far as anybody knows.
            return OperationsReading((), self._problems)
        queries = {arm: _select_arm(sources) for arm, sources in arms.items()}
        if clusters := sorted({sources.cluster for sources in arms.values() if sources.cluster}):
            pattern = "|".join(re.escape(cluster) for cluster in clusters)
            names = f'__name__="{ENVOY_SAMPLE}", envoy_cluster_name=~`{pattern}`'
            queries["gateway"] = _select(self._envoy_selector, names)
        try:
            ranges = {name: self._ask(query, begin, end) for name, query in queries.items()}
        except (httpx.HTTPError, UserError, ValueError, KeyError, TypeError) as error:
            self._problems = {"prometheus": _explain(error)}
            return OperationsReading((), self._problems)
        windows: list[OperationsWindow] = []
        moment = begin
        while moment <= end:
            rises = {name: self._take(name, steps.get(moment, {})) for name, steps in ranges.items()}
            if self._last is not None:
                counts = {name: _combine(arm, rises[name], _merge(rises.get("gateway"))) for name, arm in arms.items()}
                known = {name: count for name, count in counts.items() if count is not None}
                windows.append(OperationsWindow(moment - self._step, moment, known))
            self._last = moment
            moment += self._step
        silent = [name for name in queries if end not in ranges[name]]
        self._problems = {f"prometheus: {name}": "it has no series" for name in silent}
        return OperationsReading(tuple(windows), self._problems)

    def _take(self, name: str, processes: Mapping[str, Mapping[Series, float]]) -> list[dict[Series, float]]:
        known = {process for process in self._processes if process.startswith(f"{name} ")}
        current = {f"{name} {process}": samples for process, samples in processes.items()}
        for process in known - current.keys():
            self._differences.forget(process)
        self._processes = (self._processes - known) | current.keys()
        return [self._differences.take(process, samples) for process, samples in current.items()]

    def _ask(self, query: str, begin: datetime, end: datetime) -> dict[datetime, dict[str, dict[Series, float]]]:
        """Return the samples of each process by the step's moment."""
        values = {
            "query": query,
            "start": f"{begin.timestamp():.3f}",
            "end": f"{end.timestamp():.3f}",
            "step": f"{self._step.total_seconds():g}",
        }
        with httpx.Client(timeout=self._timeout, headers=self._headers) as client:
            text = _read_bounded(client, f"{self._address}/api/v1/query_range", self._timeout, values)
        reply: Any = httpx.Response(200, text=text).json()
        if reply["status"] != "success":
            raise UserError(f"Prometheus answers: {reply.get('error')}", code="experiments.bad-metrics")
        steps: dict[datetime, dict[str, dict[Series, float]]] = {}
        for series in reply["data"]["result"]:
            labels = dict(series["metric"])
            name = labels.pop("__name__")
            process = "/".join(labels.get(label, "") for label in _PROCESS)
            key = (name, tuple(sorted(labels.items())))
            for seconds, value in series["values"]:
                moment = datetime.fromtimestamp(float(seconds), UTC)
                steps.setdefault(moment, {}).setdefault(process, {})[key] = float(value)
        return steps


def _select_arm(arm: ArmSources) -> str:
    """Return the query for an arm's predictors. `and` keeps the series of the left side, as they are."""
    pattern = "|".join((*PREDICTOR_SAMPLES, STARTED_SAMPLE))
    series = _select(arm.selector, f'__name__=~"{pattern}"')
    if not arm.model or arm.version is None:
        return series
    served = f'__name__="{SERVED_SAMPLE}", model="{arm.model}", version="{arm.version}", variant!="shadow"'
    return f"{series} and on ({', '.join(_PROCESS)}) {_select(arm.selector, served)}"


def _select(selector: str, names: str) -> str:
    inner = selector.strip().removeprefix("{").removesuffix("}").strip().removesuffix(",")
    return f"{{{names}{', ' if inner else ''}{inner}}}"


def _merge(processes: Sequence[Mapping[Series, float]] | None) -> dict[Series, float] | None:
    """Add up the rises of several Envoys. None if none was read."""
    if not processes:
        return None
    total: dict[Series, float] = {}
    for process in processes:
        for series, value in process.items():
            total[series] = total.get(series, 0.0) + value
    return total


def _combine(
    arm: ArmSources, predictors: Sequence[Mapping[Series, float]], gateway: Mapping[Series, float] | None
) -> ArmCounts | None:
    """Return an arm's counts: errors as the gateway counts them, if it is asked. None if they are not known.

    Where no predictor can be asked any more, what shoppers got of the gateway still counts.
    """
    if arm.cluster is None:
        return sum_predictors(predictors) if predictors else None
    if gateway is None:
        return None
    requests, errors = sum_cluster(gateway, arm.cluster)
    return replace(sum_predictors(predictors), requests=requests, errors=errors)


def _unzip(addresses: Mapping[str, str]) -> tuple[list[str], list[str]]:
    return list(addresses), list(addresses.values())


def _find_other_versions(arms: Mapping[str, ArmSources], pages: Mapping[str, Any]) -> dict[str, str]:
    """Return addresses at which another version answers than that of the arm."""
    problems = {}
    for arm in arms.values():
        for address in arm.predictors:
            page = pages[address]
            versions = set() if isinstance(page, str) else find_versions(page)
            if arm.version is not None and versions and versions != {arm.version}:
                problems[address] = f"it serves version {', '.join(sorted(versions))}, not {arm.version}"
    return problems


def _ask_page(timeout: float, address: str, path: str) -> dict[Series, float] | str:
    """Return the samples of a page, or why it cannot be read."""
    try:
        if not address.startswith("unix:"):
            with httpx.Client(timeout=timeout) as client:
                return read_page(_read_bounded(client, f"{address.rstrip('/')}{path}", timeout))
        # A socket's address is at most 107 bytes. A longer path is named from its folder.
        socket = Path(address.removeprefix("unix:"))
        folder = os.open(socket.parent, os.O_RDONLY)
        try:
            transport = httpx.HTTPTransport(uds=f"/proc/self/fd/{folder}/{socket.name}")
            with httpx.Client(timeout=timeout, transport=transport) as client:
                return read_page(_read_bounded(client, f"http://localhost{path}", timeout))
        finally:
            os.close(folder)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UserError) as error:
        return _explain(error)


def _read_bounded(client: httpx.Client, url: str, timeout: float, query: Mapping[str, str] | None = None) -> str:
    """Read a text of a bounded size in a bounded time. httpx bounds only the wait for each piece."""
    end = time.monotonic() + timeout
    pieces: list[bytes] = []
    size = 0
    with client.stream("GET", url, params=query) as reply:
        for piece in reply.iter_bytes():
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST_PAGE:
                raise UserError(f"the page has more than {LARGEST_PAGE} bytes", code="experiments.bad-metrics")
            if time.monotonic() > end:
                raise httpx.ReadTimeout(f"the page took more than {timeout:g} s")
        if reply.status_code != 200:
            raise UserError(f"it answers with status {reply.status_code}", code="experiments.bad-metrics")
    return b"".join(pieces).decode(errors="replace")


def _explain(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "it does not answer in time"
    if isinstance(error, (httpx.HTTPError, OSError)):
        return f"it cannot be reached: {error}"
    return str(error) if isinstance(error, UserError) else f"it answers with something else: {error!r}"
