"""Carry a desired state out in a cluster: from what is there, step by step, to what is wanted, and read it back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.cluster import Cluster, ConflictError, ForbiddenError, StaleError, UnreachableError, diff_objects
from endcap.cluster.kinds import DEPLOYMENT, HTTP_ROUTE, INFERENCE_SERVICE, find_object_kind
from endcap.cluster.watch import watch
from endcap.deploy import knative, manifests, standard
from endcap.deploy.addresses import keep_served_addresses
from endcap.deploy.capabilities import Capabilities, find_capabilities
from endcap.deploy.capacity import count_replacement_pods, count_starting_pods, find_capacity
from endcap.deploy.ownership import check_not_terminating, check_ownership
from endcap.deploy.readiness import PATIENCE, ReadinessProblem, find_problem
from endcap.deploy.shadow import Shadows
from endcap.deploy.state import Deployment, describe
from endcap.deploy.traffic import (
    Traffic,
    compute_expected_shares,
    describe_shares,
    read_knative_traffic,
    read_standard_traffic,
)
from endcap.deploy.transitions import Transition, is_pending, read_annotations
from endcap.deploy.variants import CANARY, MANAGER, STABLE, name_predictor_service
from endcap.errors import ClusterError, UserError
from endcap.spec import Recommender
from endcap.spec.base import format_duration

Json = dict[str, Any]
TICK = 2.0
"""Seconds between two looks at pods and events, while nothing else tells that something changed."""
ATTEMPTS = 20
"""At a step that others change the object under."""
SPLIT_WITHIN = 60.0
"""Seconds for the cluster's routes to follow once everything is ready."""
LOOK_WITHIN = 5.0
"""The same where nothing depends on it: KServe's own HTTPRoute, which may never carry the share."""


@dataclass(frozen=True)
class ReconcileReport:
    """What the cluster does now."""

    mode: str
    wanted: dict[str, float]
    """Percent of the requests by version."""
    traffic: list[Traffic]
    """As read back; the first is the one that counts."""
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.mode} mode, wanted: {describe_shares(self.wanted)}", *(f"  {one}" for one in self.traffic)]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


@dataclass
class _Deployer:
    recommender: Recommender
    desired: Deployment
    cluster: Cluster
    namespace: str
    force: bool
    progress: Callable[[str], None]
    lies_at: Callable[[str], bool]
    notes: list[str] = field(default_factory=list)
    room: bool | None = None
    said_capacity: str = ""
    told: str = ""

    def __post_init__(self) -> None:
        manifests.check_recommender_name(self.recommender.name)
        self.live = self.find()
        check_ownership(self.live, self.namespace)
        check_not_terminating(self.live, self.namespace)
        probe = manifests.make_mode_probe(self.recommender, self.namespace, self.desired.stable)
        self.can: Capabilities = find_capabilities(self.cluster, self.recommender, self.live, probe)
        if self.own_route:
            self._find_route()
        self.shadows = Shadows(self.recommender, self.cluster, self.namespace, self.can.mode, self._apply, self.tell)
        shadow = None
        if self.desired.shadow is not None:
            with contextlib.suppress(ClusterError, UnreachableError):  # It is told when it is the shadow's turn.
                shadow = self.shadows.find()
        self.desired, notes = keep_served_addresses(self.desired, (self.live, shadow), self.lies_at)
        self.notes.extend(notes)
        if self.desired.shadow is not None:
            # What cannot be asked for is refused before anything changes.
            self.shadows.service(self.desired.shadow, self.live)

    def tell(self, line: str) -> None:
        if line != self.told:
            self.told = line
            self.progress(line)

    @property
    def own_route(self) -> bool:
        return self.can.mode == "Standard" and self.recommender.serving.kubernetes.route is not None

    def find(self) -> Json | None:
        return self.cluster.find(INFERENCE_SERVICE, self.recommender.name, self.namespace)

    def plan(self) -> Transition:
        if self.can.mode == "Knative":
            room = self._has_room() if self.live is not None else True
            return knative.plan_knative(self.recommender, self.desired, self.live, self.namespace, room=room)
        return standard.plan_standard(
            self.recommender,
            self.desired,
            self.live,
            self.namespace,
            canaries=self.can.canaries,
            deployments=self.deployments(),
        )

    def _has_room(self) -> bool:
        """Whether one more predictor fits, as far as is known; looked up once."""
        if self.room is None:
            serving = self.recommender.serving.kubernetes
            self.room = find_capacity(self.cluster, serving, max(1, serving.replicas.min)).enough
        return self.room

    def lacking(self, step: Transition) -> str:
        """What the pods that a step starts lack on the nodes, or why that is not known; empty where there is room."""
        serving = self.recommender.serving.kubernetes
        pod, count = count_starting_pods(serving, self.can.mode, self.live, step, self.desired.canary)
        words = find_capacity(self.cluster, pod, count).words
        return f"version {step.starting.version}: {words}" if words and step.starting else words

    def lacking_for_an_upgrade(self) -> str:
        """The same for when the pods that are there are replaced, as when the runtime gets another image."""
        words = find_capacity(
            self.cluster, *count_replacement_pods(self.recommender.serving.kubernetes, self.can.mode)
        ).words
        return f"an upgrade that replaces its pods: {words}" if words else ""

    def deployments(self) -> dict[str, Json] | None:
        labels = f"serving.kserve.io/inferenceservice={self.recommender.name}"
        try:
            found = self.cluster.every(DEPLOYMENT, self.namespace, labels)
        except ForbiddenError:
            return None
        return {one["metadata"]["name"]: one for one in found}

    def take(self, step: Transition) -> None:
        """Apply a step to what was read; StaleError where it has changed since."""
        service = step.service
        if self.live is not None:
            metadata = {**service["metadata"], "resourceVersion": self.live["metadata"]["resourceVersion"]}
            service = {**service, "metadata": metadata}
        if self.own_route and step.route_first:
            self._route(step)
        self.live = self._apply(service)
        if self.own_route and not step.route_first:
            self._route(step)

    def _route(self, step: Transition) -> None:
        """Apply our own route, if it is ours; its status changes all the time, so by itself until nobody is between."""
        route = manifests.render_http_route(self.recommender, self.namespace, step.weights)
        for _ in range(ATTEMPTS):
            there = self._find_route()
            seen = {"resourceVersion": there["metadata"]["resourceVersion"]} if there else {}
            try:
                self._apply({**route, "metadata": {**route["metadata"], **seen}})
            except StaleError:
                continue
            return
        raise _contended_error("HTTPRoute", route["metadata"]["name"])

    def _find_route(self) -> Json | None:
        """Our own route as it is. Raises ClusterError where one of its name is someone else's."""
        found = self.cluster.find(HTTP_ROUTE, manifests.name_own_route(self.recommender.name), self.namespace)
        check_ownership(found, self.namespace, HTTP_ROUTE)
        return found

    def _apply(self, thing: Json) -> Json:
        try:
            return self.cluster.apply(thing, force=self.force)
        except ConflictError as error:
            if error.managers == [MANAGER]:
                # Fields that KServe's webhooks rewrote in our own request count as someone else's.
                return self.cluster.apply(thing, force=True)
            raise ConflictError(f"{error}; --force takes them back", code=error.code, **error.fields) from None

    def traffic(self) -> list[Traffic]:
        if self.live is None:
            return []
        if self.can.mode == "Knative":
            return [read_knative_traffic(self.cluster, self.live)]
        return read_standard_traffic(self.cluster, self.live, self.own_route)


def reconcile(
    recommender: Recommender,
    desired: Callable[[], Deployment],
    cluster: Cluster,
    namespace: str,
    *,
    force: bool = False,
    wait: bool = True,
    progress: Callable[[str], None] = lambda line: None,
    lies_at: Callable[[str], bool] = lambda address: False,
) -> ReconcileReport:
    """Make the cluster serve the desired state, and return what it then really does.

    desired: reads the desired state; where another one is wanted meanwhile, this ends and leaves the rest to whoever
    wanted it. force: take fields back that others changed. wait: until everything is ready; otherwise only the next
    step is taken. progress: told each new line of what is going on. lies_at: whether an address of elsewhere has the
    same artifact as the store (`Store.lies_at`): what is served from there goes on to be. A shadow ends before anything
    else changes and comes when all else is done; it is not waited for, and what goes wrong with it is a note.

    Raises UserError for what cannot be asked for, ClusterError with the reason where the cluster refuses or a version
    does not become ready within `serving.kubernetes.ready_within`, UnreachableError.
    """
    deployer = _Deployer(recommender, desired(), cluster, namespace, force, progress, lies_at)
    _note_route(deployer)
    shadow = deployer.desired.shadow
    said = "" if shadow else deployer.shadows.end(deployer.live)
    step = _take_first_transition(deployer, desired)
    if wait:
        step = _take_transitions(deployer, desired, step)
    traffic = _read_back(deployer, step) if step.done and wait else deployer.traffic()
    if step.note:
        deployer.notes.append(step.note)
    if not step.done:
        deployer.notes.append(f"{step.words}; `endcap deploy {recommender.name}` goes on from there")
    if shadow and step.done and deployer.live is not None and desired().changed == deployer.desired.changed:
        said = deployer.shadows.follow(shadow, deployer.live)
    if said:
        deployer.notes.append(said)
    whole = deployer.can.mode == "Knative" or not deployer.own_route
    return ReconcileReport(deployer.can.mode, compute_expected_shares(step, whole), traffic, deployer.notes)


def preview_next_transition(
    recommender: Recommender,
    desired: Deployment,
    cluster: Cluster,
    namespace: str,
    *,
    force: bool = False,
    lies_at: Callable[[str], bool] = lambda address: False,
) -> str:
    """What the next step would change, as `diff -u` writes it, with the cluster's own word on it; changes nothing."""
    deployer = _Deployer(recommender, desired, cluster, namespace, force, lambda line: None, lies_at)
    desired = deployer.desired
    step = deployer.plan()
    things = [step.service]
    if deployer.own_route:
        things.append(manifests.render_http_route(recommender, namespace, step.weights))
    parts = [f"next: {step.words}"]
    shadow = deployer.shadows.find()
    if desired.shadow is not None:
        things.append(deployer.shadows.service(desired.shadow, deployer.live))
    elif shadow is not None:
        parts.append(f"InferenceService {shadow['metadata']['name']} is deleted: no requests are copied any more")
    for thing in things:
        before = cluster.find(find_object_kind(thing), thing["metadata"]["name"], namespace)
        parts.append(diff_objects(before, cluster.apply(thing, force=force, dry_run=True)))
    changed = any(parts[1:])
    lacking = deployer.lacking(step) if changed else deployer.lacking_for_an_upgrade()
    parts = [parts[0], lacking, *parts[1:]] if changed else ["nothing would change", lacking]
    return "\n".join(part for part in parts if part)


def _take_first_transition(deployer: _Deployer, desired: Callable[[], Deployment]) -> Transition:
    """Always applied, even if nothing seems to change: a stranger's edit of a field of ours shows as a conflict."""
    for _ in range(ATTEMPTS):
        # After the object was read: what another deployer makes of a newer state later is met as a change of it.
        _check_not_superseded(deployer, desired)
        step = deployer.plan()
        _report_capacity(deployer, step)
        deployer.tell(step.words)
        try:
            deployer.take(step)
        except StaleError:
            deployer.live = deployer.find()
            continue
        return step
    raise _contended_error("InferenceService", deployer.recommender.name)


def _contended_error(kind: str, name: str) -> ClusterError:
    text = f"{kind} {name} is changed by others all the time; try again"
    return ClusterError(text, code="deploy.contended", kind=kind, name=name)


def _note_route(deployer: _Deployer) -> None:
    """With the first deployment: its route's hostname is to be the clients' address from then on."""
    bare = deployer.can.mode == "Standard" and deployer.can.canaries and not deployer.own_route
    if bare and deployer.live is None:
        deployer.notes.append(
            "serving.kubernetes.route is not set: where this release of KServe does not follow a canary's share (0.20 "
            "does not), clients that go around Endcap's gateway stay with the stable version. Set it before they are "
            "given an address, since its hostname is another one; the chart's deployer.ownRoute gives the right to it"
        )


def _report_capacity(deployer: _Deployer, step: Transition) -> None:
    """Before pods start: whether they find room. A node may still join, so it is said, not refused."""
    if step.done or step.words == deployer.said_capacity:
        return
    deployer.said_capacity = step.words
    if words := deployer.lacking(step):
        deployer.tell(words)


def _check_not_superseded(deployer: _Deployer, desired: Callable[[], Deployment]) -> None:
    """Raise UserError where another state is wanted than the one that is carried out."""
    if (now := desired()).changed != deployer.desired.changed:
        raise UserError(
            f"another state is wanted meanwhile ({describe(now)}); whoever asked for it carries it out, or "
            f"`endcap deploy {deployer.recommender.name}` does",
            code="deploy.superseded",
            recommender=deployer.recommender.name,
            wanted=describe(now),
        )


def _take_transitions(deployer: _Deployer, desired: Callable[[], Deployment], step: Transition) -> Transition:
    """Take step after step until the desired state is there."""
    within = deployer.recommender.serving.kubernetes.ready_within
    patience = _ReadinessDeadline(within)
    while True:
        deployer.live = _wait_for_change(deployer)
        check_ownership(deployer.live, deployer.namespace)
        check_not_terminating(deployer.live, deployer.namespace)
        _check_not_superseded(deployer, desired)
        before, step = step, deployer.plan()
        if is_pending(step, deployer.live):
            _report_capacity(deployer, step)
            deployer.tell(step.words)
            try:
                deployer.take(step)
            except StaleError:
                continue
            patience = _ReadinessDeadline(within) if step.words != before.words else patience
        elif step.done:
            return step
        elif deployer.live is not None:
            version = step.starting.version if step.starting else read_annotations(deployer.live)[STABLE]
            trouble = find_problem(deployer.cluster, deployer.live, version, patience.since)
            patience.judge(trouble, deployer, version)


@dataclass
class _ReadinessDeadline:
    """How long a step may take, and how long a hard trouble may last."""

    within: timedelta
    since: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    begun: float = field(default_factory=time.monotonic)
    trouble: str = ""
    gist: str = ""
    told: set[str] = field(default_factory=set)
    """The gist of each trouble that was told."""
    hard_since: float | None = None

    def judge(self, trouble: ReadinessProblem | None, deployer: _Deployer, version: str) -> None:
        """Tell a new trouble; raise where it has lasted, or time is over."""
        now = time.monotonic()
        if trouble is not None:
            # While the kubelet waits before its next try it may say less than it did.
            if trouble.gist != self.gist or len(trouble.words) >= len(self.trouble):
                self.gist, self.trouble = trouble.gist, trouble.words
            if trouble.gist not in self.told:
                self.told.add(trouble.gist)
                deployer.tell(f"version {version}: {trouble.words}")
        if trouble is None or not trouble.hard:
            self.hard_since = None
        elif self.hard_since is None:
            self.hard_since = now
        lasted = self.hard_since is not None and now - self.hard_since >= PATIENCE
        if lasted or now - self.begun >= self.within.total_seconds():
            raise self._error(deployer, version, over=not lasted)

    def _error(self, deployer: _Deployer, version: str, over: bool) -> ClusterError:
        why = self.trouble or "its pods are not ready, and nothing says why"
        late = f" within {self.within.total_seconds() / 60:g} min (serving.kubernetes.ready_within)" if over else ""
        name = deployer.recommender.name
        return ClusterError(
            f"version {version} of {name} does not become ready{late}: {why}. What served before goes on serving; "
            f"when the cause is gone, `endcap deploy {name}` goes on",
            code="deploy.not-ready",
            recommender=name,
            version=version,
            reason=self.trouble or None,
            late=over,
            limit=format_duration(self.within),
        )


def _wait_for_change(deployer: _Deployer) -> Json | None:
    """The InferenceService as soon as it changes, or after a tick."""
    seen = deployer.live["metadata"]["resourceVersion"] if deployer.live else ""
    fields = f"metadata.name={deployer.recommender.name}"
    found: Json | None = None
    for objects in watch(deployer.cluster, INFERENCE_SERVICE, deployer.namespace, fields=fields, seconds=TICK):
        found = objects[0] if objects else None
        if found is None or found["metadata"]["resourceVersion"] != seen:
            break
    return found


def _read_back(deployer: _Deployer, step: Transition) -> list[Traffic]:
    """The traffic as it really is. Raises ClusterError where what must follow does not."""
    own = deployer.can.mode == "Knative" or deployer.own_route
    end = time.monotonic() + (SPLIT_WITHIN if own else LOOK_WITHIN)
    asked = compute_expected_shares(step, whole_percent=deployer.can.mode == "Knative")
    while True:
        traffic = deployer.traffic()
        if traffic and traffic[0].shares == asked and not traffic[0].missing:
            break
        if time.monotonic() > end and not own:
            break
        if time.monotonic() > end:
            found = traffic[0] if traffic else "nothing can be read"
            raise ClusterError(
                f"the traffic does not follow: wanted {describe_shares(asked)}, and {found}",
                code="deploy.traffic-differs",
                wanted=describe_shares(asked),
                found=str(found),
            )
        time.sleep(0.5)
        deployer.live = deployer.find() or deployer.live
    _note_differences(deployer, traffic, step)
    return traffic


def _note_differences(deployer: _Deployer, traffic: list[Traffic], step: Transition) -> None:
    asked = compute_expected_shares(step, whole_percent=True)
    theirs = traffic[-1] if traffic and deployer.can.mode == "Standard" else None
    if theirs is not None and theirs.shares != asked and read_annotations(step.service).get(CANARY):
        carried = (
            "our own HTTPRoute carries it"
            if deployer.own_route
            else "the gateway shares shoppers out; for clients that go around it, set serving.kubernetes.route"
        )
        deployer.notes.append(f"this release of KServe does not follow the share ({theirs}): {carried}")
    if not traffic:
        who = name_predictor_service(deployer.recommender.name, None)
        deployer.notes.append(f"the routes of {who} may not be read, so the split was not read back")
