"""Make a cluster serve a desired state, transition by transition, and report what it serves then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from endcap.cluster import Cluster, StaleError, diff_objects
from endcap.cluster.kinds import find_object_kind
from endcap.deploy import manifests
from endcap.deploy.kill_switch import is_newer
from endcap.deploy.read_back import read_back
from endcap.deploy.reconciler import ATTEMPTS, Reconciler, contended_error
from endcap.deploy.rollout import check_not_superseded, report_capacity, take_transitions
from endcap.deploy.sample_check import explain_missing_samples
from endcap.deploy.side_services import SideService
from endcap.deploy.stand_ins import list_stand_in_roles
from endcap.deploy.state import Deployment
from endcap.deploy.traffic import (
    Traffic,
    compute_expected_shares,
    describe_shares,
)
from endcap.deploy.transitions import Transition
from endcap.deploy.variants import POPULARITY_ONLY, SideRole
from endcap.spec import Recommender

GATEWAYS_FOLLOW = 2.0
"""Seconds within which gateways lead elsewhere, before pods end that they led to."""


@dataclass(frozen=True)
class ReconcileReport:
    """What the cluster does now."""

    mode: str
    expected: dict[str, float]
    """Percent of the requests by version."""
    traffic: list[Traffic]
    """As read back; the first is the one that counts."""
    notes: list[str] = field(default_factory=list)
    done: bool = True
    """Whether the desired state was there before the last transition, or is there with it."""

    def __str__(self) -> str:
        lines = [
            f"{self.mode} mode, wanted: {describe_shares(self.expected)}",
            *(f"  {traffic}" for traffic in self.traffic),
        ]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


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
    """Make the cluster serve the desired state.

    Parameters
    ----------
    recommender
        The spec that the versions are served by.
    desired
        Reads the desired state. If it changes meanwhile, this function stops: whoever changed it carries it out.
    cluster, namespace
        Where to serve.
    force
        Take back fields that others changed.
    wait
        Wait until everything is ready. False: take only the next transition.
    progress
        Receives each new line about what is going on.
    lies_at
        Whether another address holds the same artifact as the store (`Store.lies_at`). A version that is served from
        there stays there, so that its pods do not restart.

    Returns
    -------
    ReconcileReport
        What the cluster serves then.

    Raises
    ------
    UserError
        The state cannot be served there, or another state is desired by now.
    ClusterError
        The cluster refuses, or a version does not become ready within `serving.kubernetes.ready_within`.
    UnreachableError
        The API server does not answer.

    Notes
    -----
    A shadow, and each arm with an InferenceService of its own, ends before anything else changes, and starts after
    everything else is done. Nothing waits for it, and its errors become notes. What everyone needs at this moment, as
    popularity by the kill switch, starts right after the first transition.
    """
    reconciler = Reconciler(recommender, desired(), cluster, namespace, force, progress, lies_at)
    _note_route(reconciler)
    side_notes = {
        side.role: side.end(reconciler.get_target(side.role), reconciler.live)
        for side in reconciler.sides
        if reconciler.may_exist(side)
    }
    transition = _take_first_transition(reconciler, desired)
    urgent = [side for side in reconciler.sides if reconciler.get_load(side.role) is not None]
    side_notes |= _follow_sides(reconciler, urgent, wait=False)
    if wait:
        transition = take_transitions(reconciler, desired, transition)
        side_notes |= _end_stand_ins(reconciler)
    traffic = read_back(reconciler, transition) if transition.done and wait else reconciler.read_traffic()
    if transition.note:
        reconciler.notes.append(transition.note)
    if not transition.done:
        reconciler.notes.append(f"{transition.description}; `endcap deploy {recommender.name}` goes on from there")
    if transition.done and reconciler.live is not None and desired().changed == reconciler.desired.changed:
        side_notes |= _follow_sides(reconciler, reconciler.sides, wait=wait)
    _note_switch(reconciler)
    missing_samples = explain_missing_samples(recommender, cluster, namespace)
    reconciler.notes.extend(filter(None, [*side_notes.values(), missing_samples]))
    whole = reconciler.capabilities.mode == "Knative" or not reconciler.own_route
    return ReconcileReport(
        reconciler.capabilities.mode,
        compute_expected_shares(transition, whole),
        traffic,
        reconciler.notes,
        transition.done,
    )


def preview_next_transition(
    recommender: Recommender,
    desired: Deployment,
    cluster: Cluster,
    namespace: str,
    *,
    force: bool = False,
    lies_at: Callable[[str], bool] = lambda address: False,
) -> str:
    """Show what the next transition would change, and change nothing.

    Parameters
    ----------
    recommender, desired, cluster, namespace, force, lies_at
        As in `reconcile`; `desired` is the state itself.

    Returns
    -------
    str
        Lines as `diff -u` writes them. The cluster's own dry run gives the objects.

    Raises
    ------
    UserError, ClusterError, UnreachableError
        As in `reconcile`.
    """
    reconciler = Reconciler(recommender, desired, cluster, namespace, force, lambda line: None, lies_at)
    desired = reconciler.desired
    transition = reconciler.plan()
    objects = [transition.service]
    if reconciler.own_route:
        objects.append(manifests.render_http_route(recommender, namespace, transition.weights))
    parts = [f"next: {transition.description}"]
    for side in reconciler.sides:
        target, live = reconciler.get_target(side.role), side.find() if reconciler.may_exist(side) else None
        if live is not None and not side.stays(live, target):
            parts.append(f"InferenceService {side.name} is deleted: {side.describe_end()}")
        if target is not None:
            objects.append(side.render(target, reconciler.live, reconciler.get_load(side.role)))
    for object_ in objects:
        before = cluster.find(find_object_kind(object_), object_["metadata"]["name"], namespace)
        parts.append(diff_objects(before, cluster.apply(object_, force=force, dry_run=True)))
    changed = any(parts[1:])
    lacking = reconciler.describe_shortage(transition) if changed else reconciler.describe_upgrade_shortage()
    parts = [parts[0], lacking, *parts[1:]] if changed else ["nothing would change", lacking]
    return "\n".join(part for part in parts if part)


def _take_first_transition(reconciler: Reconciler, desired: Callable[[], Deployment]) -> Transition:
    """Apply the first transition, even if nothing seems to change: so a conflict with someone else's edit shows."""
    for _ in range(ATTEMPTS):
        # After the object was read: what another reconciler makes of a newer state later is met as a change of it.
        check_not_superseded(reconciler, desired)
        transition = reconciler.plan()
        report_capacity(reconciler, transition)
        reconciler.report(transition.description)
        try:
            reconciler.apply_transition(transition)
        except StaleError:
            reconciler.live = reconciler.find()
            continue
        return transition
    raise contended_error("InferenceService", reconciler.recommender.name)


def _follow_sides(reconciler: Reconciler, sides: Iterable[SideService], *, wait: bool) -> dict[SideRole, str]:
    """Serve what is wanted in the roles of these sides. Returns a note by role."""
    notes: dict[SideRole, str] = {}
    for side in sides:
        target, load = reconciler.get_target(side.role), reconciler.get_load(side.role)
        if target is not None and reconciler.live is not None:
            notes[side.role] = side.follow(target, reconciler.live, wait=wait, load=load)
    return notes


def _end_stand_ins(reconciler: Reconciler) -> dict[SideRole, str]:
    """End what stood in for the stable version, once gateways lead to its own pods. Returns a note by role."""
    if not reconciler.stand_ins or list_stand_in_roles(reconciler.desired, reconciler.live):
        return {}
    time.sleep(GATEWAYS_FOLLOW)
    sides = [side for side in reconciler.sides if side.role in reconciler.stand_ins]
    return {side.role: side.end(reconciler.get_target(side.role), reconciler.live) for side in sides}


def _note_switch(reconciler: Reconciler) -> None:
    """Add a note if popularity answers everyone, which the shares do not show."""
    name = reconciler.recommender.name
    if is_newer(reconciler.desired, reconciler.live):
        reconciler.notes.append(
            f"popularity answers everyone, as the InferenceService says {POPULARITY_ONLY}; the desired state does not "
            f"say so. Keep it: endcap deploy {name} --popularity; take it back: endcap deploy {name} --no-popularity"
        )
    elif reconciler.desired.switch is not None:
        reconciler.notes.append(f"popularity answers everyone until endcap deploy {name} --no-popularity")
        if reconciler.own_route:
            reconciler.notes.append(
                "clients of the HTTPRoute go around Endcap's gateway, so they still meet the versions"
            )


def _note_route(reconciler: Reconciler) -> None:
    """Add a note to a first deployment without a route of our own: a route set later changes the clients' address."""
    bare = reconciler.capabilities.mode == "Standard" and reconciler.capabilities.canaries and not reconciler.own_route
    if bare and reconciler.live is None:
        reconciler.notes.append(
            "serving.kubernetes.route is not set: where this release of KServe does not follow a canary's share (0.20 "
            "does not), clients that go around Endcap's gateway stay with the stable version. Set it before they are "
            "given an address, since its hostname is another one; the chart's deployer.ownRoute gives the right to it"
        )
