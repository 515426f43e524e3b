"""Apply transition after transition, and wait between them, until the desired state is there or cannot be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.cluster import StaleError
from endcap.cluster.kinds import INFERENCE_SERVICE
from endcap.cluster.watch import watch
from endcap.deploy.ownership import check_not_terminating, check_ownership
from endcap.deploy.readiness import PATIENCE, ReadinessProblem, find_problem
from endcap.deploy.reconciler import Reconciler
from endcap.deploy.state import Deployment, describe
from endcap.deploy.transitions import Transition, is_pending, read_annotations
from endcap.deploy.variants import STABLE
from endcap.errors import ClusterError, UserError
from endcap.spec.base import format_duration

Json = dict[str, Any]
TICK = 2.0
"""Seconds between two looks at pods and events if the InferenceService does not change meanwhile."""


def take_transitions(reconciler: Reconciler, desired: Callable[[], Deployment], transition: Transition) -> Transition:
    """Take one transition after another until the desired state is there. Raises as `reconcile` does."""
    limit = reconciler.recommender.serving.kubernetes.ready_within
    deadline = ReadinessDeadline(limit)
    while True:
        reconciler.live = _wait_for_change(reconciler)
        check_ownership(reconciler.live, reconciler.namespace)
        check_not_terminating(reconciler.live, reconciler.namespace)
        check_not_superseded(reconciler, desired)
        previous, transition = transition, reconciler.plan()
        if is_pending(transition, reconciler.live):
            report_capacity(reconciler, transition)
            reconciler.report(transition.description)
            try:
                reconciler.apply_transition(transition)
            except StaleError:
                continue
            deadline = ReadinessDeadline(limit) if transition.description != previous.description else deadline
        elif transition.done:
            return transition
        elif reconciler.live is not None:
            version = transition.starting.version if transition.starting else read_annotations(reconciler.live)[STABLE]
            problem = find_problem(reconciler.cluster, reconciler.live, version, deadline.since)
            deadline.check(problem, reconciler, version)


def report_capacity(reconciler: Reconciler, transition: Transition) -> None:
    """Report, before pods start, whether the nodes have room. A node may still join, so this refuses nothing."""
    if transition.done or transition.description == reconciler.reported_capacity:
        return
    reconciler.reported_capacity = transition.description
    if words := reconciler.describe_shortage(transition):
        reconciler.report(words)


def check_not_superseded(reconciler: Reconciler, desired: Callable[[], Deployment]) -> None:
    """Raise UserError if another state is desired by now than the one that is being carried out."""
    if (now := desired()).changed != reconciler.desired.changed:
        raise UserError(
            f"someone changed the desired state meanwhile ({describe(now)}), so this rollout stops. The other call "
            f"carries the new state out; `endcap deploy {reconciler.recommender.name}` does so too",
            code="deploy.superseded",
            recommender=reconciler.recommender.name,
            wanted=describe(now),
        )


@dataclass
class ReadinessDeadline:
    """How long a transition may take, and how long a hard problem may last."""

    within: timedelta
    since: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    begun: float = field(default_factory=time.monotonic)
    problem: str = ""
    gist: str = ""
    reported: set[str] = field(default_factory=set)
    """Gists of the problems that were reported."""
    hard_since: float | None = None

    def check(self, problem: ReadinessProblem | None, reconciler: Reconciler, version: str) -> None:
        """Report a new problem. Raises ClusterError if a hard problem has lasted, or if time is up."""
        now = time.monotonic()
        if problem is not None:
            # While the kubelet waits before its next try it may say less than it did.
            if problem.gist != self.gist or len(problem.description) >= len(self.problem):
                self.gist, self.problem = problem.gist, problem.description
            if problem.gist not in self.reported:
                self.reported.add(problem.gist)
                reconciler.report(f"version {version}: {problem.description}")
        if problem is None or not problem.hard:
            self.hard_since = None
        elif self.hard_since is None:
            self.hard_since = now
        lasted = self.hard_since is not None and now - self.hard_since >= PATIENCE
        if lasted or now - self.begun >= self.within.total_seconds():
            raise self._error(reconciler, version, over=not lasted)

    def _error(self, reconciler: Reconciler, version: str, over: bool) -> ClusterError:
        why = self.problem or "its pods are not ready, and nothing says why"
        late = f" within {self.within.total_seconds() / 60:g} min (serving.kubernetes.ready_within)" if over else ""
        name = reconciler.recommender.name
        return ClusterError(
            f"version {version} of {name} does not become ready{late}: {why}. The version that served before still "
            f"serves. Remove the cause, then continue with `endcap deploy {name}`",
            code="deploy.not-ready",
            recommender=name,
            version=version,
            reason=self.problem or None,
            late=over,
            limit=format_duration(self.within),
        )


def _wait_for_change(reconciler: Reconciler) -> Json | None:
    """Return the InferenceService as soon as it changes, or after a tick."""
    version = reconciler.live["metadata"]["resourceVersion"] if reconciler.live else ""
    fields = f"metadata.name={reconciler.recommender.name}"
    service: Json | None = None
    for objects in watch(reconciler.cluster, INFERENCE_SERVICE, reconciler.namespace, fields=fields, seconds=TICK):
        service = objects[0] if objects else None
        if service is None or service["metadata"]["resourceVersion"] != version:
            break
    return service
