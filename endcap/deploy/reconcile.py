"""Make a cluster serve a desired state, transition by transition, and report what it serves then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from endcap.cluster import Cluster, StaleError, diff_objects
from endcap.cluster.kinds import find_object_kind
from endcap.deploy import manifests
from endcap.deploy.read_back import read_back
from endcap.deploy.reconciler import ATTEMPTS, Reconciler, contended_error
from endcap.deploy.rollout import check_not_superseded, report_capacity, take_transitions
from endcap.deploy.state import Deployment
from endcap.deploy.traffic import (
    Traffic,
    compute_expected_shares,
    describe_shares,
)
from endcap.deploy.transitions import Transition
from endcap.spec import Recommender


@dataclass(frozen=True)
class ReconcileReport:
    """What the cluster does now."""

    mode: str
    expected: dict[str, float]
    """Percent of the requests by version."""
    traffic: list[Traffic]
    """As read back; the first is the one that counts."""
    notes: list[str] = field(default_factory=list)

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
    """Make the cluster serve the desired state, and return what it then really does.

    desired: reads the desired state; where another one is wanted meanwhile, this ends and leaves the rest to whoever
    wanted it. force: take fields back that others changed. wait: until everything is ready; otherwise only the next
    step is taken. progress: told each new line of what is going on. lies_at: whether an address of elsewhere has the
    same artifact as the store (`Store.lies_at`): what is served from there goes on to be. A shadow ends before anything
    else changes and comes when all else is done; it is not waited for, and what goes wrong with it is a note.

    Raises UserError for what cannot be asked for, ClusterError with the reason where the cluster refuses or a version
    does not become ready within `serving.kubernetes.ready_within`, UnreachableError.
    """
    reconciler = Reconciler(recommender, desired(), cluster, namespace, force, progress, lies_at)
    _note_route(reconciler)
    shadow = reconciler.desired.shadow
    shadow_note = "" if shadow else reconciler.shadows.end(reconciler.live)
    transition = _take_first_transition(reconciler, desired)
    if wait:
        transition = take_transitions(reconciler, desired, transition)
    traffic = read_back(reconciler, transition) if transition.done and wait else reconciler.read_traffic()
    if transition.note:
        reconciler.notes.append(transition.note)
    if not transition.done:
        reconciler.notes.append(f"{transition.description}; `endcap deploy {recommender.name}` goes on from there")
    if shadow and transition.done and reconciler.live is not None and desired().changed == reconciler.desired.changed:
        shadow_note = reconciler.shadows.follow(shadow, reconciler.live)
    if shadow_note:
        reconciler.notes.append(shadow_note)
    whole = reconciler.capabilities.mode == "Knative" or not reconciler.own_route
    return ReconcileReport(
        reconciler.capabilities.mode, compute_expected_shares(transition, whole), traffic, reconciler.notes
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
    """What the next step would change, as `diff -u` writes it, with the cluster's own word on it; changes nothing."""
    reconciler = Reconciler(recommender, desired, cluster, namespace, force, lambda line: None, lies_at)
    desired = reconciler.desired
    transition = reconciler.plan()
    objects = [transition.service]
    if reconciler.own_route:
        objects.append(manifests.render_http_route(recommender, namespace, transition.weights))
    parts = [f"next: {transition.description}"]
    shadow = reconciler.shadows.find()
    if desired.shadow is not None:
        objects.append(reconciler.shadows.service(desired.shadow, reconciler.live))
    elif shadow is not None:
        parts.append(f"InferenceService {shadow['metadata']['name']} is deleted: no requests are copied any more")
    for object_ in objects:
        before = cluster.find(find_object_kind(object_), object_["metadata"]["name"], namespace)
        parts.append(diff_objects(before, cluster.apply(object_, force=force, dry_run=True)))
    changed = any(parts[1:])
    lacking = reconciler.describe_shortage(transition) if changed else reconciler.describe_upgrade_shortage()
    parts = [parts[0], lacking, *parts[1:]] if changed else ["nothing would change", lacking]
    return "\n".join(part for part in parts if part)


def _take_first_transition(reconciler: Reconciler, desired: Callable[[], Deployment]) -> Transition:
    """Always applied, even if nothing seems to change: a stranger's edit of a field of ours shows as a conflict."""
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


def _note_route(reconciler: Reconciler) -> None:
    """With the first deployment: its route's hostname is to be the clients' address from then on."""
    bare = reconciler.capabilities.mode == "Standard" and reconciler.capabilities.canaries and not reconciler.own_route
    if bare and reconciler.live is None:
        reconciler.notes.append(
            "serving.kubernetes.route is not set: where this release of KServe does not follow a canary's share (0.20 "
            "does not), clients that go around Endcap's gateway stay with the stable version. Set it before they are "
            "given an address, since its hostname is another one; the chart's reconciler.ownRoute gives the right to it"
        )
