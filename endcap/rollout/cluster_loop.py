"""The rollouts of a namespace: what its ModelRollouts ask for, each look that is due, and the cluster that follows.

One `tick` compares everything with everything and does what is missing. Nothing that counts is kept in the process: a
new one, or one that was away for an hour, goes on from the log, the desired state and the resources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from endcap.cluster import AbsentError, Cluster, StaleError
from endcap.cluster.kinds import INFERENCE_SERVICE, MODEL_ROLLOUT
from endcap.deploy.variants import SELECTOR, read_side_variant
from endcap.errors import EndcapError
from endcap.experiments.ab_log import AB_FOLDER
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import RolloutState
from endcap.rollout.cluster_traffic import TrafficFollower, explain
from endcap.rollout.controller import RequestWatcher, RolloutController
from endcap.rollout.feed import IntakeOutput
from endcap.rollout.lift import LiftWatcher
from endcap.rollout.messages import Notify
from endcap.rollout.requests import RequestDesk
from endcap.rollout.resource import (
    Obstacle,
    RolloutRequest,
    RolloutStanding,
    make_events,
    make_obstacle_event,
    make_status,
)
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

Json = dict[str, Any]
PLACES = ("requests", "look", "traffic", "status")
"""Where an error may come up: each is an attempt of its own."""


class PollingWatcher(RequestWatcher, Protocol):
    """Measures guardrails, and reads them between two looks too."""

    def poll(self, state: RolloutState, policy: RolloutSpec) -> bool:
        """Read what was counted since the last call. Tell whether a guardrail is broken."""


@dataclass(frozen=True)
class RecommenderReport:
    """What became of one recommender in a tick.

    Attributes
    ----------
    recommender
        Its name.
    last
        The log's last entry; None if there was never a rollout.
    errors
        By the place (`PLACES`), what went wrong.
    """

    recommender: str
    last: RolloutLogEntry | None = None
    errors: Mapping[str, EndcapError] = field(default_factory=dict)


class ClusterRollouts:
    """Drives all rollouts of a namespace.

    Parameters
    ----------
    cluster, namespace
        Where the ModelRollouts and InferenceServices are.
    store, registry_uri
        Hold the logs, desired states, packages and versions.
    identity
        Names this installation, so that another one on the same store does not take its resources for deleted.
    make_watcher
        Makes what measures the guardrails of a recommender; None: nobody does, so a policy with guardrails holds.
    notify
        Who gets messages.
    read_clock
        Returns the present moment, UTC.
    intake
        Where the intake writes, and how soon; None: as beside `endcap serve`.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        store: Store,
        registry_uri: str | None,
        identity: str,
        *,
        make_watcher: Callable[[str], PollingWatcher | None] = lambda recommender: None,
        notify: Sequence[Notify] = (),
        read_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        intake: IntakeOutput | None = None,
    ) -> None:
        self._cluster, self._namespace, self._store = cluster, namespace, store
        self._registry_uri, self._identity, self._intake = registry_uri, identity, intake
        self._make_watcher, self._notify, self._read_clock = make_watcher, notify, read_clock
        self._parts: dict[str, _Recommender] = {}
        self._lifts: dict[str, LiftWatcher] = {}

    def tick(self) -> list[RecommenderReport]:
        """Do all that is due.

        Returns
        -------
        list of RecommenderReport
            One for each recommender. An error of one of them holds up no other.

        Raises
        ------
        ForbiddenError, KindAbsentError, UnreachableError
            The resources could not be listed. Nothing was done.
        StoreError
            The logs could not be listed.
        """
        listed = self._cluster.list_objects(MODEL_ROLLOUT, self._namespace)
        live = list_services(self._cluster, self._namespace)
        requests: dict[str, list[RolloutRequest]] = {}
        for thing in listed:
            request = RolloutRequest.from_object(thing)
            requests.setdefault(request.recommender, []).append(request)
        # Rollouts that were begun by hand are driven too, where the cluster serves the recommender. One whose resource
        # went with its namespace ends nevertheless.
        # Those with an A/B test are followed too; `endcap.ab.cluster_tests` looks at it.
        by_hand = {
            name
            for name in live
            if self._store.list_documents(f"rollouts/{name}") or self._store.list_documents(f"{AB_FOLDER}/{name}")
        }
        names = sorted({*requests, *by_hand, *self._parts})
        self._parts = {name: self._parts.get(name) or self._make_part(name) for name in names}
        return [
            self._parts[name].tick(requests.get(name, []), live.get(name, []), self._read_clock()) for name in names
        ]

    def look_at_lifts(self) -> list[RecommenderReport]:
        """Measure what personalisation brings, where the cluster serves a baseline and a look is due.

        It may run beside `tick`, in a thread of its own: a first look reads all that was reported since the champion
        began, and no guardrail may wait for that.

        Returns
        -------
        list of RecommenderReport
            One for each recommender that the cluster serves, with `errors` at the place ``lift``.

        Raises
        ------
        ForbiddenError, KindAbsentError, UnreachableError
            The InferenceServices could not be listed.
        """
        names = sorted(list_services(self._cluster, self._namespace))
        self._lifts = {name: self._lifts.get(name) or self._make_lift(name) for name in names}
        reports = []
        for name, lift in self._lifts.items():
            errors = {}
            try:
                lift.look_if_due()
            except EndcapError as error:
                errors["lift"] = error
            reports.append(RecommenderReport(name, errors=errors))
        return reports

    def _make_lift(self, recommender: str) -> LiftWatcher:
        return LiftWatcher(
            self._store, recommender, notify=self._notify, read_clock=self._read_clock, intake=self._intake
        )

    def _make_part(self, recommender: str) -> _Recommender:
        watcher = self._make_watcher(recommender)
        follower = TrafficFollower(self._cluster, self._namespace, self._store, recommender)
        controller = RolloutController(
            self._store,
            recommender,
            self._registry_uri,
            watcher=watcher,
            notify=self._notify,
            read_clock=self._read_clock,
            intake=self._intake,
            follow=follower.follow_now,
        )
        desk = RequestDesk(self._store, controller, self._identity)
        return _Recommender(self._cluster, controller, desk, follower, watcher)


def list_services(cluster: Cluster, namespace: str) -> dict[str, list[Json]]:
    """Return a namespace's InferenceServices by recommender.

    Raises
    ------
    ForbiddenError, KindAbsentError, UnreachableError
        They could not be listed.
    """
    services: dict[str, list[Json]] = {}
    for service in cluster.list_objects(INFERENCE_SERVICE, namespace, SELECTOR):
        side = read_side_variant(service)
        name = side.recommender if side is not None else service["metadata"]["name"]
        services.setdefault(name, []).append(service)
    return services


class _Recommender:
    """One recommender of the namespace."""

    def __init__(
        self,
        cluster: Cluster,
        controller: RolloutController,
        desk: RequestDesk,
        follower: TrafficFollower,
        watcher: PollingWatcher | None,
    ) -> None:
        self._cluster, self._controller, self._desk = cluster, controller, desk
        self._follower, self._watcher = follower, watcher
        self._errors: dict[str, EndcapError] = {}

    def tick(self, requests: Sequence[RolloutRequest], services: Sequence[Json], now: datetime) -> RecommenderReport:
        self._errors = {}
        obstacles: dict[str, Obstacle] = {}
        unserved: Obstacle | None = None
        self._follower.begin_round(services if requests or services else None, now)
        try:
            obstacles = self._desk.take(requests, now)
        except EndcapError as error:
            self._errors["requests"] = error
        try:
            self._look()
        except EndcapError as error:
            self._errors["look"] = error
        try:
            # Whatever else went wrong: what is decided reaches the shoppers.
            unserved = self._follower.follow()
        except EndcapError as error:
            self._errors["traffic"] = error
            unserved = explain(error)
        try:
            self._show(requests, obstacles, unserved, now)
            last = self._controller.log.find_last()
        except EndcapError as error:
            self._errors["status"] = error
            last = None
        return RecommenderReport(self._controller.log.recommender, last, self._errors)

    def _look(self) -> None:
        running = self._controller.find_running()
        is_broken = running is not None and self._watcher is not None and self._watcher.poll(*running)
        self._controller.look_if_due(is_broken=is_broken)

    def _show(
        self,
        requests: Sequence[RolloutRequest],
        obstacles: Mapping[str, Obstacle],
        unserved: Obstacle | None,
        now: datetime,
    ) -> None:
        standings = self._desk.find_standings(requests)
        failed = self._errors.get("look") or self._errors.get("requests")
        for request in requests:
            standing = standings[request.uid]
            is_current = standing.is_latest and standing.state is not None
            self._write(
                request,
                standing,
                make_status(
                    request,
                    standing,
                    now,
                    refused=obstacles.get(request.uid),
                    unserved=unserved if is_current else None,
                    stuck=explain(failed) if failed is not None and is_current else None,
                ),
                now,
            )

    def _write(self, request: RolloutRequest, standing: RolloutStanding, status: Json, now: datetime) -> None:
        """Send the events of what is new, then write the status: a kill in between sends the same events again."""
        if status == dict(request.status):
            return
        events = [*make_events(request, standing), *_find_warnings(request, status, now)]
        for event in events:
            try:
                self._cluster.create(event)
            except StaleError:
                # It was sent before.
                continue
        metadata = {"name": request.name, "namespace": request.namespace, "uid": request.uid}
        thing = {"apiVersion": MODEL_ROLLOUT.api_version, "kind": MODEL_ROLLOUT.name, "metadata": metadata}
        try:
            self._cluster.apply_status({**thing, "status": status})
        except (AbsentError, StaleError):
            # It was deleted, or made anew, since it was listed.
            return


def _find_warnings(request: RolloutRequest, status: Json, now: datetime) -> list[Json]:
    """Return an event for each condition that has become false for another reason than before, and is no wait."""
    before = {entry["type"]: entry["reason"] for entry in request.status.get("conditions") or []}
    harmless = {"InProgress", "WaitsForRollout", "NewerVersion", "NotStarted", "Aborted", "DeploySuperseded"}
    warnings = []
    for condition in status["conditions"]:
        if condition["type"] not in ("Accepted", "Served") or condition["status"] != "False":
            continue
        if condition["reason"] not in harmless and before.get(condition["type"]) != condition["reason"]:
            obstacle = Obstacle(condition["reason"], condition["message"])
            warnings.append(make_obstacle_event(request, obstacle, now))
    return warnings
