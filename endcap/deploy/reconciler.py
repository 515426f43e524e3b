"""One recommender in one cluster: what is there, the next transition, and how it is applied."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from endcap.cluster import Cluster, ConflictError, ForbiddenError, StaleError, UnreachableError
from endcap.cluster.kinds import DEPLOYMENT, HTTP_ROUTE, INFERENCE_SERVICE
from endcap.deploy import knative, manifests, standard
from endcap.deploy.addresses import keep_served_addresses
from endcap.deploy.capabilities import Capabilities, find_capabilities
from endcap.deploy.capacity import count_replacement_pods, count_starting_pods, find_capacity
from endcap.deploy.object_names import check_recommender_name, name_own_route
from endcap.deploy.ownership import check_not_terminating, check_ownership
from endcap.deploy.side_services import (
    SideService,
    SideTarget,
    get_side_load,
    get_side_target,
)
from endcap.deploy.stand_ins import StandIn, find_stand_ins, list_stand_in_roles
from endcap.deploy.state import Deployment
from endcap.deploy.traffic import (
    Traffic,
    read_knative_traffic,
    read_standard_traffic,
)
from endcap.deploy.transitions import Transition
from endcap.deploy.variants import MANAGER, NAME, SIDE_ROLES, SideRole
from endcap.errors import ClusterError
from endcap.spec import Recommender

Json = dict[str, Any]
ATTEMPTS = 20
"""How often a write is tried again if others change the object at the same time."""


@dataclass
class Reconciler:
    """What one recommender has in a namespace of a cluster, and how the next transition is found and applied."""

    recommender: Recommender
    desired: Deployment
    cluster: Cluster
    namespace: str
    force: bool
    progress: Callable[[str], None]
    lies_at: Callable[[str], bool]
    notes: list[str] = field(default_factory=list)
    room: bool | None = None
    reported_capacity: str = ""
    last_line: str = ""

    def __post_init__(self) -> None:
        check_recommender_name(self.recommender.name)
        self.live = self.find()
        check_ownership(self.live, self.namespace)
        check_not_terminating(self.live, self.namespace)
        probe = manifests.make_mode_probe(self.recommender, self.namespace, self.desired.stable)
        self.capabilities: Capabilities = find_capabilities(self.cluster, self.recommender, self.live, probe)
        if self.own_route:
            self._find_route()
        self.sides = [
            SideService(
                role, self.recommender, self.cluster, self.namespace, self.capabilities.mode, self._apply, self.report
            )
            for role in SIDE_ROLES
        ]
        self._service_names = self._list_service_names()
        live_sides = {side.role: self._find_side(side) for side in self.sides}
        self.stand_ins = find_stand_ins(self.desired, self.live, live_sides)
        self.desired, notes = keep_served_addresses(self.desired, (self.live, *live_sides.values()), self.lies_at)
        self.notes.extend(notes)
        for side in self.sides:
            if (target := self.get_target(side.role)) is not None:
                # What cannot be asked for is refused before anything changes.
                side.render(target, self.live)

    def may_exist(self, side: SideService) -> bool:
        """Tell whether a side service was there when this began, as far as known. So most roles need no call."""
        return self._service_names is None or side.name in self._service_names

    def _list_service_names(self) -> set[str] | None:
        """List the names of the recommender's InferenceServices; None without the right to list them."""
        try:
            services = self.cluster.list_objects(INFERENCE_SERVICE, self.namespace, f"{NAME}={self.recommender.name}")
        except ForbiddenError:
            return None
        return {service["metadata"]["name"] for service in services}

    def get_target(self, role: SideRole) -> SideTarget | None:
        """Return what is wanted in a role at this moment; None: nothing."""
        stand_in = self._get_stand_in(role)
        return get_side_target(self.desired, role) if stand_in is None else stand_in.target

    def get_load(self, role: SideRole) -> float | None:
        """Return which share of the shoppers an arm's pods must bear at this moment; None: those that it has."""
        stand_in = self._get_stand_in(role)
        return get_side_load(self.desired, role) if stand_in is None else stand_in.load

    def _get_stand_in(self, role: SideRole) -> StandIn | None:
        return self.stand_ins.get(role) if role in list_stand_in_roles(self.desired, self.live) else None

    def _find_side(self, side: SideService) -> Json | None:
        if get_side_target(self.desired, side.role) is None and side.role not in list_stand_in_roles(
            self.desired, self.live
        ):
            return None
        with contextlib.suppress(ClusterError, UnreachableError):  # It is told when it is the side's turn.
            return side.find()
        return None

    def report(self, line: str) -> None:
        """Pass a line on, unless it repeats the last one."""
        if line != self.last_line:
            self.last_line = line
            self.progress(line)

    @property
    def own_route(self) -> bool:
        """Whether an HTTPRoute of our own splits the traffic."""
        return self.capabilities.mode == "Standard" and self.recommender.serving.kubernetes.route is not None

    def find(self) -> Json | None:
        """Read the recommender's InferenceService; None if there is none."""
        return self.cluster.find(INFERENCE_SERVICE, self.recommender.name, self.namespace)

    def plan(self) -> Transition:
        """Find the next transition from what the cluster has."""
        if self.capabilities.mode == "Knative":
            room = self._has_room() if self.live is not None else True
            return knative.plan_knative(self.recommender, self.desired, self.live, self.namespace, room=room)
        return standard.plan_standard(
            self.recommender,
            self.desired,
            self.live,
            self.namespace,
            canaries=self.capabilities.canaries,
            deployments=self.find_deployments(),
        )

    def _has_room(self) -> bool:
        """Whether one more predictor fits, as far as known. The nodes are read once."""
        if self.room is None:
            serving = self.recommender.serving.kubernetes
            self.room = find_capacity(self.cluster, serving, max(1, serving.replicas.min)).enough
        return self.room

    def describe_shortage(self, transition: Transition) -> str:
        """What the nodes lack for the pods that a transition starts, or why that is unknown; empty if there is room."""
        serving = self.recommender.serving.kubernetes
        pod, count = count_starting_pods(serving, self.capabilities.mode, self.live, transition, self.desired.canary)
        words = find_capacity(self.cluster, pod, count).description
        return f"version {transition.starting.version}: {words}" if words and transition.starting else words

    def describe_upgrade_shortage(self) -> str:
        """The same for an upgrade that replaces all pods, as a new image in the runtime does."""
        words = find_capacity(
            self.cluster, *count_replacement_pods(self.recommender.serving.kubernetes, self.capabilities.mode)
        ).description
        return f"an upgrade that replaces its pods: {words}" if words else ""

    def find_deployments(self) -> dict[str, Json] | None:
        """Read KServe's Deployments by name; None without the right to list them."""
        labels = f"serving.kserve.io/inferenceservice={self.recommender.name}"
        try:
            items = self.cluster.list_objects(DEPLOYMENT, self.namespace, labels)
        except ForbiddenError:
            return None
        return {item["metadata"]["name"]: item for item in items}

    def apply_transition(self, transition: Transition) -> None:
        """Apply a transition to the state that was read. Raises StaleError if that has changed since."""
        service = transition.service
        if self.live is not None:
            metadata = {**service["metadata"], "resourceVersion": self.live["metadata"]["resourceVersion"]}
            service = {**service, "metadata": metadata}
        if self.own_route and transition.route_first:
            self._apply_route(transition)
        self.live = self._apply(service)
        if self.own_route and not transition.route_first:
            self._apply_route(transition)

    def _apply_route(self, transition: Transition) -> None:
        """Apply our own route. Its status changes often, so this reads and applies again until nothing came between."""
        route = manifests.render_http_route(self.recommender, self.namespace, transition.weights)
        for _ in range(ATTEMPTS):
            live = self._find_route()
            precondition = {"resourceVersion": live["metadata"]["resourceVersion"]} if live else {}
            try:
                self._apply({**route, "metadata": {**route["metadata"], **precondition}})
            except StaleError:
                continue
            return
        raise contended_error("HTTPRoute", route["metadata"]["name"])

    def _find_route(self) -> Json | None:
        """Read our own route. Raises ClusterError if someone else made an object of that name."""
        route = self.cluster.find(HTTP_ROUTE, name_own_route(self.recommender.name), self.namespace)
        check_ownership(route, self.namespace, HTTP_ROUTE)
        return route

    def _apply(self, thing: Json) -> Json:
        try:
            return self.cluster.apply(thing, force=self.force)
        except ConflictError as error:
            if error.managers == [MANAGER]:
                # Fields that KServe's webhooks rewrote in our own request count as someone else's.
                return self.cluster.apply(thing, force=True)
            raise ConflictError(f"{error}; --force takes them back", code=error.code, **error.fields) from None

    def read_traffic(self) -> list[Traffic]:
        """Read how the cluster splits the traffic; empty if nothing is served or may be read."""
        if self.live is None:
            return []
        if self.capabilities.mode == "Knative":
            return [read_knative_traffic(self.cluster, self.live)]
        return read_standard_traffic(self.cluster, self.live, self.own_route)


def contended_error(kind: str, name: str) -> ClusterError:
    """Make the error of an object that others change each time before we can."""
    text = f"{kind} {name} is changed by others all the time; try again"
    return ClusterError(text, code="deploy.contended", kind=kind, name=name)
